"""Who should get a config: pure arithmetic, without clock or database."""

import heapq
import math
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)

DEFAULT_WORKERS = 4


class Pool(Generic[N]):
    """Nodes that may be given work, by expected load. Each placement raises its node's load at once, so a burst spreads.

    names: node → name, which decides ties. costs: node → sum of the costs of what it has. ceiling: the most that a node
    may have in the end; infinite unless given.
    """

    def __init__(self, names: Mapping[N, str], costs: Mapping[N, float], ceiling: float = math.inf) -> None:
        self._names = names
        self._costs = {node: costs.get(node, 0.0) for node in names}
        self._ceiling = ceiling
        self._heap = [(self.load(node), name, node) for node, name in names.items()]
        heapq.heapify(self._heap)

    def __len__(self) -> int:
        return len(self._names)

    def load(self, node: N) -> float:
        """Expected load: the costs of what the node has, divided by its workers."""
        return self._costs[node] / DEFAULT_WORKERS

    def place(self, cost: float = 1.0, near: N | None = None) -> N | None:
        """Give a config to `near` if it is in the pool, else to the node with the lowest load. None: nobody has room."""
        node = near if near is not None and near in self._names and self._fits(near, cost) else self._least(cost)
        if node is not None:
            self._costs[node] += cost
            heapq.heappush(self._heap, (self.load(node), self._names[node], node))
        return node

    def _fits(self, node: N, cost: float) -> bool:
        return self._costs[node] + cost <= self._ceiling

    def _least(self, cost: float) -> N | None:
        # An entry is stale when its node got something since; the push of that time left a newer one.
        while self._heap and self._heap[0][0] != self.load(self._heap[0][2]):
            heapq.heappop(self._heap)
        if not self._heap or not self._fits(self._heap[0][2], cost):
            return None
        return heapq.heappop(self._heap)[2]


def ceiling(total: float, lost: float, pool_before: int) -> float:
    """The most that one node may have while lost work is given out: twice the fair share of the pool before the loss.

    Infinite while no more than a tenth of everything was lost.
    """
    if not pool_before or lost <= total / 10:
        return math.inf
    return math.ceil(2 * total / pool_before)
