"""Flapping nodes get no new configs while another node may have them."""

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.models import Config
from checks.models.orders import Rule
from checks.tests.cast import counts, dangling, report, sent
from clusteragent.lib import conf
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeType

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def flap(*names: str) -> None:
    Node.objects.filter(name__in=names).update(not_before=Now() + conf.NODE_EXPIRATION_TIMEOUT)


def schedule(*keys: str) -> None:
    dispatcher.schedule([sent(key) for key in keys])


def test_a_flapping_node_keeps_what_it_has_and_gets_nothing_new():
    report("ash", "birch", "cedar")
    schedule("one", "two", "three")
    flap("ash")
    schedule("four", "five", "six", "seven")
    assert counts() == {"ash": 1, "birch": 3, "cedar": 3}


def test_when_all_come_and_go_the_work_still_runs():
    report("ash", "birch")
    flap("ash", "birch")
    schedule("one", "two")
    assert counts() == {"ash": 1, "birch": 1}


def test_when_all_that_may_run_it_come_and_go_it_still_runs():
    report("ash", "birch")
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    Rule.objects.create(name="zone", required={"zone": "a"})
    flap("ash")
    schedule("one")
    assert counts() == {"ash": 1}


def test_of_those_that_may_run_it_the_steady_get_it():
    report("ash", "birch", "cedar")
    Node.objects.exclude(name="cedar").update(labels={"zone": "a"})
    Rule.objects.create(name="zone", required={"zone": "a"})
    flap("ash")
    schedule("one", "two", "three")
    assert counts() == {"birch": 3}


def test_a_config_pinned_to_one_waits_for_nobody_else():
    report("ash", "birch")
    schedule("one")
    dispatcher.pin(list(Config.objects.values_list("pk", flat=True)), "birch", waits=True)
    flap("birch")
    schedule("two")
    assert counts() == {"birch": 1, "ash": 1}
    assert not dangling()


def test_what_a_leaving_node_had_goes_to_the_steady():
    report("ash", "birch", "cedar")
    schedule("one", "two", "three")
    flap("birch")
    note_goodbye("ash", "leaving")
    dispatcher.empty_leaving_nodes()
    assert counts() == {"birch": 1, "cedar": 2}


def test_nothing_is_brought_to_a_runner_that_comes_and_goes_for_orders_sake():
    report("ash")
    schedule("one", "two")
    note_heartbeat("birch", last_change=0, node_type=NodeType.RUNNER)
    flap("birch")
    assert dispatcher.move_misplaced() == []
    Node.objects.update(not_before=None)
    dispatcher.move_misplaced()
    assert counts() == {"birch": 2}
