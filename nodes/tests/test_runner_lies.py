"""Runners that tell what can't be, or too much: what counts of it, and that it is said."""

from typing import Any

import pytest

from clusteragent.lib import conf
from nodes import statsclient
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeEvent, Runner, RunnerStats
from nodes.tests.fake_runners import HANGS, FakeRunners, told

pytestmark = pytest.mark.django_db
ASH, BIRCH, CEDAR = "127.2.1.1", "127.2.1.2", "127.2.1.3"


def report(**addresses: str) -> None:
    for name, address in addresses.items():
        note_heartbeat(name, last_change=-1, client_ip=address)


def runner(name: str) -> Runner:
    return Runner.objects.get(node__name=name)


def noted(name: str) -> list[str]:
    events = NodeEvent.objects.filter(node_name=name, kind=NodeEvent.Kind.CLAMPED)
    return list(events.values_list("cause", flat=True))


@pytest.mark.parametrize("count", [257, 100_000, 2**31, 10**300])
def test_more_workers_than_a_runner_has_count_as_the_most(fakes: FakeRunners, count: int) -> None:
    report(ash=ASH)
    fakes.says(ASH, {}, {"Count": count})
    statsclient.collect()
    assert runner("ash").workers == Runner.objects.capacity()[Node.objects.get().pk] == conf.RUNNER_MAX_WORKERS
    assert runner("ash").clamped.endswith(f" workers, taken as {conf.RUNNER_MAX_WORKERS}")
    assert len(runner("ash").clamped) < 100


@pytest.mark.parametrize("count", [0, -1, 1.5, "9", None, True, float("nan"), float("inf"), []])
def test_what_is_no_number_of_workers_says_nothing(fakes: FakeRunners, count: Any) -> None:
    report(ash=ASH)
    fakes.says(ASH, {}, {"Count": count})
    statsclient.collect()
    assert (runner("ash").workers, runner("ash").clamped) == (None, "")


def test_a_lower_bound_holds_at_once_for_what_was_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    report(ash=ASH)
    Runner.objects.create(node=Node.objects.get(), workers=100_000)
    monkeypatch.setattr(conf, "RUNNER_MAX_WORKERS", 8)
    assert list(Runner.objects.capacity().values()) == [8]


def test_checks_with_times_that_can_not_be_are_left_out_and_counted(fakes: FakeRunners) -> None:
    report(ash=ASH)
    fakes.says(ASH, {"a": told(-1), "b": told(float("nan")), "c": told(10**13), "ntp": told()})
    statsclient.collect()
    assert RunnerStats.objects.get().check_id == "ntp"
    assert runner("ash").clamped == "3 checks whose name or times can't be, left out"


def test_a_lie_is_noted_when_it_begins_and_not_each_minute(
    fakes: FakeRunners, caplog: pytest.LogCaptureFixture
) -> None:
    report(ash=ASH)
    fakes.says(ASH, {}, {"Count": 100_000})
    for _ in range(3):
        statsclient.collect()
    assert noted("ash") == [f"100000 workers, taken as {conf.RUNNER_MAX_WORKERS}"]
    assert caplog.text.count("runner_clamped") == 1
    fakes.says(ASH, {}, {"Count": 4})
    statsclient.collect()
    assert runner("ash").clamped == ""
    fakes.says(ASH, {}, {"Count": 300})
    statsclient.collect()
    assert len(noted("ash")) == 2


def test_who_does_not_answer_is_still_known_for_what_it_told(fakes: FakeRunners) -> None:
    report(ash=ASH)
    fakes.says(ASH, {}, {"Count": 300})
    statsclient.collect()
    fakes.says(ASH, "nonsense")
    statsclient.collect()
    assert runner("ash").clamped
    assert Runner.objects.clamped().exists()


def test_one_address_is_asked_for_a_few_nodes_only(fakes: FakeRunners) -> None:
    """Anybody may name the address of a third, for very many nodes."""
    report(**{f"node{number}": ASH for number in range(10)})
    fakes.says(ASH, {"ntp": told()})
    assert statsclient.collect()[:2] == (10, 6)
    assert len(fakes.asked) == 2 * statsclient.MAX_OF_ONE_ADDRESS
    assert runner("node9").error == f"not asked: more than 4 nodes name the address {ASH}"


def test_answers_of_all_nodes_together_are_bounded(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsclient, "MAX_ROUND_BYTES", 30_000)
    monkeypatch.setattr(statsclient, "AT_ONCE", 1)
    report(ash=ASH, birch=BIRCH, cedar=CEDAR)
    for address in (ASH, BIRCH, CEDAR):
        fakes.says(address, {f"check:{number}": told(LastError="x" * 100) for number in range(100)})
    asked, failed, _ = statsclient.collect()
    assert (asked, failed) == (3, 2)
    assert RunnerStats.objects.filter(node__name="ash").count() == 100
    assert runner("cedar").error.startswith("not read: all runners told more than")


def test_large_answers_are_read_a_few_at_a_time(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsclient, "LARGE", 1000)
    monkeypatch.setattr(statsclient, "LARGE_AT_ONCE", 1)
    report(ash=ASH, birch=BIRCH, cedar=CEDAR)
    for address in (ASH, BIRCH, CEDAR):
        fakes.says(address, {f"check:{number}": told() for number in range(100)})
    assert statsclient.collect()[:2] == (3, 0)
    assert RunnerStats.objects.count() == 300


def test_a_round_ends_however_many_hang_and_those_that_answer_come_first(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"node{number}": f"127.2.2.{number + 1}" for number in range(6)}
    report(**names)
    for address in names.values():
        fakes.says(address, HANGS)
    monkeypatch.setattr(statsclient, "TIMEOUT", 0.2)
    statsclient.collect()
    report(ash=ASH)
    fakes.says(ASH, {"ntp": told()})
    monkeypatch.setattr(statsclient, "ROUND", 0.3)
    monkeypatch.setattr(statsclient, "AT_ONCE", 1)
    asked, failed, _ = statsclient.collect()
    assert RunnerStats.objects.get().node.name == "ash"
    assert failed == asked - 1 < len(names)
