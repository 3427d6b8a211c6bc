"""Alerts: none while all is well; else one for each thing that needs an operator, with its cause and where to look."""

import json
import math
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.dispatcher import costs
from checks.explain import alerts, headroom
from checks.explain.alerts import Kind, configs, kinds, nodes, orders
from checks.models import Assignment, Config, Cost, Move, Source, TaskRun
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent, silence
from clusteragent.lib import clock, conf
from nodes.goodbyes import note_goodbye
from nodes.hearing import lose_expired
from nodes.heartbeats import note_heartbeat
from nodes.models import (
    Hearing,
    Heartbeat,
    Node,
    NodeEvent,
    NodeToken,
    NodeType,
    Runner,
    RunnerStats,
    Slowness,
    hearing,
)
from nodes.models.runners import REFUSES
from nodes.tokens import make
from operators.admin.base import address
from tests.table import table

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def passing(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass has just ended. Limits are minutes, since a busy machine may be late by seconds."""
    Hearing.objects.update(last_pass=Now())
    monkeypatch.setattr(conf, "NODE_EXPIRATION_TIMEOUT", timedelta(hours=1))
    monkeypatch.setattr(hearing, "STALE_PASS", timedelta(minutes=10))
    monkeypatch.setattr(orders, "LATE_RESUMING", timedelta(minutes=10))
    monkeypatch.setattr(nodes, "LATE_ACKNOWLEDGEMENT", timedelta(minutes=30))


def found() -> dict[str, alerts.Alert]:
    return {alert.key: alert for alert in alerts.current()}


def only() -> alerts.Alert:
    """The only alert."""
    (alert,) = alerts.current()
    return alert


def acknowledge() -> None:
    """Every node has fetched what it was given."""
    versions = dict(Node.objects.values_list("pk", "config_version"))
    for node, version in versions.items():
        Heartbeat.objects.filter(node=node).update(acknowledged=version)


def test_nothing_while_all_is_well() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    acknowledge()
    assert alerts.current() == []


def test_no_pass_for_long() -> None:
    Hearing.objects.update(last_pass=Now() - timedelta(minutes=8))
    assert alerts.current() == []
    Hearing.objects.update(last_pass=Now() - timedelta(minutes=12))
    assert only().kind == Kind.NO_PASS
    assert only().age == pytest.approx(timedelta(minutes=12), abs=timedelta(minutes=1))


def test_the_brake_with_since_when() -> None:
    Hearing.objects.update(braked_since=Now() - timedelta(seconds=40))
    assert only().kind == Kind.BRAKE
    assert only().since == Hearing.objects.get().braked_since


def test_the_warmup_with_what_it_waits_for() -> None:
    Hearing.objects.update(warmup=True)
    assert "waits for the first node" in only().cause
    Hearing.objects.update(warm_until=Now() + timedelta(minutes=90))
    assert only().kind == Kind.WARMUP
    assert only().cause.endswith("1 h left.")


def test_each_secret_that_differs() -> None:
    secrets = ["the local token", "the secret key"]
    assert [alert.subject for alert in alerts.current(differing=secrets)] == secrets


def test_what_dangles_since_when_and_how_many() -> None:
    dispatcher.schedule([sent("one"), sent("two")])
    Config.objects.filter(origins__key="one").update(dangling_since=Now() - timedelta(seconds=50))
    assert (only().kind, only().count) == (Kind.DANGLING, 2)
    assert only().since == Config.objects.get(origins__key="one").dangling_since


def test_configs_that_dangle_for_long_are_an_alert_of_their_own() -> None:
    dispatcher.schedule([sent("one"), sent("two"), sent("three")])
    Config.objects.filter(origins__key="one").update(unscheduled=True)
    assert {alert.kind: alert.count for alert in alerts.current()} == {Kind.UNSCHEDULED: 1, Kind.DANGLING: 2}


def cordon() -> None:
    Node.objects.filter(name="ash").cordon()


def forget_who_lost_it() -> None:
    Config.objects.update(former_node=None)


def lose_it() -> None:
    Config.objects.update(former_node=Node.objects.get(name="ash"))


def refuse() -> None:
    Rule.objects.create(name="zones", required={"zone": "a"})


def fill() -> None:
    Node.objects.update(max_configs=0)
    lose_it()


@pytest.mark.parametrize(
    ("names", "happens", "cause"),
    [
        ((), lambda: None, "No node can take work: none reports."),
        (("ash",), cordon, "No node can take work: 1 cordoned."),
        (("ash", "birch"), lambda: (cordon(), silence("birch")), "No node can take work: 1 silent and 1 cordoned."),
        (("ash",), lose_it, "Their node is gone and the others are as full"),
        (("ash",), forget_who_lost_it, "The nodes that may run http_check have no room."),
        (("ash", "birch"), refuse, "No node may run http_check: rule zones: it requires zone=a."),
        (("ash", "birch"), fill, "No node may run http_check: it may have at most 0 configs."),
        (("ash",), lambda: Hearing.objects.update(last_pass=None), "No background pass runs that could place them."),
    ],
)
def test_why_it_dangles(names: tuple[str, ...], happens: Callable[[], object], cause: str) -> None:
    dispatcher.schedule([sent("one")])
    report(*names)
    happens()
    assert found()[Kind.DANGLING].cause.startswith(cause)


def test_what_nobody_may_run_is_not_said_to_follow_within_a_minute() -> None:
    dispatcher.schedule([sent("one")])
    report("ash", "birch")
    refuse()
    Config.objects.update(former_node=Node.objects.get(name="ash"))
    assert found()[Kind.DANGLING].cause == "No node may run http_check: rule zones: it requires zone=a."


def test_what_nobody_may_run_is_not_said_to_wait_for_room_when_others_do() -> None:
    dispatcher.schedule([sent("old", name="snmp"), sent("new")])
    report("ash")
    Rule.objects.create(name="zones", check_pattern="snmp", required={"zone": "a"})
    Config.objects.filter(name="snmp").update(unscheduled=True)
    Config.objects.exclude(name="snmp").update(former_node=Node.objects.get())
    assert found()[Kind.UNSCHEDULED].cause == "No node may run snmp: rule zones: it requires zone=a."
    assert found()[Kind.DANGLING].cause.startswith("Their node is gone")


def test_nodes_that_fell_silent_are_named() -> None:
    report("ash", "birch", "cedar")
    silence("ash")
    assert (only().kind, only().count, only().cause) == (Kind.SILENT, 1, "ash is not heard.")
    silence("birch")
    assert only().cause == "ash and birch are not heard."


def test_of_many_nodes_some_are_named() -> None:
    names = ["ash", "birch", "cedar", "dogwood", "elm"]
    report(*names, "fir")
    silence(*names)
    assert only().cause == "ash, birch, cedar and 2 more are not heard."


def grow_old(minutes: int) -> None:
    """Move the last change of every node's configs into the past."""
    Node.objects.update(config_version=F("config_version") - minutes * 60 * 10**9)


def test_a_node_that_does_not_fetch_its_change_for_long() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    grow_old(25)
    assert alerts.current() == []
    grow_old(10)
    acknowledge()
    Heartbeat.objects.filter(node__name="ash").update(acknowledged=5)
    assert (only().kind, only().count) == (Kind.UNACKNOWLEDGED, 1)
    assert only().cause.startswith("ash is heard")
    assert only().age == pytest.approx(timedelta(minutes=35), abs=timedelta(minutes=1))


def test_a_drain_whose_deadline_is_over_and_that_has_something_left() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    acknowledge()
    Node.objects.filter(name="ash").cordon(draining=True, by=clock.now() + timedelta(hours=2))
    assert "drain_late" not in found()
    Node.objects.update(drain_by=Now() - timedelta(hours=2))
    alert = found()["drain_late"]
    assert alert.count == 1
    assert alert.cause == "The drain of ash is late: 2 configs can't go to another node: no other node reports."
    assert alert.age == pytest.approx(timedelta(hours=2), abs=timedelta(minutes=1))
    Assignment.objects.all().delete()
    assert "drain_late" not in found()


def test_a_silent_node_is_not_blamed_twice() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    grow_old(60)
    report("birch")
    silence("ash")
    assert set(found()) == {Kind.SILENT}


def bury(*names: str) -> None:
    """Make these nodes silent for longer than the timeout and the brake last."""
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT * 4)


def test_nobody_takes_work_although_nothing_dangles() -> None:
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent("one")])
    acknowledge()
    for name in ("ash", "birch"):
        note_goodbye(name, "leaving")
    assert alerts.current() == []
    cordon_cedar()
    assert only().kind == Kind.NONE_ACCEPTS
    assert only().cause.startswith("No node can take work: 1 cordoned and 2 leaving.")


def cordon_cedar() -> None:
    Node.objects.filter(name="cedar").cordon()


def test_a_node_that_is_dead_for_long_and_keeps_what_nobody_takes() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    acknowledge()
    note_goodbye("birch", "leaving")
    silence("ash")
    assert Kind.DEAD_OWNER not in found()
    bury("ash")
    assert found()[Kind.DEAD_OWNER].cause == "ash is dead for long, and still the owner of 1 config: no node runs them."
    assert found()[Kind.DEAD_OWNER].since == Heartbeat.objects.get(node__name="ash").seen_at
    Assignment.objects.all().delete()
    assert Kind.DEAD_OWNER not in found()


def test_a_node_in_whose_name_more_than_one_reports() -> None:
    report("ash", "birch", "cedar")
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.TWO_ADDRESSES, "192.0.2.1 and 192.0.2.2")
    for number in range(nodes.MOST_DECLARATIONS):
        NodeEvent.objects.note(["birch"], NodeEvent.Kind.DECLARED, str(number))
    assert (only().kind, only().count) == (Kind.CONTESTED, 1)
    NodeEvent.objects.note(["birch"], NodeEvent.Kind.DECLARED, "another")
    assert only().cause.startswith("ash and birch: more than one agent seems to report in that name")
    NodeEvent.objects.update(time=Now() - timedelta(minutes=11))
    assert alerts.current() == []


def restart(*names: str, times: int) -> None:
    """Let these agents start again so many times without a word."""
    for name in names * times:
        note_heartbeat(name, last_change=7)
        note_heartbeat(name, last_change=0)


def expire(*names: str, times: int) -> None:
    """Let these nodes fall silent, expire and come back so many times."""
    for _ in range(times):
        silence(*names)
        lose_expired(Node.objects.filter(name__in=names))
        for name in names:
            note_heartbeat(name, last_change=0)


def served(number: int) -> list[str]:
    """So many nodes that have had configs."""
    names = [f"node-{each:02}" for each in range(number)]
    report(*names)
    Node.objects.update(config_version=7)
    for name in names:
        note_heartbeat(name, last_change=7)
    return names


@pytest.mark.parametrize(
    ("come_and_go", "why"),
    [(restart, "Mostly they started again without a word"), (expire, "Mostly they fell silent and came back")],
)
def test_many_nodes_that_come_and_go(come_and_go: Callable[..., None], why: str) -> None:
    names = served(20)
    come_and_go(*names[:2], times=2)
    # Two of twenty: each for itself.
    assert Kind.FLAPPING not in found()
    come_and_go(names[2], times=2)
    alert = found()[Kind.FLAPPING]
    assert alert.count == 3
    assert alert.cause.startswith("3 of 20 nodes came and went again and again within ten minutes")
    assert why in alert.cause
    # No node is flapping any more, and they may be at any moment.
    Node.objects.update(not_before=None)
    assert Kind.FLAPPING in found()
    NodeEvent.objects.update(time=Now() - timedelta(minutes=11))
    assert Kind.FLAPPING not in found()


def test_one_node_of_few_that_comes_and_goes_or_many_that_are_gone_need_nobody() -> None:
    names = served(3)
    restart(names[0], times=3)
    assert Kind.FLAPPING not in found()
    restart(names[1], times=3)
    assert found()[Kind.FLAPPING].count == 2
    Heartbeat.objects.filter(node__name=names[1]).delete()
    assert Kind.FLAPPING not in found()


def test_a_runner_that_tells_what_can_not_be() -> None:
    report("ash")
    Runner.objects.create(node=Node.objects.get(), clamped="100000 workers, taken as 256")
    assert (only().kind, only().count) == (Kind.CLAMPED, 1)
    assert only().cause.endswith("ash: 100000 workers, taken as 256.")


def test_a_runner_among_very_many_node_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can say that it is a runner, and gets everything."""
    report(*(f"agent-{number}" for number in range(4)))
    note_heartbeat("ash", last_change=-1, node_type=NodeType.RUNNER)
    assert alerts.current() == []
    report("agent-4")
    assert (only().kind, only().count) == (Kind.FEW_RUNNERS, 1)
    assert only().cause.startswith("ash is the only cluster check runner, so 5 node agents get nothing new")
    monkeypatch.setattr(conf, "PLACEMENT_PREFER", "any")
    assert alerts.current() == []


def test_names_that_look_alike_while_both_live() -> None:
    report("ash", "ASH", "birch")
    assert (only().kind, only().count) == (Kind.LOOKS_ALIKE, 2)
    assert only().cause.startswith("ASH and ash look alike")
    Heartbeat.objects.filter(node__name="ASH").delete()
    assert alerts.current() == []


def test_new_names_that_were_refused_lately() -> None:
    Hearing.objects.update(names_refused=7, names_refused_at=Now() - timedelta(seconds=10))
    assert (only().kind, only().count) == (Kind.NAMES_REFUSED, 1)
    Hearing.objects.update(names_refused_at=Now() - timedelta(minutes=3))
    assert alerts.current() == []


def test_a_node_that_never_had_a_config_owes_nothing() -> None:
    report("ash")
    assert alerts.current() == []


def troubled(kind: str, key: str, *, minutes: float = 5, error: str = "") -> None:
    """Let a round of stats find this trouble with the origin's config."""
    config = Config.objects.get(origins__key=key)
    check_id = config.instances.get().check_id
    since = Now() - timedelta(minutes=minutes)
    Trouble.objects.create(config=config, kind=kind, since=since, check_id=check_id, last_error=error)
    RunnerStats.objects.create(
        node=config.assignment.node,
        check_id=check_id,
        execution_ms=1,
        total_runs=1,
        total_errors=1,
        failed=True,
        last_error=error,
    )


def test_what_fails_with_the_error_of_the_longest() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two", name="redisdb")])
    acknowledge()
    troubled("failing", "one", error="refused, password: hunter2secret")
    troubled("failing", "two", minutes=1, error="timeout")
    assert (only().kind, only().count) == (Kind.FAILING, 2)
    assert only().cause == (
        "The last run of http_check one failed: refused, password: ********; of redisdb two: timeout."
    )
    assert only().since == Trouble.objects.earliest("since").since


def test_of_many_that_fail_the_first_are_named_with_their_errors_and_the_others_counted() -> None:
    report("ash")
    keys = [f"web-{number}" for number in range(5)]
    others = [f"other-{letter}" for letter in "abc"]
    dispatcher.schedule([sent(key) for key in (*keys, *others)])
    acknowledge()
    for key in keys:
        troubled("failing", key, error=f"refused by 10.0.0.{key[-1]}")
    for minutes, (key, error) in enumerate(zip(others, ("timeout", "no route", "reset"), strict=True)):
        troubled("failing", key, minutes=4 - minutes, error=error)
    assert found()["failing"].cause.endswith(
        "The last run of http_check web-0, http_check web-1, http_check web-2 and 2 more failed, such as: refused by 10.0.0.0; "
        "of http_check other-a: timeout; of http_check other-b: no route; of 1 more: 1 other error."
    )


def test_what_is_slow() -> None:
    report("ash")
    dispatcher.schedule([sent(name, name=name) for name in ("a", "b", "c", "d")])
    acknowledge()
    for name in ("a", "b", "c", "d"):
        troubled("slow", name)
    assert (only().kind, only().count) == (Kind.SLOW, 4)
    assert only().cause.startswith("a a, b b, c c and 1 more: a run takes longer")


def test_what_does_not_run_is_believed_at_the_second_round() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    acknowledge()
    troubled("not_running", "one", minutes=0)
    assert alerts.current() == []
    Trouble.objects.update(since=Now() - timedelta(minutes=2))
    assert only().kind == Kind.NOT_RUNNING


def test_what_is_quarantined() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    acknowledge()
    Isolation.objects.create(config=Config.objects.get(origins__key="one"), reason=Isolation.Reason.QUARANTINED)
    Isolation.objects.create(config=Config.objects.get(origins__key="two"))
    assert (only().kind, only().count) == (Kind.QUARANTINED, 1)
    assert only().cause.startswith("http_check one: alone on a node")


@pytest.mark.parametrize(
    ("kind", "aim", "astray"),
    [
        ("node", "ash", False), ("node", "gone", True),
        ("pattern", "a*", False), ("pattern", "g*", True),
        ("label", "zone=a", False), ("label", "zone=b", True),
    ],
)  # fmt: skip
def test_pins_that_aim_where_no_node_is(kind: str, aim: str, astray: bool) -> None:
    report("ash")
    Node.objects.update(labels={"zone": "a"})
    dispatcher.schedule([sent("one")])
    acknowledge()
    Pin.objects.create(config=Config.objects.get(), kind=kind, aim=aim)
    assert [alert.kind for alert in alerts.current()] == ([Kind.PIN_ASTRAY] if astray else [])


def test_pins_astray_are_named() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    acknowledge()
    Pin.objects.create(config=Config.objects.get(origins__key="one"), aim="gone")
    said = "pinned to the node gone, and there is no such node now, so"
    assert only().cause == f"http_check one: {said} it runs elsewhere or waits."
    Pin.objects.create(config=Config.objects.get(origins__key="two"), aim="gone")
    assert only().cause == f"http_check one and http_check two: {said} they run elsewhere or wait."


def test_a_pin_that_is_over_or_waits_for_its_config_is_not_astray() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    acknowledge()
    Pin.objects.create(config=Config.objects.get(), aim="gone", until=Now() - timedelta(seconds=1))
    Pin.objects.create(config=None, source="file", key="two", aim="gone")
    assert alerts.current() == []


def test_a_pause_that_nobody_ended() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    Pause.objects.create(config=Config.objects.get())
    acknowledge()
    assert alerts.current() == []
    Pause.objects.update(until=Now() - timedelta(minutes=20))
    assert (only().kind, only().count) == (Kind.PAUSE_OVERDUE, 1)
    assert only().age == pytest.approx(timedelta(minutes=20), abs=timedelta(minutes=1))


def test_a_node_that_said_goodbye_is_not_missed() -> None:
    report("ash", "birch", "cedar")
    silence("ash", "birch")
    Node.objects.filter(name="ash").update(leaving=True)
    Node.objects.filter(name="birch").update(kept_until=Now() + timedelta(minutes=1))
    assert alerts.current() == []


def test_a_sources_first_error_with_its_place() -> None:
    errors = [
        {"where": "mysql.d/conf.yaml", "line": 3, "error": "not YAML"},
        {"where": "x", "line": None, "error": "y"},
    ]
    Source.objects.filter(name="file").update(errors=errors)
    assert (only().kind, only().count) == (Kind.SOURCE_ERROR, 2)
    assert only().cause == "file:mysql.d/conf.yaml:3: not YAML (and 1 more)"


def test_an_error_of_no_line_has_its_place_without_one() -> None:
    Source.objects.filter(name="file").update(errors=[{"where": "conf.d", "line": None, "error": "no permission"}])
    assert only().cause == "file:conf.d: no permission"


def test_a_sources_first_warning_after_everything_else() -> None:
    warnings = [
        {"where": "a.yaml", "line": 2, "warning": "odd"},
        {"where": "b.yaml", "line": None, "warning": "odd too"},
    ]
    Source.objects.filter(name="file").update(warnings=warnings, held_removals=["one"])
    assert [alert.key for alert in alerts.current()] == ["held_removals:file", "source_warning:file"]
    alert = found()["source_warning:file"]
    assert (alert.count, alert.cause) == (2, "file:a.yaml:2: odd (and 1 more)")


@table(
    ("state", "minutes", "cause"),
    [
        ({}, 60, ""),
        ({"phase": "watching"}, 0, ""),
        ({"phase": "listing"}, None, ""),
        ({"phase": "refused"}, 60, ""),
        ({"phase": "off", "why": "it is off at the leader"}, 60, ""),
        ({"phase": "away", "why": "can't connect"}, 0.5, ""),
        ({"phase": "away", "why": "can't connect"}, 3, "for 3 min: can't connect. What it has sent stays."),
        ({"phase": "away", "why": "can't connect"}, None, "yet: can't connect. What it has sent stays."),
        ({"phase": "watching"}, 3, "for 3 min: the leader's process that watches it gives no sign of life."),
    ],
)  # fmt: skip
def test_a_source_that_is_watched_and_was_not_read_for_a_minute(state, minutes, cause) -> None:
    read_at = None if minutes is None else Now() - timedelta(minutes=minutes)
    Source.objects.filter(name="file").update(state=state, read_at=read_at)
    causes = [alert.cause for alert in alerts.current()]
    assert [each.startswith(f"File has not been read {cause}") for each in causes] == ([True] if cause else [])


def test_a_source_that_is_off_matters_while_its_configs_are_there() -> None:
    report("ash")
    off = {"phase": "off", "why": "it is off at the leader"}
    Source.objects.create(name="kubernetes", state=off, read_at=Now() - timedelta(hours=1))
    assert alerts.current() == []
    dispatcher.schedule([sent("service/shop/web/http_check", source="kubernetes")])
    assert only().cause == "Kubernetes has not been read for 1 h: it is off at the leader. What it has sent stays."


def test_removals_that_a_source_holds() -> None:
    Source.objects.filter(name="file").update(held_removals=["one", "two"])
    assert (only().key, only().count) == ("held_removals:file", 2)


def test_what_is_over_while_it_is_looked_at_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements are not of one moment."""
    report("ash")
    dispatcher.schedule([sent("one")])
    Config.objects.update(dangling_since=Now())
    monkeypatch.setattr(configs, "entries_of", lambda ids: [])
    assert found()[Kind.DANGLING].cause == "They are about to be placed."
    assert kinds.configs_of(Trouble.objects.none(), 2) == "2 configs"


def test_the_most_severe_alert_comes_first() -> None:
    report("ash", "birch")
    silence("ash")
    Source.objects.filter(name="file").update(held_removals=["one"])
    Hearing.objects.update(last_pass=None)
    assert [alert.kind for alert in alerts.current()] == [Kind.NO_PASS, Kind.HELD_REMOVALS, Kind.SILENT]


def test_a_check_that_is_slow_everywhere_is_told_with_its_figures_and_sources() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent(key) for key in ("one", "two")])
    acknowledge()
    for one in Assignment.objects.select_related("config").prefetch_related("config__instances"):
        (instance,) = one.config.instances.all()
        RunnerStats.objects.create(
            node_id=one.node_id, check_id=instance.check_id, execution_ms=14_000, failed=False, last_error=""
        )
        Runner.objects.create(node_id=one.node_id, stats_at=Now())
    Trouble.objects.note()
    assert (only().kind, only().count) == (Kind.SLOW_EVERYWHERE, 2)
    assert only().cause == (
        "Slow wherever they run, so no node is to blame and nothing moves:"
        " http_check takes 14.0 s of 15 s, on 2 nodes (from file)."
    )


def test_every_link_leads_to_a_page(admin_client, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(conf, "VAR", tmp_path)
    (tmp_path / "cert.pem").write_text("half of one")
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent(key) for key in ("one", "two", "three")])
    grow_old(60)
    silence("ash", "birch")
    bury("ash")
    Node.objects.filter(name="cedar").update(schedulable=False)
    NodeEvent.objects.note(["birch"], NodeEvent.Kind.TWO_ADDRESSES, "192.0.2.1 and 192.0.2.2")
    NodeEvent.objects.note(["ash", "birch"], NodeEvent.Kind.FLAPPING)
    Runner.objects.create(
        node=Node.objects.get(name="birch"), clamped="9 workers, taken as 8", failures=1, error=f"{REFUSES}: stats",
        certificate="1" * 64, certificate_since=Now(), other_certificate="2" * 64,
    )  # fmt: skip
    Runner.objects.create(node=Node.objects.get(name="cedar"), failures=2, error="can't connect")
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    make(NodeToken(note="elms", pattern="elm"))
    lasts = {"time": Now() - timedelta(days=87), "expires_at": Now() + timedelta(days=3)}
    NodeToken.objects.update(**lasts, last_used_at=Now())
    report("АSH", "elm", "fir")  # noqa: RUF001 - a Cyrillic letter
    note_heartbeat("cedar", last_change=-1, node_type=NodeType.RUNNER)
    Node.objects.cordon()
    Node.objects.update(draining=True, drain_by=Now() - timedelta(hours=2))
    Node.objects.filter(name="АSH").update(schedulable=False)  # noqa: RUF001
    Hearing.objects.update(last_pass=None, braked_since=Now(), warmup=True, names_refused=1, names_refused_at=Now())
    Source.objects.update(
        held_removals=["one"],
        errors=[{"where": "a", "line": 1, "error": "b"}],
        warnings=[{"where": "a", "line": 1, "warning": "b"}],
        state={"phase": "away"},
        read_at=Now() - timedelta(minutes=2),
    )
    one = Config.objects.get(origins__key="one")
    for kind in Trouble.Kind.values:
        Trouble.objects.create(config=one, kind=kind, since=Now() - timedelta(minutes=5))
    Isolation.objects.create(config=one, reason=Isolation.Reason.QUARANTINED)
    for level, node in enumerate(Node.objects.known()[:2], Slowness.SLOW):
        Slowness.objects.create(node=node, level=level, factor=3)
    Pin.objects.create(config=one, aim="gone")
    Pause.objects.create(config=one, until=Now() - timedelta(minutes=20))
    Freeze.objects.create(author="eve")
    Assignment.objects.filter(config=one).update(reason=Move.Reason.WITHDRAWN, since=Now())
    Config.objects.exclude(pk=one.pk).update(dangling_since=Now())
    Config.objects.filter(origins__key="two").update(unscheduled=True)
    Cost.objects.create(config=one, workers_needed=99)
    owner = Assignment.objects.get(config=one).node
    Runner.objects.update_or_create(node=owner, defaults={"overloaded_rounds": 2, "overloaded_since": Now()})
    TaskRun.objects.note(headroom.HEADROOM, 0, result=json.dumps([["", "fir", 1, 2.0, 0]]))
    shown = alerts.current(["the secret key"])
    # What waits in the warm-up is told of only when it is over.
    Hearing.objects.update(warmup=False)
    shown = [*shown, *alerts.current(["the secret key"])]
    # ADOPTED and STARTING are told in place of others: test_adopt.py, test_starting.py. So are graver kinds, and what was there
    # before: test_gravity.py.
    elsewhere = {kind for kind in Kind if kind.startswith("many_")} | {Kind.ADOPTED, Kind.NODES_LOST, Kind.STARTING}
    assert {alert.kind for alert in shown} == set(Kind) - elsewhere
    targets = [target for alert in shown for target in (alert.target, *(part for _, part in alert.parts))]
    links = {address(target) for target in targets}
    assert {link: admin_client.get(link, secure=True).status_code for link in links} == dict.fromkeys(links, 200)


def test_the_number_of_queries_does_not_grow() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            alerts.current()
        return len(captured)

    report("ash", "birch")
    silence("ash", "birch")
    dispatcher.schedule([sent("one")])
    few = queries()
    more = [f"node-{number}" for number in range(50)]
    report(*more)
    silence(*more)
    dispatcher.schedule([sent(f"key-{number}") for number in range(200)])
    assert queries() == few


def overload(name: str, workers: float = 6.0) -> None:
    """A node whose runner has 4 workers, with configs that need so many, 3 at most each."""
    report(name)
    parts = math.ceil(workers / 3)
    dispatcher.schedule([sent("dear"), *(sent(f"dear-{number}") for number in range(1, parts))])
    Cost.objects.bulk_create(Cost(config=one, workers_needed=workers / parts) for one in Config.objects.all())
    Runner.objects.create(node=Node.objects.get(), workers=4, stats_at=Now())


def overloads() -> list[alerts.Alert]:
    return [alert for alert in alerts.current() if alert.kind == Kind.OVERLOADED]


def test_a_node_above_its_workers_in_two_rounds_is_overloaded_and_its_cause_is_named() -> None:
    overload("ash")
    costs.note_overloaded()
    assert overloads() == []
    costs.note_overloaded()
    [alert] = overloads()
    row = Runner.objects.get()
    assert (alert.count, alert.since, row.overloaded_rounds) == (1, row.overloaded_since, 2)
    assert alert.cause == (
        "ash is at 150\u202f% of its 4 workers, most by http_check dear (3 workers) and http_check dear-1 (3 workers). "
        "No other node has room: add nodes."
    )
    first, second = Config.objects.order_by("pk")
    assert [(name, address(target)) for name, target in alert.parts] == [
        ("ash", f"/admin/nodes/node/{row.pk}/change/"),
        ("http_check dear on ash", f"/admin/checks/config/{first.pk}/change/"),
        ("http_check dear-1 on ash", f"/admin/checks/config/{second.pk}/change/"),
    ]
    costs.note_overloaded()
    assert overloads()[0].since == alert.since


def test_an_overload_is_over_once_the_load_is_and_begins_anew_with_two_rounds() -> None:
    overload("ash")
    for _ in range(2):
        costs.note_overloaded()
    Cost.objects.update(workers_needed=2)
    assert overloads() == []
    costs.note_overloaded()
    assert Runner.objects.get().overloaded_since is None
    Cost.objects.update(workers_needed=2.5)
    costs.note_overloaded()
    assert overloads() == []


def test_an_overload_says_how_much_room_the_others_have() -> None:
    overload("ash", workers=12)
    for _ in range(2):
        costs.note_overloaded()
    report("birch")
    Runner.objects.create(node=Node.objects.get(name="birch"), workers=4, stats_at=Now())
    assert overloads()[0].cause.endswith("Others have room for 4 of the 8 workers that are too many: add nodes.")
    Runner.objects.filter(node__name="birch").update(workers=8)
    assert overloads()[0].cause.endswith("Others have room for what is too much.")
    dispatcher.schedule([sent("alone")])
    Assignment.objects.filter(config__origins__key="alone").update(node=Node.objects.get(name="birch"))
    Isolation.objects.create(config=Config.objects.get(origins__key="alone"), source="file", key="alone")
    assert overloads()[0].cause.endswith("No other node has room: add nodes.")


def test_of_a_config_too_large_for_any_node_it_says_what_helps_and_of_the_rest_whether_others_have_room() -> None:
    overload("ash", workers=2)
    Cost.objects.update(workers_needed=9.6)
    report("birch")
    Runner.objects.create(node=Node.objects.get(name="birch"), workers=4, stats_at=Now())
    for _ in range(2):
        costs.note_overloaded()
    said = (
        "ash is at 240\u202f% of its 4 workers, most by http_check dear (9.6 workers). http_check dear alone needs more than "
        "any node has, which no move mends: spread its instances over several configs, lengthen min_collection_interval, "
        "or raise check_runners of a node."
    )
    assert overloads()[0].cause == said
    ash = Node.objects.get(name="ash")
    assert alerts.beyond_moves(alerts.held_by_pins()) == {ash.pk}
    dispatcher.schedule([sent("small")])
    Assignment.objects.update(node=ash)
    Cost.objects.create(config=Config.objects.get(origins__key="small"), workers_needed=1)
    assert overloads()[0].cause.endswith("of a node. Others have room for what else is too much.")
    assert alerts.beyond_moves(alerts.held_by_pins()) == set()


def test_of_a_slow_node_it_says_that_it_has_but_a_share_of_its_workers() -> None:
    overload("ash")
    Slowness.objects.create(node=Node.objects.get(), share=0.25)
    for _ in range(2):
        costs.note_overloaded()
    assert (
        "of the 1 worker that it is given while it is slow, most by http_check dear (3 workers)" in overloads()[0].cause
    )


def test_nothing_is_overloaded_before_costs_are_measured() -> None:
    overload("ash")
    Cost.objects.all().delete()
    for _ in range(2):
        costs.note_overloaded()
    assert overloads() == []


def test_nothing_is_overloaded_by_what_nobody_measured() -> None:
    overload("ash", workers=1)
    dispatcher.schedule([sent(f"new-{number}") for number in range(5)])
    for _ in range(2):
        costs.note_overloaded()
    assert costs.loads()[Node.objects.get().pk] == 1.5
    assert overloads() == []
    Cost.objects.bulk_create(Cost(config=config, workers_needed=1) for config in Config.objects.filter(cost=None))
    for _ in range(2):
        costs.note_overloaded()
    assert len(overloads()) == 1


def test_a_node_that_does_not_answer_stays_as_it_was() -> None:
    overload("ash")
    for _ in range(2):
        costs.note_overloaded()
    Runner.objects.update(failures=1)
    costs.note_overloaded()
    assert len(overloads()) == 1
