"""Placement: one config after the other, each to the node with the lowest expected load."""

import heapq
import math
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from clusteragent.lib import conf

N = TypeVar("N", bound=Hashable)


class Pool(Generic[N]):
    """Nodes that may be given work, by expected load. Each placement raises its node's load at once, so a burst spreads.

    names: node → name, which decides ties. costs: node → workers that its configs need. counts: node → how many configs it
    has; as if each cost 1 unless given. base: node → workers that are busy with what is not ours. workers: node → capacity.
    limits: node → most configs that it may have. ceiling: the same for a node of average capacity; others by their workers.
    """

    def __init__(
        self,
        names: Mapping[N, str],
        costs: Mapping[N, float],
        ceiling: float = math.inf,
        *,
        counts: Mapping[N, int] | None = None,
        base: Mapping[N, float] | None = None,
        workers: Mapping[N, float] | None = None,
        limits: Mapping[N, float] | None = None,
    ) -> None:
        base, workers, limits = base or {}, workers or {}, limits or {}
        self._names = names
        self._workers = {node: workers.get(node) or conf.DEFAULT_WORKERS for node in names}
        self._costs = {node: costs.get(node, 0.0) + base.get(node, 0.0) for node in names}
        held = costs if counts is None else counts
        share = ceiling * len(names) / sum(self._workers.values()) if names else 0.0
        self._room = {
            node: min(limits.get(node, math.inf), share * self._workers[node]) - held.get(node, 0) for node in names
        }
        self._heaps: dict[frozenset[N] | None, list[tuple[float, str, N]]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def has_room(self, node: N) -> bool:
        return self._room.get(node, 0) > 0

    def load(self, node: N) -> float:
        """Expected load: the workers that its configs and the rest need, divided by those it has."""
        return self._costs[node] / self._workers[node]

    def place(self, cost: float = 1.0, near: N | None = None, among: frozenset[N] | None = None) -> N | None:
        """Give a config to `near` if it can take it, else to the node with the lowest load. None: nobody has room.

        among: the nodes that may run it, all unless given.
        """
        node = near if near is not None and self._takes(near, among) else self._least(among)
        if node is not None:
            self._costs[node] += cost
            self._room[node] -= 1
        return node

    def best(self, among: frozenset[N] | None = None, number: int = 5) -> list[tuple[str, float]]:
        """The names and loads of those with the lowest loads, the lowest first."""
        # So many of the smallest stand so far at the front of a heap; what rose since it was looked at stands too far there.
        front = self._heap(among)[: 2**number - 1]
        costs, workers = self._costs, self._workers
        # Not nsmallest(): it is asked for each config, and sorting so few is faster.
        loads = sorted([(costs[node] / workers[node], name) for _, name, node in front])
        return [(name, load) for load, name in loads[:number]]

    def _takes(self, node: N, among: frozenset[N] | None) -> bool:
        return self.has_room(node) and (among is None or node in among)

    def _least(self, among: frozenset[N] | None) -> N | None:
        """The first of a heap for each set of nodes: what another set gave a node shows when the node comes up."""
        heap = self._heap(among)
        while heap:
            load, name, node = heap[0]
            if self._room[node] <= 0:
                heapq.heappop(heap)
            elif load < self.load(node):
                heapq.heapreplace(heap, (self.load(node), name, node))
            else:
                return node
        return None

    def _heap(self, among: frozenset[N] | None) -> list[tuple[float, str, N]]:
        if among not in self._heaps:
            nodes = self._names if among is None else among & self._names.keys()
            heap = [(self.load(node), self._names[node], node) for node in nodes]
            heapq.heapify(heap)
            self._heaps[among] = heap
        return self._heaps[among]


def ceiling(total: float, lost: float, pool_before: int) -> float:
    """The most configs that one node may have while lost work is given out: twice the fair share of the pool before.

    Infinite while no more than a tenth of everything was lost.
    """
    if not pool_before or lost <= total / 10:
        return math.inf
    return math.ceil(2 * total / pool_before)
