"""When a plan is made, and what it moves."""

from collections import Counter

import pytest

from checks.balancing import PlannedMove, Stickiness, plan, spread, utilization


def on(node: str, *costs: float) -> dict[str, tuple[str, float]]:
    return {f"{node}-{number}": (node, cost) for number, cost in enumerate(costs)}


def planned(
    held: dict[str, tuple[str, float]], *names: str, workers: float = 4, **rules
) -> list[PlannedMove[str, str]]:
    costs = {digest: cost for digest, (_, cost) in held.items()}
    owners = {digest: node for digest, (node, _) in held.items()}
    return plan(costs, owners, dict.fromkeys(names or ("ash", "birch"), workers), **rules)


def routes(moves: list[PlannedMove[str, str]]) -> list[tuple[str, str]]:
    return [(move.digest, move.to) for move in moves]


class TestGate:
    """Without force there is a plan only if it makes a clear difference."""

    crowd = tuple(f"elm-{number:02}" for number in range(40))

    def nearly_even(self, *first: float) -> dict[str, tuple[str, float]]:
        """One node's costs; the others differ as much as a standard deviation of a twentieth of their load."""
        held = on("elm-00", *first)
        for number, name in enumerate(self.crowd[1:]):
            held |= on(name, *([0.095] * 10 if number % 2 else [0.105] * 10))
        return held

    def test_even_nodes_are_left_alone(self):
        assert planned(on("ash", 0.3, 0.3) | on("birch", 0.3, 0.3)) == []

    def test_a_node_somewhat_above_the_others_is_left_alone(self):
        held = self.nearly_even(*[0.112] * 10)
        assert planned(held, *self.crowd) == []
        assert len(planned(held, *self.crowd, force=True)) == 1

    def test_a_smaller_difference_counts_if_it_is_asked_for(self):
        assert len(planned(self.nearly_even(*[0.112] * 10), *self.crowd, min_improvement=0.1)) == 1

    def test_a_node_above_four_fifths_gives_when_others_can_take(self):
        held = {digest: (node, 2.8 * cost) for digest, (node, cost) in self.nearly_even(*[0.112] * 10).items()}
        assert planned(held, *self.crowd) == []
        assert planned(held, *self.crowd, base={"elm-00": 0.1}) != []

    def test_an_empty_node_is_used_though_the_peak_is_fine(self):
        held = self.nearly_even(*[0.1] * 10)
        moves = planned(held, *self.crowd, "fir")
        given = sum(held[move.digest][1] for move in moves if move.to == "fir")
        assert 0.8 < given <= 1.0
        assert {move.to for move in moves} == {"fir"}
        assert max(Counter(move.source for move in moves).values()) == 1

    def test_a_node_that_is_nearly_filled_gets_no_trifles(self):
        held = {}
        for name in self.crowd:
            held |= on(name, *[0.1] * 9, *[0.01] * 10)
        moves = planned(held, *self.crowd, "fir")
        assert [held[move.digest][1] for move in moves] == [0.1] * 9

    def test_of_equal_configs_the_first_by_name_moves(self):
        assert routes(planned(on("ash", 0.5, 0.5, 0.5))) == [("ash-0", "birch")]

    def test_a_node_that_only_few_can_spare_for_stays_empty(self):
        assert planned(on("ash", 0.5) | on("birch", 0.5), "ash", "birch", "cedar", force=True) == []

    def test_a_lightly_loaded_cluster_uses_a_node_that_joins(self):
        held = on("ash", *[0.001] * 10) | on("birch", *[0.001] * 10)
        assert Counter(routes(planned(held, "ash", "birch", "cedar"))).total() in (6, 7)


class TestMoves:
    def test_one_heavy_config_moves_rather_than_many_light_ones(self):
        moves = planned(on("ash", 0.1, 0.1, 0.1, 0.1, 0.4))
        assert routes(moves) == [("ash-4", "birch")]

    def test_ties_go_by_name(self):
        moves = planned(on("cedar", 0.2, 0.2, 0.2), "cedar", "birch", "ash")
        assert routes(moves) == [("cedar-0", "ash"), ("cedar-1", "birch")]

    def test_nodes_with_more_workers_get_more(self):
        costs = {f"config-{number}": 0.5 for number in range(17)}
        moves = plan(costs, dict.fromkeys(costs, "ash"), {"ash": 4, "birch": 64}, force=True)
        assert len(moves) == 16

    def test_the_gain_is_cost_times_difference(self):
        (move,) = planned(on("ash", 1, 1))
        assert move == ("ash-0", "ash", "birch", pytest.approx(1 * (0.5 - 0.25)))

    def test_what_costs_nothing_stays(self):
        assert planned(on("ash", 0, 0, 0), force=True) == []

    def test_heavy_configs_come_as_low_as_they_can_where_the_level_is_out_of_reach(self):
        moves = planned(on("ash", 1, 1, 1, 1) | on("birch", 1) | on("cedar", 1), "ash", "birch", "cedar", force=True)
        assert sorted(move.to for move in moves) == ["birch", "cedar"]

    def test_a_config_of_an_unknown_node_neither_counts_nor_moves(self):
        assert planned(on("gone", 1, 1, 1), force=True) == []


class TestRules:
    def test_load_that_is_not_ours_drives_configs_away(self):
        assert routes(planned(on("ash", 0.5, 0.4), base={"ash": 3.0})) == [("ash-0", "birch"), ("ash-1", "birch")]

    def test_a_node_busy_with_its_own_is_no_empty_one(self):
        assert planned(on("ash", 0.3, 0.3), base={"birch": 0.6}, force=True) == []

    def test_pinned_configs_stay_and_lighter_ones_go_instead(self):
        assert routes(planned(on("ash", 0.6, 0.2, 0.2), pinned={"ash-0"}, force=True)) == [
            ("ash-1", "birch"),
            ("ash-2", "birch"),
        ]

    def test_free_configs_go_first_and_beyond_the_budget(self):
        held = on("ash", 0.2, 0.2, 0.2, 0.2)
        assert routes(planned(held, free={"ash-0", "ash-1"}, budget=0)) == [("ash-0", "birch"), ("ash-1", "birch")]

    def test_a_cordoned_node_gives_but_gets_nothing(self):
        held = on("ash", *[0.1] * 20)
        assert planned(held, accepting={"ash"}, force=True) == []
        assert {move.to for move in planned(held, "ash", "birch", "cedar", accepting={"ash", "cedar"})} == {"cedar"}

    def test_the_share_of_a_cordoned_node_is_shared_by_the_others(self):
        moves = planned(on("ash", *[0.1] * 20), "ash", "birch", "cedar", accepting={"ash", "cedar"})
        assert 9 <= len(moves) <= 10

    def test_a_limit_keeps_the_rest_where_it_is(self):
        assert len(planned(on("ash", *[0.1] * 20), limits={"birch": 3})) == 3

    def test_a_config_goes_only_where_it_is_eligible(self):
        held = on("ash", *[0.2] * 6)
        sets = {digest: {"ash", "cedar"} for digest in held}
        assert {move.to for move in planned(held, "ash", "birch", "cedar", eligible=sets)} == {"cedar"}

    def test_nothing_moves_where_only_its_node_may_run_it(self):
        assert planned(on("ash", *[0.2] * 6), eligible=lambda _: {"ash"}, force=True) == []

    def test_a_busy_group_does_not_use_the_idle_one(self):
        held = on("ash", *[0.5] * 4) | on("cedar", 0.1)
        groups = {
            digest: {"ash", "birch"} if node == "ash" else {"cedar", "doum"} for digest, (node, _) in held.items()
        }
        moves = planned(held, "ash", "birch", "cedar", "doum", eligible=groups)
        assert {(move.source, move.to) for move in moves} == {("ash", "birch")}

    def test_sticky_configs_move_only_for_a_large_difference(self):
        held = on("ash", *[0.2] * 6)
        assert len(planned(held)) == 3
        assert planned(held, stickiness=Stickiness()) == []
        assert len(planned(held, stickiness=Stickiness(factor=0.5))) == 2


class TestMeasures:
    def test_utilization_counts_what_is_not_ours_and_leaves_unknown_nodes_out(self):
        loads = utilization(
            {"a": 1.0, "b": 0.5, "c": 9.0}, {"a": "ash", "b": "ash", "c": "gone"}, {"ash": 4, "birch": 2}, {"birch": 1}
        )
        assert loads == {"ash": 0.375, "birch": 0.5}

    def test_no_nodes_no_spread(self):
        assert spread([]) == (0.0, 0.0)


ALL = {"ash", "birch", "cedar"}
# What builds on steps before: {what is at stake: (configs as {digest: (node, cost)}, capacities, rules, moves)}.
SUCCESSIVE = {
    "the node that gave can receive": (
        {"a": ("birch", 2.0), "b": ("ash", 0.5)}, {"ash": 4, "birch": 1}, {},
        [("a", "birch", "ash"), ("b", "ash", "birch")],
    ),
    "the node that received can give": (
        {"a": ("ash", 0.1), "b": ("ash", 0.2), "c": ("birch", 1.5)}, {"ash": 2, "birch": 1}, {},
        [("c", "birch", "ash"), ("b", "ash", "birch"), ("a", "ash", "birch")],
    ),
    "what came is taken by its weight": (
        {"a": ("birch", 0.3), "b": ("ash", 0.2), "c": ("ash", 0.8)}, {"ash": 2, "birch": 4}, {},
        [("b", "ash", "birch"), ("c", "ash", "birch"), ("a", "birch", "ash")],
    ),
    "a config that goes on and comes back does not move": (
        {"a": ("ash", 0.2), "b": ("birch", 0.1), "c": ("ash", 0.5)}, {"ash": 1, "birch": 2}, {},
        [("c", "ash", "birch")],
    ),
    "a free config that came is no other one": (
        {"a": ("birch", 0.8), "b": ("ash", 1.0), "c": ("birch", 1.0), "d": ("ash", 0.3), "e": ("cedar", 2.0)},
        {"ash": 4, "birch": 2, "cedar": 1}, {"force": True, "free": {"c"}},
        [("e", "cedar", "ash"), ("d", "ash", "cedar")],
    ),
    "a config of two steps that are taken back is where it was": (
        {"a": ("birch", 0.3), "b": ("cedar", 0.1), "c": ("birch", 0.5), "d": ("cedar", 0.6)},
        {"ash": 4, "birch": 1, "cedar": 2},
        {"eligible": {"a": ALL, "b": ALL, "c": {"birch", "cedar"}, "d": {"ash", "cedar"}}},
        [("c", "birch", "cedar"), ("d", "cedar", "ash")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("stake", SUCCESSIVE)
def test_each_step_builds_on_those_before(stake: str):
    held, capacity, rules, moves = SUCCESSIVE[stake]
    costs = {digest: cost for digest, (_, cost) in held.items()}
    owners = {digest: node for digest, (node, _) in held.items()}
    assert [tuple(move)[:3] for move in plan(costs, owners, capacity, **rules)] == moves
