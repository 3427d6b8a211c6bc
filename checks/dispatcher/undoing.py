"""Undoing: a config goes back to where a move took it from, as long as nothing else has happened to it since."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property

from django.db.models import Count

from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import entries_of
from checks.eligibility import Candidate, Eligibility, candidates, name_origins
from checks.models import Move
from checks.models.orders import Isolation
from clusteragent.lib.words import numbered
from nodes.models import Hearing, Node


def returning(move_ids: Collection[int]) -> tuple[list[tuple[Entry, int]], dict[int, str]]:
    """The configs that these moves took from nodes, with the nodes, where these may have them back, and {move's id: why not}."""
    judgement = _Judgement(move_ids)
    return judgement.returning, judgement.refused


def why_not(move_ids: Collection[int]) -> dict[int, str]:
    """Which of these moves can't be undone now, and why: {move's id: why}."""
    return _Judgement(move_ids).refused


class _Judgement:
    """Which moves can be undone: `returning` has their configs and the nodes that get them back."""

    def __init__(self, move_ids: Collection[int]) -> None:
        moves = Move.objects.in_bulk(move_ids)
        self._entries = {entry.id: entry for entry in entries_of({move.config_id for move in moves.values()})}
        self._last = Move.objects.last_of(self._entries)
        self._sources = _Sources({move.source_node for move in moves.values()})
        if self._sources.eligibility.needs_origins():
            name_origins(self._entries.values())
        self.returning: list[tuple[Entry, int]] = []
        self.refused = {id_: "the ledger has no such move" for id_ in move_ids if id_ not in moves}
        for move in moves.values():
            self._judge(move)

    def _judge(self, move: Move) -> None:
        entry = self._entries.get(move.config_id)
        why = self._of_move(move, entry)
        if entry is not None and not why:
            why = self._sources.refusal(entry, move.source_node)
        if entry is None or why:
            self.refused[move.pk] = why
        else:
            self.returning.append((entry, self._sources.take(entry, move.source_node)))

    def _of_move(self, move: Move, entry: Entry | None) -> str:
        if not move.source_node:
            return "no node had it before"
        if move.source_node == move.to_node:
            return "it did not leave its node"
        if entry is None:
            return "the config is gone"
        if entry.paused:
            return "it is paused: resume it first"
        if not move.to_node:
            return "it was taken from its node, not given to another"
        if self._last.get(entry.id) != move.pk or entry.owner is None:
            return "it has moved again since"
        return ""


class _Sources:
    """The nodes that moves took configs from, and whether they may have them back."""

    def __init__(self, names: Collection[str]) -> None:
        nodes = Node.objects.filter(name__in=names)
        self._nodes = {node.name: node for node in nodes.select_related("heartbeat")}
        self._accepting: dict[str, Candidate] = {
            one.name: one for one in candidates(Node.objects.accepting().filter(name__in=names))
        }
        self.eligibility = Eligibility(list(self._accepting.values()))
        self._held = dict(nodes.annotate(held=Count("assignments")).values_list("name", "held"))
        self._warm = not Hearing.objects.filter(warmup=True).exists()
        alone = Isolation.objects.filter(config__assignment__node__name__in=names)
        self._kept_for = {
            one.config.assignment.node.name: one.config
            for one in alone.select_related("config__assignment__node")
            if one.config
        }

    def refusal(self, entry: Entry, name: str) -> str:
        """Why a node can't have a config back; empty when it can."""
        return next((why for rule in self._RULES if (why := rule(self, entry, name))), "")

    def take(self, entry: Entry, name: str) -> int:
        """Note that a node gets a config back, and say which node that is."""
        node = self._accepting[name]
        self._held[name] += 1
        self.eligibility.take(entry, node.id)
        return node.id

    def _gone(self, entry: Entry, name: str) -> str:
        node = self._nodes.get(name)
        return f"node {name} is gone" if node is None or not hasattr(node, "heartbeat") else ""

    def _accepts_nothing(self, entry: Entry, name: str) -> str:
        if not self._warm:
            return "nothing is placed before the warm-up of this new database is over"
        if name in self._accepting:
            return ""
        node = self._nodes[name]
        if not node.schedulable:
            return f"node {name} is {'draining' if node.draining else 'cordoned'}: it gets nothing new"
        return f"node {name} is {'leaving' if node.leaving else 'silent, or restarts'}: it gets nothing new"

    def _may_not_have_it(self, entry: Entry, name: str) -> str:
        return self.eligibility.refusals(entry).get(name, "")

    def _is_led_elsewhere(self, entry: Entry, name: str) -> str:
        """A pass would follow the pin at once."""
        pin = entry.pin
        if pin is None or pin.matches(name, self._accepting[name].labels):
            return ""
        leads = any(pin.matches(node.name, node.labels) for node in self._all)
        return f"the config is pinned to {pin}: unpin it first" if leads else ""

    @cached_property
    def _all(self) -> list[Candidate]:
        return candidates(Node.objects.accepting())

    def _wants_to_be_alone(self, entry: Entry, name: str) -> str:
        alone = self._kept_for.get(name)
        return f"node {name} is kept for {alone}" if alone else ""

    def _full(self, entry: Entry, name: str) -> str:
        most = self._nodes[name].max_configs
        full = most is not None and self._held[name] >= most
        return f"node {name} may have at most {numbered(most or 0, 'config')}" if full else ""

    _RULES: Sequence[Callable[["_Sources", Entry, str], str]] = (
        _gone, _accepts_nothing, _may_not_have_it, _is_led_elsewhere, _wants_to_be_alone, _full,
    )  # fmt: skip
