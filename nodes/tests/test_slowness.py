"""Slow nodes: when a node becomes slow and ceases to be, which missed polls count, and what a very slow node is given."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from clusteragent.lib import conf
from nodes import slowness
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, MissedPolls, Node, NodeEvent, RunLength, Runner, RunnerStats, Slowness
from nodes.slowness import LEAST, STEP, level_after, note_missed, note_round

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
NAMES = ("ash", "birch", "cedar", "dogwood", "elm")
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _nodes() -> None:
    for name in NAMES:
        note_heartbeat(name, last_change=-1)
        Runner.objects.create(node=node(name), stats_at=Now(), workers=8)


def node(name: str) -> Node:
    return Node.objects.get(name=name)


def tell(**factors: float) -> None:
    """Let each node's twenty checks take so many times as long as usual."""
    RunnerStats.objects.all().delete()
    nodes = {name: node(name) for name in NAMES}
    RunnerStats.objects.bulk_create(
        RunnerStats(
            node=nodes[name],
            check_id=f"check_{number}:{name}",
            execution_ms=(100 + number) * factors.get(name, 1),
            failed=False,
        )
        for name in NAMES
        for number in range(20)
    )


def run_times(name: str, factor: float, lengths: Iterable[float], urls: str = "url") -> None:
    """Replace what a node told by six checks, each of URLs that take so many milliseconds elsewhere."""
    RunnerStats.objects.filter(node__name=name).delete()
    RunnerStats.objects.bulk_create(
        RunnerStats(
            node=node(name), check_id=f"check_{kind}:{urls}-{length}", execution_ms=length * factor, failed=False
        )
        for kind in range(6)
        for length in lengths
    )


LENGTHS = (20, 50, 100, 300, 900, 2700)


def rounds(number: int, **factors: float) -> None:
    tell(**factors)
    for _ in range(number):
        note_round()


def row(name: str = "ash") -> Slowness:
    return Slowness.objects.get(node__name=name)


def slow() -> dict[str, int]:
    return dict(Slowness.objects.slow().values_list("node__name", "level"))


def events(name: str = "ash") -> list[tuple[str, str]]:
    kinds = (NodeEvent.Kind.SLOW, NodeEvent.Kind.SLOW_NO_MORE)
    return list(NodeEvent.objects.filter(node_name=name, kind__in=kinds).order_by("pk").values_list("kind", "cause"))


def overdue(*names: str, by: timedelta = SECOND) -> None:
    """Let the next report of these nodes be overdue by so long; the others' have just come."""
    Heartbeat.objects.update(seen_at=Now(), former_at=Now() - 10 * SECOND)
    late = Heartbeat.objects.filter(node__name__in=names)
    late.update(seen_at=Now() - 12 * SECOND - by)
    late.update(former_at=F("seen_at") - 10 * SECOND)


def test_a_node_is_slow_after_two_rounds_and_until_two_rounds_below_the_lower_threshold() -> None:
    rounds(1, ash=2.5)
    assert slow() == {}
    rounds(1, ash=2.5)
    assert slow() == {"ash": Slowness.SLOW}
    since = row().since
    rounds(3, ash=1.7)
    rounds(1, ash=1.5)
    assert (slow(), row().since) == ({"ash": Slowness.SLOW}, since)
    rounds(1, ash=1.7)
    rounds(1, ash=1.5)
    assert slow() == {"ash": Slowness.SLOW}
    rounds(1, ash=1.5)
    assert slow() == {}
    assert not Slowness.objects.exists()
    began, ended = events()
    assert began == ("slow", "its checks take 2.5 times as long as elsewhere (20 checks, 4 other nodes)")
    assert ended == ("no longer slow", "its checks take 1.5 times as long as elsewhere (20 checks, 4 other nodes)")


def test_one_round_alone_is_forgotten() -> None:
    rounds(1, ash=9)
    rounds(1)
    rounds(1, ash=9)
    rounds(1)
    assert slow() == {}
    assert events() == []


@pytest.mark.parametrize(
    ("state", "found", "after"),
    [
        ((0, 0), (2, 2), (0, 1)),
        ((0, 1), (2, 2), (2, 0)),
        ((0, 1), (1, 1), (1, 0)),
        ((0, 1), (0, 0), (0, 0)),
        ((1, 0), (0, 1), (1, 0)),
        ((1, 1), (0, 0), (1, -1)),
        ((2, -1), (0, 1), (1, 0)),
        ((2, -1), (2, 2), (2, 0)),
    ],
)
def test_levels(state: tuple[int, int], found: tuple[int, int], after: tuple[int, int]) -> None:
    assert level_after(*state, *found) == after


def test_a_slow_node_that_is_not_given_less_is_as_slow_when_its_longest_checks_have_left() -> None:
    lengths = (100, 120, 200, 500, 600)
    for name in NAMES:
        run_times(name, 2.5 if name == "ash" else 1, lengths)
    note_round()
    run_times("ash", 2.5, lengths[:2])
    for _ in range(3):
        note_round()
    assert (row().level, row().share) == (Slowness.SLOW, 1)
    assert row().factor == pytest.approx(2.5)


def test_a_slow_node_keeps_its_share_and_a_very_slow_one_gets_less_step_by_step() -> None:
    rounds(10, birch=2.9)
    assert (row("birch").level, row("birch").share) == (Slowness.SLOW, 1)
    capacity = []
    for _ in range(12):
        rounds(1, ash=4)
        capacity.append(Runner.objects.capacity()[node("ash").pk] / 8)
    assert capacity[:3] == pytest.approx([1, 1 - STEP, (1 - STEP) ** 2])
    assert capacity[-1] == LEAST
    assert row().discount == pytest.approx(4)
    assert Runner.objects.capacity()[node("cedar").pk] == 8
    shares = []
    for _ in range(25):
        rounds(1)
        shares.append(Slowness.objects.values_list("share", flat=True).filter(node__name="ash").first())
    assert max(after / before for before, after in pairwise(shares) if before and after) <= 1 / (1 - STEP) + 1e-9
    assert shares[-1] is None


def test_a_very_slow_node_is_as_slow_when_its_longest_checks_have_left() -> None:
    for name in NAMES:
        run_times(name, 4 if name == "ash" else 1, LENGTHS)
    for _ in range(3):
        note_round()
    assert row().factor == pytest.approx(4)
    run_times("birch", 1, (*LENGTHS, 301, 901, 2701))
    for kept in (LENGTHS[:3], LENGTHS[:1]):
        run_times("ash", 4, kept)
        note_round()
        assert row().factor == pytest.approx(4, rel=0.1)
    for _ in range(8):
        note_round()
    assert (row().level, row().share, row().discount) == (Slowness.VERY, LEAST, row().factor)
    # What comes to it is as long as its run says of a node that is so slow, and lets it be judged when the others have left.
    run_times("ash", 4, (20, 40, 2500))
    note_round()
    run_times("ash", 4, (40, 2500))
    note_round()
    assert row().factor == pytest.approx(4, rel=0.1)


def test_a_very_slow_node_that_kept_its_shortest_checks_has_its_share_again_when_it_is_quick() -> None:
    for name in NAMES:
        run_times(name, 4 if name == "ash" else 1, LENGTHS)
    for _ in range(3):
        note_round()
    run_times("ash", 4, LENGTHS[:2])
    for _ in range(6):
        note_round()
    assert row().share == LEAST
    run_times("ash", 1, LENGTHS[:2])
    for _ in range(30):
        note_round()
    assert not Slowness.objects.exists()
    note_round()
    assert not RunLength.objects.exists()


@pytest.mark.parametrize(("elsewhere", "factor"), [(1, 6), (1.5, 4), (6, 1)])
def test_what_left_a_slow_node_tells_whether_it_was_the_node(elsewhere: float, factor: float) -> None:
    """Its checks took six times as long as others'. By what those that moved take elsewhere it was the node, or the checks."""
    for name in NAMES:
        run_times(name, 6 if name == "ash" else 1, LENGTHS, name)
    for _ in range(2):
        note_round()
    run_times("ash", 6, LENGTHS[:3], "ash")
    RunnerStats.objects.bulk_create(
        RunnerStats(
            node=node("birch"), check_id=f"check_{kind}:ash-{length}", execution_ms=length * elsewhere, failed=False
        )
        for kind in range(6)
        for length in LENGTHS[3:]
    )
    note_round()
    assert row().factor == pytest.approx(factor, rel=0.15)


def test_a_very_slow_node_whose_checks_all_left_is_judged_by_those_that_come() -> None:
    for name in NAMES:
        run_times(name, 4 if name == "ash" else 1, LENGTHS)
    for _ in range(3):
        note_round()
    RunnerStats.objects.filter(node=node("ash")).delete()
    note_round()
    assert (row().factor, RunLength.objects.exists()) == (None, True)
    run_times("ash", 4, LENGTHS, "other")
    note_round()
    assert row().factor == pytest.approx(4)


def test_weights_of_people_still_count() -> None:
    Node.objects.filter(name="ash").update(weight=0.5)
    rounds(2, ash=4)
    assert Runner.objects.capacity()[node("ash").pk] == pytest.approx(8 * 0.5 * (1 - STEP))


def test_with_the_options_off_no_node_is_slow_or_none_is_given_less(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds(4, ash=4)
    assert row().share < 1
    monkeypatch.setattr(conf, "SLOW_RELIEF", 0)
    rounds(20, ash=4)
    assert (slow(), row().share) == ({"ash": Slowness.SLOW}, 1)
    monkeypatch.setattr(conf, "SLOW_NOTICE", 0)
    rounds(20, ash=4)
    assert not Slowness.objects.exists()


def test_when_most_nodes_are_very_slow_at_once_none_is_given_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "BRAKE_FRACTION", 0.3)
    rounds(5, ash=4, birch=4)
    assert slow() == {"ash": Slowness.VERY, "birch": Slowness.VERY}
    assert {one.share for one in Slowness.objects.all()} == {1}
    rounds(2, ash=4)
    assert row().share < 1


def test_a_node_whose_runner_does_not_answer_stays_as_it_was() -> None:
    rounds(3, ash=4)
    before = row()
    Runner.objects.filter(node__name="ash").update(failures=1)
    rounds(5)
    assert (row().level, row().share) == (before.level, before.share)


def test_a_lost_node_is_no_longer_slow_and_an_older_version_may_delete_it() -> None:
    rounds(2, ash=4)
    overdue("birch")
    note_missed()
    ash, birch = node("ash").pk, node("birch").pk
    node("ash").heartbeat.delete()
    assert slow() == {}
    with connection.cursor() as cursor:
        # What an older version knows of it.
        cursor.execute("DELETE FROM nodes_runnerstats WHERE node_id = ANY(%s)", [[ash, birch]])
        cursor.execute("DELETE FROM nodes_runner WHERE node_id = ANY(%s)", [[ash, birch]])
        cursor.execute("DELETE FROM nodes_heartbeat WHERE node_id = ANY(%s)", [[ash, birch]])
        cursor.execute("DELETE FROM nodes_node WHERE id = ANY(%s)", [[ash, birch]])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    note_round()
    assert not Slowness.objects.exists()
    assert missed() == {}


# Missed polls.


def missed() -> dict[str, int]:
    names = dict(Node.objects.values_list("pk", "name"))
    return {names[pk]: number for pk, number in MissedPolls.objects.counts().items()}


def test_a_missed_poll_counts_once_the_node_has_reported_again() -> None:
    overdue("ash")
    assert note_missed() == note_missed() == 1
    assert missed() == {}
    note_heartbeat("ash", last_change=-1)
    assert missed() == {"ash": 1}
    assert note_missed() == 0


def test_a_longer_silence_counts_for_each_poll() -> None:
    overdue("ash")
    note_missed()
    Heartbeat.objects.filter(node__name="ash").update(
        seen_at=F("seen_at") - 10 * SECOND, former_at=F("former_at") - 10 * SECOND
    )
    MissedPolls.objects.update(seen_at=F("seen_at") - 10 * SECOND)
    note_missed()
    note_heartbeat("ash", last_change=-1)
    assert missed() == {"ash": 2}
    assert MissedPolls.objects.count() == 1


def test_polls_are_counted_for_ten_minutes() -> None:
    MissedPolls.objects.create(node=node("ash"), seen_at=Now() - timedelta(minutes=9), number=2)
    MissedPolls.objects.create(node=node("ash"), seen_at=Now() - timedelta(minutes=11), number=5)
    assert missed() == {"ash": 2}
    note_round()
    assert MissedPolls.objects.count() == 1


def test_a_node_that_misses_polls_is_slow_and_with_very_many_is_given_less() -> None:
    MissedPolls.objects.create(node=node("ash"), seen_at=Now() - timedelta(minutes=1), number=4)
    rounds(2)
    assert (slow(), row().share) == ({"ash": Slowness.SLOW}, 1)
    assert events()[-1] == ("slow", "it missed 4 polls in ten minutes")
    MissedPolls.objects.create(node=node("ash"), seen_at=Now() - timedelta(minutes=2), number=8)
    rounds(2)
    assert (slow(), row().share) == ({"ash": Slowness.VERY}, 1 - STEP)
    MissedPolls.objects.all().delete()
    rounds(10)
    assert slow() == {}


def test_while_silence_says_little_no_poll_is_missed_and_what_was_just_noted_goes() -> None:
    for field in ("hearing_since", "braked_since"):
        overdue("ash")
        assert note_missed() == 1
        Hearing.objects.update(**{field: Now()})
        assert note_missed() == 0
        assert not MissedPolls.objects.exists()
        Hearing.objects.update(**{field: None})


def test_when_many_are_overdue_at_once_it_is_not_they() -> None:
    overdue("ash")
    note_missed()
    overdue("ash", "birch")
    assert note_missed() == 0
    assert not MissedPolls.objects.exists()


def test_while_nobody_is_heard_no_poll_is_missed() -> None:
    Heartbeat.objects.update(seen_at=Now() - 5 * SECOND)
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - 13 * SECOND, former_at=Now() - 23 * SECOND)
    # Its report was due three seconds ago, and since then none came.
    assert note_missed() == 0
    note_heartbeat("birch", last_change=-1)
    assert note_missed() == 1


@pytest.mark.parametrize("kind", ["leaving", "restarting"])
def test_a_node_that_said_goodbye_misses_nothing(kind: str) -> None:
    note_goodbye("ash", kind)
    overdue("ash")
    assert note_missed() == 0


def test_a_node_that_reports_less_often_misses_nothing() -> None:
    overdue("ash")
    Heartbeat.objects.filter(node__name="ash").update(former_at=F("seen_at") - 20 * SECOND)
    assert note_missed() == 0


def test_rounds_without_anything_slow_write_nothing() -> None:
    rounds(3)
    assert not Slowness.objects.exists()
    assert slowness.are_too_many(0) is False
