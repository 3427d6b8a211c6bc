"""Which known nodes may have a config by what they are, whatever they have.

A new constraint of this kind is a Reason of `refusals.py` with its words, and a function in one of two tables: _OF_NODE if it
depends on the node's intake or signal, OF_CHECK if it depends on the node, the check and its rules. Nothing else changes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from checks.dispatcher import changes
from checks.dispatcher.changes import Entry
from checks.dispatcher.inventory import Candidate, Reserved
from checks.dispatcher.refusals import BALANCE, Purpose, Reason, Refusal
from checks.models.orders import Pin, Rule
from clusteragent.lib import conf
from clusteragent.lib.words import listed
from nodes.declarations import NAMED, parse
from nodes.models import Node
from nodes.models.nodes import OPEN


@dataclass(eq=False, kw_only=True)
class Candidates:
    """The known nodes at one moment, and which of them may have a config by what they are. What they have does not count.

    reserved: {node's id: config}. is_cold: whether nothing is placed, since the warm-up is not over.
    """

    nodes: Sequence[Candidate]
    rules: Sequence[Rule]
    reserved: Mapping[int, Reserved]
    purpose: Purpose
    is_cold: bool = False

    def __post_init__(self) -> None:
        # There are many nodes, but few states of them.
        self._node_refusals: dict[tuple[str, str], Refusal | None] = {}
        self.by_id = {node.id: node for node in self.nodes}
        self.by_name = {node.name: node for node in self.nodes}
        self.open = frozenset(node.id for node in self.nodes if not self.node_refusal(node))
        # A node with an isolated config gets no others, unless there is no other node.
        self.is_all_reserved = bool(self.open) and self.open <= self.reserved.keys()
        # The nodes that configs are moved to. In a rebalance also reserved ones: configs leave them.
        shares_reserved = self.purpose is BALANCE or (self.purpose.shares_reserved and self.is_all_reserved)
        self._all = self.open if shares_reserved else self.open.difference(self.reserved)
        self._steady = frozenset(id_ for id_ in self._all if self.by_id[id_].intake != "flapping")
        self.has_runners = conf.PLACEMENT_PREFER == "runners" and any(self.by_id[id_].is_runner for id_ in self._all)
        self.is_plain = not (
            self.rules
            or conf.RUNNER_GROUPS
            or any(node.declared for node in self.nodes)
            or (self.has_runners and not all(node.is_runner for node in self.nodes))
        )
        # There may be very many configs, but few checks, rules and pins: the answers for these are computed once.
        self._concerns: dict[tuple[str, ...], tuple[Rule, ...]] = {}
        self._unrefused: dict[object, dict[int, Candidate]] = {}
        self._sets: dict[object, frozenset[int]] = {}
        # Equal sets are one object: comparing large sets again and again would take longer than building them.
        self._same: dict[frozenset[int], frozenset[int]] = {}
        self._domains: dict[frozenset[int] | None, dict[str, frozenset[int]]] = {}

    def __len__(self) -> int:
        """How many nodes may be given work."""
        return len(self._all)

    def named(self, name: str) -> Candidate:
        """Return the known node of this name. Raises UnknownNode."""
        if name not in self.by_name:
            raise Node.objects.unknown(name)
        return self.by_name[name]

    def node_refusal(self, node: Candidate) -> Refusal | None:
        """Return why a node gets no new config at all, or None."""
        state = node.intake, node.signal
        if state not in self._node_refusals:
            self._node_refusals[state] = self._first(constraint(self, node) for constraint in _OF_NODE)
        return self._node_refusals[state]

    def unfit(self, entry: Entry, node: Candidate) -> bool:
        """Whether a node may not keep a config that it has, because of its declaration, its group or a rule about labels."""
        return not self.is_plain and node.id not in self._fit(entry.name, self._about(entry))

    def forbidding(self, entry: Entry, node: Candidate) -> str:
        """The name of the rule about labels for which a node is unfit for a config; empty if no such rule forbids it."""
        refusal = _labels(entry.name, self._about(entry), node)
        return str(refusal.named["rule"]) if refusal else ""

    def may_run(self, check: str, node: Candidate) -> bool:
        """Whether a node may run a check, by its declaration, its group and labels. Rules about origins do not count."""
        rules = [rule for rule in self.rules if rule.covers(check, ())]
        return not any(refuses(check, rules, node) for refuses in OF_CHECK)

    def receivers(self) -> frozenset[int]:
        """The ids of the nodes that may get configs. Flapping nodes are among them only if there are no others."""
        return (self._steady or self._all).difference(self.reserved)

    def read_origins(self, entries: Iterable[Entry]) -> None:
        """Set `sent_as` of existing configs, if a rule is about origins. All questions about a config need it."""
        if any(rule.source_pattern != "*" for rule in self.rules):
            changes.read_origins(entries)

    def eligible_ids(self, entry: Entry) -> frozenset[int] | None:
        """The ids of the nodes that may have a config, whatever they have already. None stands for all that configs move to."""
        if self.is_plain and entry.pin is None:
            return None
        rules, pin = self._about(entry), entry.pin
        key = (entry.name, tuple(rule.pk for rule in rules), pin and (pin.kind, pin.aim, pin.waits))
        if key not in self._sets:
            fit = {id_: node for id_, node in self._fit(entry.name, rules).items() if id_ in self._all}
            self._sets[key] = self._one(self._preferred(fit, pin))
        return self._sets[key]

    def _about(self, entry: Entry) -> tuple[Rule, ...]:
        key = (entry.name, *entry.sent_as)
        if key not in self._concerns:
            self._concerns[key] = tuple(rule for rule in self.rules if rule.covers(entry.name, entry.sent_as))
        return self._concerns[key]

    def _first(self, found: Iterable[Refusal | None]) -> Refusal | None:
        return next((why for why in found if why is not None and why.reason not in self.purpose.ignored), None)

    def _fit(self, check: str, rules: tuple[Rule, ...]) -> dict[int, Candidate]:
        """The nodes that no constraint in OF_CHECK refuses, by id."""
        key = check, tuple(rule.pk for rule in rules)
        if key not in self._unrefused:
            self._unrefused[key] = {
                node.id: node for node in self.nodes if not any(refuses(check, rules, node) for refuses in OF_CHECK)
            }
        return self._unrefused[key]

    def _preferred(self, fit: Mapping[int, Candidate], pin: Pin | None) -> Iterable[int]:
        if pin is not None:
            if pin.kind == Pin.Kind.NODE:
                # Most pins name one of very many nodes.
                named = self.by_name.get(pin.aim)
                aimed = [named.id] if named is not None and named.id in fit else []
            else:
                aimed = [node.id for node in fit.values() if pin.matches(node.name, node.labels)]
            if aimed or pin.waits:
                return aimed
        runners = [node.id for node in fit.values() if node.is_runner] if self.has_runners else []
        return runners or fit

    def _by_domain(self, among: frozenset[int] | None) -> dict[str, frozenset[int]]:
        """These nodes by their domains. Nodes without a domain are one: nobody knows which of them fail together."""
        if among not in self._domains:
            found: dict[str, set[int]] = {}
            for id_ in self._all if among is None else among:
                found.setdefault(self.by_id[id_].domain, set()).add(id_)
            self._domains[among] = {domain: self._one(ids) for domain, ids in found.items()}
        return self._domains[among]

    def _one(self, nodes: Iterable[int]) -> frozenset[int]:
        found = frozenset(nodes)
        return self._same.setdefault(found, found)


# The constraints. Each returns a refusal, or None.


def _warmup(candidates: Candidates, node: Candidate) -> Refusal | None:
    return Refusal(Reason.WARMUP) if candidates.is_cold else None


def _intake(candidates: Candidates, node: Candidate) -> Refusal | None:
    return None if node.intake in OPEN else Refusal(Reason[node.intake.upper()])


def _silence(candidates: Candidates, node: Candidate) -> Refusal | None:
    if node.signal in candidates.purpose.signals:
        return None
    patience = conf.NODE_EXPIRATION_TIMEOUT / (1 if "silent" in candidates.purpose.signals else 2)
    return Refusal(Reason.SILENT, {"time": f"{patience.total_seconds():g} s"})


def _declared(check: str, rules: Sequence[Rule], node: Candidate) -> Refusal | None:
    declaration = parse(node.declared)
    if declaration.admits(check):
        return None
    if declaration.include and check not in declaration.include:
        return Refusal(Reason.NOT_INCLUDED, {"checks": listed(sorted(declaration.include), NAMED)})
    return Refusal(Reason.EXCLUDED, {"check": check})


def _group(check: str, rules: Sequence[Rule], node: Candidate) -> Refusal | None:
    if not conf.RUNNER_GROUPS:
        return None
    mine, wanted = parse(node.declared).group, conf.RUNNER_GROUPS.get(check, "")
    if mine and mine not in conf.RUNNER_GROUPS.values():
        return Refusal(Reason.UNKNOWN_GROUP, {"group": mine})
    if mine == wanted:
        return None
    reason = Reason.OTHER_GROUP if wanted else Reason.NOT_CLAIMED
    return Refusal(reason, {"check": check, "group": wanted or mine})


def _labels(check: str, rules: Sequence[Rule], node: Candidate) -> Refusal | None:
    for rule in rules:
        for label, value in (rule.required or {}).items():
            if node.labels.get(label) != value:
                return Refusal(Reason.REQUIRED, {"rule": rule.name, "label": f"{label}={value}"})
        for label, value in (rule.forbidden or {}).items():
            if node.labels.get(label) == value:
                return Refusal(Reason.FORBIDDEN, {"rule": rule.name, "label": f"{label}={value}"})
    return None


_OF_NODE: Sequence[Callable[[Candidates, Candidate], Refusal | None]] = (_warmup, _intake, _silence)
OF_CHECK: Sequence[Callable[[str, Sequence[Rule], Candidate], Refusal | None]] = (_declared, _group, _labels)
