"""What a plan is made on: loads that change as it grows, on nodes and configs numbered by name."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Costs are rounded to this fraction of a worker: sums of it are exact in any order, so that a plan made after this one was
# applied sees the very loads that this one left.
GRAIN = 2.0**-30


# Cost and number of a config that may move. A plain tuple: there are many, and they sort by cost.
Held = tuple[float, int]


class Step(NamedTuple):
    """One config that goes from a node to another."""

    cost: float
    config: int
    source: int
    to: int


class Stickiness(NamedTuple):
    """A config moves only to a node less utilized than its own by more than this. Limits are in utilization."""

    factor: float = 4.0
    upper_limit: float = 1.0
    lower_limit: float = 0.05

    def bias(self, cost: float) -> float:
        """The difference in utilization that a config of this cost (in workers) tolerates."""
        return max(min(cost * self.factor, self.upper_limit), self.lower_limit)


class Cluster:
    """Loads of numbered nodes in workers, and how many more configs each may have."""

    def __init__(
        self, capacity: Sequence[float], accepting: Sequence[bool], limits: Sequence[float], base: Sequence[float]
    ) -> None:
        self.capacity = capacity
        self.accepting = accepting
        self.load = list(base)
        self.count = [0] * len(capacity)
        self._limits = limits

    def places(self, node: int) -> float:
        """How many more configs the node may have."""
        return self._limits[node] - self.count[node] if self.accepting[node] else 0

    def room(self, node: int, level: float) -> float:
        """Workers that the node may be given until it is at this utilization."""
        return level * self.capacity[node] - self.load[node]

    def utilization(self, node: int) -> float:
        return self.load[node] / self.capacity[node]

    def give(self, node: int, cost: float) -> None:
        self.load[node] += cost
        self.count[node] += 1

    def take(self, node: int, cost: float) -> None:
        self.load[node] -= cost
        self.count[node] -= 1

    def move(self, step: Step) -> None:
        self.take(step.source, step.cost)
        self.give(step.to, step.cost)

    def undo(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.take(step.to, step.cost)
            self.give(step.source, step.cost)


def exact(workers: float) -> float:
    """The cost as the planner counts it."""
    return round(workers / GRAIN) * GRAIN


def net(steps: Iterable[Step]) -> list[Step]:
    """The steps with those of a config joined to one, without those that came back."""
    joined: dict[int, Step] = {}
    for step in steps:
        joined[step.config] = joined.get(step.config, step)._replace(to=step.to)
    return [step for step in joined.values() if step.source != step.to]
