"""When silence means death: expiry, our own deafness, the brake. Time is moved in SQL, never slept."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Now

from clusteragent.lib import conf
from nodes.hearing import listen, lose_expired, note_silent
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node
from nodes.models import nodes as node_models

pytestmark = pytest.mark.django_db
TIMEOUT = conf.NODE_EXPIRATION_TIMEOUT


class Clock:
    """What these tests call a second is a shift of all times in the database, less what really went by since the last."""

    looked = 0.0

    def since_last_look(self) -> float:
        before, self.looked = self.looked, time.monotonic()
        return self.looked - before


clock = Clock()


@pytest.fixture(autouse=True)
def _warm(warm: None) -> None:
    """Expiry is the same during the warm-up; without it these tests are simpler to read."""
    clock.since_last_look()


def nodes(*names: str, silent_for: float = 0) -> None:
    for name in names:
        note_heartbeat(name, last_change=0)
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - timedelta(seconds=silent_for))
    clock.since_last_look()


_SHIFT = """
    WITH heard AS (UPDATE nodes_heartbeat SET seen_at = seen_at - %(shift)s),
        known AS (UPDATE nodes_node SET first_seen = first_seen - %(shift)s),
        noted AS (UPDATE nodes_nodeevent SET time = time - %(shift)s)
    UPDATE nodes_hearing SET last_pass = last_pass - %(shift)s, hearing_since = hearing_since - %(shift)s,
        braked_since = braked_since - %(shift)s, late_since = late_since - %(shift)s, warm_until = warm_until - %(shift)s
"""


def pass_time(seconds: float) -> None:
    """As if that much time went by for all that the database remembers."""
    with connection.cursor() as cursor:
        cursor.execute(_SHIFT, {"shift": timedelta(seconds=max(0, seconds - clock.since_last_look()))})


def one_pass() -> set[str]:
    """What a pass does to nodes: hear, expire, note the time. Returns who expired."""
    listen()
    gone = lose_expired(Node.objects.all())
    Hearing.objects.note_pass()
    return set(gone.values())


def report(*names: str) -> None:
    """Heartbeats: in one statement for those that need no registration, since there are many."""
    known = Heartbeat.objects.filter(node__name__in=names)
    known.update(seen_at=Now())
    for name in set(names) - set(known.values_list("node__name", flat=True)):
        note_heartbeat(name, last_change=-1)


def run(seconds: int, *reporting: str) -> set[str]:
    """Seconds of passes, one each second, while these nodes report. Returns who expired."""
    gone = set()
    for _ in range(seconds):
        pass_time(1)
        report(*reporting)
        gone |= one_pass()
    return gone


def fleet(number: int) -> list[str]:
    return [f"node-{i:03}" for i in range(number)]


def test_a_node_silent_for_longer_than_the_timeout_expires():
    nodes("ash", silent_for=30.1)
    nodes("birch", "cedar")
    assert one_pass() == {"ash"}
    assert not Heartbeat.objects.filter(node__name="ash").exists()


def test_a_node_silent_for_exactly_the_timeout_survives(monkeypatch):
    nodes("ash", "birch")
    heard = Heartbeat.objects.get(node__name="ash").seen_at

    def look(age: timedelta) -> list[str]:
        """Who is expired when ash's heartbeat has that age, to the microsecond."""
        monkeypatch.setattr(node_models, "ago", lambda past: Value(heard + age - past))
        Heartbeat.objects.filter(node__name="birch").update(seen_at=heard + age)
        return list(Node.objects.expired().values_list("name", flat=True))

    assert look(TIMEOUT) == []
    assert look(TIMEOUT + timedelta(microseconds=1)) == ["ash"]


def test_the_last_node_never_expires():
    nodes("ash", silent_for=300)
    assert not one_pass()


def test_a_node_does_not_expire_while_only_cordoned_nodes_could_take_its_work():
    nodes("ash", silent_for=300)
    nodes("birch", "cedar")
    Node.objects.filter(name__in=["birch", "cedar"]).update(schedulable=False)
    assert not one_pass()
    Node.objects.filter(name="cedar").update(schedulable=True)
    assert one_pass() == {"ash"}


def test_one_node_of_two_dying_expires_after_the_timeout():
    nodes("ash", "birch")
    one_pass()
    assert not run(29, "birch")
    assert run(3, "birch") == {"ash"}


def test_force_expires_whatever_the_guards_say():
    nodes("ash", silent_for=31)
    assert set(lose_expired(Node.objects.all(), force=True).values()) == {"ash"}


@pytest.mark.parametrize("outage", [25, 40, 90])
def test_when_all_web_servers_are_down_nobody_expires(outage):
    names = fleet(20)
    nodes(*names)
    one_pass()
    assert not run(outage)
    # Back: nodes report over ten seconds, as their polls come.
    for i in range(10):
        assert not run(1, *names[: 2 * i + 2])
    assert not run(40, *names)
    assert Hearing.objects.get().braked_since is None


def test_a_node_that_died_in_an_outage_of_ours_expires_a_full_timeout_after_it():
    names = fleet(20)
    nodes(*names)
    one_pass()
    run(60)
    living = names[1:]
    assert not run(29, *living)
    assert run(5, *living) == {names[0]}


def test_sixty_percent_cut_off_for_forty_seconds_expire_nobody():
    names = fleet(30)
    nodes(*names)
    one_pass()
    living = names[18:]
    assert not run(40, *living)
    assert Hearing.objects.get().braked_since is not None
    assert not run(60, *names)
    assert Hearing.objects.get().braked_since is None


@pytest.mark.parametrize("reported", [0, 1, 5, 9])
def test_sixty_percent_cut_off_expire_nobody_even_when_they_report_in_step(reported):
    """All of them so many seconds before the cut, each ten seconds, and so up to ten seconds after its end."""
    names = fleet(30)
    nodes(*names)
    # Else each of them would count as first seen since the others' last report.
    pass_time(10)
    report(*names)
    one_pass()
    pass_time(reported)
    assert not run(40 if reported == 0 else 50 - reported, *names[18:])
    assert not run(3, *names)
    assert Hearing.objects.get().braked_since is None


def test_sixty_percent_cut_off_for_good_expire_one_and_a_half_timeouts_after_the_brake():
    names = fleet(30)
    nodes(*names)
    one_pass()
    living = names[18:]
    # Silent after 15 s, so braked at 16 s: the brake holds for 45 s.
    assert not run(59, *living)
    assert run(4, *living) == set(names[:18])
    run(2, *living)
    assert Hearing.objects.get().braked_since is None


def test_fewer_than_half_silent_do_not_brake():
    names = fleet(10)
    nodes(*names)
    one_pass()
    assert run(32, *names[5:]) == set(names[:5])
    assert Hearing.objects.get().braked_since is None


def test_the_brake_needs_three_nodes():
    nodes("ash", "birch", "cedar")
    one_pass()
    assert run(32, "cedar") == {"ash", "birch"}


@pytest.mark.parametrize(("option", "value"), [("BRAKE_FRACTION", 0), ("BRAKE_NODES", 0)])
def test_zero_turns_the_brake_off(monkeypatch, option, value):
    monkeypatch.setattr(conf, option, value)
    names = fleet(10)
    nodes(*names)
    one_pass()
    assert run(32, *names[7:]) == set(names[:7])


def test_nodes_that_newcomers_replace_one_for_one_do_not_brake():
    old, new = fleet(10), [f"fresh-{i}" for i in range(10)]
    nodes(*old)
    one_pass()
    gone = run(35, *new)
    assert gone == set(old)


def test_all_names_replaced_after_a_gap_expire_a_timeout_after_the_first_newcomer():
    old, new = fleet(10), [f"fresh-{i}" for i in range(10)]
    nodes(*old)
    one_pass()
    assert not run(25)
    assert not run(30, *new)
    assert run(5, *new) == set(old)


def test_passes_that_did_not_run_count_as_our_deafness():
    nodes("ash", "birch", "cedar")
    one_pass()
    pass_time(60)
    report("birch", "cedar")
    assert not one_pass()
    assert Hearing.objects.get().hearing_since is not None
    assert run(32, "birch", "cedar") == {"ash"}


def test_a_database_away_for_a_minute_expires_nobody():
    names = fleet(10)
    nodes(*names)
    one_pass()
    pass_time(60)
    assert not one_pass()
    for i in range(10):
        assert not run(1, *names[: i + 1])
    assert not run(45, *names)


def late_passes(number: int, every: int, *reporting: str) -> set[str]:
    """Passes with so many seconds between two, while these nodes report each ten seconds. Returns who expired."""
    gone: set[str] = set()
    for _ in range(number):
        for _ in range(every // 10):
            pass_time(10)
            report(*reporting)
        gone |= one_pass()
    return gone


@pytest.mark.parametrize("every", [20, 40])
def test_passes_that_are_late_again_and_again_keep_no_dead_node_for_ever(every):
    """The web servers hear all the time: others' reports are written."""
    names = fleet(10)
    nodes(*names)
    one_pass()
    assert late_passes(4 * int(TIMEOUT.total_seconds()) // every + 3, every, *names[1:]) == {names[0]}


def test_late_passes_with_others_in_time_between_keep_no_dead_node_for_ever():
    names = fleet(10)
    nodes(*names)
    one_pass()
    gone: set[str] = set()
    for _ in range(8):
        gone |= late_passes(1, 20, *names[1:]) | run(1, *names[1:])
    assert gone == {names[0]}


def test_outages_that_follow_one_another_let_nobody_expire():
    """Nobody is heard in any of them, so most nodes are silent when the first late pass looks."""
    names = fleet(10)
    nodes(*names)
    one_pass()
    for _ in range(6):
        pass_time(60)
        report(*names[:2])
        assert not run(1, *names[2:4])
        assert not run(20, *names)


@pytest.mark.parametrize(("heard", "silent"), [(1, 21), (1, 44), (11, 20)])
def test_nodes_that_fall_silent_and_come_back_together_keep_no_dead_node_for_ever(heard, silent):
    """As somebody with the token could let them, whatever the brake does meanwhile."""
    names = fleet(10)
    living, together = names[1:4], names[4:]
    nodes(*names)
    one_pass()
    gone: set[str] = set()
    for _ in range(10):
        gone |= run(heard, *living, *together) | run(silent, *living)
    assert names[0] in gone


def test_late_passes_that_were_forgotten_count_no_more():
    names = fleet(10)
    nodes(*names)
    one_pass()
    assert not late_passes(3, 20, *names)
    assert not run(40, *names)
    assert Hearing.objects.get().late_since is None
    nodes(names[0], silent_for=40)
    assert not late_passes(1, 20, *names[1:])


def test_after_our_deafness_known_nodes_count_as_alive():
    nodes("ash", "birch")
    one_pass()
    pass_time(60)
    assert not Node.objects.alive().exists()
    one_pass()
    assert Node.objects.alive().count() == 2


def test_times_in_the_future_are_pulled_back():
    nodes("ash", silent_for=-3600)
    nodes("birch", silent_for=0)
    Hearing.objects.update(hearing_since=Now() + timedelta(hours=1))
    one_pass()
    assert not Heartbeat.objects.filter(seen_at__gt=Now()).exists()
    assert not Hearing.objects.filter(hearing_since__gt=Now()).exists()


def test_a_clock_set_back_does_not_make_newcomers_of_the_known():
    names = fleet(10)
    nodes(*names)
    Node.objects.update(first_seen=Now() + timedelta(hours=1))
    Heartbeat.objects.update(seen_at=Now() + timedelta(hours=1))
    one_pass()
    run(16, *names[6:])
    assert Hearing.objects.get().braked_since is not None


def test_a_lost_node_is_forgotten_after_the_retention():
    nodes("ash", silent_for=31)
    nodes("birch", "cedar")
    one_pass()
    assert Node.objects.prune() == 0
    Node.objects.filter(name="ash").update(lost_at=Now() - conf.LOST_NODE_RETENTION - timedelta(seconds=1))
    assert Node.objects.prune() == 1
    assert set(Node.objects.values_list("name", flat=True)) == {"birch", "cedar"}


def test_falling_silent_is_noted_once():
    nodes("ash", silent_for=16)
    nodes("birch")
    assert note_silent() == ["ash"]
    assert note_silent() == []
    report("ash")
    pass_time(16)
    report("birch")
    assert note_silent() == ["ash"]
