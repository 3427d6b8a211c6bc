"""What the account of a simulation says about checks: gaps, doubles, restarts, and whose doing they were."""

import json
from typing import Any

import pytest

from simulation.account import Account
from simulation.agents import SimulatedNode
from simulation.client import CallError, LostCallError, Server, Timing, read_configs
from simulation.tests.scripted_server import TOKEN, configs


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """ash, birch and cedar, an account of them, and a clock that stands still."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.account = Account(self.clock)
        self.ash, self.birch, self.cedar = map(self.node, ("ash", "birch", "cedar"))

    def node(self, name: str) -> SimulatedNode:
        node = SimulatedNode(name, Server.at("127.0.0.1:1", TOKEN), Timing(), self.account)
        node.is_up, node.heard = True, self.clock.now
        return node

    def runs(self, node: SimulatedNode, *checks: str, **fields: object) -> None:
        """From now on the node runs these."""
        _, wanted = read_configs(configs(*checks, **fields).encode())
        node._apply(wanted)

    def vanishes(self, node: SimulatedNode) -> None:
        node.is_up = False
        self.account.vanished(node)

    def passes(self, seconds: float) -> None:
        self.clock.now += seconds

    def report(self) -> dict[str, Any]:
        """The account, which JSON can carry."""
        return json.loads(json.dumps(self.account.report()))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_check_that_runs_on_one_node_is_seen_and_nothing_else(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a", "ntp:b")
    stage.passes(60)
    report = stage.report()
    assert report["checks"] == {
        "seen": 2,
        "running": 2,
        "doubled": 0,
        "ended": 0,
        "ended_first": [],
        "ended_longest": 0,
    }
    assert (report["without_runner"]["number"], report["two_runners"]["number"], report["seconds"]) == (0, 0, 60)
    assert report["restarts"] == {"changed": 0, "again": 0, "moved": 0, "moved_undisturbed": 0}


def test_a_dead_nodes_check_has_no_runner_until_it_runs_elsewhere(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.passes(3)
    stage.vanishes(stage.ash)
    stage.passes(38.5)
    stage.runs(stage.birch, "ntp:a")
    gaps = stage.report()["without_runner"]
    assert (gaps["number"], gaps["total"], gaps["mean"], gaps["p99"], gaps["longest"]) == (1, 38.5, 38.5, 38.5, 38.5)
    assert gaps["undisturbed"]["number"] == 0
    [worst] = gaps["worst"]
    assert worst == {"seconds": 38.5, "began": 3, "check": "ntp:a", "is_disturbed": True, "nodes": ["ash", "birch"]}


def test_a_takeover_is_measured_from_the_last_heartbeat_of_the_dead(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.passes(7)
    stage.vanishes(stage.ash)
    stage.passes(30)
    stage.runs(stage.birch, "ntp:a")
    assert stage.report()["takeovers"]["longest"] == 37
    assert stage.report()["restarts"] == {"changed": 0, "again": 0, "moved": 1, "moved_undisturbed": 0}


def test_a_gap_on_the_way_between_two_healthy_nodes_is_the_servers_doing(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.runs(stage.ash)
    stage.passes(4)
    stage.runs(stage.birch, "ntp:a")
    report = stage.report()
    assert report["without_runner"]["undisturbed"]["longest"] == 4
    assert report["restarts"]["moved_undisturbed"] == 1


def test_a_check_has_two_runners_from_the_second_start_to_the_first_stop(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.passes(10)
    stage.runs(stage.birch, "ntp:a")
    stage.passes(2.5)
    stage.runs(stage.ash)
    stage.passes(50)
    report = stage.report()
    assert (report["two_runners"]["number"], report["two_runners"]["longest"]) == (1, 2.5)
    assert report["two_runners"]["undisturbed"]["number"] == 1
    assert report["two_runners"]["worst"][0]["nodes"] == ["ash", "birch"]
    assert report["without_runner"]["number"] == 0


def test_two_runners_that_last_are_counted_up_to_now_and_again_later(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.runs(stage.birch, "ntp:a")
    for _ in range(2):
        stage.passes(5)
        report = stage.report()
    assert (report["two_runners"]["number"], report["two_runners"]["longest"]) == (1, 10)
    assert report["checks"]["doubled"] == 1


def test_a_third_runner_makes_no_second_double(stage: Stage) -> None:
    for node in (stage.ash, stage.birch, stage.cedar):
        stage.runs(node, "ntp:a")
        stage.passes(1)
    stage.runs(stage.ash)
    stage.passes(1)
    stage.vanishes(stage.birch)
    assert (stage.report()["two_runners"]["number"], stage.report()["two_runners"]["longest"]) == (1, 3)


def test_a_node_that_was_cut_off_excuses_its_double_and_its_move(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.ash.link.cut()
    stage.passes(40)
    stage.runs(stage.birch, "ntp:a")
    stage.ash.link.mend()
    stage.passes(8)
    stage.runs(stage.ash)
    report = stage.report()
    assert (report["two_runners"]["longest"], report["two_runners"]["undisturbed"]["number"]) == (8, 0)
    assert (report["restarts"]["moved"], report["restarts"]["moved_undisturbed"]) == (1, 0)


def test_other_bytes_on_the_same_node_are_a_change_without_a_gap(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a", "ntp:b")
    stage.passes(10)
    stage.runs(stage.ash, "ntp:a", "ntp:b", init_config="YTogMQ==")
    report = stage.report()
    assert report["restarts"] == {"changed": 2, "again": 0, "moved": 0, "moved_undisturbed": 0}
    assert (report["checks"]["seen"], report["without_runner"]["number"]) == (2, 0)


def test_a_check_stays_itself_when_it_moves_with_other_bytes(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.passes(1)
    stage.runs(stage.birch, "ntp:a", init_config="YTogMQ==")
    stage.passes(2)
    stage.runs(stage.ash)
    report = stage.report()
    assert (report["checks"]["seen"], report["restarts"]["moved"], report["two_runners"]["longest"]) == (1, 1, 2)


def test_the_same_bytes_on_the_same_node_again_are_a_gap_and_a_restart(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.runs(stage.ash)
    stage.passes(10)
    stage.runs(stage.ash, "ntp:a")
    report = stage.report()
    assert report["restarts"] == {"changed": 0, "again": 1, "moved": 0, "moved_undisturbed": 0}
    assert report["without_runner"]["undisturbed"]["longest"] == 10


def test_a_check_that_never_comes_back_has_ended_and_is_no_gap(stage: Stage) -> None:
    stage.runs(stage.ash, *(f"ntp:{number}" for number in range(15)))
    stage.passes(10)
    stage.runs(stage.ash, *(f"ntp:{number}" for number in range(3)))
    stage.passes(20)
    report = stage.report()
    assert (report["checks"]["running"], report["checks"]["ended"], report["checks"]["ended_longest"]) == (3, 12, 20)
    assert len(report["checks"]["ended_first"]) == 10
    assert report["without_runner"]["number"] == 0


def test_checks_without_an_instance_name_are_told_apart_by_their_bytes(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:")
    stage.runs(stage.birch, "ntp:", init_config="YTogMQ==")
    assert stage.report()["checks"] == stage.report()["checks"] | {"seen": 2, "doubled": 0}


def test_a_node_that_returns_under_its_name_is_another_process(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.vanishes(stage.ash)
    stage.passes(5)
    stage.runs(stage.node("ash"), "ntp:a")
    report = stage.report()
    assert (report["without_runner"]["longest"], report["restarts"]["moved"]) == (5, 1)


def test_the_ten_longest_are_named(stage: Stage) -> None:
    for length in range(1, 15):
        stage.runs(stage.ash, "ntp:a")
        stage.runs(stage.ash)
        stage.passes(length)
    stage.runs(stage.ash, "ntp:a")
    gaps = stage.report()["without_runner"]
    assert [gap["seconds"] for gap in gaps["worst"]] == list(range(14, 4, -1))
    assert (gaps["number"], gaps["total"], gaps["mean"], gaps["p50"]) == (14, 105, 7.5, 7)


def test_the_most_checks_that_one_node_ever_had_are_kept(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a")
    stage.passes(5)
    stage.runs(stage.birch, "ntp:b", "ntp:c")
    stage.runs(stage.birch)
    assert stage.report()["most_on_one_node"] == {"checks": 2, "node": "birch", "at": 5}


def test_calls_are_counted_by_how_they_ended(stage: Stage) -> None:
    for tenths in range(1, 101):
        stage.account.called(stage.ash, "status", tenths / 10_000, None)
    stage.account.called(stage.ash, "status", 3, CallError("POST /status/ash: 503", "503"))
    stage.account.called(stage.ash, "status", 3, LostCallError("lost", "lost"))
    stage.account.called(stage.ash, "configs", 0.5, None)
    calls = stage.report()["heartbeats"]
    assert (calls["sent"], calls["failed"], calls["lost"], calls["reasons"]) == (101, 1, 1, {"503": 1})
    answered = calls["answered"]
    assert (answered["p50"], answered["p99"], answered["longest"]) == (0.005, 0.0099, 0.01)
    assert stage.report()["fetches"]["answered"]["number"] == 1


def test_latencies_of_a_node_that_lags_are_its_own(stage: Stage) -> None:
    stage.ash.link.lag = 1
    stage.account.called(stage.ash, "status", 2, None)
    assert stage.report()["heartbeats"]["sent"] == 1
    assert stage.report()["heartbeats"]["answered"]["number"] == 0


def test_a_report_changes_nothing(stage: Stage) -> None:
    stage.runs(stage.ash, "ntp:a", "ntp:b")
    stage.runs(stage.birch, "ntp:a")
    stage.runs(stage.ash, "ntp:a")
    stage.account.note("nothing happened")
    stage.passes(3)
    assert stage.report() == stage.report()
    assert stage.report()["events"] == [{"at": 0, "what": "nothing happened"}]
