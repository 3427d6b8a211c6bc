"""Who has what, what it costs and what may move: all that a plan is made on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from checks import balancing
from checks.balancing import PlannedMove
from checks.dispatcher import costs
from checks.dispatcher.changes import Entry
from checks.dispatcher.staleness import active, receiving
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import ClusterStore, Plan
from checks.models.orders import Isolation, Pin
from checks.models.plans import Held
from clusteragent.lib import conf
from nodes.models import Node, Runner

Moves = list[PlannedMove[str, str]]


@dataclass(frozen=True, slots=True)
class Place:
    """A node. capacity, and base (its load that is not ours), are in workers. most: how many configs it may have."""

    id: int
    capacity: float
    base: float = 0.0
    most: int | None = None
    gives: bool = True
    takes: bool = True


@dataclass(frozen=True)
class Survey:
    """Nodes by name, configs by digest, pins by config's id. kept: the configs that an order keeps where they are."""

    revision: int
    nodes: Mapping[str, Place]
    held: Mapping[str, Held]
    costs: Mapping[str, float]
    pins: Mapping[int, Pin]
    kept: frozenset[str]
    eligibility: Eligibility

    @property
    def owners(self) -> dict[str, str]:
        return {digest: held.node for digest, held in self.held.items()}

    def utilization(self, moves: Iterable[PlannedMove[str, str]] = ()) -> dict[str, float]:
        """How utilized each node is, or will be with these moves."""
        owners = self.owners | {move.digest: move.to for move in moves}
        capacity = {name: node.capacity for name, node in self.nodes.items()}
        return balancing.utilization(
            self.costs, owners, capacity, {name: node.base for name, node in self.nodes.items()}
        )

    def fixed(self) -> set[str]:
        """What never moves: what an order keeps, and what is on a node that keeps what it has."""
        return {digest for digest, held in self.held.items() if not self.nodes[held.node].gives} | self.kept

    def resting(self) -> set[str]:
        """What does not move now: what came lately, or has not run yet where it is."""
        return {digest for digest, held in self.held.items() if held.moved or (held.fetched and not held.has_run)}

    def plan(self, pinned: set[str], *, budget: int | None = None, force: bool = False) -> Moves:
        """What a rebalance moves, with the options' say."""
        takes = {name: node for name, node in self.nodes.items() if node.takes}
        largest = costs.largest_shares(len(self.held), {name: node.capacity for name, node in takes.items()})
        sticky = (conf.STICKINESS_FACTOR, conf.STICKINESS_UPPER_LIMIT, conf.STICKINESS_LOWER_LIMIT)
        moves = balancing.plan(
            self.costs,
            self.owners,
            {name: node.capacity for name, node in self.nodes.items()},
            base={name: node.base for name, node in self.nodes.items()},
            pinned=pinned,
            free={digest for digest, held in self.held.items() if not held.fetched},
            eligible=self.eligible(),
            accepting=set(takes),
            limits={
                name: largest[name] if node.most is None else min(node.most, largest[name])
                for name, node in takes.items()
            },
            budget=budget,
            force=force,
            min_improvement=conf.REBALANCE_MIN_IMPROVEMENT,
            stickiness=balancing.Stickiness(*sticky) if conf.STICKINESS_ENABLED else None,
        )
        return list(self._by_the_rules(moves))

    def eligible(self) -> Callable[[str], frozenset[str] | None] | None:
        """Which nodes may run a config, by its digest; None: all may run all."""
        if self.eligibility.is_plain:
            return None
        entries = self.entries(self.held.values())
        names = {node.id: name for name, node in self.nodes.items()}
        sets: dict[frozenset[int] | None, frozenset[str] | None] = {None: None}

        def eligible(digest: str) -> frozenset[str] | None:
            ids = self.eligibility.may_run(entries[digest])
            if ids not in sets:
                # A node may have come between the look at the nodes and that at who may run what.
                sets[ids] = frozenset(names[id_] for id_ in ids or () if id_ in names)
            return sets[ids]

        return eligible

    def entries(self, held: Iterable[Held]) -> dict[str, Entry]:
        """Configs as the rules see them, by digest."""
        entries = {
            one.digest: Entry(one.id, one.digest, one.name, endpoint=False, pin=self.pins.get(one.id)) for one in held
        }
        if self.eligibility.needs_origins():
            name_origins(entries.values())
        return entries

    def _by_the_rules(self, moves: Moves) -> Iterable[PlannedMove[str, str]]:
        """The moves without those that a rule has no room for: how many of a kind a node may have, the planner can't know."""
        entries = self.entries(self.held[move.digest] for move in moves)
        for move in moves:
            among, to = self.eligibility.among(entries[move.digest]), self.nodes[move.to].id
            if among is None or to in among:
                self.eligibility.take(entries[move.digest], to)
                yield move


def take() -> Survey:
    """Look at the database. Someone may change the map meanwhile: whoever applies a plan looks again."""
    revision = ClusterStore.objects.get().revision
    workers, own = costs.workers(), dict(Runner.objects.filter(own_load__gt=0).values_list("pk", "own_load"))
    gives, takes = set(active().values_list("pk", flat=True)), set(receiving().values_list("pk", flat=True))
    nodes = {
        name: Place(
            pk, weight * workers.get(pk, balancing.DEFAULT_WORKERS), own.get(pk, 0.0), most, pk in gives, pk in takes
        )
        for pk, name, weight, most in Node.objects.known().values_list("pk", "name", "weight", "max_configs")
    }
    held = {one.digest: one for one in Plan.objects.held() if one.node in nodes}
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    expected = costs.expected()
    return Survey(
        revision,
        nodes,
        held,
        {digest: expected.get(one.id, 0.0) for digest, one in held.items()},
        pins,
        _kept(held, pins),
        Eligibility(candidates(active())),
    )


def _kept(held: Mapping[str, Held], pins: Mapping[int, Pin]) -> frozenset[str]:
    isolated = Isolation.objects.filter(config__isnull=False).values_list("config_id", flat=True)
    ids, excluded = {*pins, *isolated}, conf.EXCLUDE_CHECKS_FROM_DISPATCHING
    return frozenset(digest for digest, one in held.items() if one.id in ids or one.name in excluded)
