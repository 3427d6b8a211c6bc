"""Heartbeats that come at the same moment share a statement, and none of them pays for another."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat, note_heartbeats
from nodes.models import Heartbeat, Node, NodeEvent, UnknownNode
from nodes.models.heartbeats import Beat, Report
from tests.map import tell


@pytest.fixture
def known(warm: None) -> None:
    for name in ("ash", "birch", "cedar"):
        note_heartbeat(name, last_change=0)
    Node.objects.filter(name="birch").update(config_version=7)


def test_each_node_gets_its_own_answer_of_one_statement(known, django_assert_num_queries):
    with django_assert_num_queries(1):
        answers = tell([Report("ash", 0), Report("birch", 5), Report("cedar", -1)])
    assert answers == [True, False, True]
    assert Heartbeat.objects.get(node__name="birch").acknowledged == 5


def test_all_that_a_heartbeat_says_is_written(known):
    tell([Report("ash", 3, 2, "192.0.2.1")])
    tell([Report("ash", -1, 1)])
    heartbeat = Heartbeat.objects.get(node__name="ash")
    assert (heartbeat.acknowledged, heartbeat.node_type, heartbeat.client_ip) == (3, 1, "192.0.2.1")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "NULL", "{a,b}", "a b", "ä", "'"])
def test_any_name_that_a_node_may_have_reaches_the_statement_as_it_is(known, name):
    note_heartbeat(name, last_change=0)
    assert tell([Report(name, 0), Report("ash", 0)]) == [True, True]


def test_unknown_nodes_are_registered_beside_the_known(known):
    assert tell([Report("dogwood", 0), Report("ash", 0)]) == [True, True]
    assert Node.objects.known().filter(name="dogwood").exists()


def test_a_second_report_of_one_name_is_left_to_be_told_alone(known):
    assert tell([Report("birch", 5), Report("birch", 7)]) == [None, True]


def test_a_restart_is_noted(known):
    tell([Report("birch", 7)])
    tell([Report("birch", 0)])
    assert NodeEvent.objects.filter(node_name="birch", kind="restarted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_node_whose_row_is_locked_holds_up_no_other():
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)
    answers: list[bool | None] = []
    with transaction.atomic():
        assert Heartbeat.objects.select_for_update().get(node__name="ash")
        elsewhere(lambda: answers.extend(tell([Report("ash", -1), Report("birch", -1)])))
    assert answers == [None, True]


def elsewhere(work: Callable[[], None]) -> None:
    """Do it over another connection, while ours is in its transaction."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


class TestAReportThatWaited:
    """It was answered a while ago, and is written now."""

    def write(self, version: int, *, age: float, **said: Any) -> Heartbeat:
        (beat,) = note_heartbeats([Report("birch", version, age=age, **said)])
        assert isinstance(beat, Beat)
        return Heartbeat.objects.get(node__name="birch")

    def heard(self, seconds: float, **fields: Any) -> None:
        """Birch was heard so long ago."""
        Heartbeat.objects.filter(node__name="birch").update(seen_at=Now() - timedelta(seconds=seconds), **fields)

    def test_counts_from_when_it_came(self, known):
        self.heard(10)
        before = Heartbeat.objects.get(node__name="birch").seen_at
        written = self.write(7, age=0.5)
        assert timedelta(seconds=9) < written.seen_at - before < timedelta(seconds=9.6)
        assert written.acknowledged == 7

    def test_undoes_nothing_of_what_was_heard_since(self, known):
        self.heard(0.2, acknowledged=0, node_type=2, client_ip="192.0.2.7")
        before = Heartbeat.objects.get(node__name="birch")
        after = self.write(7, age=0.5, node_type=1, client_ip="192.0.2.1", declared=canonical(exclude=["ntp"]))
        fields = ("seen_at", "acknowledged", "node_type", "client_ip", "former_ip")
        assert [getattr(after, name) for name in fields] == [getattr(before, name) for name in fields]
        assert not NodeEvent.objects.filter(node_name="birch", kind="declared").exists()

    def test_never_lowers_what_was_acknowledged(self, known):
        self.heard(10, acknowledged=9)
        Node.objects.filter(name="birch").update(config_version=9)
        assert self.write(7, age=0.5).acknowledged == 9

    def test_acknowledges_a_version_below_a_foreign_one(self, known):
        self.heard(10, acknowledged=10**18)
        assert self.write(7, age=0.5).acknowledged == 7

    def test_brings_nobody_back(self, known):
        Heartbeat.objects.filter(node__name="birch").delete()
        outcomes = note_heartbeats([Report("birch", 7, age=0.5), Report("never-heard", 7, age=0.5)])
        assert [type(outcome) for outcome in outcomes] == [UnknownNode, UnknownNode]
        assert not Node.objects.known().filter(name__in=["birch", "never-heard"]).exists()
