"""Nodes that come and go: when they are distrusted, for how long, and what ends it."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from clusteragent.lib import conf
from nodes.goodbyes import note_goodbye
from nodes.hearing import lose_expired
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

TIMEOUT = conf.NODE_EXPIRATION_TIMEOUT


@pytest.fixture(autouse=True)
def trees(warm: None) -> None:
    """Two nodes that have had configs; while one lives, the other can expire."""
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)
        Node.objects.update(config_version=7)
        note_heartbeat(name, last_change=7)


def restart(name: str = "ash", times: int = 1) -> None:
    for _ in range(times):
        note_heartbeat(name, last_change=7)
        note_heartbeat(name, last_change=0)


def come_and_go(name: str = "ash") -> None:
    Heartbeat.objects.filter(node__name=name).update(seen_at=Now() - TIMEOUT - timedelta(seconds=1))
    assert list(lose_expired(Node.objects.all()).values()) == [name]
    note_heartbeat(name, last_change=0)


def pass_by(time: timedelta) -> None:
    NodeEvent.objects.update(time=F("time") - time)
    Node.objects.filter(not_before__isnull=False).update(not_before=F("not_before") - time)


def steady() -> set[str]:
    return set(Node.objects.accepting().filter(intake="open").values_list("name", flat=True))


def flapped(name: str = "ash") -> int:
    return NodeEvent.objects.filter(node_name=name, kind="flapping").count()


def test_one_restart_is_nothing():
    restart()
    assert steady() == {"ash", "birch"}
    assert flapped() == 0


def test_two_restarts_are():
    restart(times=2)
    assert steady() == {"birch"}
    assert flapped() == 1


def test_who_expired_twice_comes_and_goes():
    come_and_go()
    assert steady() == {"ash", "birch"}
    come_and_go()
    assert steady() == {"birch"}
    assert flapped() == 1


def test_an_expiry_and_a_restart_are_two_as_well():
    come_and_go()
    restart()
    assert steady() == {"birch"}


def test_a_death_with_the_start_after_it_is_one():
    come_and_go()
    assert NodeEvent.objects.filter(node_name="ash", kind__in=["expired", "restarted"]).count() == 1


def test_twice_within_more_than_ten_minutes_is_not_often():
    restart()
    pass_by(timedelta(minutes=10, seconds=1))
    restart()
    assert steady() == {"ash", "birch"}


def test_it_is_trusted_again_when_it_has_reported_for_a_full_timeout():
    restart(times=2)
    pass_by(TIMEOUT - timedelta(seconds=5))
    assert steady() == {"birch"}
    pass_by(timedelta(seconds=6))
    assert steady() == {"ash", "birch"}


def test_each_time_it_goes_it_starts_from_the_beginning():
    restart(times=2)
    pass_by(TIMEOUT)
    restart()
    assert steady() == {"birch"}
    assert flapped() == 2


def test_who_is_silent_meanwhile_is_not_trusted_for_the_time_alone():
    restart(times=2)
    pass_by(TIMEOUT)
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - TIMEOUT / 2 - timedelta(seconds=1))
    assert steady() == {"birch"}


@pytest.mark.parametrize("kind", ["leaving", "restarting"])
def test_who_says_goodbye_each_time_does_not_flap(kind: str):
    for _ in range(3):
        note_heartbeat("ash", last_change=7)
        note_goodbye("ash", kind)
        note_heartbeat("ash", last_change=0)
    assert steady() == {"ash", "birch"}


def test_who_leaves_dies_and_returns_each_time_does_not_flap():
    for _ in range(3):
        note_goodbye("ash", "leaving")
        come_and_go()
        note_heartbeat("ash", last_change=7)
    assert steady() == {"ash", "birch"}


def test_the_restart_of_one_node_counts_for_no_other():
    restart("birch")
    restart("ash")
    assert steady() == {"ash", "birch"}
