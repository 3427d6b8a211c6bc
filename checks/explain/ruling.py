"""What a change of rules would do, worked out as the leader's passes will do it. Read-only."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.inventory import Candidate
from checks.dispatcher.misplaced import Judge, relocate_misplaced
from checks.dispatcher.transaction import light_entries
from checks.explain.loss import homeless_reasons
from checks.models import Assignment, Config, Cost
from checks.models.orders import Rule
from nodes.models import Node, NodeRule
from nodes.models.nodes import domain_of
from nodes.models.rules import ruled
from nodes.models.runners import capacity

# How many configs that would run nowhere are asked why: each asks all nodes.
ASKED_WHY = 20

AnyRule = Rule | NodeRule
R = TypeVar("R", Rule, NodeRule)


class Moving(NamedTuple):
    """A config that would move. to: the node's name; empty if the config would run nowhere."""

    config: int
    check: str
    source: str
    to: str


class Effect(NamedTuple):
    """What follows a change of rules.

    moves: to other nodes. lost: the configs that would run nowhere and run now. found: how many that run nowhere now would
    get a node. waiting: how many would run nowhere as they do now. nodes: how many nodes get other labels or limits. peak: the
    highest load before and after. why: why no node could have `lost`, {reason: how many of the first ASKED_WHY}.
    rules: a hash of all rules and of the change.
    """

    moves: Sequence[Moving]
    lost: Sequence[Moving]
    found: int
    waiting: int
    nodes: int
    peak: tuple[float, float]
    why: Mapping[str, int]
    rules: str

    @property
    def seen(self) -> str:
        """What people decide on, for a form: the rules, and how many configs would run nowhere."""
        return f"{self.rules}-{len(self.lost)}"

    def agreed(self, seen: str) -> int | None:
        """Return how many lost configs were agreed to with `seen`; None if the rules are others or more would be lost now.

        Fewer are no reason to ask again: nodes and configs come and go while people read.
        """
        rules, _, lost = seen.partition("-")
        return int(lost) if rules == self.rules and lost.isdecimal() and int(lost) >= len(self.lost) else None


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
    rows = _held(later)
    entries = light_entries(rows, later)
    costs = Cost.objects.expected()
    for entry in entries:
        entry.cost = costs.get(entry.id)
    judge = Judge(later)
    choices = relocate_misplaced([entry for entry in entries if not judge.is_draining(entry)], judge)
    moving = [(one.entry, one.to) for one in choices if one.to != one.entry.owner]
    lost = [entry for entry, to in moving if to is None]
    homeless = light_entries([(*row, None) for row in _dangling()], later)
    homed = [(entry, to) for entry in homeless if (to := later.choose(entry)) is not None]
    names = {node.id: node.name for node in later.nodes}
    told = [Moving(one.id, one.name, names.get(one.owner or 0, ""), names.get(to or 0, "")) for one, to in moving]
    return Effect(
        [one for one in told if one.to],
        [one for one in told if not one.to],
        len(homed),
        len(homeless) - len(homed),
        sum(old != new for old, new in zip(now.nodes, later.nodes, strict=True)),
        _peaks(now, later, [*moving, *homed], costs),
        homeless_reasons(later, lost[:ASKED_WHY]),
        hashlib.sha256(repr((fingerprint, kind.__name__, _written(saved), sorted(deleted))).encode()).hexdigest(),
    )


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


def _held(snapshot: Snapshot) -> list[tuple[int, str, int | None]]:
    """The configs that the passes would look at: (id, check, owner's id). Also those that rest now: their turn comes."""
    suspects = Judge(snapshot).suspects(Assignment.objects.all())
    rows = suspects.order_by("config_id").values_list("config_id", "config__name", "node_id")
    return [row for row in rows if row[2] in snapshot.by_id]


def _dangling() -> list[tuple[int, str]]:
    return list(Config.objects.dangling().filter(node_name="").order_by("pk").values_list("pk", "name"))


def _peaks(
    now: Snapshot, later: Snapshot, moving: Sequence[tuple[Entry, int | None]], costs: Mapping[int, float]
) -> tuple[float, float]:
    """The highest load of all known nodes, before and after these moves."""
    needed = Counter(now.inventory.needed)
    before = max((needed[node.id] / node.capacity for node in now.nodes), default=0.0)
    for entry, to in moving:
        cost = costs.get(entry.id, 0.0)
        needed[entry.owner or 0] -= cost  # type: ignore[assignment]
        needed[to or 0] += cost  # type: ignore[assignment]
    return before, max((needed[node.id] / node.capacity for node in later.nodes), default=0.0)
