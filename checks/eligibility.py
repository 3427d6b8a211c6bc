"""Who may run what: what nodes declare, runner groups, rules, pins, and runners before node agents."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from django.db.models import TextField, Value
from django.db.models.functions import Concat

from checks.dispatcher.changes import Entry
from checks.models import Assignment, Config, Origin
from checks.models.orders import Pin, Rule
from clusteragent.lib import conf
from nodes.declarations import parse
from nodes.models import NodeType
from nodes.models.querysets import NodeQuerySet

# A check, and the keys of the rules about it.
_Kind = tuple[str, tuple[int, ...]]


class Candidate(NamedTuple):
    """A node, as far as it matters for what it may run."""

    id: int
    name: str
    labels: Mapping[str, str]
    declared: str
    is_runner: bool


def candidates(nodes: NodeQuerySet) -> list[Candidate]:
    """These known nodes. One that names no type is a runner when it sends its address."""
    rows = nodes.order_by("name").values_list(
        "pk", "name", "labels", "declared", "heartbeat__node_type", "heartbeat__client_ip"
    )
    return [
        Candidate(id_, name, labels, declared, kind == NodeType.RUNNER or (kind == NodeType.UNKNOWN and bool(address)))
        for id_, name, labels, declared, kind, address in rows
    ]


class Eligibility:
    """Which of some nodes may run a config, and why the others may not."""

    def __init__(self, nodes: Sequence[Candidate], rules: Sequence[Rule] | None = None) -> None:
        self.nodes = nodes
        self._rules = list(Rule.objects.all()) if rules is None else list(rules)
        self._has_runners = conf.PLACEMENT_PREFER == "runners" and any(node.is_runner for node in nodes)
        self.is_plain = not (
            self._rules
            or conf.RUNNER_GROUPS
            or any(node.declared for node in nodes)
            or (self._has_runners and not all(node.is_runner for node in nodes))
        )
        # There may be very many configs, but only so many checks, rules and pins: what these say of all nodes is found once.
        self._concerns: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        self._unrefused: dict[_Kind, dict[int, Candidate]] = {}
        self._sets: dict[object, frozenset[int]] = {}
        # Equal sets are one object: comparing two of very many nodes, again and again, takes longer than making them.
        self._same: dict[frozenset[int], frozenset[int]] = {}
        self._open: dict[object, frozenset[int]] = {}
        self._ids = {node.name: node.id for node in nodes}
        self._taken = {rule.pk: _counts(rule) for rule in self._rules if rule.max_per_node}

    def needs_origins(self) -> bool:
        """Whether a rule is about origins, so that entries must name theirs."""
        return any(rule.source_pattern != "*" for rule in self._rules)

    def may_run(self, entry: Entry) -> frozenset[int] | None:
        """The nodes that may run it, however many of its kind they have; None: all."""
        return None if self.is_plain and entry.pin is None else self._eligible(entry, self._about(entry))

    def among(self, entry: Entry) -> frozenset[int] | None:
        """The nodes that may get it now; None: all."""
        chosen = self.may_run(entry)
        limits = tuple(rule for rule in self._about(entry) if rule.max_per_node) if self._taken else ()
        if chosen is None or not limits:
            return chosen
        key = (chosen, *(rule.pk for rule in limits))
        if key not in self._open:
            self._open[key] = self._one(
                node for node in chosen if not any(self._is_full(rule, node) for rule in limits)
            )
        return self._open[key]

    def take(self, entry: Entry, node: int) -> None:
        """Note that a node got it."""
        for rule in self._about(entry) if self._taken else ():
            if rule.max_per_node:
                self._taken[rule.pk][node] += 1
                if self._is_full(rule, node):
                    self._open.clear()

    def refuses(self, entry: Entry, node: int) -> bool:
        """Whether this one of the nodes may not run it, whatever is preferred."""
        return not self.is_plain and node not in self._able(entry.name, self._about(entry))

    def refusal(self, entry: Entry, node: Candidate) -> str:
        """Why a node may not run it, whatever is preferred; empty when it may."""
        return _refusal(entry.name, self._about(entry), node)

    def objection(self, entry: Entry, node: Candidate) -> str:
        """Why a node may not get it now, whatever is preferred; empty when it may. A pin objects where it insists."""
        if why := self.refusal(entry, node):
            return why
        if entry.pin is not None and entry.pin.waits and not entry.pin.matches(node.name, node.labels):
            return f"the config is pinned to {entry.pin}"
        return self._full(entry, node)

    def refusals(self, entry: Entry) -> dict[str, str]:
        """Every node that does not get it, and why: {name: reason}."""
        chosen = self.among(entry)
        refused = {} if chosen is None else {node.name: node for node in self.nodes if node.id not in chosen}
        return {name: self.refusal(entry, node) or self._passed_over(entry, node) for name, node in refused.items()}

    def _about(self, entry: Entry) -> tuple[Rule, ...]:
        key = (entry.name, *entry.sent_as)
        if key not in self._concerns:
            self._concerns[key] = tuple(rule for rule in self._rules if rule.covers(entry.name, entry.sent_as))
        return self._concerns[key]

    def _able(self, check: str, rules: tuple[Rule, ...]) -> dict[int, Candidate]:
        kind = check, tuple(rule.pk for rule in rules)
        if kind not in self._unrefused:
            self._unrefused[kind] = {node.id: node for node in self.nodes if not _refusal(check, rules, node)}
        return self._unrefused[kind]

    def _eligible(self, entry: Entry, rules: tuple[Rule, ...]) -> frozenset[int]:
        pin = entry.pin
        key = (entry.name, tuple(rule.pk for rule in rules), pin and (pin.kind, pin.aim, pin.waits))
        if key not in self._sets:
            self._sets[key] = self._one(self._choose(self._able(entry.name, rules), pin))
        return self._sets[key]

    def _one(self, nodes: Iterable[int]) -> frozenset[int]:
        found = frozenset(nodes)
        return self._same.setdefault(found, found)

    def _is_full(self, rule: Rule, node: int) -> bool:
        return self._taken[rule.pk][node] >= (rule.max_per_node or math.inf)

    def _choose(self, able: Mapping[int, Candidate], pin: Pin | None) -> Iterable[int]:
        if pin is not None:
            aimed = self._aimed(able, pin)
            if aimed or pin.waits:
                return aimed
        runners = [node.id for node in able.values() if node.is_runner] if self._has_runners else []
        return runners or able

    def _aimed(self, able: Mapping[int, Candidate], pin: Pin) -> list[int]:
        if pin.kind == Pin.Kind.NODE:
            node_id = self._ids.get(pin.aim, 0)
            return [node_id] if node_id in able else []
        return [node.id for node in able.values() if pin.matches(node.name, node.labels)]

    def _passed_over(self, entry: Entry, node: Candidate) -> str:
        if entry.pin is not None and not entry.pin.matches(node.name, node.labels):
            return f"the config is pinned to {entry.pin}"
        return self._full(entry, node) or "it is a node agent, and runners come first"

    def _full(self, entry: Entry, node: Candidate) -> str:
        for rule in self._about(entry):
            if rule.max_per_node and self._is_full(rule, node.id):
                return f"rule {rule.name}: at most {rule.max_per_node} on one node"
        return ""


def _refusal(check: str, rules: Iterable[Rule], node: Candidate) -> str:
    broken = (why for rule in rules if (why := rule.refusal(node.labels)))
    return parse(node.declared).refusal(check) or _group_refusal(check, node) or next(broken, "")


def _group_refusal(check: str, node: Candidate) -> str:
    if not conf.RUNNER_GROUPS:
        return ""
    mine, wanted = parse(node.declared).group, conf.RUNNER_GROUPS.get(check, "")
    if mine and mine not in conf.RUNNER_GROUPS.values():
        return f"the node's group {mine} is unknown"
    if mine != wanted:
        return f"{check} is for the group {wanted}" if wanted else f"the node's group {mine} does not claim {check}"
    return ""


def _counts(rule: Rule) -> Counter[int]:
    """How many of the configs that a rule is about each node has."""
    assigned = (
        Assignment.objects.filter(config__name__in=_names(rule)) if rule.check_pattern != "*" else Assignment.objects
    )
    if rule.source_pattern == "*":
        return Counter(assigned.counts())
    sent = assigned.annotate(
        sent=Concat("config__origins__source", Value(":"), "config__origins__key", output_field=TextField())
    )
    # PostgreSQL sorts out most, Python what it can't say.
    prefix = re.split(r"[*?\[]", rule.source_pattern, maxsplit=1)[0]
    rows = sent.filter(sent__startswith=prefix).values_list("config_id", "node_id", "sent")
    owners = {config: node for config, node, origin in rows if fnmatchcase(origin, rule.source_pattern)}
    return Counter(owners.values())


def _names(rule: Rule) -> list[str]:
    """The checks that a rule is about."""
    names = Config.objects.order_by().values_list("name", flat=True).distinct()
    return [name for name in names if fnmatchcase(name, rule.check_pattern)]


def name_origins(entries: Iterable[Entry]) -> None:
    """Let entries of configs that exist say which origins send them."""
    by_id = {entry.id: entry for entry in entries if entry.id and not entry.sent_as}
    for config_id, source, key in _origins(by_id):
        by_id[config_id].sent_as.append(f"{source}:{key}")


def _origins(ids: Collection[int]) -> Iterable[tuple[int, str, str]]:
    return Origin.objects.filter(config_id__in=ids).values_list("config_id", "source", "key")
