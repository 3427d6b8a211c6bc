"""History: minutes for two hours, hours for a week, and gaps where nobody noted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from checks import dispatcher, tasks
from checks.explain import history
from checks.explain.history import Span
from checks.models import ClusterHistory, Config, ConfigHistory, Cost, Instance, Move, NodeHistory
from checks.models.history import Step
from checks.tests.cast import hand_over, lead, report, sent
from nodes.models import Node, Runner, RunnerStats

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _cluster(warm: None) -> None:
    """ash has a and b, which take 300 ms and 3 s; c is paused. birch has nothing."""
    report("ash")
    dispatcher.schedule([sent("a"), sent("b"), sent("c")])
    hand_over()
    report("birch")
    dispatcher.pause([id_of("c")])
    tells(a=300, b=3000)


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def node(name: str) -> Node:
    return Node.objects.get(name=name)


def tells(*failing: str, on: str = "ash", **milliseconds: float) -> None:
    """Let a round of stats find this on the node, by the configs' origins."""
    Runner.objects.update_or_create(node=node(on), defaults={"stats_at": Now(), "failures": 0})
    RunnerStats.objects.filter(node=node(on)).delete()
    ids = dict(Instance.objects.values_list("config__origins__key", "check_id"))
    for key, execution in milliseconds.items():
        RunnerStats.objects.create(
            node=node(on), check_id=ids[key], execution_ms=execution, failed=key in failing, last_error=""
        )


def moves_at(time: datetime) -> None:
    """Let all moves until now have been then."""
    Move.objects.update(time=time)


def minutes_of(key: str, now: datetime, span: Span = Span.HOUR) -> list[tuple[Any, ...]]:
    return [tuple(point)[1:] for point in history.of_config(Config(pk=id_of(key)), span, now).points]


def test_two_minutes_by_the_leaders_task(monkeypatch: pytest.MonkeyPatch) -> None:
    term = lead()
    times = iter((NOON, NOON + MINUTE))
    moves_at(NOON - MINUTE / 2)
    monkeypatch.setattr(history.clock, "now", lambda: next(times))
    for failing in ((), ("b",)):
        tells(*failing, a=300, b=3000)
        tasks.collect_stats(term)
    now = NOON + MINUTE
    ash, birch = (history.of_node(node(name), Span.HOUR, now) for name in ("ash", "birch"))
    assert [point.time for point in ash] == [NOON - MINUTE, NOON]
    assert [(point.configs, point.failing, point.gained, point.lost) for point in ash] == [(2, 0, 3, 1), (2, 1, 0, 0)]
    assert [point.load for point in ash] == pytest.approx([(0.3 + 3) / 15 / 4] * 2)
    assert [(point.configs, point.load) for point in birch] == [(0, 0)] * 2
    cluster = history.of_cluster(Span.HOUR, now)
    assert [(one.nodes, one.configs, one.dangling, one.failing, one.paused, one.moves) for one in cluster] == [
        (2, 3, 0, 0, 1, 4), (2, 3, 0, 1, 1, 0)
    ]  # fmt: skip
    assert cluster[0].peak == pytest.approx(ash[0].load)
    assert cluster[0].load == pytest.approx(ash[0].load / 2)
    on = node("ash").pk
    assert minutes_of("a", now) == [(on, 300, 300, 1, 0, 0, 0)] * 2
    assert minutes_of("b", now) == [(on, 3000, 3000, 1, 0, 0, 0), (on, 3000, 3000, 0, 1, 0, 0)]
    assert minutes_of("c", now) == [(0, None, None, 0, 0, 0, 1)] * 2


def test_another_leader_notes_no_minute_again_and_a_missed_one_stays_a_gap() -> None:
    history.note(NOON)
    tells(a=900, b=3000)
    history.note(NOON + timedelta(seconds=59))
    history.note(NOON + 3 * MINUTE)
    points = history.of_config(Config(pk=id_of("a")), Span.HOUR, NOON + 3 * MINUTE).points
    assert [(point.time - NOON, point.mean_ms) for point in points] == [(-MINUTE, 300), (2 * MINUTE, 900)]
    assert len(history.of_cluster(Span.HOUR, NOON + 3 * MINUTE)) == 2
    assert len(history.of_node(node("ash"), Span.HOUR, NOON + 3 * MINUTE)) == 2


def test_a_config_without_stats_is_unknown() -> None:
    RunnerStats.objects.all().delete()
    history.note(NOON)
    assert minutes_of("a", NOON) == [(node("ash").pk, None, None, 0, 0, 1, 0)]


def test_a_config_that_dangles_is_unknown_and_counted() -> None:
    Node.objects.cordon()
    dispatcher.schedule([sent("d")])
    history.note(NOON)
    assert minutes_of("d", NOON) == [(0, None, None, 0, 0, 1, 0)]
    [point] = history.of_cluster(Span.HOUR, NOON)
    assert (point.configs, point.dangling, point.paused) == (4, 1, 1)


def test_a_load_that_nobody_measured_is_in_no_history() -> None:
    history.note(NOON)
    later = NOON + timedelta(hours=1, minutes=1)
    assert [(one.load, one.peak, one.configs) for one in history.of_node(node("ash"), Span.HOUR, NOON)] == [
        (None, None, 2)
    ]
    [point] = history.of_cluster(Span.HOUR, NOON)
    assert (point.load, point.peak, point.configs) == (None, None, 3)
    history.note(later)
    assert [(one.load, one.peak) for one in history.of_node(node("ash"), Span.DAY, later)] == [(None, None)] * 2
    assert [(one.load, one.peak) for one in history.of_cluster(Span.DAY, later)] == [(None, None)] * 2


def test_an_hour_has_the_loads_of_its_minutes_that_were_measured() -> None:
    history.note(NOON + MINUTE)
    Cost.objects.bulk_create(Cost(config_id=id_of(key), workers_needed=1) for key in ("a", "b"))
    for minute in (2, 61):
        history.note(NOON + minute * MINUTE)
    later = NOON + timedelta(hours=1, minutes=1)
    assert [(one.load, one.peak) for one in history.of_node(node("ash"), Span.DAY, later)] == [(0.5, 0.5)] * 2
    assert [(one.load, one.peak) for one in history.of_cluster(Span.DAY, later)] == [(0.25, 0.5)] * 2


def test_the_fullest_node_is_one_that_was_measured() -> None:
    Cost.objects.bulk_create(Cost(config_id=id_of(key), workers_needed=1) for key in ("a", "b"))
    dispatcher.schedule([sent("d")])
    dispatcher.pin([id_of("d")], "birch")
    hand_over()
    history.note(NOON)
    assert [one.load for one in history.of_node(node("birch"), Span.HOUR, NOON)] == [None]
    [point] = history.of_cluster(Span.HOUR, NOON)
    assert (point.load, point.peak) == (pytest.approx(3 / 8), 0.5)


def test_an_hour_is_what_its_minutes_were_and_stays_for_a_week() -> None:
    Cost.objects.bulk_create(Cost(config_id=id_of(key), workers_needed=1) for key in ("a", "b"))
    for minute in range(1, 62):
        tells(*(["b"] if minute < 7 else []), a=100 if minute % 2 else 300, b=3000)
        if minute == 30:
            Cost.objects.filter(config_id=id_of("b")).delete()
            Cost.objects.create(config_id=id_of("b"), workers_needed=2)
        history.note(NOON + minute * MINUTE)
    later = NOON + timedelta(hours=1, minutes=1)
    [point, now_point] = history.of_config(Config(pk=id_of("b")), Span.DAY, later).points
    assert tuple(point)[1:] == (node("ash").pk, 3000, 3000, 54, 6, 0, 0)
    assert (point.time, now_point.time) == (NOON, NOON + timedelta(hours=1))
    assert minutes_of("a", later, Span.WEEK)[0][1:3] == (200, 300)
    of_ash = history.of_node(node("ash"), Span.DAY, later)
    assert [one.time for one in of_ash] == [NOON, NOON + timedelta(hours=1)]
    assert of_ash[0].load < of_ash[0].peak == of_ash[1].load
    # After a day without anybody who noted, only the hour is left; after a week nothing.
    history.note(NOON + timedelta(days=1))
    assert ConfigHistory.objects.filter(step=Step.MINUTE, time__lt=NOON + timedelta(hours=1)).count() == 0
    assert NodeHistory.objects.filter(step=Step.MINUTE).count() == 2
    assert history.of_config(Config(pk=id_of("b")), Span.WEEK, NOON + timedelta(days=1)).points[0] == point
    history.note(NOON + timedelta(days=8))
    history.note(NOON + timedelta(days=8, minutes=1))
    assert not any(
        kind.objects.filter(time__lt=NOON + timedelta(days=1)).exists()
        for kind in (ClusterHistory, NodeHistory, ConfigHistory)
    )
