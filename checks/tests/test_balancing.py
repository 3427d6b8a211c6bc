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


def test_an_empty_pool_places_nothing():
    assert pool().place() is None


def test_near_is_preferred_whatever_its_load():
    assert pool(ash=9, birch=0).place(near="ash") == "ash"


def test_near_that_is_not_in_the_pool_is_ignored():
    assert pool(ash=9, birch=0).place(near="gone") == "birch"


def test_no_node_gets_more_than_the_ceiling():
    nodes = pool(2, ash=1, birch=0)
    assert [nodes.place(near="ash") for _ in range(4)] == ["ash", "birch", "birch", None]


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
