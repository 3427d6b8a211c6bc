"""Who may run what: what nodes declare, runner groups, rules, pins, and runners before node agents."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from checks.changes import Entry
from checks.models import Assignment, Origin
from checks.orders import Rule
from clusteragent.lib import conf
from nodes.declarations import parse
from nodes.models import NodeType
from nodes.querysets import NodeQuerySet


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
        self._sets: dict[object, frozenset[int]] = {}
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
        if chosen is None:
            return None
        for rule in self._about(entry):
            if rule.max_per_node:
                taken = self._taken[rule.pk]
                chosen = frozenset(node for node in chosen if taken[node] < rule.max_per_node)
        return chosen

    def take(self, entry: Entry, node: int) -> None:
        """Note that a node got it."""
        for rule in self._about(entry) if self._taken else ():
            if rule.max_per_node:
                self._taken[rule.pk][node] += 1

    def admits(self, entry: Entry, node: int) -> bool:
        """Whether it may stay on a node that it has."""
        return (self.is_plain and entry.pin is None) or node in self._eligible(entry, self._about(entry))

    def refusal(self, entry: Entry, node: Candidate) -> str:
        """Why a node may not run it, whatever is preferred; empty when it may."""
        return parse(node.declared).refusal(entry.name) or _group_refusal(entry.name, node) or self._broken(entry, node)

    def refusals(self, entry: Entry) -> dict[str, str]:
        """Every node that does not get it, and why: {name: reason}."""
        chosen = self.among(entry)
        refused = {} if chosen is None else {node.name: node for node in self.nodes if node.id not in chosen}
        return {name: self.refusal(entry, node) or self._passed_over(entry, node) for name, node in refused.items()}

    def _about(self, entry: Entry) -> tuple[Rule, ...]:
        return tuple(rule for rule in self._rules if rule.covers(entry.name, entry.sent_as))

    def _eligible(self, entry: Entry, rules: tuple[Rule, ...]) -> frozenset[int]:
        pin = entry.pin
        key = (entry.name, tuple(rule.pk for rule in rules), pin and (pin.kind, pin.aim, pin.waits))
        if key not in self._sets:
            self._sets[key] = frozenset(node.id for node in self._choose(entry))
        return self._sets[key]

    def _choose(self, entry: Entry) -> list[Candidate]:
        able = [node for node in self.nodes if not self.refusal(entry, node)]
        if entry.pin is not None:
            aimed = [node for node in able if entry.pin.matches(node.name, node.labels)]
            if aimed or entry.pin.waits:
                return aimed
        runners = [node for node in able if node.is_runner] if self._has_runners else []
        return runners or able

    def _broken(self, entry: Entry, node: Candidate) -> str:
        return next((why for rule in self._about(entry) if (why := rule.refusal(node.labels))), "")

    def _passed_over(self, entry: Entry, node: Candidate) -> str:
        if entry.pin is not None and not entry.pin.matches(node.name, node.labels):
            return f"the config is pinned to {entry.pin}"
        for rule in self._about(entry):
            if rule.max_per_node and self._taken[rule.pk][node.id] >= rule.max_per_node:
                return f"rule {rule.name}: at most {rule.max_per_node} on one node"
        return "it is a node agent, and runners come first"


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
    origins = Origin.objects.values_list("config_id", "source", "key") if rule.source_pattern != "*" else ()
    sent_as: dict[int, list[str]] = {}
    for config_id, source, key in origins:
        sent_as.setdefault(config_id, []).append(f"{source}:{key}")
    assigned = Assignment.objects.values_list("config_id", "config__name", "node_id")
    return Counter(node for id_, name, node in assigned if rule.covers(name, sent_as.get(id_, ())))


def name_origins(entries: Iterable[Entry]) -> None:
    """Let entries of configs that exist say which origins send them."""
    by_id = {entry.id: entry for entry in entries if entry.id}
    for config_id, source, key in _origins(by_id):
        by_id[config_id].sent_as.append(f"{source}:{key}")


def _origins(ids: Collection[int]) -> Iterable[tuple[int, str, str]]:
    return Origin.objects.filter(config_id__in=ids).values_list("config_id", "source", "key")
