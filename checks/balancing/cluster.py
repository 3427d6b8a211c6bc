"""The model that a plan is made on: nodes and configs, numbered by name, with loads that each step of the plan changes.

`Receivers` finds the nodes that may receive configs, by load; `utilization` and `spread` tell how evenly nodes are loaded.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from clusteragent.lib import conf

D = TypeVar("D", bound=Hashable)
N = TypeVar("N", bound=Hashable)

# Costs are rounded to this fraction of a worker. Sums of such numbers are exact in any order, so the next plan starts with
# exactly the loads that this one left.
GRAIN = 2.0**-30


# A config that may move: (cost, number). A plain tuple, since there are many and they are sorted by cost.
Movable = tuple[float, int]


class Step(NamedTuple):
    """The move of one config from a node to another. cost: workers."""

    cost: float
    config: int
    source: int
    to: int


class Stickiness(NamedTuple):
    """How much less utilized than its own node a node must be to get a config. Limits are in utilization."""

    factor: float = 4.0
    upper_limit: float = 1.0
    lower_limit: float = 0.05

    def bias(self, cost: float) -> float:
        """Return the least difference in utilization that moves a config of this cost (in workers)."""
        return max(min(cost * self.factor, self.upper_limit), self.lower_limit)


class Cluster:
    """The load (in workers) of each numbered node, and how many more configs it may have."""

    def __init__(
        self, capacity: Sequence[float], accepting: Sequence[bool], limits: Sequence[float], base: Sequence[float]
    ) -> None:
        self.capacity = capacity
        self.accepting = accepting
        self.load = list(base)
        self.count = [0] * len(capacity)
        self._limits = limits

    def places(self, node: int) -> float:
        """Return how many more configs the node may have."""
        return self._limits[node] - self.count[node] if self.accepting[node] else 0

    def room(self, node: int, level: float) -> float:
        """Return the load (in workers) that the node can take until it is at this utilization."""
        return level * self.capacity[node] - self.load[node]

    def utilization(self, node: int) -> float:
        """Return the node's load divided by its capacity."""
        return self.load[node] / self.capacity[node]

    def give(self, node: int, cost: float) -> None:
        """Add a config of this cost to the node."""
        self.load[node] += cost
        self.count[node] += 1

    def take(self, node: int, cost: float) -> None:
        """Remove a config of this cost from the node."""
        self.load[node] -= cost
        self.count[node] -= 1

    def move(self, step: Step) -> None:
        """Make a step."""
        self.take(step.source, step.cost)
        self.give(step.to, step.cost)

    def undo(self, steps: Iterable[Step]) -> None:
        """Take steps back, in any order."""
        for step in steps:
            self.take(step.to, step.cost)
            self.give(step.source, step.cost)


class Receivers:
    """The nodes that may receive configs up to a level of utilization.

    They are sorted by load within each capacity, so that each search is a bisection.
    """

    def __init__(self, cluster: Cluster, nodes: Iterable[int], level: float) -> None:
        self._cluster = cluster
        self._level = level
        self._by_capacity: dict[float, list[tuple[float, int]]] = defaultdict(list)
        for node in nodes:
            if cluster.places(node) > 0 and cluster.room(node, level) >= 0:
                self._by_capacity[cluster.capacity[node]].append((cluster.load[node], node))
        for group in self._by_capacity.values():
            group.sort()

    def most_room(self) -> float:
        """Return the greatest cost (in workers) that some node has room for."""
        return max((self._level * capacity - group[0][0] for capacity, group in self._by_capacity.items()), default=0.0)

    def best_fit(self, cost: float, below: float) -> int | None:
        """Return the node with the least room that fits this cost, of those utilized less than `below`; None when none fits."""
        found = []
        for capacity, group in self._by_capacity.items():
            at = min(
                bisect_right(group, (self._level * capacity - cost, math.inf)), bisect_left(group, (below * capacity,))
            )
            if at:
                load, node = group[at - 1]
                found.append((self._level * capacity - load, node))
        return min(found)[1] if found else None

    def least_utilized(self, cost: float, below: float) -> int | None:
        """Return the node whose utilization with this cost would be lowest.

        None when that node has no room for the cost, or its utilization is not less than `below` now.
        """
        found = [((group[0][0] + cost) / capacity, group[0][1]) for capacity, group in self._by_capacity.items()]
        if not found:
            return None
        _, node = min(found)
        fits = cost <= self._cluster.room(node, self._level) and self._cluster.utilization(node) < below
        return node if fits else None

    def give(self, node: int, cost: float) -> None:
        """Add a config of this cost to the node, which is no longer found when it may have no more configs."""
        capacity = self._cluster.capacity[node]
        group = self._by_capacity[capacity]
        del group[bisect_left(group, (self._cluster.load[node], node))]
        self._cluster.give(node, cost)
        if self._cluster.places(node) > 0:
            insort(group, (self._cluster.load[node], node))
        elif not group:
            del self._by_capacity[capacity]


class Spread(NamedTuple):
    """The highest utilization of a set of nodes, and the population standard deviation of all."""

    peak: float
    stddev: float


def utilization(
    costs: Mapping[D, float], owners: Mapping[D, N], capacity: Mapping[N, float], base: Mapping[N, float] | None = None
) -> dict[N, float]:
    """Return {node: utilization}: the workers that its configs and `base` need, divided by its capacity.

    costs: {config: workers}. owners: {config: node}. capacity: {node: workers}, DEFAULT_WORKERS for 0. base: {node: workers}
    for other load.
    """
    needed = {node: [(base or {}).get(node, 0.0)] for node in capacity}
    for digest, node in owners.items():
        if node in needed:
            needed[node].append(costs.get(digest, 0.0))
    return {node: math.fsum(needed[node]) / (capacity[node] or conf.DEFAULT_WORKERS) for node in capacity}


def spread(utilizations: Iterable[float]) -> Spread:
    """Return the peak and the standard deviation; both are 0 without nodes."""
    values = list(utilizations)
    if not values:
        return Spread(0.0, 0.0)
    mean = math.fsum(values) / len(values)
    return Spread(max(values), math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values)))


def exact(workers: float) -> float:
    """Return the cost rounded to GRAIN, as the planner counts it."""
    return round(workers / GRAIN) * GRAIN


def net(steps: Iterable[Step]) -> list[Step]:
    """Return at most one step for each config, from its first node to its last; none for a config that came back."""
    joined: dict[int, Step] = {}
    for step in steps:
        joined[step.config] = joined.get(step.config, step)._replace(to=step.to)
    return [step for step in joined.values() if step.source != step.to]
