"""Chooses which configs move, and where to: the fewest that bring the utilization of every node under a level."""

import heapq
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from checks.balancing.cluster import Cluster, Movable, Receivers, Step, Stickiness, net

# The peak to reach, as a multiple of the best possible peak. Also the factor to the next level while some node can't be
# brought under the current one.
TOLERANCE = 1.1
# A difference in utilization that matters to nobody, however little others have to do.
SLIGHT = 0.05
# A node below the first fraction of the fair load is filled up to the second.
LOW, FILLED = 0.5, 0.9
# How many of the most utilized nodes are tried when a node is filled.
ASKED = 16


def tolerated(level: float) -> float:
    """The highest utilization of a node that is no reason to part what belongs together, where others have this level."""
    return max(TOLERANCE * level, level + SLIGHT)


class Cohort:
    """Configs that may run on the same nodes, and those nodes. Loads are in the cluster, which cohorts share."""

    def __init__(self, cluster: Cluster, nodes: Sequence[int], stickiness: Stickiness | None) -> None:
        self.nodes = nodes
        self._cluster = cluster
        self._stickiness = stickiness
        # {node: configs}: first the free ones, which are preferred wherever there is a choice, then the others.
        self._held: tuple[dict[int, list[Movable]], dict[int, list[Movable]]] = (defaultdict(list), defaultdict(list))
        self._free: set[int] = set()
        self._movable: dict[int, float] = {}
        self._heaviest = 0.0

    def add(self, node: int, held: Movable, *, free: bool) -> None:
        """Add a config of the node that may move. free: it does not count against the budget."""
        self._held[not free][node].append(held)
        if free:
            self._free.add(held[1])

    def steps(self) -> list[Step]:
        """Make steps on the cluster until none is left to make, and return them. A config may move more than once."""
        # Sort the configs of each node by cost, without those that cost nothing or are on a node that may not run them.
        self._movable = dict.fromkeys(self.nodes, 0.0)
        for kind in self._held:
            for node, held in kind.items():
                held[:] = sorted([one for one in held if one[0] > 0]) if node in self._movable else ()
                if held:
                    self._movable[node] += sum([cost for cost, _ in held])
                    self._heaviest = max(self._heaviest, held[-1][0])
        made: list[Step] = []
        while steps := self._round():
            self._settle(steps)
            made += steps
        return made

    def undo(self, steps: list[Step]) -> None:
        """Take back steps, which must be the last that were made."""
        self._cluster.undo(steps)
        self._settle([step._replace(source=step.to, to=step.source) for step in net(steps)])

    def _settle(self, steps: list[Step]) -> None:
        """Note the new nodes of the configs that moved."""
        moved = {step.config for step in steps}
        for node in {step.source for step in steps}:
            for kind in self._held:
                kind[node] = [one for one in kind[node] if one[1] not in moved]
        for step in steps:
            self._held[step.config not in self._free][step.to].append((step.cost, step.config))
            self._movable[step.source] -= step.cost
            self._movable[step.to] += step.cost
        for node in {step.to for step in steps}:
            for kind in self._held:
                kind[node].sort()

    def _round(self) -> list[Step]:
        capacities = [self._cluster.capacity[node] for node in self.nodes if self._cluster.places(node) > 0]
        if not capacities or not self._heaviest:
            return []
        fair = self._fair()
        level = TOLERANCE * max(fair, self._heaviest / max(capacities))
        peak = max(map(self._cluster.utilization, self._givers()), default=0.0)
        while level < peak:
            if steps := self._relieve(level):
                return steps
            # A node that stays above this level may come under the next.
            level *= TOLERANCE
        return self._fill(fair)

    def _fair(self) -> float:
        """The utilization that all nodes would have if configs could be split in any way.

        It is computed like a water level: load that can't move is the ground of a node, and the present load is the lid of a
        node that accepts nothing.
        """
        goal = math.fsum(self._movable.values())
        slope = at = 0.0
        bends = []
        for node in self.nodes:
            capacity, load = self._cluster.capacity[node], self._cluster.load[node]
            ground = load - self._movable[node]
            if ground > 0:
                bends.append((ground / capacity, capacity))
            else:
                slope += capacity
            if not self._cluster.accepting[node]:
                bends.append((load / capacity, -capacity))
        for bend, change in sorted(bends):
            if slope * (bend - at) >= goal:
                break
            goal, slope, at = goal - slope * (bend - at), slope + change, bend
        return at + goal / slope if slope > 0 else at

    def _givers(self) -> set[int]:
        return {node for kind in self._held for node, held in kind.items() if held}

    def _relieve(self, level: float) -> list[Step]:
        """Bring nodes under the level with their heaviest configs, which are fewest; where those find no room, with what fits."""
        receivers = Receivers(self._cluster, self.nodes, level)
        heaviest: dict[int, Iterator[Movable]] = {}
        steps, stuck = self._shed(level, lambda node: self._take_heaviest(node, heaviest, receivers))
        if not stuck:
            return steps
        self._cluster.undo(steps)
        receivers = Receivers(self._cluster, self.nodes, level)
        steps, _ = self._shed(level, lambda node: self._take_fitting(node, receivers))
        return self._even_out(steps, level)

    def _shed(self, level: float, take: Callable[[int], Step | None]) -> tuple[list[Step], bool]:
        """Take repeatedly from the node furthest above the level. Return the steps, and whether a node stayed above it."""
        room = self._cluster.room
        over = [(room(node, level), node) for node in self._givers() if room(node, level) < 0]
        heapq.heapify(over)
        steps, stuck = [], False
        while over:
            _, node = over[0]
            step = take(node)
            if step is None:
                stuck = True
            else:
                steps.append(step)
            left = room(node, level)
            if step is None or left >= 0:
                heapq.heappop(over)
            else:
                heapq.heapreplace(over, (left, node))
        return steps, stuck

    def _take_heaviest(self, node: int, heaviest: dict[int, Iterator[Movable]], receivers: Receivers) -> Step | None:
        """Move the next heaviest config to the least utilized node; None when that has no room."""
        if node not in heaviest:
            heaviest[node] = chain.from_iterable(reversed(kind.get(node, ())) for kind in self._held)
        one = next(heaviest[node], None)
        if one is None:
            return None
        to = receivers.least_utilized(one[0], self._below(node, one[0]))
        return None if to is None else self._move(one, node, to, receivers)

    def _take_fitting(self, node: int, receivers: Receivers) -> Step | None:
        """Move the heaviest config that fits anywhere to the node with the least room for it."""
        for kind in self._held:
            held = kind.get(node, [])
            for at in range(bisect_right(held, (receivers.most_room(), math.inf)) - 1, -1, -1):
                to = receivers.best_fit(held[at][0], self._below(node, held[at][0]))
                if to is not None:
                    return self._move(held.pop(at), node, to, receivers)
        return None

    def _move(self, one: Movable, source: int, to: int, receivers: Receivers) -> Step:
        cost, config = one
        self._cluster.take(source, cost)
        receivers.give(to, cost)
        return Step(cost, config, source, to)

    def _below(self, node: int, cost: float) -> float:
        """The utilization that a node must be under to get a config of this cost from the node."""
        if self._stickiness is None:
            return math.inf
        return self._cluster.utilization(node) - self._stickiness.bias(cost)

    def _even_out(self, steps: list[Step], level: float) -> list[Step]:
        """Move the same configs, heaviest first, each to the least utilized node. Keep the old steps when one finds no room."""
        self._cluster.undo(steps)
        receivers = Receivers(self._cluster, self.nodes, level)
        evened: list[Step] = []
        for step in sorted(steps, reverse=True):
            to = receivers.least_utilized(step.cost, self._below(step.source, step.cost))
            if to is None:
                self._cluster.undo(evened)
                for earlier in steps:
                    self._cluster.move(earlier)
                return steps
            evened.append(self._move((step.cost, step.config), step.source, to, receivers))
        return evened

    def _fill(self, fair: float) -> list[Step]:
        """Bring nodes with little load near the fair load, with configs of the most utilized nodes that have several."""
        cluster = self._cluster
        low = [node for node in self.nodes if cluster.places(node) > 0 and cluster.utilization(node) < LOW * fair]
        givers = [(-cluster.utilization(node), node) for node in self._givers() - set(low)]
        heapq.heapify(givers)
        steps = []
        for node in sorted(low, key=cluster.utilization):
            while cluster.places(node) > 0 and cluster.utilization(node) < FILLED * fair:
                step = self._ask(givers, node, fair)
                if step is None:
                    break
                steps.append(step)
        return steps

    def _ask(self, givers: list[tuple[float, int]], to: int, fair: float) -> Step | None:
        """Move a config to this node from the most utilized node that can spare one. All nodes stay in the heap."""
        asked: list[int] = []
        step = None
        while step is None and givers and len(asked) < ASKED:
            asked.append(heapq.heappop(givers)[1])
            step = self._spare(asked[-1], to, fair)
        for node in asked:
            heapq.heappush(givers, (-self._cluster.utilization(node), node))
        return step

    def _spare(self, node: int, to: int, fair: float) -> Step | None:
        """Move the heaviest config that leaves `node` enough load and gives `to` not too much.

        When none does and `to` has very little load, move the lightest, if that makes the two nodes more alike.
        """
        if self._cluster.count[node] < 2:
            return None
        need, most = LOW * fair, self._cluster.room(to, fair)
        fitting = min(most, -self._cluster.room(node, need))
        for kind in self._held:
            held = kind.get(node, [])
            at = bisect_right(held, (fitting, math.inf)) - 1
            if at < 0 and self._cluster.utilization(to) < need:
                at = 0
            if 0 <= at < len(held) and self._evens(held[at][0], node, to):
                step = Step(*held.pop(at), node, to)
                self._cluster.move(step)
                return step
        return None

    def _evens(self, cost: float, source: int, to: int) -> bool:
        """Whether after this move the target is less utilized than the source was, and the source more than the target was."""
        cluster = self._cluster
        utilization = cluster.utilization(to)
        return -cluster.room(source, utilization) > cost < cluster.room(
            to, cluster.utilization(source)
        ) and utilization < self._below(source, cost)
