"""Heartbeats that come at the same moment share a statement, and none of them pays for another."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from nodes.heartbeats import Report
from nodes.models import Heartbeat, Node, NodeEvent


@pytest.fixture
def known(warm: None) -> None:
    for name in ("ash", "birch", "cedar"):
        Node.objects.heartbeat(name, last_change=0)
    Node.objects.filter(name="birch").update(config_version=7)


def test_each_node_gets_its_own_answer_of_one_statement(known, django_assert_num_queries):
    with django_assert_num_queries(1):
        answers = Node.objects.heartbeats([Report("ash", 0), Report("birch", 5), Report("cedar", -1)])
    assert answers == [True, False, True]
    assert Heartbeat.objects.get(node__name="birch").acknowledged == 5


def test_all_that_a_heartbeat_says_is_written(known):
    Node.objects.heartbeats([Report("ash", 3, 2, "192.0.2.1")])
    Node.objects.heartbeats([Report("ash", -1, 1)])
    heartbeat = Heartbeat.objects.get(node__name="ash")
    assert (heartbeat.acknowledged, heartbeat.node_type, heartbeat.client_ip) == (3, 1, "192.0.2.1")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "NULL", "{a,b}", "a b", "ä", "'"])
def test_any_name_that_a_node_may_have_reaches_the_statement_as_it_is(known, name):
    Node.objects.heartbeat(name, last_change=0)
    assert Node.objects.heartbeats([Report(name, 0), Report("ash", 0)]) == [True, True]


def test_unknown_nodes_are_registered_beside_the_known(known):
    assert Node.objects.heartbeats([Report("dogwood", 0), Report("ash", 0)]) == [True, True]
    assert Node.objects.known().filter(name="dogwood").exists()


def test_a_second_report_of_one_name_is_left_to_be_told_alone(known):
    assert Node.objects.heartbeats([Report("birch", 5), Report("birch", 7)]) == [None, True]


def test_a_restart_is_noted(known):
    Node.objects.heartbeats([Report("birch", 7)])
    Node.objects.heartbeats([Report("birch", 0)])
    assert NodeEvent.objects.filter(node_name="birch", kind="restarted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_node_whose_row_is_locked_holds_up_no_other():
    for name in ("ash", "birch"):
        Node.objects.heartbeat(name, last_change=0)
    answers: list[bool | None] = []
    with transaction.atomic():
        assert Heartbeat.objects.select_for_update().get(node__name="ash")
        elsewhere(lambda: answers.extend(Node.objects.heartbeats([Report("ash", -1), Report("birch", -1)])))
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
