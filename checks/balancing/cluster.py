"""The model that a plan is made on: nodes and configs, numbered by name, with loads that each step of the plan changes."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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


def exact(workers: float) -> float:
    """Return the cost rounded to GRAIN, as the planner counts it."""
    return round(workers / GRAIN) * GRAIN


def net(steps: Iterable[Step]) -> list[Step]:
    """Return at most one step for each config, from its first node to its last; none for a config that came back."""
    joined: dict[int, Step] = {}
    for step in steps:
        joined[step.config] = joined.get(step.config, step)._replace(to=step.to)
    return [step for step in joined.values() if step.source != step.to]
