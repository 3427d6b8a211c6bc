"""Whether a config is where it should be."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import Choice, Placement, Pools, relocate
from checks.eligibility import Candidate, Eligibility, candidates, name_origins
from checks.models import Assignment, Move, freezes
from checks.models.orders import Pin
from clusteragent.lib import conf
from nodes.models import Node


class Judge:
    """Says why configs must or should leave the nodes that have them, given the nodes that could."""

    def __init__(self, placement: Placement, draining: Collection[int] = ()) -> None:
        """draining: nodes that are taken to drain, beside those that do."""
        self._placement = placement
        self._nodes: dict[int, Candidate] = {node.id: node for node in candidates(Node.objects.known())}
        self.eligibility = Eligibility(list(self._nodes.values()))
        self._draining = {*draining, *Node.objects.filter(draining=True).values_list("pk", flat=True)}
        self._excess = _excess()
        # That node agents give way to runners is balancing, too.
        self._prefers_runners = (
            conf.PLACEMENT_PREFER == "runners"
            and any(node.is_runner for node in self._nodes.values())
            and not freezes.why_off()
        )

    def is_content(self) -> bool:
        """Whether everything is right, as can be told without a look at any config."""
        return self.eligibility.is_plain and not (self._draining or self._excess or Pin.objects.exists())

    def must_go(self, entry: Entry) -> str:
        """Why it may not run where it is; empty when it may."""
        node = self._nodes.get(entry.owner or 0)
        if node is None:
            return ""
        if entry.pin is not None and entry.pin.waits and _astray(entry, node):
            return Move.Reason.PINNED
        return Move.Reason.INELIGIBLE if self.eligibility.refuses(entry, node.id) else ""

    def should_go(self, entry: Entry) -> str:
        """Why it should run elsewhere, where another node can have it now; empty when it is right."""
        node = self._nodes.get(entry.owner or 0)
        if node is None or self._is_right(entry, node):
            return ""
        able = self._placement.able(entry)
        if not able:
            return ""
        # There may be very many. Either a pin aims at all of them or at none, and they are all runners or none is.
        if _astray(entry, node) and not _astray(entry, able[0]):
            return Move.Reason.PINNED
        if node.id in self._draining:
            return Move.Reason.DRAINED
        if self._excess[node.id]:
            self._excess[node.id] -= 1
            return Move.Reason.REBALANCED
        return Move.Reason.REBALANCED if entry.pin is None and able[0].is_runner else ""

    def _is_right(self, entry: Entry, node: Candidate) -> bool:
        """Whether it is, whatever other nodes there are."""
        if node.id in self._draining or self._excess[node.id] or _astray(entry, node):
            return False
        return entry.pin is not None or node.is_runner or not self._prefers_runners


class JudgedPools(Pools):
    """The nodes that may be given work, and a judge of who must or should leave the nodes that have them."""

    judge: Judge

    def _count(self) -> None:
        super()._count()
        self.judge = Judge(self._placement)


def astray(entries: Sequence[Entry], placement: Placement, judge: Judge) -> list[Choice]:
    """Choose other nodes for those that may not, or should not, run where they are. The others are left out."""
    if judge.eligibility.needs_origins():
        name_origins(entries)
    found = []
    for why, group in _grouped(entries, judge.must_go).items():
        found += relocate(group, placement, why, dangle=True)
    going = {choice.entry.id for choice in found}
    for why, group in _grouped((entry for entry in entries if entry.id not in going), judge.should_go).items():
        found += relocate(group, placement, why)
    return found


def _grouped(entries: Iterable[Entry], judgement: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    """Those that a judgement finds something about, by what it finds."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if why := judgement(entry):
            groups.setdefault(why, []).append(entry)
    return groups


def _excess() -> Counter[int]:
    """How many configs nodes have above the most that they may have."""
    limits: dict[int, Any] = dict(Node.objects.filter(max_configs__isnull=False).values_list("pk", "max_configs"))
    counts = Assignment.objects.filter(node__in=limits).counts() if limits else {}
    return Counter({node: number - limits[node] for node, number in counts.items() if number > limits[node]})


def _astray(entry: Entry, node: Candidate) -> bool:
    return entry.pin is not None and not entry.pin.matches(node.name, node.labels)
