"""Asking the runners for their stats: who is asked, what is kept, and what no runner can do to the others."""

import gzip
import json
import time
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from clusteragent.lib import conf
from nodes import statsclient
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, Runner, RunnerStats
from nodes.models.runners import Answer as Told
from nodes.statsclient import Round
from nodes.tests.fake_runners import HANGS, FakeRunners, Script, flood, told
from simulation.tests.scripted_server import TOKEN, Answer
from tests import peer_cases

pytestmark = pytest.mark.django_db
ASH, BIRCH, CEDAR = "127.2.0.1", "127.2.0.2", "127.2.0.3"
OUTSIDE = "is outside of CLUSTERAGENT_RUNNER_NETWORKS"


def report(**addresses: str | None) -> None:
    for name, address in addresses.items():
        note_heartbeat(name, last_change=-1, client_ip=address)


def collect() -> tuple[int, int]:
    """How many were asked, and how many of them failed."""
    asked, failed, _ = statsclient.collect()
    return asked, failed


def checks(name: str) -> dict[str, float]:
    return dict(RunnerStats.objects.filter(node__name=name).values_list("check_id", "execution_ms"))


def runner(name: str) -> Runner:
    return Runner.objects.get(node__name=name)


def test_what_a_runner_tells_is_kept(fakes: FakeRunners) -> None:
    report(ash=ASH)
    numbers = {
        "TotalErrors": 2,
        "LastExecFailed": True,
        "LastError": "no route",
        "LastExecutionDate": 1_700_000_000_500,
    }
    fakes.says(ASH, {"ntp:1": told(120, 9, **numbers), "disk": told(0, 1)}, {"Count": 16})
    assert collect() == (1, 0)
    [disk, ntp] = RunnerStats.objects.order_by("check_id").values_list(
        "check_id", "execution_ms", "total_runs", "total_errors", "failed", "last_error", "last_execution"
    )
    assert ntp == ("ntp:1", 120, 9, 2, True, "no route", datetime.fromtimestamp(1_700_000_000.5, UTC))
    assert disk == ("disk", 0, 1, 0, False, "", None)
    assert (runner("ash").workers, runner("ash").failures, runner("ash").error) == (16, 0, "")
    assert runner("ash").stats_at is not None


def test_what_a_runner_does_not_tell_is_unknown_rather_than_zero(fakes: FakeRunners) -> None:
    """Those from before 2026 tell no totals."""
    report(ash=ASH)
    fakes.says(ASH, {"ntp:1": {"AverageExecutionTime": 0, "MetricSamples": 3, "LastExecFailed": False}})
    assert collect() == (1, 0)
    fields = ("execution_ms", "metric_samples", "total_runs", "total_errors", "last_success")
    assert RunnerStats.objects.values_list(*fields).get() == (0, 3, None, None, None)


def test_stats_and_workers_are_asked_with_our_token_and_nothing_else_is(fakes: FakeRunners) -> None:
    report(ash=ASH)
    fakes.says(ASH, {})
    collect()
    assert fakes.asked == [
        (ASH, f"/api/v1/clcrunner/{what}", f"bearer {TOKEN}".lower()) for what in ("stats", "workers")
    ]


def test_what_an_address_tells_is_of_the_node_that_names_it_now(fakes: FakeRunners) -> None:
    case = peer_cases.cases("rebalance.json")["TestUpdateRunnersStats"]
    addresses = dict(zip(case["input"]["client"], (ASH, BIRCH), strict=True))
    for address, says in case["input"]["client"].items():
        fakes.says(addresses[address], says["stats"], {"Count": says["workers"]})

    def told() -> dict[str, dict[str, Any]]:
        collect()
        return {
            name: {"workers": runner(name).workers, "check": next(iter(checks(name)))} for name in ("node1", "node2")
        }

    report(node1=ASH, node2=BIRCH)
    first = told()
    assert first == case["expected"]["after_1"]
    report(node1=BIRCH, node2=ASH)
    assert told() == {"node1": first["node2"], "node2": first["node1"]}


def test_since_when_a_runner_fails_and_where_it_answered_is_kept(fakes: FakeRunners) -> None:
    report(ash=ASH)
    fakes.says(ASH, {})
    collect()
    assert (runner("ash").address, runner("ash").failing_since) == (ASH, None)
    answered = runner("ash").stats_at
    report(ash=BIRCH)
    collect()
    since = runner("ash").failing_since
    assert since is not None
    assert since > answered
    collect()
    assert (runner("ash").failures, runner("ash").failing_since, runner("ash").address) == (2, since, ASH)
    report(ash=ASH)
    collect()
    assert runner("ash").failing_since is None


def test_a_node_that_is_lost_or_named_no_address_is_not_asked(fakes: FakeRunners) -> None:
    report(ash=ASH, birch=None, cedar=CEDAR)
    fakes.says(ASH, {})
    Heartbeat.objects.filter(node__name="cedar").delete()
    assert collect() == (1, 0)
    assert {asked.address for asked in fakes.asked} == {ASH}


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "127.0.0.1", "::1", "2001:db8::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1"]
)
def test_an_address_outside_the_networks_is_not_called_and_says_so(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("10.0.0.0/8"), ip_network("fc00::/7")))
    monkeypatch.setattr(statsclient, "_client", lambda host: pytest.fail("it was called"))
    report(ash=address)
    assert collect() == (1, 1)
    assert runner("ash").error == f"not asked: {address} {OUTSIDE}"


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1"])
def test_link_local_and_multicast_addresses_are_never_called(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("0.0.0.0/0"), ip_network("::/0")))
    monkeypatch.setattr(statsclient, "_client", lambda host: pytest.fail("it was called"))
    report(ash=address)
    assert collect() == (1, 1)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("10.1.2.3", "https://10.1.2.3:5005/api/v1/clcrunner/"),
        ("::ffff:10.1.2.3", "https://10.1.2.3:5005/api/v1/clcrunner/"),
        ("fd00::7", "https://[fd00::7]:5005/api/v1/clcrunner/"),
    ],
)
def test_an_ipv6_address_stands_in_brackets_and_a_mapped_one_is_its_ipv4(
    address: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", 5005)
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("10.0.0.0/8"), ip_network("fc00::/7")))
    assert str(statsclient._client(statsclient._host(address)).base_url) == url


def test_a_node_that_fails_keeps_what_it_told_and_holds_nobody_up(fakes: FakeRunners) -> None:
    report(ash=ASH, birch=BIRCH, cedar=CEDAR)
    for address in (ASH, BIRCH, CEDAR):
        fakes.says(address, {"ntp:1": told(10)}, {"Count": 8})
    collect()
    before = runner("ash")
    fakes.says(ASH, HANGS)
    fakes.says(BIRCH, {"ntp:1": told(20)})
    fakes.says(CEDAR, {})
    began = time.monotonic()
    assert collect() == (3, 1)
    assert time.monotonic() - began < 4
    assert (checks("ash"), checks("birch"), checks("cedar")) == ({"ntp:1": 10}, {"ntp:1": 20}, {})
    after = runner("ash")
    assert (after.stats_at, after.workers, after.error) == (before.stats_at, 8, "did not answer within 2 s")


def test_failures_are_counted_until_the_next_answer_and_for_ever(fakes: FakeRunners) -> None:
    report(ash=ASH)
    broken = Answer("no", status=500)
    seen = []
    for script in (broken, broken, {}, broken):
        fakes.says(ASH, script)
        collect()
        seen.append((runner("ash").failures, runner("ash").failed_total))
    assert seen == [(1, 1), (2, 2), (0, 2), (1, 3)]


def test_stats_count_even_if_the_number_of_workers_is_not_told_and_the_last_one_is_kept(fakes: FakeRunners) -> None:
    report(ash=ASH)
    answers: list[Script] = [
        Answer("", status=404),
        {"Count": 16},
        HANGS,
        "no JSON",
        {"Count": "9"},
        {"Count": 0},
        "[]",
    ]
    workers = []
    for number, answer in enumerate(answers):
        fakes.says(ASH, {"ntp:1": told(number)}, answer)
        assert collect() == (1, 0)
        assert checks("ash") == {"ntp:1": number}
        workers.append(runner("ash").workers)
    assert workers == [None, 16, 16, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("", "stats: the answer is not JSON"),
        ("<html>", "stats: the answer is not JSON"),
        (b"\xff\xfe\x00", "stats: the answer is not JSON"),
        ("[" * 100_000, "stats: the answer is not JSON"),
        ('{"a":' * 100_000, "stats: the answer is not JSON"),
        ('{"a": {"AverageExecutionTime": ' + "9" * 5000 + "}}", "stats: the answer is not JSON"),
        (gzip.compress(b"{}"), "stats: the answer is not JSON"),
        ("[]", "stats: the answer is not a map"),
        ('"ntp:1"', "stats: the answer is not a map"),
        (flood, "stats: answered more than 4 MiB"),
        (Answer("{}" + " " * 2**22), "stats: answered more than 4 MiB"),
        (json.dumps(dict.fromkeys(map(str, range(20_001)), 0)), "stats: 20001 checks, allowed are 20000"),
        (Answer("{}", missing=10, headers={"Connection": "close"}), "did not answer within 2 s"),
        (Answer("{}", status=201), "stats: answered 201"),
        (Answer("{}", status=403), "refuses our token: stats: answered 403"),
        (Answer("{}", status=302, headers={"Location": f"https://{BIRCH}/"}), "stats: answered 302"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 99 else "answer",
)
def test_a_runner_that_lies_is_told_from_one_that_answers(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch, answer: Script, error: str
) -> None:
    if "within" not in error:
        # Time enough for the honest one while a busy machine reads what the other floods it with.
        monkeypatch.setattr(statsclient, "TIMEOUT", 30)
    report(ash=ASH, cedar=CEDAR)
    fakes.says(ASH, answer)
    fakes.says(CEDAR, {"ntp:1": told()})
    assert collect() == (2, 1)
    assert runner("ash").error == error
    assert checks("cedar") == {"ntp:1": 100}
    assert BIRCH not in {asked.address for asked in fakes.asked}


def test_what_speaks_no_http_is_not_quoted(fakes: FakeRunners) -> None:
    async def echo(writer: Any) -> None:
        writer.write(f"{fakes.asked[-1].authorization}\r\n\r\n".encode())
        await writer.drain()

    report(ash=ASH)
    fakes.says(ASH, echo)
    assert collect() == (1, 1)
    assert runner("ash").error == "broke off, or does not speak HTTP"


def test_a_runner_that_closes_the_connection_or_is_not_there_failed(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(ash=ASH)
    assert collect() == (1, 1)
    assert runner("ash").error
    monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", 1)
    assert collect() == (1, 1)
    assert runner("ash").error.startswith("can't connect: ")


def test_an_error_of_ours_with_one_runner_is_logged_and_takes_nothing_from_the_others(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = statsclient.read_stats
    monkeypatch.setattr(statsclient, "read_stats", lambda answer: read(answer) if answer else 1 / 0)
    report(ash=ASH, birch=BIRCH)
    fakes.says(ASH, {})
    fakes.says(BIRCH, {"ntp:1": told()})
    assert collect() == (2, 1)
    assert (runner("ash").error, checks("birch")) == ("ZeroDivisionError", {"ntp:1": 100})
    assert "runner_call_failed" in caplog.text


@pytest.mark.parametrize(
    "odd",
    [
        {"": told()},
        {"a\0b": told()},
        {"x" * 2001: told()},
        {"ä" * 1001: told()},
        {"x" * 2**20: told()},
        {"\ud800": told()},
        {"a": None},
        {"a": [1]},
        {"a": {}},
        {"a": told(-1)},
        {"a": told("5")},
        {"a": told(None)},
        {"a": told(True)},
        {"a": told(float("nan"))},
        {"a": told(float("inf"))},
        {"a": told(10**13)},
        {"a": told(10**400)},
    ],
    ids=lambda odd: ascii(odd)[:30],
)
def test_a_check_whose_stats_are_odd_is_left_out(fakes: FakeRunners, odd: dict[str, object]) -> None:
    report(ash=ASH)
    fakes.says(ASH, odd | {"ntp:1": told()})
    assert collect() == (1, 0)
    assert checks("ash") == {"ntp:1": 100}


@pytest.mark.parametrize(
    ("key", "value", "field", "kept"),
    [
        ("TotalRuns", -1, "total_runs", None),
        ("TotalRuns", "9", "total_runs", None),
        ("TotalRuns", 2**64 - 1, "total_runs", 2**63 - 1),
        ("TotalRuns", 1e300, "total_runs", 2**63 - 1),
        ("TotalErrors", float("nan"), "total_errors", None),
        ("TotalErrors", float("inf"), "total_errors", None),
        ("LastExecFailed", "yes", "failed", False),
        ("LastError", 7, "last_error", ""),
        ("LastError", "a\0b\ud800", "last_error", "ab?"),
        ("LastError", "x" * 5000, "last_error", "x" * 1000),
        ("LastExecutionDate", 10**18, "last_execution", None),
        ("LastExecutionDate", -1, "last_execution", None),
        ("LastExecutionDate", "now", "last_execution", None),
    ],
)
def test_an_odd_value_is_read_as_none_or_cut(
    fakes: FakeRunners, key: str, value: object, field: str, kept: object
) -> None:
    report(ash=ASH)
    fakes.says(ASH, {"ntp:1": told(**{key: value})} if key != "TotalRuns" else {"ntp:1": told(runs=value)})
    assert collect() == (1, 0)
    assert getattr(RunnerStats.objects.get(), field) == kept


def test_a_runner_without_checks_may_answer_null(fakes: FakeRunners) -> None:
    report(ash=ASH)
    fakes.says(ASH, {"ntp:1": told()})
    collect()
    fakes.says(ASH, "null")
    assert collect() == (1, 0)
    assert checks("ash") == {}


def test_what_a_node_that_is_gone_meanwhile_told_is_left_out() -> None:
    report(ash=ASH)
    ash = Node.objects.get().pk
    Runner.objects.note({ash + 1: Told([]), ash: Told([])})
    assert list(Runner.objects.values_list("node_id", flat=True)) == [ash]


def test_many_nodes_are_asked_in_chunks(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsclient, "CHUNK", 2)
    report(ash=ASH, birch=BIRCH, cedar=CEDAR)
    for address in (ASH, BIRCH, CEDAR):
        fakes.says(address, {"ntp:1": told()})
    assert collect() == (3, 0)
    assert RunnerStats.objects.count() == 3


def test_without_nodes_nothing_is_asked() -> None:
    assert statsclient.collect() == Round(0, 0, pytest.approx(0, abs=0.5))
