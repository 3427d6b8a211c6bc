"""The pool: lowest expected load first, ties by name, never above the ceiling."""

import math

from hypothesis import given
from hypothesis import strategies as st

from checks.balancing import Pool, ceiling


def pool(most: float = math.inf, **costs: float) -> Pool[str]:
    return Pool({name: name for name in costs}, costs, most)


def test_the_lowest_load_is_first_and_ties_go_by_name():
    nodes = pool(ash=1, birch=0, cedar=0)
    assert [nodes.place() for _ in range(4)] == ["birch", "cedar", "ash", "birch"]


def test_the_best_are_those_with_the_lowest_loads_also_after_placements():
    nodes = Pool(
        {name: name for name in "abcdefgh"}, dict(zip("abcdefgh", range(8), strict=True)), workers={"a": 8, "b": 2}
    )
    assert nodes.best(number=3) == [("a", 0.0), ("b", 0.5), ("c", 0.5)]
    nodes.place(cost=16, near="a")
    assert nodes.best(number=3) == [("b", 0.5), ("c", 0.5), ("d", 0.75)]
    assert nodes.best(frozenset("ah"), number=5) == [("h", 1.75), ("a", 2.0)]


def test_an_empty_pool_places_nothing():
    assert pool().place() is None


def test_near_is_preferred_whatever_its_load():
    assert pool(ash=9, birch=0).place(near="ash") == "ash"


def test_near_that_is_not_in_the_pool_is_ignored():
    assert pool(ash=9, birch=0).place(near="gone") == "birch"


def test_no_node_gets_more_than_the_ceiling():
    nodes = pool(2, ash=1, birch=0)
    assert [nodes.place(near="ash") for _ in range(4)] == ["ash", "birch", "birch", None]


def test_a_node_with_more_workers_gets_more():
    nodes = Pool({"ash": "ash", "birch": "birch"}, {}, workers={"ash": 4, "birch": 64})
    given_to = [nodes.place() for _ in range(68)]
    assert given_to.count("ash") == 4


def test_what_is_not_ours_counts_as_load_but_not_as_a_config():
    nodes = Pool({"ash": "ash", "birch": "birch"}, {}, counts={}, base={"ash": 2.0}, limits={"ash": 1, "birch": 3})
    assert [nodes.place() for _ in range(5)] == ["birch", "birch", "ash", "birch", None]


def test_what_is_taken_and_given_up_elsewhere_counts_as_if_it_had_been_so_before():
    nodes = Pool({"ash": "ash", "birch": "birch"}, {"ash": 3.0}, counts={"ash": 1}, limits={"ash": 1, "birch": 1})
    assert (nodes.best(), nodes.place()) == ([("birch", 0.0), ("ash", 0.75)], "birch")
    nodes.take("gone", 1.0)
    nodes.give_up("gone", 1.0)
    assert nodes.place() is None
    nodes.give_up("ash", 3.0)
    assert nodes.best() == [("ash", 0.0), ("birch", 0.25)]
    nodes.take("ash", 2.0)
    assert (nodes.load("ash"), nodes.has_room("ash")) == (0.5, False)
    nodes.give_up("birch", 1.0)
    assert nodes.place() == "birch"


def test_the_ceiling_grows_with_the_workers():
    nodes = Pool({"ash": "ash", "birch": "birch"}, {}, 4, workers={"ash": 4, "birch": 12})
    given_to = [nodes.place() for _ in range(9)]
    assert [given_to.count(name) for name in ("ash", "birch", None)] == [2, 6, 1]


def test_only_nodes_that_are_eligible_get_it():
    nodes = pool(ash=0, birch=5, cedar=6)
    few = frozenset({"birch", "cedar", "gone"})
    assert nodes.place(among=few) == "birch"
    assert nodes.place(near="ash", among=few) == "birch"
    assert nodes.place(near="cedar", among=few) == "cedar"
    assert nodes.place(among=frozenset()) is None


def test_sets_of_eligible_nodes_share_the_load():
    nodes = pool(ash=0, birch=0, cedar=0)
    left, right = frozenset({"ash", "birch"}), frozenset({"birch", "cedar"})
    assert [nodes.place(among=left) for _ in range(4)] == ["ash", "birch", "ash", "birch"]
    assert [nodes.place(among=right) for _ in range(4)] == ["cedar", "cedar", "birch", "cedar"]
    assert nodes.place() == "ash"


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 60))
def test_a_burst_evens_out(costs, number):
    nodes = Pool({name: name for name in costs}, costs)
    after = dict(costs)
    for _ in range(number):
        after[nodes.place()] += 1
    grown = [after[name] for name in costs if after[name] > costs[name]]
    assert sum(after.values()) == sum(costs.values()) + number
    assert not grown or max(grown) - min(after.values()) <= 1


def test_the_ceiling_is_twice_the_fair_share_and_only_when_much_is_lost():
    assert ceiling(100, 11, 10) == 20
    assert ceiling(100, 10, 10) == math.inf
    assert ceiling(0, 0, 0) == math.inf
