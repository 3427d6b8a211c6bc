"""May this node have this config, and if not, why? All other modules ask here.

A new constraint is a Reason of `refusals.py` with its words, and a function in one of three tables: _OF_NODE if it depends
on the node's intake or signal, _OF_CHECK if it depends on the node, the check and its rules, _OF_CONFIG otherwise. `choose` obeys
the first two tables by itself; a constraint in _OF_CONFIG must be built into `within_limits` or `choose` as well.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from checks.balancing import Bar, Pool
from checks.dispatcher import changes
from checks.dispatcher.changes import Entry
from checks.dispatcher.inventory import Candidate, Inventory, Reserved, read_nodes, read_reserved
from checks.dispatcher.neighbours import Neighbours
from checks.dispatcher.refusals import BALANCE, ORDER, PLACEMENT, Purpose, Reason, Refusal
from checks.models.orders import Pin, Rule, patterns_of
from clusteragent.lib import conf
from clusteragent.lib.words import listed, plain_count
from nodes.declarations import NAMED, parse
from nodes.models import Hearing, Node
from nodes.models.nodes import OPEN, named_domain

T = TypeVar("T")


def read_snapshot(
    purpose: Purpose = PLACEMENT,
    *,
    names: Collection[str] | None = None,
    asked_of: Collection[str] | None = None,
    ceiling: float = math.inf,
    cold: bool = False,
) -> "Snapshot":
    """Read the known nodes as they are now, for a purpose.

    names: only the nodes with these names, where no other one can matter. asked_of: the names of the nodes that `refusal` is
    asked of, and nothing is chosen: only what these have is read. ceiling: the most configs that a node may have, see
    balancing.Pool. cold: the warm-up does not count.
    """
    is_cold = not cold and Hearing.objects.filter(warmup=True).exists()
    rules = list(Rule.objects.all())
    if any(rule.apart_from and rule.apart_by_domain for rule in rules):
        # What other nodes of the domain have matters, too.
        names = asked_of = None
    inventory = Inventory(names if asked_of is None else asked_of)
    return Snapshot(read_nodes(names), rules, read_reserved(), inventory, purpose, ceiling, is_cold)


@dataclass(eq=False)
class Snapshot:
    """The known nodes at one moment. It says which of them may have a config, why the others may not, and which gets it.

    Only `choose`, `take` and `give_up` change it: they count configs. Nothing here writes to the database. For another purpose,
    or other nodes, copy it by `dataclasses.replace`. reserved: {node's id: config}. ceiling, is_cold: see `read_snapshot`.
    """

    nodes: Sequence[Candidate]
    rules: Sequence[Rule]
    reserved: Mapping[int, Reserved]
    inventory: Inventory
    purpose: Purpose
    ceiling: float = math.inf
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
        self._spared: dict[object, frozenset[int]] = {}
        self._steadiest: dict[frozenset[int] | None, frozenset[int]] = {}
        self._domains: dict[frozenset[int] | None, dict[str, frozenset[int]]] = {}
        self._neighbours = Neighbours(self.rules, self.by_id, self.inventory, self._about, lambda: self._held_by_rule)
        self.spreads, self.parts = self._neighbours.spreads, self._neighbours.parts
        self.joins = self._neighbours.joins
        # What the configs cost that left nodes to be together with others: {node's id: workers}.
        self._left: dict[int, float] = defaultdict(float)
        # Configs that were given up: their owners' counts are without them.
        self._given_up: set[int] = set()
        self._able: dict[frozenset[int] | None, list[Candidate]] = {}
        self._has_place: dict[frozenset[int] | None, bool] = {}

    def __len__(self) -> int:
        """How many nodes may be given work."""
        return len(self._all)

    def with_nodes(self, *, without: Collection[str], new: Iterable[Candidate] = ()) -> "Snapshot":
        """Return the snapshot without the nodes of these names, with the new ones, and after the warm-up."""
        nodes = [*(node for node in self.nodes if node.name not in without), *new]
        return replace(self, nodes=nodes, is_cold=False)

    # Questions about a node.

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

    def refusal(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return why a node may not have a config, or None if it may. Call `read_origins` first."""
        rules = self._about(entry)
        of_check = (constraint(entry.name, rules, node) for constraint in _OF_CHECK)
        of_config = (constraint(self, entry, node) for constraint in _OF_CONFIG)
        return self.node_refusal(node) or self._first(of_check) or self._first(of_config)

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
        return not any(refuses(check, rules, node) for refuses in _OF_CHECK)

    def above(self, rule: Rule) -> int:
        """How many nodes have more configs of a rule than it lets each have. They keep them, and get no more."""
        most = rule.max_per_node
        return sum(number > most for number in self._of_rules[rule.pk].values()) if most else 0

    def receivers(self) -> frozenset[int]:
        """The ids of the nodes that may get configs. Flapping nodes are among them only if there are no others."""
        return (self._steady or self._all).difference(self.reserved)

    def loads(self) -> dict[int, float]:
        """The load of each node that may get configs, as a share of its capacity, by its id."""
        return {id_: self._pool.load(id_) for id_ in self._all}

    def peak(self) -> float:
        """The highest load of the nodes that may get configs, as a share of capacity; 0 if there is none."""
        return max(self.loads().values(), default=0.0)

    # Questions about a config.

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

    def within_limits(self, entry: Entry) -> frozenset[int] | None:
        """The ids of the nodes of `eligible_ids` that may have one more config of its kind by the rules. None stands for all.

        Nodes that have since got something that it is kept apart from may still be among them: see `clash`.
        """
        chosen = self.eligible_ids(entry)
        limits, sides = self._limits(entry), self._neighbours.sides(entry)
        if chosen is None or not (limits or sides):
            return chosen
        bar = self._neighbours.bar(entry, self._owner(entry))
        key = (chosen, tuple(rule.pk for rule in limits), bar and bar.key)
        if key not in self._spared:
            spared = (id_ for id_ in chosen if not any(self._has_most(rule, id_) for rule in limits))
            self._spared[key] = self._one(id_ for id_ in spared if bar is None or not bar.stops(id_))
        return self._spared[key]

    def able(self, entry: Entry) -> list[Candidate]:
        """The nodes that may have a config, have room and do not flap. Room is as it was when this was first asked."""
        among = self.within_limits(entry)
        if among not in self._able:
            able = self._steady if among is None else among & self._steady
            self._able[among] = [node for node in self.nodes if node.id in able and self._pool.has_room(node.id)]
        return self._able[among] or self._without_pin(entry, self.able) or []

    def best(self, entry: Entry) -> list[tuple[str, float]]:
        """Return (name, load) of the five least loaded nodes that may have a config and have room, without its own."""
        among = self._steady_of(entry, elsewhere=True)
        roomy = frozenset(filter(self._pool.has_room, self._all if among is None else among))
        return self._pool.best(roomy, bar=self._neighbours.bar(entry, self._owner(entry)))

    def has_place(self, entry: Entry) -> bool:
        """Whether a node may have a config and has room."""
        among = self.within_limits(entry)
        if among not in self._has_place:
            self._has_place[among] = any(map(self._pool.has_room, self._all if among is None else among))
        return self._has_place[among] or bool(self._without_pin(entry, self.has_place))

    def choose(self, entry: Entry, *, elsewhere: bool = False, fall_back: bool = True) -> int | None:
        """Choose the node for a config, count the config as its own, and return its id; None if no node may have it or has room.

        It is the config's preferred node (`near`) if that may have it, else the least loaded. Sets `entry.why`.
        elsewhere: not the node that has it. fall_back: another node if no node that its pin aims at has room.
        """
        node = self._choose(entry, elsewhere)
        if node is None and fall_back:
            node = self._without_pin(entry, lambda entry: self._choose(entry, elsewhere))
        return node

    def within_domain(self, entry: Entry) -> frozenset[int] | None:
        """The ids of the nodes of `eligible_ids`: of its own domain alone, if a rule spreads the config. None stands for all."""
        among, owner = self.eligible_ids(entry), self.by_id.get(entry.owner or 0)
        if owner is None or not self._neighbours.spreading(entry):
            return among
        return self._by_domain(among).get(owner.domain, frozenset())

    def spread_out(self, entry: Entry) -> int | None:
        """Choose a node for a config, as `choose` does, in a domain that has at least two fewer of a rule's configs than its own.

        None if there is none with room. A config that is isolated stays.
        """
        owner = self.by_id.get(entry.owner or 0)
        rules = self._neighbours.spreading(entry) if owner is not None else ()
        if owner is None or not rules or (owner.id in self.reserved and self.reserved[owner.id].id == entry.id):
            return None
        among = self._steady_of(entry)
        key = among, owner.domain, *(rule.pk for rule in rules)
        if key in self._neighbours.well_spread:
            return None
        domain = self._best_domain(entry, among)
        crowd = self._neighbours.crowd(rules, self._owner(entry))
        if domain is None or crowd(domain) >= crowd(owner.domain):
            self._neighbours.well_spread.add(key)
            return None
        return self._place(entry, among, domain)

    def part(self, entry: Entry) -> int | None:
        """Choose a node for a config whose node, or domain, has one that a rule keeps it apart from; None if there is none."""
        owner = self._owner(entry)
        return self.choose(entry) if owner is not None and self.clash(entry, owner) else None

    def is_together(self, entry: Entry) -> bool:
        """Whether the config's node has another one that a rule wants together with it, or it with that."""
        owner = self._owner(entry)
        return owner is not None and self._neighbours.is_together(entry, owner)

    def join(self, entry: Entry) -> int | None:
        """Choose a node for a config that a rule wants together with others, where its own node has none of them.

        None if there is none that it would not load above the others, or if others on its own node want it there. A config that
        is isolated stays. So each move leaves more configs together than before, and this ends.
        """
        owner = self._owner(entry)
        if owner is None or not self._neighbours.joining(entry) or self.is_together(entry):
            return None
        if owner.id in self.reserved and self.reserved[owner.id].id == entry.id:
            return None
        among = self._steady_of(entry)
        if self._neighbours.spreading(entry):
            among = self._by_domain(among).get(owner.domain, frozenset())
        # It is no company for itself.
        self._neighbours.count_company(entry, owner.id, -1)
        leaving = self._left[owner.id] + self._cost(entry)
        beside = self._companion(entry, among, self._neighbours.bar(entry, self._owner(entry)), {owner.id: leaving})
        self._admit(owner.id, self._neighbours.count_company(entry, owner.id, 1))
        if beside is None:
            return None
        self._left[owner.id] = leaving
        return self._place(entry, among, None, beside)

    def clash(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return the rule that keeps a config apart from one that a node, or its domain, has; None if there is none."""
        side = self._neighbours.clash(entry, node, self._owner(entry))
        if side is None:
            return None
        rule = side.rule
        named = {"rule": rule.name, "checks": rule.check_pattern}
        if side.is_covered:
            named["checks"] = ", ".join(patterns_of(rule.apart_from))
        if not rule.apart_by_domain:
            return Refusal(Reason.APART, named)
        # Nodes without a domain are one domain, and "which no zone has" would say that nobody has it.
        domain = named_domain(node.domain) if node.domain else f"a node of {named_domain('')}"
        return Refusal(Reason.APART_IN_DOMAIN, {**named, "domain": domain})

    def crowded(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return the rule that wants a config in another domain than this node's, and why; None if there is none."""
        rules, owner = self._neighbours.spreading(entry), self.by_id.get(entry.owner or 0)
        if not rules or (owner is not None and owner.domain == node.domain):
            return None
        other, crowd = (
            self._best_domain(entry, self._steady_of(entry)),
            self._neighbours.crowd(rules, self._owner(entry)),
        )
        if other is None or crowd(other) >= crowd(node.domain):
            return None
        both = zip(rules, crowd(node.domain), crowd(other), strict=True)
        rule, number, fewer = next(one for one in both if one[1] != one[2])
        named = {"domain": named_domain(node.domain), "other": named_domain(other)}
        return Refusal(Reason.SPREAD, {"rule": rule.name, "number": number, "fewer": fewer, **named})

    def prefetch(self) -> None:
        """Read now what choices need, if a node can be chosen. Otherwise the first choice reads it."""
        if self._all:
            _ = self._pool, self.held, self.inventory.means, self._held_by_rule
            self._neighbours.prefetch()

    def take(self, entry: Entry, node: int) -> None:
        """Count one more config for a node."""
        self._count(entry, node, 1)

    def give_up(self, entry: Entry) -> None:
        """Count one config fewer for its owner."""
        self._count(entry, entry.owner or 0, -1)
        self._given_up.add(entry.id)

    def _owner(self, entry: Entry) -> Candidate | None:
        """The node whose counts include the config, if it is known."""
        return None if entry.id in self._given_up else self.by_id.get(entry.owner or 0)

    def _first(self, found: Iterable[Refusal | None]) -> Refusal | None:
        return next((why for why in found if why is not None and why.reason not in self.purpose.ignored), None)

    def _about(self, entry: Entry) -> tuple[Rule, ...]:
        key = (entry.name, *entry.sent_as)
        if key not in self._concerns:
            self._concerns[key] = tuple(rule for rule in self.rules if rule.covers(entry.name, entry.sent_as))
        return self._concerns[key]

    def _limits(self, entry: Entry) -> list[Rule]:
        return [rule for rule in self._about(entry) if rule.max_per_node] if self.rules else []

    def _cost(self, entry: Entry) -> float:
        return self.inventory.means.of(entry.name) if entry.cost is None else entry.cost

    def _fit(self, check: str, rules: tuple[Rule, ...]) -> dict[int, Candidate]:
        """The nodes that no constraint in _OF_CHECK refuses, by id."""
        key = check, tuple(rule.pk for rule in rules)
        if key not in self._unrefused:
            self._unrefused[key] = {
                node.id: node for node in self.nodes if not any(refuses(check, rules, node) for refuses in _OF_CHECK)
            }
        return self._unrefused[key]

    def _one(self, nodes: Iterable[int]) -> frozenset[int]:
        found = frozenset(nodes)
        return self._same.setdefault(found, found)

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

    def _without_pin(self, entry: Entry, ask: Callable[[Entry], T]) -> T | None:
        """The answer for a config without its pin; None if it has no pin, or one that waits."""
        if entry.pin is None or entry.pin.waits:
            return None
        pin, entry.pin = entry.pin, None
        answer = ask(entry)
        entry.pin = pin
        return answer

    def _choose(self, entry: Entry, elsewhere: bool) -> int | None:
        among = self._steady_of(entry, elsewhere=elsewhere)
        return self._place(entry, among, self._best_domain(entry, among) if self.spreads else None)

    def _place(
        self, entry: Entry, among: frozenset[int] | None, domain: str | None, beside: tuple[int, Rule] | None = None
    ) -> int | None:
        """Choose one of these nodes, of this domain if it is given. beside: see `_companion`."""
        cost = self._cost(entry)
        if domain is not None:
            among = self._by_domain(among)[domain]
        bar, near = self._neighbours.bar(entry, self._owner(entry)), entry.near
        best = [[name, round(load, 4)] for name, load in self._pool.best(among, bar=bar)]
        entry.why = {"cost": round(cost, 6), "of": len(self._pool if among is None else among), "best": best}
        if entry.cost is None:
            entry.why["assumed"] = True
        if domain is not None:
            entry.why |= {"domain": domain, "rule": self._neighbours.spreading(entry)[0].name}
        if beside is None and near is None:
            beside = self._companion(entry, among, bar)
        if beside is not None:
            near, entry.why["together"] = beside[0], beside[1].name
        node = self._pool.place(cost, near, among, bar)
        if node is not None:
            self.take(entry, node)
            if entry.owner is not None:
                self._neighbours.count(entry, entry.owner, -1)
        return node

    def _companion(
        self,
        entry: Entry,
        among: frozenset[int] | None,
        bar: Bar[int] | None,
        leaving: Mapping[int, float] = MappingProxyType({}),
    ) -> tuple[int, Rule] | None:
        """The node that a rule prefers for a config to be together with others, and the rule; None if that loads it too much."""
        for rule, alone in self._neighbours.alone(entry, bar):
            node = self._pool.beside(self._cost(entry), among, bar, alone, leaving)
            if node is not None:
                return node, rule
        return None

    def _best_domain(self, entry: Entry, among: frozenset[int] | None) -> str | None:
        """The domain of these nodes that has room and the fewest configs of the rules that spread this one; None if no rule does.

        Of several: that of the node which the config prefers, else that of the least loaded node.
        """
        if not (rules := self._neighbours.spreading(entry)):
            return None
        crowd, domains, bar = (
            self._neighbours.crowd(rules, self._owner(entry)),
            self._by_domain(among),
            self._neighbours.bar(entry, self._owner(entry)),
        )
        crowds = {domain: crowd(domain) for domain in domains}
        found: list[tuple[bool, float, str]] = []
        fewest: list[int] | None = None
        for domain in sorted(domains, key=crowds.__getitem__):
            if fewest is not None and crowds[domain] != fewest:
                break
            load = self._pool.least(domains[domain], bar)
            if load < math.inf:
                fewest = crowds[domain]
                found.append((entry.near not in domains[domain], load, domain))
        return min(found)[2] if found else None

    def _by_domain(self, among: frozenset[int] | None) -> dict[str, frozenset[int]]:
        """These nodes by their domains. Nodes without a domain are one: nobody knows which of them fail together."""
        if among not in self._domains:
            found: dict[str, set[int]] = {}
            for id_ in self._all if among is None else among:
                found.setdefault(self.by_id[id_].domain, set()).add(id_)
            self._domains[among] = {domain: self._one(ids) for domain, ids in found.items()}
        return self._domains[among]

    def _steady_of(self, entry: Entry, *, elsewhere: bool = False) -> frozenset[int] | None:
        """The nodes of `within_limits` that do not flap, or all of them if all flap. None stands for all."""
        among = self.within_limits(entry)
        if elsewhere:
            among = (self._all if among is None else among) - {entry.owner or 0}
        if len(self._steady) == len(self._all):
            return among
        if among not in self._steadiest:
            able = self._all if among is None else among
            self._steadiest[among] = able & self._steady or able
        return self._steadiest[among]

    # What nodes have, including the configs that were chosen since.

    @cached_property
    def _pool(self) -> Pool[int]:
        nodes = [self.by_id[id_] for id_ in self._all]
        return Pool(
            {node.id: node.name for node in nodes},
            self.inventory.needed,
            self.ceiling,
            counts=self.inventory.held,
            workers={node.id: node.capacity for node in nodes},
            limits={node.id: node.limit for node in nodes if node.limit is not None},
        )

    @cached_property
    def held(self) -> Counter[int]:
        """How many configs each node has: {node's id: number}."""
        return Counter(self.inventory.held)

    @cached_property
    def _held_by_rule(self) -> dict[int, Counter[int]]:
        counted = [
            rule for rule in self.rules if rule.max_per_node or rule.spread or rule.apart_from or rule.together_with
        ]
        return self.inventory.held_by_rule(counted)

    @cached_property
    def _of_rules(self) -> dict[int, Counter[int]]:
        return {rule.pk: Counter(self._held_by_rule[rule.pk]) for rule in self.rules if rule.max_per_node}

    def _count(self, entry: Entry, node: int, more: int) -> None:
        self.held[node] += more
        self._admit(node, self._neighbours.count(entry, node, more))
        for rule in self._limits(entry):
            had_most = self._has_most(rule, node)
            self._of_rules[rule.pk][node] += more
            if self._has_most(rule, node) != had_most:
                self._spared.clear()

    def _admit(self, node: int, rules: Iterable[int]) -> None:
        for rule in rules:
            self._pool.admit(node, rule)

    def _has_most(self, rule: Rule, node: int) -> bool:
        return self._of_rules[rule.pk][node] >= (rule.max_per_node or math.inf)


# The constraints. Each returns a refusal, or None.


def _warmup(snapshot: Snapshot, node: Candidate) -> Refusal | None:
    return Refusal(Reason.WARMUP) if snapshot.is_cold else None


def _intake(snapshot: Snapshot, node: Candidate) -> Refusal | None:
    return None if node.intake in OPEN else Refusal(Reason[node.intake.upper()])


def _silence(snapshot: Snapshot, node: Candidate) -> Refusal | None:
    if node.signal in snapshot.purpose.signals:
        return None
    patience = conf.NODE_EXPIRATION_TIMEOUT / (1 if "silent" in snapshot.purpose.signals else 2)
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


def _reserved(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    config = snapshot.reserved.get(node.id)
    if config is None or config.id == entry.id or (snapshot.purpose.shares_reserved and snapshot.is_all_reserved):
        return None
    return Refusal(Reason.RESERVED, {"config": config.name, "why": config.why})


def _rule_full(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    for rule in snapshot._limits(entry):
        if snapshot._has_most(rule, node.id):
            return Refusal(Reason.RULE_FULL, {"rule": rule.name, "most": rule.max_per_node})
    return None


def _apart(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    return snapshot.clash(entry, node) if snapshot.parts else None


def _pinned(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    """A pin that no node can follow now, and that does not wait, binds only orders of people."""
    pin = entry.pin
    if pin is None or pin.matches(node.name, node.labels):
        return None
    # The pin aims at all of these nodes or at none, so one is enough.
    one = next(map(snapshot.by_id.__getitem__, snapshot.eligible_ids(entry) or ()), None)
    leads = one is not None and pin.matches(one.name, one.labels)
    return Refusal(Reason.PINNED, {"pin": pin}) if leads or pin.waits or snapshot.purpose is ORDER else None


def _runners_first(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    eligible_ids = snapshot.eligible_ids(entry)
    return Refusal(Reason.RUNNERS_FIRST) if eligible_ids is not None and node.id not in eligible_ids else None


def _flapping(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    if node.intake != "flapping":
        return None
    steady = snapshot._steady_of(entry)
    return Refusal(Reason.FLAPPING) if steady is not None and node.id not in steady else None


def _crowded(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    return snapshot.crowded(entry, node) if snapshot.spreads else None


def _full(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    if node.limit is None or snapshot.held[node.id] < node.limit:
        return None
    return Refusal(Reason.FULL, {"most": plain_count(node.limit, "config")})


_OF_NODE: Sequence[Callable[[Snapshot, Candidate], Refusal | None]] = (_warmup, _intake, _silence)
_OF_CHECK: Sequence[Callable[[str, Sequence[Rule], Candidate], Refusal | None]] = (_declared, _group, _labels)
_OF_CONFIG: Sequence[Callable[[Snapshot, Entry, Candidate], Refusal | None]] = (
    _reserved, _rule_full, _apart, _pinned, _runners_first, _flapping, _full, _crowded,
)  # fmt: skip
