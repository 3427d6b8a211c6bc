"""The peer's cases of its utilization rebalance, replayed from data. Where we differ on purpose the test says why.

That of stats is in nodes/tests/test_runners.py.
"""

from pathlib import Path
from typing import Any

import pytest

from checks.balancing import Pool, Stickiness, plan, spread, utilization
from tests import peer_cases

CASES = peer_cases.cases("rebalance.json")
LEAST_BUSY = ["2 least busy, preferred wins", "no runners", "2 least busy, fewer checks wins"]


def case(name: str) -> tuple[Any, Any]:
    return CASES[name]["input"], CASES[name]["expected"]


def world(given: Any) -> tuple[dict[str, float], dict[str, str], dict[str, float], dict[str, float]]:
    """Costs, owners, capacity and base, as the stats of a case say."""
    costs: dict[str, float] = {}
    owners: dict[str, str] = {}
    base = dict.fromkeys(given["workers"], 0.0)
    for node, stats in given["nodes"].items():
        for check, stat in stats.items():
            needed = min(1, stat["AverageExecutionTime"] / (given["min_collection_interval_s"] * 1000))
            if stat["IsClusterCheck"]:
                costs[given["check_to_config"][check]] = needed
                owners[given["check_to_config"][check]] = node
            else:
                base[node] += needed
    return costs, owners, given["workers"], base


def test_rebalance_using_utilization():
    given, expected = case("TestRebalanceUsingUtilization")
    costs, owners, capacity, base = world(given)
    (move,) = plan(costs, owners, capacity, base=base)
    # The peer moves digest2, since it fills empty nodes heaviest first: 0.067 and 0.033 in the end. Moving digest1 makes
    # the two alike, at 0.05, by one move as well.
    assert len(expected["moves"]) == 1
    assert (move.digest, move.source, move.to) == ("digest1", "node1", "node2")
    after = owners | {move.digest: move.to}
    assert spread(utilization(costs, after, capacity, base).values()) == (
        pytest.approx(0.05),
        pytest.approx(0, abs=1e-9),
    )
    assert plan(costs, after, capacity, base=base) == expected["second_call"]["moves"]


def test_rebalance_using_utilization_pins_checks_without_execution_time():
    given, expected = case("TestRebalanceUsingUtilization_PinsChecksWithoutExecutionTime")
    costs, owners, capacity, _ = world(given)
    pinned = {digest for digest, is_pinned in expected["pinned"].items() if is_pinned}
    stickiness = Stickiness(*(given["stickiness"][key] for key in ("factor", "upper_limit", "lower_limit")))
    for sticky in (stickiness, None):
        moves = plan(costs, owners, capacity, pinned=pinned, force=given["force"], stickiness=sticky)
        assert not {move.digest for move in moves} & expected["must_stay_on"].keys()


def test_rebalance_is_worth_it_with_fewer_high_utilization_runners():
    given, expected = case("TestRebalanceIsWorthIt fewer high-utilization runners")
    costs = {check: cost for held in given["current"].values() for check, cost in held.items()}
    owners = {check: node for node, held in given["current"].items() for check in held}
    moves = plan(costs, owners, given["workers"], min_improvement=given["min_percentage_improvement"])
    assert bool(moves) is expected["worth_it"]
    assert sorted(move.to for move in moves) == ["runner2", "runner3"]


def test_utilization_without_use():
    given, expected = case("TestUtilization 0 workers used")
    assert utilization({}, {}, {"ash": given["workers"]}) == {"ash": expected["utilization"]}


def test_utilization_without_workers():
    given, expected = case("TestUtilization 0 workers")
    assert utilization({}, {}, {"ash": given["workers"]}) == {"ash": expected["utilization"]}
    # A node that has something to do has workers, though it did not say how many: the default number.
    assert utilization({"a": 1.0}, {"a": "ash"}, {"ash": given["workers"]}) == {"ash": 0.25}


@pytest.mark.parametrize("name", LEAST_BUSY)
def test_add_to_least_busy(name):
    given, expected = case(f"TestAddToLeastBusy {name}")
    costs = dict.fromkeys(given["runners_workers"], 0.0)
    for one in given["existing"].values():
        costs[one["runner"]] += one["workers_needed"]
    names = {node: node for node in costs}
    pool = Pool(names, costs, workers=given["runners_workers"])
    # Equal loads go by name, which is how "fewer checks" comes out here; the peer's last resort is the order of a map.
    placed = pool.place(given["new_config_workers_needed"], near=given["preferred_runner"] or None)
    assert (placed or "") == expected["placed_on"]


def distribution(given: Any, added: Any) -> dict[str, float]:
    costs = {check: cost for check, cost, _ in added}
    return utilization(costs, {check: node for check, _, node in added}, given["runners_workers"])


def test_utilization_std_dev():
    given, expected = case("TestUtilizationStdDev")
    assert spread(distribution(given, given["add"]).values()).stddev == pytest.approx(expected["stddev"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "key", "low", "high"),
    [
        ("TestNumEmptyRunners", "num_empty_after_each_step", -1, 0),
        ("TestNumRunnersWithHighUtilization", "num_high_after_each_step", 0.8000001, 99),
    ],
)
def test_numbers_of_runners(name, key, low, high):
    given, expected = case(name)
    steps = given["add_in_steps"]
    numbers = []
    for step in range(len(steps)):
        loads = distribution(given, [one for one in steps[: step + 1] if one])
        numbers.append(sum(low <= load <= high for load in loads.values()))
    assert numbers == expected[key]


def test_configs_of_one_check_are_told_apart():
    given, expected = case("TestCurrentDistribution_SeparatesConfigsByDigest")
    costs, owners, capacity, base = world(given)
    assert costs.keys() == owners.keys() == expected["distribution_entries"].keys()
    assert utilization(costs, owners, capacity, base) == {"node1": pytest.approx(2 / 15 / 4)}


def test_a_node_is_as_busy_as_what_it_has():
    given, expected = case("TestAddCheck")
    (runner,) = expected["runner_for"].values()
    needed = sum(expected["workers_needed"].values())
    assert distribution(given, given["add"]) == {runner: needed / given["runners_workers"][runner]}


def test_where_all_may_run_everywhere_there_is_one_spread():
    """The peer weighs the spread of each set of nodes; ours makes each even for itself. With one set both are the plain one."""
    given, expected = case("TestUtilizationStdDevWeightedDegeneratesToGlobal")
    costs = {check: cost for check, cost, _ in given["add"]}
    owners = {check: node for check, _, node in given["add"]}
    everywhere = frozenset(given["runners_workers"])
    restricted = plan(costs, owners, given["runners_workers"], eligible=lambda digest: everywhere)
    plain = plan(costs, owners, given["runners_workers"], eligible=given["eligibility"])
    assert (restricted == plain) is expected["weighted_stddev_equals_plain_stddev"]
    assert plain


def test_every_case_is_replayed_or_differs():
    runners = Path(__file__).parents[2] / "nodes" / "tests" / "test_runners.py"
    tables = {f"TestAddToLeastBusy {name}" for name in LEAST_BUSY}
    assert not peer_cases.unread(CASES, __file__, str(runners), tables=tables)
