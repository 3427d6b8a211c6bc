"""What a change of rules would do, worked out as the leader's passes will do it. Read-only."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.inventory import Candidate
from checks.explain.aftermath import Aftermath, Moving, follow
from checks.explain.objections import NO_NODE, Objection, of_dangling, why_nowhere, worse
from checks.models import Config
from checks.models.orders import Rule
from checks.wire.scrub import scrub
from clusteragent.lib.patterns import fits
from clusteragent.lib.words import grouped_count, load_change
from nodes.models import Node, NodeRule
from nodes.models.nodes import domain_of
from nodes.models.rules import ruled
from nodes.models.runners import capacity

AnyRule = Rule | NodeRule
R = TypeVar("R", Rule, NodeRule)


FILLS = "No node would have room for one more config: nothing new is placed, and the checks of a node that dies run nowhere."


class Effect(NamedTuple):
    """What follows a change of rules.

    after: what passes would do. nodes: the names of those that get other labels or limits. rules: a hash of all rules and of the
    change. fills: whether no node would have room for one more config, where one has it now. above: how many nodes would have
    more configs than they could get, and keep them. unmatched: the checks of the rule, if no config is of them now.
    """

    after: Aftermath
    nodes: Sequence[str]
    rules: str
    fills: bool
    above: int
    unmatched: str = ""

    @property
    def moves(self) -> dict[str, Sequence[Moving]]:
        """What stops, moves or gets a node, under the titles of its tables."""
        after = self.after
        found = {"Would run nowhere": after.lost, "Moves": after.moves, "Would get a node": after.found}
        return {title: rows for title, rows in found.items() if rows}

    @property
    def worse(self) -> list[str]:
        """What is bad about it, which pages show in red."""
        return [*worse(self.after.peak, len(self.after.lost)), *([FILLS] if self.fills else [])]

    @property
    def sentences(self) -> list[str]:
        """What somebody should know before, besides what is worse."""
        after = self.after
        nodes = f"{grouped_count(len(self.nodes), 'node')} changed. " if self.nodes else ""
        if after.moves:
            moving = f"{grouped_count(len(after.moves), 'config')} would move"
        else:
            moving = "Nothing moves to another node" if after.lost or after.found else "Nothing moves"
        return [f"{nodes}{moving}. Highest load {load_change(after.peak)}.", *self._notes()]

    def _notes(self) -> Iterator[str]:
        after = self.after
        yield from why_nowhere(map(scrub, after.why))
        counted = (
            (self.above, "node", "{} above the most that it allows: none goes for that, and no more is added."),
            (len(after.found), "config", "{} without a node would get one."),
            (after.waiting, "config", "{} would run nowhere, as now."),
            (after.staying, "config", "{} about to move away would stay."),
            (after.anyway, "config", "About to move anyway: {}."),
        )
        for number, kind, words in counted:
            if number:
                yield words.format(grouped_count(number, kind))
        if after.moves or after.lost:
            yield (
                "These moves follow within about a minute: the leader makes them. What only should move, moves within its budget."
            )
        if self.unmatched:
            yield f"No config is of the checks {self.unmatched} now."

    @property
    def objections(self) -> list[Objection]:
        """What must be accepted."""
        return [*of_dangling(len(self.after.lost)), *([Objection(FILLS, NO_NODE)] if self.fills else [])]


def effect_of(kind: type[AnyRule], *, saved: AnyRule | None = None, deleted: Collection[int] = ()) -> Effect:
    """Return what the passes would do if this rule were saved (a new one without a key), or the rules with these ids deleted."""
    now = read_snapshot()
    rules, nodes = list(now.rules), list(now.nodes)
    fingerprint = Rule.objects.fingerprint()
    if kind is Rule:
        rules = _changed(rules, saved, deleted)
        rules.sort(key=lambda rule: rule.name)
    else:
        nodes = _obeying(nodes, _changed(list(NodeRule.objects.order_by("pk")), saved, deleted))
    later = replace(now, rules=rules, nodes=nodes)
    fills = _has_room(now) and not _has_room(later)
    above = _above(later, saved)
    return Effect(
        follow(now, later),
        [new.name for old, new in zip(now.nodes, later.nodes, strict=True) if old != new],
        hashlib.sha256(repr((fingerprint, kind.__name__, _written(saved), sorted(deleted))).encode()).hexdigest(),
        fills,
        above,
        _unmatched(saved),
    )


def _has_room(snapshot: Snapshot) -> bool:
    """Whether some node would take one more config, of whichever check."""
    return any(
        snapshot.node_refusal(node) is None
        and node.id not in snapshot.reserved
        and (node.limit is None or snapshot.held[node.id] < node.limit)
        for node in snapshot.nodes
    )


def _above(later: Snapshot, saved: AnyRule | None) -> int:
    """How many nodes have more configs than they could get, by the saved rule or, if that is about nodes, by all of these."""
    if isinstance(saved, Rule):
        return sum(later.above(rule) for rule in later.rules if rule.pk == (saved.pk or 0))
    if saved is None or saved.max_configs is None:
        return 0
    return sum(node.limit is not None and later.held[node.id] > node.limit for node in later.nodes)


def _unmatched(saved: AnyRule | None) -> str:
    """The checks of this rule if no config is of them: the pattern may be misspelt."""
    if not isinstance(saved, Rule):
        return ""
    names = Config.objects.order_by().values_list("name", flat=True).distinct()
    return "" if any(fits(name, saved.check_pattern) for name in names) else saved.check_pattern


def _written(rule: AnyRule | None) -> list[tuple[str, object]]:
    """What a rule says, in the order of its fields."""
    if rule is None:
        return []
    left_out = ("author", "time", "note")
    return [(field.attname, getattr(rule, field.attname)) for field in rule._meta.fields if field.name not in left_out]


def _changed(rules: Sequence[R], saved: AnyRule | None, deleted: Collection[int]) -> list[R]:
    """These rules, with one saved or some deleted. A new one comes last, with the key 0, which no row has."""
    kept = [rule for rule in rules if rule.pk not in deleted]
    if saved is None:
        return kept
    # A copy: the form's own must stay without a key.
    fields = {field.attname: getattr(saved, field.attname) for field in saved._meta.concrete_fields}
    mine: Any = type(saved)(**fields | {"id": saved.pk or 0})
    if saved.pk is None:
        return [*kept, mine]
    return [mine if rule.pk == saved.pk else rule for rule in kept]


def _obeying(nodes: Sequence[Candidate], rules: Sequence[NodeRule]) -> list[Candidate]:
    """These nodes with the labels and limits that the rules about nodes would give them."""
    columns = "name", "heartbeat__client_ip", "heartbeat__node_type", "runner__workers", "slowness__share", "pod__zone"
    told = {pk: rest for pk, *rest in Node.objects.known().values_list("pk", *columns)}
    found = []
    for node in nodes:
        if node.id in told:
            name, client_ip, node_type, workers, share, zone = told[node.id]
            labels, weight, limit = ruled(rules, name, client_ip, node_type)
            place = domain_of(labels, zone)
            size = capacity(weight, workers, share)
            node = node._replace(labels=labels, capacity=size, limit=limit, domain=place)
        found.append(node)
    return found
