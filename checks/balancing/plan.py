"""Plans a rebalance: the fewest moves that make a clear difference, the greatest gain first."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from checks.balancing.cluster import Cluster, Step, Stickiness, exact, net, spread
from checks.balancing.cohort import Cohort
from clusteragent.lib import conf

D = TypeVar("D", bound=Hashable)
N = TypeVar("N", bound=Hashable)

Eligible = Callable[[D], Collection[N] | None] | Mapping[D, Collection[N]]

# A node above this utilization is worth a move whatever else it changes.
HIGH = 0.8


class PlannedMove(NamedTuple, Generic[D, N]):
    """A move of a plan.

    gain: the cost, times the utilization of the old node before minus that of the new node after the move.
    """

    digest: D
    source: N
    to: N
    gain: float


def plan(
    costs: Mapping[D, float],
    owners: Mapping[D, N],
    capacity: Mapping[N, float],
    *,
    base: Mapping[N, float] | None = None,
    pinned: Collection[D] = frozenset(),
    free: Collection[D] = frozenset(),
    eligible: Eligible[D, N] | None = None,
    accepting: Collection[N] | None = None,
    limits: Mapping[N, float] | None = None,
    budget: int | None = None,
    force: bool = False,
    min_improvement: float = 10,
    stickiness: Stickiness | None = None,
) -> list[PlannedMove[D, N]]:
    """Return the fewest moves that bring the peak near the best possible one, the greatest gain first. Deterministic.

    costs: {digest: workers}. owners: {digest: node}. capacity: {node: workers}. base: {node: workers} of load that is not from
    configs. pinned: configs that never move, but count. free: configs that move beyond the budget. eligible: {digest: nodes
    that may run it}, None for all. accepting: nodes that may get configs. limits: {node: most configs}. budget: most moves.
    force: move without the condition that some node is above 0.8 or empty, or that the standard deviation of utilization
    shrinks by at least min_improvement percent. Each prefix of the plan is itself a plan that raises no peak.
    """
    receivers = frozenset(capacity if accepting is None else accepting)
    planner = _Planner(costs, owners, capacity, base or {}, receivers, limits or {})
    cohorts = planner.cohorts(frozenset(pinned), frozenset(free), eligible, stickiness)
    steps = planner.steps(cohorts, math.inf if force else 1 - min_improvement / 100)
    return planner.moves(cohorts, steps, math.inf if budget is None else budget)


class _Planner(Generic[D, N]):
    """Numbers nodes and configs in the order of their names, so that names decide ties."""

    def __init__(
        self,
        costs: Mapping[D, float],
        owners: Mapping[D, N],
        capacity: Mapping[N, float],
        base: Mapping[N, float],
        accepting: frozenset[N],
        limits: Mapping[N, float],
    ) -> None:
        self._nodes = sorted(capacity)  # type: ignore[type-var]
        self._numbers = {node: number for number, node in enumerate(self._nodes)}
        # In reverse: of equal costs the first by name is then last in a sorted list, where the heaviest are taken.
        self._digests = sorted((digest for digest, node in owners.items() if node in self._numbers), reverse=True)  # type: ignore[type-var]
        self._owners = [self._numbers[owners[digest]] for digest in self._digests]
        self._costs = [exact(costs.get(digest, 0.0)) for digest in self._digests]
        self._cluster = Cluster(
            [capacity[node] or conf.DEFAULT_WORKERS for node in self._nodes],
            [node in accepting for node in self._nodes],
            [limits.get(node, math.inf) for node in self._nodes],
            [exact(base.get(node, 0.0)) for node in self._nodes],
        )
        for node, cost in zip(self._owners, self._costs, strict=True):
            self._cluster.give(node, cost)

    def cohorts(
        self, pinned: frozenset[D], free: frozenset[D], eligible: Eligible[D, N] | None, stickiness: Stickiness | None
    ) -> list[Cohort]:
        """Return the configs that may move, grouped by the nodes that may run them."""
        self._free = {config for config, digest in enumerate(self._digests) if digest in free}
        who = eligible.get if isinstance(eligible, Mapping) else eligible or (lambda _: None)
        made: dict[tuple[int, ...], Cohort] = {}
        known: dict[frozenset[N] | None, Cohort] = {}
        for config, digest in enumerate(self._digests):
            nodes = who(digest)
            nodes = None if nodes is None else frozenset(nodes)
            if nodes not in known:
                every = range(len(self._nodes))
                numbers = tuple(
                    every if nodes is None else (number for number in every if self._nodes[number] in nodes)
                )
                known[nodes] = made.setdefault(numbers, Cohort(self._cluster, numbers, stickiness))
            if digest not in pinned:
                known[nodes].add(self._owners[config], (self._costs[config], config), free=config in self._free)
        return list(made.values())

    def steps(self, cohorts: Sequence[Cohort], most: float) -> list[Step]:
        """Return the steps of each cohort whose standard deviation shrinks to `most` of itself, or that are worth it anyway.

        Cohorts may share nodes, so all are tried again until none finds a step.
        """
        made: list[Step] = []
        while steps := [step for cohort in cohorts for step in self._attempt(cohort, most)]:
            made += steps
            if len(cohorts) == 1:
                break
        return made

    def _attempt(self, cohort: Cohort, most: float) -> list[Step]:
        cluster = self._cluster
        count = list(cluster.count)
        before = {node: cluster.utilization(node) for node in cohort.nodes}
        steps = cohort.steps()
        shrinks = spread(map(cluster.utilization, cohort.nodes)).stddev <= most * spread(before.values()).stddev
        if shrinks or any(
            before[step.source] > HIGH or (not count[step.to] and count[step.source] > 1) for step in steps
        ):
            return steps
        cohort.undo(steps)
        return []

    def moves(self, cohorts: Sequence[Cohort], steps: Sequence[Step], budget: float) -> list[PlannedMove[D, N]]:
        """Return the steps as moves, at most one for each config, by gain and up to the budget."""
        digests, nodes = self._digests, self._nodes
        ordered = _in_order(self._cluster, cohorts, steps, self._free, budget)
        return [PlannedMove(digests[step.config], nodes[step.source], nodes[step.to], gain) for gain, step in ordered]


def _in_order(
    cluster: Cluster, cohorts: Iterable[Cohort], steps: Sequence[Step], free: Collection[int], budget: float
) -> Iterator[tuple[float, Step]]:
    """Yield (gain, step), at most one for each config, for steps that the cluster has made. Takes those steps back first.

    No gain exceeds the gain before it. Beyond the budget only free configs move.
    """
    cluster.undo(steps)
    ceilings = _ceilings(cluster, cohorts)
    waiting = _ranked(cluster, steps)
    for _, step in waiting:
        ceilings[step.to] = max(ceilings[step.to], cluster.utilization(step.to))
    cluster.undo(steps)
    least, before = waiting[0][0] if waiting else 0.0, 0
    while len(waiting) != before:
        before, ranked, waiting = len(waiting), waiting, []
        for gain, step in ranked:
            if cluster.room(step.to, ceilings[step.to]) < step.cost:
                # Another config must leave that node first.
                waiting.append((gain, step))
            elif budget > 0 or step.config in free:
                budget -= step.config not in free
                cluster.move(step)
                least = min(least, gain)
                yield least, step


def _ceilings(cluster: Cluster, cohorts: Iterable[Cohort]) -> dict[int, float]:
    """The highest utilization that each node may have meanwhile: the peak of its cohorts now."""
    ceilings: dict[int, float] = {}
    for cohort in cohorts:
        peak = max(map(cluster.utilization, cohort.nodes), default=0.0)
        ceilings |= {node: max(peak, ceilings.get(node, 0.0)) for node in cohort.nodes}
    return ceilings


def _ranked(cluster: Cluster, steps: Sequence[Step]) -> list[tuple[float, Step]]:
    """Make the steps and rank the resulting moves. A move never precedes an earlier one from the same node, on which its gain
    depends.
    """
    gains: dict[int, float] = defaultdict(float)
    for step in steps:
        utilization = cluster.utilization(step.source)
        cluster.move(step)
        gains[step.config] += step.cost * (utilization - cluster.utilization(step.to))
    least: dict[int, float] = {}
    ranked = []
    for step in net(steps):
        gain = least[step.source] = min(gains[step.config], least.get(step.source, gains[step.config]))
        ranked.append((-gain, -step.config, step))
    return [(-negative, step) for negative, _, step in sorted(ranked)]
