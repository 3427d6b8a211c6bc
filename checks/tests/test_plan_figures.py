"""On the inputs of the measured Datadog Cluster Agent, plans reach its peak or a lower one with far fewer moves."""

import json
from typing import Any

import pytest

from bench.balancing import DATA, World, best_peak, least_moves, recorded
from checks.balancing import plan, spread, utilization

PEER: dict[str, Any] = json.loads((DATA / "peer.json").read_text())
KINDS = pytest.mark.parametrize("kind", ["random", "scale_up", "skewed10", "heavy", "lognormal"])


def after(world: World, **rules: Any) -> World:
    moves = plan(*world, **rules)
    return world._replace(owners=world.owners | {move.digest: move.to for move in moves})


def peak(world: World) -> float:
    return spread(utilization(*world).values()).peak


@KINDS
def test_the_peak_comes_near_the_best_possible(kind):
    world = recorded(kind)
    assert (
        peak(after(world, force=True))
        <= 1.1 * best_peak(world)
        < PEER[kind]["stickiness on, force"]["after"]["utilization_max"]
    )


@KINDS
def test_close_to_the_fewest_moves_do_it(kind):
    world = recorded(kind)
    moves = len(plan(*world, force=True))
    # The heaviest of the lognormal costs fit nowhere else, so lighter ones must go.
    assert moves <= (300 if kind == "lognormal" else 1.02 * least_moves(world, 1.1 * best_peak(world)))
    assert moves < PEER[kind]["stickiness on, force"]["moves"]


@KINDS
def test_a_second_plan_is_empty(kind):
    assert plan(*after(recorded(kind), force=True), force=True) == []


@KINDS
def test_the_nodes_are_more_alike_than_the_peer_leaves_them(kind):
    left = spread(utilization(*after(recorded(kind), force=True)).values())
    assert left.stddev < PEER[kind]["stickiness on, force"]["after"]["utilization_stddev"]


@KINDS
def test_a_cut_plan_makes_the_greater_part_of_the_difference(kind):
    world = recorded(kind)
    third = len(plan(*world, force=True)) // 3
    start, cut, whole = (
        spread(utilization(*one).values()).stddev
        for one in (world, after(world, force=True, budget=third), after(world, force=True))
    )
    assert start - cut > 0.4 * (start - whole)


@KINDS
def test_small_budgets_come_to_the_same_by_few_more_moves(kind):
    world = recorded(kind)
    whole, made = len(plan(*world, force=True)), 0
    while moves := plan(*world, force=True, budget=250):
        world = world._replace(owners=world.owners | {move.digest: move.to for move in moves})
        made += len(moves)
    assert peak(world) <= 1.1 * best_peak(world)
    assert made <= 1.05 * whole
