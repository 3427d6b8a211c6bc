"""In the first seconds after a start nothing is said that is so of every start."""

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher
from checks.explain import alerts
from checks.explain.alerts import Kind, Word, starting
from checks.models import ClusterStore, Config
from checks.tests.cast import report, sent
from clusteragent.lib import clock, conf
from clusteragent.lib.clock import ago
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, Runner

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def found() -> dict[str, str]:
    return {alert.kind: alert.cause for alert in alerts.current()}


def began_to_lead(seconds: float) -> None:
    """The leader's term began so long ago."""
    ClusterStore.objects.update(term=(clock.now().timestamp() - seconds) * 10**9)


@pytest.fixture
def session() -> Iterator[psycopg.Connection]:
    """Another session of ours, which has just begun."""
    parameters = connection.get_connection_params() | {"application_name": "clusteragent operators"}
    with psycopg.connect(**parameters, autocommit=True) as session:
        yield session


@pytest.fixture
def deaf() -> None:
    """After a while without passes one pass ended, and no node was heard since."""
    report("ash", "birch", "cedar")
    Heartbeat.objects.update(seen_at=ago(timedelta(seconds=20)))
    Hearing.objects.update(last_pass=Now(), hearing_since=Now(), braked_since=Now())


def test_before_the_first_pass_of_processes_that_have_just_begun(session: psycopg.Connection) -> None:
    note_heartbeat("ash", last_change=-1, client_ip="192.0.2.1")
    Runner.objects.create(node=Node.objects.get(), failures=9, failing_since=ago(timedelta(hours=2)), error="refused")
    Hearing.objects.update(last_pass=Now())
    assert found().keys() == {Kind.NO_STATS}
    Hearing.objects.update(last_pass=ago(timedelta(hours=1)))
    assert found().keys() == {Kind.STARTING}
    assert found()[Kind.STARTING].startswith("Starting: ")
    assert alerts.word(alerts.current()) == Word.NEEDS_ATTENTION


def test_a_pass_that_does_not_come_is_missed(session: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    Hearing.objects.update(last_pass=ago(timedelta(hours=1)))
    monkeypatch.setattr(starting, "UNTIL_FIRST_PASS", timedelta(0))
    assert found().keys() == {Kind.NO_PASS}


def test_without_any_process_nothing_starts() -> None:
    Hearing.objects.update(last_pass=ago(timedelta(hours=1)))
    assert found().keys() == {Kind.NO_PASS}


def test_before_the_first_pass_of_a_leader() -> None:
    Hearing.objects.update(last_pass=ago(timedelta(seconds=11)))
    began_to_lead(2)
    assert found().keys() == {Kind.STARTING}
    began_to_lead(12)
    assert Kind.NO_PASS in found(), "it ended a pass"
    Hearing.objects.update(last_pass=None)
    began_to_lead(20)
    assert Kind.NO_PASS in found()


@pytest.mark.usefixtures("deaf")
def test_while_nodes_had_no_time_to_report() -> None:
    began_to_lead(3)
    assert found().keys() == {Kind.STARTING}
    began_to_lead(conf.NODE_EXPIRATION_TIMEOUT.total_seconds() + 1)
    assert found()[Kind.BRAKE] == "All nodes fell silent at once, which looks like an error: none expires."
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now())
    assert found()[Kind.BRAKE].startswith("Nodes could not be heard for a while, by no fault of theirs: ")
    Hearing.objects.update(hearing_since=F("braked_since") - timedelta(minutes=5))
    began_to_lead(3)
    assert found()[Kind.BRAKE].startswith("Too many nodes fell silent or said goodbye at once")


def test_in_the_warm_up_what_waits_is_said_once() -> None:
    Hearing.objects.update(last_pass=Now(), warmup=True, warm_until=Now() + timedelta(minutes=5))
    dispatcher.schedule([sent("one"), sent("two")])
    Config.objects.filter(origins__key="one").update(unscheduled=True)
    assert found().keys() == {Kind.WARMUP}
    assert found()[Kind.WARMUP].startswith("Nothing is placed before the warm-up is over: 2 configs wait. ")
    Config.objects.filter(origins__key="one").delete()
    assert ": 1 config waits. " in found()[Kind.WARMUP]
