"""Properties of all plans, for random clusters."""

import math
from collections import Counter
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from checks.balancing import PlannedMove, Stickiness, plan, spread, utilization

NODES = ("ash", "birch", "cedar", "doum", "elm", "fir")
GROUPS = (frozenset(NODES[:3]), frozenset(NODES[3:]))
# Sums of such costs differ with the order of summing.
ROUNDING = 1e-6

amounts = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.3, 1.0]), st.floats(0, 4))


class World(NamedTuple):
    costs: dict[str, float]
    owners: dict[str, str]
    capacity: dict[str, float]

    def plan(self, **rules: Any) -> list[PlannedMove[str, str]]:
        return plan(*self, **rules)

    def after(self, moves: list[PlannedMove[str, str]]) -> "World":
        owners = dict(self.owners)
        for move in moves:
            assert owners[move.digest] == move.source != move.to
            owners[move.digest] = move.to
        return self._replace(owners=owners)

    def peak(self, base: dict[str, float] | None = None, among: frozenset[str] = frozenset(NODES)) -> float:
        loads = utilization(self.costs, self.owners, self.capacity, base)
        return spread(load for node, load in loads.items() if node in among).peak


@st.composite
def worlds(draw: st.DrawFn) -> World:
    workers = st.sampled_from([1, 2, 4, 4, 4, 16, 64])
    capacity = {node: draw(workers) for node in NODES[: draw(st.integers(1, 6))]}
    costs = {f"config-{number:02}": cost for number, cost in enumerate(draw(st.lists(amounts, max_size=25)))}
    owners = {digest: draw(st.sampled_from(sorted(capacity))) for digest in costs}
    return World(costs, owners, capacity)


bases = st.dictionaries(st.sampled_from(NODES), st.floats(0, 6), max_size=3)
forces = st.booleans()
few = st.sets(st.sampled_from(NODES))


def some(world: World) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(sorted(world.costs))) if world.costs else st.just(set())


def half(world: World, digest: str) -> frozenset[str]:
    """The group of the node that has it."""
    return next(group for group in GROUPS if world.owners[digest] in group)


@given(worlds(), bases, few, forces, st.data())
def test_no_part_of_a_plan_raises_the_peak(world, base, cordoned, force, data):
    rules: dict[str, Any] = {
        "base": base,
        "accepting": set(NODES) - cordoned,
        "pinned": data.draw(some(world)),
        "free": data.draw(some(world)),
        "force": force,
    }
    start, now = world.peak(base), world
    for move in world.plan(**rules):
        now = now.after([move])
        assert now.peak(base) <= start + ROUNDING
        assert move.to not in cordoned
        assert move.digest not in rules["pinned"]


@given(worlds(), bases, few, st.data())
def test_after_a_plan_there_is_nothing_to_plan(world, base, cordoned, data):
    rules = {"base": base, "accepting": set(NODES) - cordoned, "pinned": data.draw(some(world))}
    assert world.after(world.plan(**rules, force=True)).plan(**rules, force=True) == []
    assert world.after(world.plan(**rules)).plan(**rules) == []


@given(worlds(), forces)
def test_the_greatest_gain_is_first_and_nothing_moves_for_a_loss(world, force):
    gains = [move.gain for move in world.plan(force=force)]
    assert gains == sorted(gains, reverse=True)
    assert all(gain > 0 for gain in gains)


@given(worlds())
def test_no_config_moves_twice(world):
    assert all(times == 1 for times in Counter(move.digest for move in world.plan(force=True)).values())


@given(worlds(), st.integers(0, 5), st.data())
def test_a_budget_cuts_only_what_costs_something(world, budget, data):
    free = data.draw(some(world))
    cut, whole = world.plan(free=free, force=True, budget=budget), world.plan(free=free, force=True)
    assert sum(move.digest not in free for move in cut) == min(budget, sum(move.digest not in free for move in whole))
    # Not always in the same order: a move need not wait for room that a move of the whole plan would take. Then
    # other gains are the least so far, so these may differ, too.
    assert {move[:3] for move in cut} <= {move[:3] for move in whole}
    gains = [move.gain for move in cut]
    assert gains == sorted(gains, reverse=True)


def assert_same_gains(part: list[PlannedMove[str, str]], whole: list[PlannedMove[str, str]]) -> None:
    """Assert that moves gain as much as in the whole plan, where none counts more than one before it, also of other parts."""
    gains = {move[:3]: move.gain for move in part}
    assert list(gains.values()) == sorted(gains.values(), reverse=True)
    least = math.inf
    for move in whole:
        gain = gains.get(move[:3], move.gain)
        assert gain == move.gain if move.gain < least else gain >= move.gain
        least = move.gain


@given(worlds(), forces, st.data())
def test_nothing_moves_to_a_node_that_is_not_eligible(world, force, data):
    sets = {digest: data.draw(few) for digest in world.costs}
    moves = world.plan(eligible=sets, force=force)
    assert all(move.to in sets[move.digest] for move in moves)
    # Each of them from the node that has it, also after other groups of nodes were tried in vain.
    world.after(moves)


@given(worlds())
def test_each_group_is_balanced_on_its_own(world):
    moves = world.plan(eligible=lambda digest: half(world, digest), force=True)
    for group in GROUPS:
        alone = World(
            world.costs,
            {digest: node for digest, node in world.owners.items() if node in group},
            {node: workers for node, workers in world.capacity.items() if node in group},
        )
        part = alone.plan(force=True)
        assert {move[:3] for move in part} == {move[:3] for move in moves if move.source in group}
        assert_same_gains(part, moves)


@given(worlds(), st.data())
def test_overlapping_groups_come_to_rest(world, data):
    sets = {digest: data.draw(few) for digest in world.costs}
    start = world.peak()
    for _ in range(10):
        moves = world.plan(eligible=sets, force=True)
        world = world.after(moves)
        assert world.peak() <= start + ROUNDING
        if not moves:
            return
    raise AssertionError("ten plans, and another one to make")


@given(worlds(), st.dictionaries(st.sampled_from(NODES), st.integers(0, 5)))
def test_no_node_gets_more_configs_than_its_limit(world, limits):
    moves = world.plan(limits=limits, force=True)
    had, has = Counter(world.owners.values()), Counter(world.after(moves).owners.values())
    assert all(has[node] <= max(had[node], limit) for node, limit in limits.items())


@given(worlds())
def test_a_sticky_config_moves_only_for_a_large_difference(world):
    stickiness = Stickiness()
    loads = utilization(*world).values()
    for move in world.plan(stickiness=stickiness, force=True):
        assert max(loads) - min(loads) > stickiness.bias(world.costs[move.digest]) - ROUNDING


@given(worlds(), st.randoms())
def test_the_order_of_the_input_changes_nothing(world, random):
    shuffled = [dict(random.sample(sorted(one.items()), len(one))) for one in world]
    assert world.plan(force=True) == plan(*shuffled, force=True)


@given(worlds())
def test_without_force_it_is_the_same_plan_or_none(world):
    assert world.plan() in ([], world.plan(force=True))
