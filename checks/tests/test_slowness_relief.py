"""What a slow node is given: arithmetic of two hundred rounds with the real planner, on nodes that slow down under load."""

import random
from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise

import pytest

from checks import balancing
from nodes.slowness import CALM, LEAST, STEP, Relief, relieve

NODES, CONFIGS, BUDGET, COOLDOWN = 6, 300, 15, 10
EACH = CONFIGS // NODES
# Rounds over which a node agent averages run times, and before a node becomes slow.
AVERAGED, HEALTHY = 8, 20
NOTHING = 1e-9


class Simulated:
    """Six nodes of four workers. One is slow from a moment on: how many times, by the moment and by how busy it is."""

    def __init__(self, slowdown: Callable[[int, float], float]) -> None:
        dice = random.Random(3)
        self._true = {n: dice.lognormvariate(-4.0, 0.7) for n in range(CONFIGS)}
        self._owners = {n: n % NODES for n in self._true}
        self._costs: dict[int, float] = {}
        self._slowdown = slowdown
        self._paces = deque([1.0] * AVERAGED, AVERAGED)
        self._came: dict[int, int] = {}
        self._relief = Relief()
        self.held: list[int] = []
        self.shares: list[float] = []
        self.moves: list[int] = []
        for moment in range(HEALTHY + 200):
            self._round(moment)

    def _round(self, moment: int) -> None:
        busy = sum(self._true[config] for config, node in self._owners.items() if not node) / 4
        self._paces.append(self._slowdown(moment, busy) if moment >= HEALTHY else 1.0)
        factor = sum(self._paces) / AVERAGED
        # Costs are measured before the round is judged.
        times = {config: self._true[config] * (1 if node else factor) for config, node in self._owners.items()}
        self._costs |= {
            config: times[config] / (1 if node else self._relief.discount) for config, node in self._owners.items()
        }
        self._relief = relieve(self._relief, -1 if factor >= 3 else 1 if factor < 3 * CALM else 0, factor)
        capacity = {node: 4.0 * (1 if node else self._relief.share) for node in range(NODES)}
        resting = {config for config, came in self._came.items() if moment - came < COOLDOWN}
        moves = balancing.plan(self._costs, self._owners, capacity, pinned=resting, budget=BUDGET)
        for move in moves:
            self._owners[move.digest], self._came[move.digest] = move.to, moment
        self.held.append(Counter(self._owners.values())[0])
        self.shares.append(self._relief.share)
        self.moves.append(len(moves))


NATURES: dict[str, Callable[[int, float], float]] = {
    "slow hardware": lambda _, busy: 4.0,
    "very slow hardware": lambda _, busy: 12.0,
    "slow under load": lambda _, busy: 1.5 + 40 * busy,
    "much slower under load": lambda _, busy: 1.0 + 4000 * busy**2,
    "slow above a limit": lambda _, busy: 8.0 if busy > 0.08 else 1.0,
    "slow with anything": lambda _, busy: 6.0 if busy > 0.01 else 1.0,
    "just above": lambda _, busy: 1.5 + 8 * busy,
}


@pytest.mark.parametrize("nature", NATURES)
def test_what_a_slow_node_is_given_never_swings_and_comes_to_rest(nature: str) -> None:
    simulated = Simulated(NATURES[nature])
    for before, after in pairwise(simulated.shares):
        assert 1 - STEP - NOTHING <= after / before <= 1 / (1 - STEP) + NOTHING
    assert min(simulated.shares) >= LEAST
    # What it gives away is bounded by the budget of all moves. What comes back is a swing.
    assert max(after - before for before, after in pairwise(simulated.held)) <= EACH / 5
    assert sum(simulated.moves[-100:]) <= CONFIGS / 50


def test_a_node_that_recovers_gets_its_share_again() -> None:
    simulated = Simulated(lambda moment, _: 4.0 if moment < 100 else 1.0)
    assert simulated.shares[99] == LEAST
    assert simulated.shares[-1] == 1
    assert simulated.held[-1] > simulated.held[99]
    assert sum(simulated.moves[-60:]) <= 3
