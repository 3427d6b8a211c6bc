"""Placement: one config after another, each on the node with the lowest expected load."""

import heapq
import math
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from checks.balancing.cohort import tolerated
from clusteragent.lib import conf

N = TypeVar("N", bound=Hashable)


class Bar(NamedTuple, Generic[N]):
    """Nodes that may not run a config now. key: the same for equal bars; another one once a node may run it again.

    group: of bars that are told by `Pool.admit` which nodes they do not stop any more, so that their keys stay.
    """

    key: Hashable
    stops: Callable[[N], bool]
    group: Hashable = None


class Pool(Generic[N]):
    """Nodes that accept configs, ordered by expected load. Each placement raises the load at once, so that a burst spreads.

    names: {node: name}; names decide ties. costs: {node: workers that its configs need}. counts: {node: number of configs},
    costs unless given. base: {node: workers busy with other load}. workers: {node: capacity}. limits: {node: most configs}.
    ceiling: the most configs of a node of average capacity; that of other nodes is in proportion to their workers.
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
        self._heaps: dict[Hashable, list[tuple[float, str, N]]] = {}
        self._of_groups: dict[Hashable, list[tuple[frozenset[N] | None, list[tuple[float, str, N]]]]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def has_room(self, node: N) -> bool:
        """Return whether the node may have another config."""
        return self._room.get(node, 0) > 0

    def load(self, node: N) -> float:
        """Return the expected load: the workers that configs and other load need, divided by the node's workers."""
        return self._costs[node] / self._workers[node]

    def admit(self, node: N, group: Hashable) -> None:
        """Note that bars of this group do not stop the node any more."""
        for among, heap in self._of_groups.get(group, ()) if node in self._names else ():
            if among is None or node in among:
                heapq.heappush(heap, (self.load(node), self._names[node], node))

    def take(self, node: N, cost: float) -> None:
        """Count one more config of this cost for a node."""
        if node in self._names:
            self._costs[node] += cost
            self._room[node] -= 1

    def give_up(self, node: N, cost: float) -> None:
        """Count one config of this cost fewer for a node."""
        if node in self._names:
            self._costs[node] = max(self._costs[node] - cost, 0.0)
            self._room[node] += 1
            # Heaps are corrected for loads that rise.
            self._heaps.clear()
            self._of_groups.clear()

    def beside(
        self,
        cost: float,
        among: frozenset[N] | None,
        bar: Bar[N] | None,
        alone: Bar[N],
        leaving: Mapping[N, float] = MappingProxyType({}),
    ) -> N | None:
        """Return the least loaded of these nodes that `alone` does not stop; None if the config would load it above the others.

        How much that is says `tolerated`. leaving: {its node: workers that have left and leave that}, for
        one that moves: it must not be above what its node has then, either.
        """
        node, other = self._least(among, alone), self._least(among, bar)
        if node is None or other is None:
            return None
        least = min(self.load(other), *(self._load_with(one, -less) for one, less in leaving.items()), math.inf)
        return node if self._load_with(node, cost) <= tolerated(least) else None

    def least(self, among: frozenset[N] | None = None, bar: Bar[N] | None = None) -> float:
        """Return the lowest load of the nodes that have room and may run it; infinite when none does."""
        node = self._least(among, bar)
        return math.inf if node is None else self.load(node)

    def place(
        self,
        cost: float = 1.0,
        near: N | None = None,
        among: frozenset[N] | None = None,
        bar: Bar[N] | None = None,
    ) -> N | None:
        """Place a config of this cost on `near` if possible, else on the node with the lowest load. Return the node.

        None when no node has room. among: the nodes that may run it; all unless given. bar: those of them that may not now.
        """
        takes = near is not None and self.has_room(near) and (among is None or near in among)
        if takes and bar is not None and near is not None:
            takes = not bar.stops(near)
        node = near if takes else self._least(among, bar)
        if node is not None:
            self.take(node, cost)
        return node

    def best(
        self, among: frozenset[N] | None = None, number: int = 5, bar: Bar[N] | None = None
    ) -> list[tuple[str, float]]:
        """Return (name, load) of the nodes with the lowest loads, the lowest first."""
        # The smallest items of a heap are among its first 2^number - 1. A node whose load rose since may still be among them.
        front = self._heap(among, bar)[: 2**number - 1]
        costs, workers = self._costs, self._workers
        # Not nsmallest(): this is called for each config, and sorting so few is faster.
        if bar is not None:
            front = [one for one in front if not bar.stops(one[2])]
        loads = sorted([(costs[node] / workers[node], name) for _, name, node in front])
        return [(name, load) for load, name in loads[:number]]

    def _load_with(self, node: N, cost: float) -> float:
        return (self._costs[node] + cost) / self._workers[node] if node in self._names else math.inf

    def _least(self, among: frozenset[N] | None, bar: Bar[N] | None) -> N | None:
        """The node with room and the lowest load. Each set of nodes has its heap, whose loads are corrected at its top."""
        heap = self._heap(among, bar)
        while heap:
            load, name, node = heap[0]
            if self._room[node] <= 0 or (bar is not None and bar.stops(node)):
                heapq.heappop(heap)
            elif load < self.load(node):
                heapq.heapreplace(heap, (self.load(node), name, node))
            else:
                return node
        return None

    def _heap(self, among: frozenset[N] | None, bar: Bar[N] | None) -> list[tuple[float, str, N]]:
        key = among if bar is None else (among, bar.key)
        if key not in self._heaps:
            nodes = self._names if among is None else among & self._names.keys()
            heap = [(self.load(node), self._names[node], node) for node in nodes]
            heapq.heapify(heap)
            self._heaps[key] = heap
            if bar is not None and bar.group is not None:
                self._of_groups.setdefault(bar.group, []).append((among, heap))
        return self._heaps[key]


def ceiling(total: float, lost: float, pool_before: int) -> float:
    """Return the most configs that one node may have while lost configs are placed: twice the fair share before the loss.

    total: all configs. lost: those that lost their node. pool_before: number of nodes before. Infinite while at most a tenth
    of all configs is lost.
    """
    if not pool_before or lost <= total / 10:
        return math.inf
    return math.ceil(2 * total / pool_before)
