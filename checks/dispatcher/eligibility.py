"""May this node have this config, and if not, why? All other modules ask here.

A new constraint is a Reason of `refusals.py` with its words, and a function: in `candidates.py` if it depends on what the node
is, the check and its rules, else in _OF_CONFIG below; then it must be built into `within_limits` or `choose` as well.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from checks.balancing import Bar, Pool
from checks.dispatcher.candidates import OF_CHECK, Candidates
from checks.dispatcher.changes import Entry
from checks.dispatcher.inventory import Candidate, Inventory, read_nodes, read_reserved
from checks.dispatcher.neighbours import Neighbours
from checks.dispatcher.refusals import ORDER, PLACEMENT, Purpose, Reason, Refusal
from checks.models.orders import Rule
from clusteragent.lib.words import plain_count
from nodes.models import Hearing

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
    return Snapshot(
        nodes=read_nodes(names),
        rules=rules,
        reserved=read_reserved(),
        inventory=inventory,
        purpose=purpose,
        ceiling=ceiling,
        is_cold=is_cold,
    )


@dataclass(eq=False, kw_only=True)
class Snapshot(Candidates):
    """The known nodes and what they have. It says which of them may have a config, why the others may not, and which gets it.

    Only `choose`, `take` and `give_up` change it: they count configs. Nothing here writes to the database. For another purpose,
    or other nodes, copy it by `dataclasses.replace`. ceiling: see `read_snapshot`.
    """

    inventory: Inventory
    ceiling: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        self._spared: dict[object, frozenset[int]] = {}
        self._steadiest: dict[frozenset[int] | None, frozenset[int]] = {}
        self._neighbours = Neighbours(self.rules, self.by_id, self.inventory, self._about)
        self.spreads, self.parts = self._neighbours.spreads, self._neighbours.parts
        self.joins = self._neighbours.joins
        # What the configs cost that left nodes to be together with others: {node's id: workers}.
        self._left: dict[int, float] = defaultdict(float)
        # Configs that were given up: their owners' counts are without them.
        self._given_up: set[int] = set()
        # What the pool is told once it is there: few who count ask it.
        self._untold: list[tuple[Callable[[Pool[int], int, float], None], int, Entry]] = []
        self._able: dict[frozenset[int] | None, list[Candidate]] = {}
        self._has_place: dict[frozenset[int] | None, bool] = {}

    def with_nodes(self, *, without: Collection[str], new: Iterable[Candidate] = ()) -> "Snapshot":
        """Return the snapshot without the nodes of these names, with the new ones, and after the warm-up."""
        nodes = [*(node for node in self.nodes if node.name not in without), *new]
        return replace(self, nodes=nodes, is_cold=False)

    # Questions about a node.

    def refusal(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return why a node may not have a config, or None if it may. Call `read_origins` first."""
        rules = self._about(entry)
        of_check = (constraint(entry.name, rules, node) for constraint in OF_CHECK)
        of_config = (constraint(self, entry, node) for constraint in _OF_CONFIG)
        return self.node_refusal(node) or self._first(of_check) or self._first(of_config)

    def above(self, rule: Rule) -> int:
        """How many nodes have more configs of a rule than it lets each have. They keep them, and get no more."""
        return self._neighbours.above(rule)

    def loads(self) -> dict[int, float]:
        """The load of each node that may get configs, as a share of its capacity, by its id."""
        return {id_: self._pool.load(id_) for id_ in self._all}

    def peak(self) -> float:
        """The highest load of the nodes that may get configs, as a share of capacity; 0 if there is none."""
        return max(self.loads().values(), default=0.0)

    # Questions about a config.

    def within_limits(self, entry: Entry) -> frozenset[int] | None:
        """The ids of the nodes of `eligible_ids` that may have one more config of its kind by the rules. None stands for all.

        Nodes that have since got something that it is kept apart from may still be among them: see `clash`.
        """
        chosen = self.eligible_ids(entry)
        limits, sides = self._neighbours.limits(entry), self._neighbours.sides(entry)
        if chosen is None or not (limits or sides):
            return chosen
        bar = self._neighbours.bar(entry, self._owner(entry))
        key = (chosen, tuple(rule.pk for rule in limits), bar and bar.key)
        if key not in self._spared:
            spared = (id_ for id_ in chosen if not any(self._neighbours.has_most(rule, id_) for rule in limits))
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

    def cost(self, entry: Entry) -> float:
        """What a config costs in workers; what others of its check cost if it was not measured."""
        return self.inventory.means.of(entry.name) if entry.cost is None else entry.cost

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
        leaving = self._left[owner.id] + self.cost(entry)
        beside = self._companion(entry, among, self._neighbours.bar(entry, self._owner(entry)), {owner.id: leaving})
        self._admit(owner.id, self._neighbours.count_company(entry, owner.id, 1))
        if beside is None:
            return None
        self._left[owner.id] = leaving
        return self._place(entry, among, None, beside)

    def clash(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return the rule that keeps a config apart from one that a node, or its domain, has; None if there is none."""
        side = self._neighbours.clash(entry, node, self._owner(entry)) if self.parts else None
        return side.refusal(node) if side else None

    def crowded(self, entry: Entry, node: Candidate) -> Refusal | None:
        """Return the rule that wants a config in another domain than this node's, and why; None if there is none."""
        if not (rules := self._neighbours.spreading(entry) if self.spreads else ()):
            return None
        owner = self.by_id.get(entry.owner or 0)
        if owner is not None and owner.domain == node.domain:
            return None
        other = self._best_domain(entry, self._steady_of(entry))
        return None if other is None else self._neighbours.crowded(rules, self._owner(entry), node.domain, other)

    def prefetch(self) -> None:
        """Read now what choices need, if a node can be chosen. Otherwise the first choice reads it."""
        if self._all:
            _ = self._pool, self.held, self.inventory.means
            self._neighbours.prefetch()

    def take(self, entry: Entry, node: int) -> None:
        """Count one more config for a node."""
        self._count(entry, node, 1)
        self._untold.append((Pool.take, node, entry))

    def give_up(self, entry: Entry) -> None:
        """Count one config fewer for its owner."""
        self._count(entry, entry.owner or 0, -1)
        self._untold.append((Pool.give_up, entry.owner or 0, entry))
        self._given_up.add(entry.id)
        self._able.clear()
        self._has_place.clear()

    def _owner(self, entry: Entry) -> Candidate | None:
        """The node whose counts include the config, if it is known."""
        return None if entry.id in self._given_up else self.by_id.get(entry.owner or 0)

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
        cost = self.cost(entry)
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
            self._count(entry, node, 1)
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
            node = self._pool.beside(self.cost(entry), among, bar, alone, leaving)
            if node is not None:
                return node, rule
        return None

    def _best_domain(self, entry: Entry, among: frozenset[int] | None) -> str | None:
        """The domain of these nodes that has room and the fewest configs of the rules that spread this one; None if no rule does.

        Of several: that of the node which the config prefers, else that of the least loaded node.
        """
        if not (rules := self._neighbours.spreading(entry)):
            return None
        owner, domains = self._owner(entry), self._by_domain(among)
        crowd, bar = self._neighbours.crowd(rules, owner), self._neighbours.bar(entry, owner)
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

    @property
    def _pool(self) -> Pool[int]:
        if self._untold:
            untold, self._untold = self._untold, []
            for count, node, entry in untold:
                count(self._counted, node, self.cost(entry))
        return self._counted

    @cached_property
    def _counted(self) -> Pool[int]:
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

    def _count(self, entry: Entry, node: int, more: int) -> None:
        self.held[node] += more
        self._admit(node, self._neighbours.count(entry, node, more))
        if self._neighbours.count_limited(entry, node, more):
            self._spared.clear()

    def _admit(self, node: int, rules: Iterable[int]) -> None:
        for rule in rules:
            self._pool.admit(node, rule)


# The constraints that depend on what nodes have, or on one config alone. Each returns a refusal, or None.


def _reserved(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    config = snapshot.reserved.get(node.id)
    if config is None or config.id == entry.id or (snapshot.purpose.shares_reserved and snapshot.is_all_reserved):
        return None
    return Refusal(Reason.RESERVED, {"config": config.name, "why": config.why})


def _rule_full(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    for rule in snapshot._neighbours.limits(entry):
        if snapshot._neighbours.has_most(rule, node.id):
            return Refusal(Reason.RULE_FULL, {"rule": rule.name, "most": rule.max_per_node})
    return None


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


def _full(snapshot: Snapshot, entry: Entry, node: Candidate) -> Refusal | None:
    if node.limit is None or snapshot.held[node.id] < node.limit:
        return None
    return Refusal(Reason.FULL, {"most": plain_count(node.limit, "config")})


_OF_CONFIG: Sequence[Callable[[Snapshot, Entry, Candidate], Refusal | None]] = (
    _reserved, _rule_full, Snapshot.clash, _pinned, _runners_first, _flapping, _full, Snapshot.crowded,
)  # fmt: skip
