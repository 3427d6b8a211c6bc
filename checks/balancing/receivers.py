"""The nodes that may receive configs, found by load."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable

from checks.balancing.cluster import Cluster


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
