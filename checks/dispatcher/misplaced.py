"""Which configs must or should leave the nodes that have them, and where to."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from django.db.models import Q

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot
from checks.dispatcher.inventory import Candidate
from checks.dispatcher.transaction import Choice, SnapshotCache, relocate
from checks.models import Move, freezes
from checks.models.map import AssignmentQuerySet


class Judge:
    """Says why configs must or should leave the nodes that have them, given a snapshot of all nodes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        limited = [(node, snapshot.held[node.id] - node.limit) for node in snapshot.nodes if node.limit is not None]
        # How many configs nodes have above their limits: {node's id: number}.
        self._excess = Counter({node.id: more for node, more in limited if more > 0})
        # Moving configs from node agents to runners is balancing, too, and so are spreading them and bringing them together.
        balances = (snapshot.has_runners or snapshot.spreads or snapshot.joins) and not freezes.why_off()
        self._prefers_runners = snapshot.has_runners and balances
        self.spreads = snapshot.spreads and balances
        self.joins = snapshot.joins and balances
        # A copy, so that looking changes nothing: it counts what would move.
        self._forecast = replace(snapshot) if self.spreads or self.joins or snapshot.parts else snapshot

    def is_draining(self, entry: Entry) -> bool:
        """Whether the node that has the config is draining."""
        return self.snapshot.by_id[entry.owner or 0].intake == "draining"

    def suspects(self, assignments: AssignmentQuerySet) -> AssignmentQuerySet:
        """Return those of these assignments whose configs may be misplaced. Very many need not be read if nothing binds them."""
        if not self.snapshot.is_plain:
            return assignments
        nodes = [node.id for node in self.snapshot.nodes if node.intake == "draining" or self._excess[node.id]]
        return assignments.filter(Q(node__in=nodes) | Q(config__pin__isnull=False))

    def must_go(self, entry: Entry) -> str:
        """Return the Move.Reason why a config may not run where it is; empty if it may."""
        node = self.snapshot.by_id.get(entry.owner or 0)
        if node is None:
            return ""
        if entry.pin is not None and entry.pin.waits and _breaks_pin(entry, node):
            return Move.Reason.PINNED
        return Move.Reason.INELIGIBLE if self.snapshot.unfit(entry, node) else ""

    def forbidding(self, entry: Entry) -> str:
        """Return the name of the rule for which a config may not run where it is; empty if that is for another reason."""
        return self.snapshot.forbidding(entry, self.snapshot.by_id[entry.owner or 0])

    def should_go(self, entry: Entry) -> str:
        """Return the Move.Reason why a config should move to another node that can have it now; empty if it should not.

        Each call that finds a node above its limit counts one config fewer for that node.
        """
        node = self.snapshot.by_id.get(entry.owner or 0)
        if node is None:
            return ""
        is_draining, breaks_pin = node.intake == "draining", _breaks_pin(entry, node)
        gives_way = self._prefers_runners and entry.pin is None and not node.is_runner
        if not (is_draining or breaks_pin or gives_way or self._excess[node.id]):
            return ""
        able = self.snapshot.able(entry)
        if not able:
            return ""
        # One is enough, and there may be very many: a pin aims at all of them or at none, and all are runners or none is.
        if breaks_pin and not _breaks_pin(entry, able[0]):
            return Move.Reason.PINNED
        if is_draining:
            return Move.Reason.DRAINED
        if self._excess[node.id]:
            self._excess[node.id] -= 1
            return Move.Reason.REBALANCED
        return Move.Reason.REBALANCED if entry.pin is None and able[0].is_runner else ""

    def is_out_of_place(self, entry: Entry) -> bool:
        """Whether a rule wants a config apart from others, in another domain or together with others, and a node can have it so.

        Each call that finds one counts its move.
        """
        return self._better(self._forecast, entry) is not None

    def better(self, entry: Entry) -> int | None:
        """Choose a node for such a config; None for others."""
        return self._better(self.snapshot, entry)

    def _better(self, snapshot: Snapshot, entry: Entry) -> int | None:
        to = snapshot.part(entry) if snapshot.parts else None
        if to is None and self.spreads:
            to = snapshot.spread_out(entry)
        return snapshot.join(entry) if to is None and self.joins else to


class JudgedSnapshots(SnapshotCache):
    """A SnapshotCache with a Judge of each snapshot."""

    judge: Judge

    def _read(self) -> None:
        super()._read()
        self.judge = Judge(self._snapshot)


def relocate_misplaced(entries: Sequence[Entry], judge: Judge) -> list[Choice]:
    """Choose other nodes for the configs that may not, or should not, run where they are. The others are left out.

    A config that may not stay loses its owner if no other node can have it.
    """
    judge.snapshot.read_origins(entries)
    found = []
    for why, group in _grouped(entries, judge.must_go).items():
        for entry in group:
            entry.forbidden_by = judge.forbidding(entry) if why == Move.Reason.INELIGIBLE else ""
        found += relocate(group, judge.snapshot, why, dangle=True)
    going = {choice.entry.id for choice in found}
    for why, group in _grouped((entry for entry in entries if entry.id not in going), judge.should_go).items():
        found += relocate(group, judge.snapshot, why)
    going |= {choice.entry.id for choice in found}
    for entry in entries:
        if entry.id not in going and (to := judge.better(entry)) is not None:
            found.append(Choice(entry, to, Move.Reason.REBALANCED))
    return found


def _grouped(entries: Iterable[Entry], judgement: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    """The entries by what the judgement returns for them, without those for which that is empty."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if why := judgement(entry):
            groups.setdefault(why, []).append(entry)
    return groups


def _breaks_pin(entry: Entry, node: Candidate) -> bool:
    return entry.pin is not None and not entry.pin.matches(node.name, node.labels)
