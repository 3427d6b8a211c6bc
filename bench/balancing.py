"""How many moves does a plan take, how even are the nodes after it, and how long does planning take?"""

import gzip
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import NamedTuple

from bench.report import Report
from checks.balancing import plan, spread, utilization

DATA = Path(__file__).parent.parent / "tests" / "data" / "rebalance"
# The most moves allowed, as multiples of the fewest that any plan for the same peak needs. For lognormal costs that lower
# bound is far below what is possible: the heaviest configs fit on no other node.
MOVES = {"random": 1.02, "scale_up": 1.02, "skewed10": 1.02, "heavy": 1.02, "lognormal": 300 / 138}
SEEDS = 3


class World(NamedTuple):
    """The input of a plan: {digest: workers needed}, {digest: node}, {node: workers}."""

    costs: dict[str, float]
    owners: dict[str, str]
    capacity: dict[str, float]


class Outcome(NamedTuple):
    """The result of a forced plan without a budget. peak, moves: multiples of the least; again: moves of a second plan."""

    peak: float
    moves: float
    again: int


def run(report: Report) -> None:
    """Measure plans on recorded and on random inputs, and the time of planning."""
    for kind, most in MOVES.items():
        _note(report, kind, [recorded(kind)], most)
    for kind, most in MOVES.items():
        same = most if kind != "lognormal" else None
        _note(report, f"{kind}, {SEEDS} seeds", [made(kind, 300, 5000, seed) for seed in range(SEEDS)], same)
        mixed = [made(kind, 300, 5000, seed, workers=(4, 64)) for seed in range(SEEDS)]
        _note(report, f"{kind}, 4 and 64 workers", mixed, same)
    _note_times(report)


def recorded(kind: str) -> World:
    """Read one of the inputs on which the Datadog Cluster Agent was measured."""
    content = json.loads(gzip.decompress((DATA / f"input_{kind}.json.gz").read_bytes()))
    configs = content["configs"]
    costs = {one["digest"]: min(1, one["execution_ms"] / (one["interval_s"] * 1000)) for one in configs}
    return World(costs, {one["digest"]: one["node"] for one in configs}, content["workers_per_node"])


def made(kind: str, nodes: int, configs: int, seed: int, workers: tuple[int, ...] = (4,)) -> World:
    """Make a random input of the same kind. workers: a node's number of workers is one of these."""
    dice = random.Random(seed)
    capacity: dict[str, float] = {f"runner-{number:05}": dice.choice(workers) for number in range(nodes)}
    holders = {"skewed10": nodes // 10, "scale_up": nodes - nodes // 10}.get(kind, nodes)
    names = list(capacity)[:holders]
    costs = {f"config-{number:06}": min(1, _milliseconds(kind, dice) / 15_000) for number in range(configs)}
    return World(costs, {digest: dice.choice(names) for digest in costs}, capacity)


def _milliseconds(kind: str, dice: random.Random) -> float:
    match kind:
        case "lognormal":
            return min(20_000, int(dice.lognormvariate(math.log(400), 1.3)))
        case "heavy":
            return dice.randint(150, 6149)
        case _:
            return dice.randint(50, 2049)


def outcome(world: World) -> Outcome:
    """Plan, apply the plan to the input, and plan again."""
    moves = plan(*world, force=True)
    after = world._replace(owners=world.owners | {move.digest: move.to for move in moves})
    best = best_peak(world)
    return Outcome(
        spread(utilization(*after).values()).peak / best,
        len(moves) / least_moves(world, 1.1 * best),
        len(plan(*after, force=True)),
    )


def best_peak(world: World) -> float:
    """Return a lower bound of any placement's peak: the mean utilization, or the heaviest config on the largest node."""
    mean = math.fsum(world.costs.values()) / math.fsum(world.capacity.values())
    return max(mean, max(world.costs.values()) / max(world.capacity.values()))


def least_moves(world: World, peak: float) -> int:
    """Return a lower bound of the moves for that peak: each node above it must lose at least so many of its heaviest configs."""
    held = defaultdict(list)
    for digest, node in world.owners.items():
        held[node].append(world.costs[digest])
    moves = 0
    for node, costs in held.items():
        load = math.fsum(costs)
        for cost in sorted(costs, reverse=True):
            if load <= peak * world.capacity[node]:
                break
            load -= cost
            moves += 1
    return moves


def _note(report: Report, name: str, worlds: list[World], most: float | None) -> None:
    """Report the worst result of these inputs."""
    outcomes = [outcome(world) for world in worlds]
    report.add(f"{name}: peak", max(one.peak for one in outcomes), "of best", most=1.1)
    report.add(f"{name}: moves", max(one.moves for one in outcomes), "of least", most=most)
    report.add(f"{name}: moves of a second plan", max(one.again for one in outcomes), "", most=0)


def _note_times(report: Report) -> None:
    small = {kind: _seconds(recorded(kind)) for kind in MOVES}
    slowest = max(small, key=small.__getitem__)
    report.add(f"plan 300 nodes, 5 000 configs ({slowest}, the slowest)", small[slowest], "s", most=0.05)
    for kind in MOVES:
        tenth, whole = made(kind, 1000, 10_000, 0), made(kind, 10_000, 100_000, 0)
        seconds = _seconds(whole)
        report.add(f"plan 10 000 nodes, 100 000 configs, {kind}", seconds, "s", most=2)
        # Even n log n comparisons grow faster than that when the data no longer fits the processor's caches. Sorting has the
        # same problem, so growth is compared with that of sorting.
        growth, floor = seconds / _seconds(tenth), _seconds(whole, _sort) / _seconds(tenth, _sort)
        report.add(f"the same: growth from a tenth, against sorting, {kind}", growth, "times", floor=floor, most=1.1)


def _plan(world: World) -> object:
    return plan(*world, force=True)


def _sort(world: World) -> object:
    return sorted((world.owners[digest], cost, digest) for digest, cost in world.costs.items())


def _seconds(world: World, work: Callable[[World], object] = _plan) -> float:
    """Return the least processor time of five runs: others use the machine too, and the work never waits."""
    times = []
    for _ in range(5):
        began = process_time()
        work(world)
        times.append(process_time() - began)
    return min(times)
