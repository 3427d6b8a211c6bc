"""All that a rebalance is planned on: who has what, what it costs, and what may move."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from checks import balancing
from checks.balancing import PlannedMove
from checks.dispatcher import costs
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.inventory import Candidate
from checks.dispatcher.refusals import BALANCE
from checks.models import Assignment, ClusterStore, Cost, Plan
from checks.models.orders import Isolation, Pin
from checks.models.plans import Held
from clusteragent.lib import conf

Moves = list[PlannedMove[str, str]]


@dataclass(frozen=True)
class Survey:
    """The map at one moment, for planning a rebalance. Costs, capacities and loads are in workers.

    revision: the store's. held: {digest: config and its node}. costs: {digest: workers}. pins: {config's id: pin}.
    bound: the digests of configs that an order or an option binds to their nodes, or that were adopted and not fetched yet.
    """

    revision: int
    snapshot: Snapshot
    held: Mapping[str, Held]
    costs: Mapping[str, float]
    pins: Mapping[int, Pin]
    bound: frozenset[str]

    @cached_property
    def nodes(self) -> Mapping[str, Candidate]:
        """The known nodes by name."""
        return self.snapshot.by_name

    @cached_property
    def capacity(self) -> dict[str, float]:
        """The capacity of each node: {name: workers}."""
        return {name: node.capacity for name, node in self.nodes.items()}

    @cached_property
    def own(self) -> dict[str, float]:
        """The load of each node by checks that we did not dispatch: {name: workers}."""
        return {name: node.own for name, node in self.nodes.items()}

    @property
    def owners(self) -> dict[str, str]:
        """The node of each config: {digest: name}."""
        return {digest: held.node for digest, held in self.held.items()}

    def utilization(self, moves: Iterable[PlannedMove[str, str]] = ()) -> dict[str, float]:
        """The load of each node, now or after these moves: {name: share of its capacity}."""
        owners = self.owners | {move.digest: move.to for move in moves}
        return balancing.utilization(self.costs, owners, self.capacity, self.own)

    def fixed(self) -> set[str]:
        """The digests of configs that don't move in any rebalance: those in `bound`, and those on nodes that get nothing new."""
        gives = self.snapshot.open
        return {digest for digest, held in self.held.items() if self.nodes[held.node].id not in gives} | self.bound

    def resting(self) -> set[str]:
        """The digests of configs that don't move yet: they moved lately, or have not run yet where they are."""
        return {digest for digest, held in self.held.items() if held.moved or (held.fetched and not held.has_run)}

    def plan(self, pinned: set[str], *, budget: int | None = None, force: bool = False) -> Moves:
        """Plan a rebalance with the settings' options, and return its moves. pinned: digests of configs that stay.

        budget: the most moves, None for no limit. force: also when the improvement is small.
        """
        receivers = self.snapshot.receivers()
        able = {name: node for name, node in self.nodes.items() if node.id in receivers}
        largest = costs.largest_shares(len(self.held), {name: node.capacity for name, node in able.items()})
        sticky = (conf.STICKINESS_FACTOR, conf.STICKINESS_UPPER_LIMIT, conf.STICKINESS_LOWER_LIMIT)
        moves = balancing.plan(
            self.costs,
            self.owners,
            self.capacity,
            base=self.own,
            pinned=pinned | self._together(),
            free={digest for digest, held in self.held.items() if not held.fetched},
            eligible=self.eligible(),
            accepting=set(able),
            limits={
                name: largest[name] if node.limit is None else min(node.limit, largest[name])
                for name, node in able.items()
            },
            budget=budget,
            force=force,
            min_improvement=conf.REBALANCE_MIN_IMPROVEMENT,
            stickiness=balancing.Stickiness(*sticky) if conf.STICKINESS_ENABLED else None,
        )
        return list(self._within_rules(moves))

    def _together(self) -> set[str]:
        """The digests of configs that rules want where they are, together with others.

        A node whose load is above the mean by more than is `tolerated` keeps none.
        """
        if not self.snapshot.joins:
            return set()
        loads, nodes = self.utilization(), [name for name, node in self.nodes.items() if node.id in self.snapshot.open]
        whole = sum(self.nodes[name].capacity for name in nodes)
        fair = sum(loads[name] * self.nodes[name].capacity for name in nodes) / whole if whole else 0.0
        held = (one for one in self.held.values() if loads[one.node] <= balancing.tolerated(fair))
        return {digest for digest, entry in self.entries(held).items() if self.snapshot.is_together(entry)}

    def eligible(self) -> Callable[[str], frozenset[str] | None] | None:
        """Return a function from a config's digest to the names of the nodes that may run it, None for all nodes.

        Returns None itself if all nodes may run all configs.
        """
        if self.snapshot.is_plain:
            return None
        entries = self.entries(self.held.values())
        sets: dict[frozenset[int] | None, frozenset[str] | None] = {None: None}

        def eligible(digest: str) -> frozenset[str] | None:
            ids = self.snapshot.within_domain(entries[digest])
            if ids not in sets:
                sets[ids] = frozenset(self.snapshot.by_id[id_].name for id_ in ids or ())
            return sets[ids]

        return eligible

    def entries(self, held: Iterable[Held]) -> dict[str, Entry]:
        """Return configs as entries, as eligibility needs them: {digest: entry}."""
        ids = {name: node.id for name, node in self.nodes.items()}
        entries = {
            one.digest: Entry(
                one.id, one.digest, one.name, endpoint=False, owner=ids.get(one.node), pin=self.pins.get(one.id),
                cost=self.costs[one.digest], title=one.title,
            )
            for one in held
        }  # fmt: skip
        self.snapshot.read_origins(entries.values())
        return entries

    def _within_rules(self, moves: Moves) -> Iterable[PlannedMove[str, str]]:
        """The moves that rules with a limit per node allow. The planner itself doesn't know these limits."""
        entries = self.entries(self.held[move.digest] for move in moves)
        for move in moves:
            entry, to = entries[move.digest], self.nodes[move.to]
            among = self.snapshot.within_limits(entry)
            if (among is None or to.id in among) and not self.snapshot.clash(entry, to):
                self.snapshot.take(entry, to.id)
                yield move


def take_survey() -> Survey:
    """Read the map without a lock. Others may change it meanwhile, so whoever applies a plan verifies it."""
    revision = ClusterStore.objects.get().revision
    snapshot = read_snapshot(BALANCE)
    held = {one.digest: one for one in Plan.objects.held() if one.node in snapshot.by_name}
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    expected = Cost.objects.expected()
    measured = {digest: expected.get(one.id, 0.0) for digest, one in held.items()}
    isolated = Isolation.objects.filter(config__isnull=False).values_list("config_id", flat=True)
    unsettled = Assignment.objects.unsettled().values_list("pk", flat=True)
    ids, excluded = {*pins, *isolated, *unsettled}, conf.EXCLUDE_CHECKS_FROM_DISPATCHING
    bound = frozenset(digest for digest, one in held.items() if one.id in ids or one.name in excluded)
    return Survey(revision, snapshot, held, measured, pins, bound)
