"""How far a drain is, and when its node may be stopped."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.dispatcher import StalePlan, deciding
from checks.explain import drains
from checks.explain.drains import Stuck
from checks.models import Assignment, Config, Handover
from checks.models.orders import Pin, Rule
from checks.tests.cast import hand_over, lead, sent, settled_on_ash, silence
from clusteragent.lib import clock
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent, UnknownNode

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("eight")]


@pytest.fixture
def eight(warm: None) -> None:
    settled_on_ash(8)


def drain(by: Any = None) -> None:
    Node.objects.filter(name="ash").cordon(draining=True, by=by)


def test_a_plan_is_stale_once_more_would_move_than_it_says() -> None:
    plan = plans.store(deciding.drain(["ash"]), author="eve")
    [gone, *_] = Config.objects.filter(assignment__node__name="ash")
    dispatcher.reassign([gone.pk], "birch", actor="eve")
    less = plans.store(deciding.drain(["ash"]), author="eve")
    dispatcher.schedule([sent("more")])
    dispatcher.reassign(list(Config.objects.values_list("pk", flat=True)), "ash", actor="eve")
    with pytest.raises(StalePlan, match="9 configs would move now, and not 8"):
        plans.apply(plan, actor="olga")
    with pytest.raises(StalePlan, match="9 configs would move now, and not 7"):
        plans.apply(less, actor="olga")
    assert Node.objects.get(name="ash").schedulable


def acknowledge(name: str) -> None:
    note_heartbeat(name, last_change=Node.objects.get(name=name).config_version)


def test_it_counts_what_moved_what_is_left_and_what_is_being_handed_over() -> None:
    drain(by=clock.now() + timedelta(hours=2))
    dispatcher.move_misplaced()
    found = drains.of("ash")
    assert (found.moved, found.left, found.handing_over, found.is_empty) == (0, 8, 5, False)
    assert found.since == NodeEvent.objects.get(kind="draining").time
    hand_over()
    found = drains.of("ash")
    assert (found.moved, found.left, found.handing_over) == (5, 3, 0)
    assert found.share == 5 / 8


def test_the_sentence_is_for_people() -> None:
    by = clock.now().replace(hour=14, minute=5, second=0) + timedelta(days=3650)
    drain(by=by)
    dispatcher.move_misplaced()
    assert (
        drains.of("ash").sentence == f"node ash: 3 of 8 left to move, 5 being handed over, by {by:%Y-%m-%d} 14:05 UTC"
    )
    found = drains.of("ash")._replace(now=by - timedelta(hours=1))
    assert found.sentence == "node ash: 3 of 8 left to move, 5 being handed over, by 14:05 UTC"
    assert not found.is_late
    found = found._replace(now=by)
    assert found.sentence == "node ash: 3 of 8 left to move, 5 being handed over, by 14:05 UTC, which is over"
    assert found.is_late


def test_it_is_empty_when_all_is_handed_over_and_it_has_fetched_that() -> None:
    drain(by=clock.now() + timedelta(seconds=1))
    dispatcher.move_misplaced()
    # Nothing is assigned to it; it still runs all.
    assert not Assignment.objects.filter(node__name="ash").exists()
    found = drains.of("ash")
    assert (found.left, found.handing_over, found.is_empty) == (8, 8, False)
    # The new node has fetched what it got, the drained one has not fetched its empty list.
    acknowledge("birch")
    dispatcher.run_pass(lead())
    found = drains.of("ash")
    assert (found.left, found.is_empty, Handover.objects.count()) == (0, False, 0)
    assert "nothing left, but not fetched yet" in found.sentence
    acknowledge("ash")
    assert drains.of("ash").is_empty
    assert drains.of("ash").sentence == "node ash is empty: safe to stop"


def test_a_strict_move_that_waits_for_the_node_is_left() -> None:
    Rule.objects.create(name="strict", check_pattern="*", handover="strict")
    drain(by=clock.now() + timedelta(seconds=1))
    dispatcher.move_misplaced()
    assert (drains.of("ash").handing_over, drains.of("ash").is_empty) == (8, False)
    hand_over()
    assert drains.of("ash").is_empty


def test_a_node_that_may_get_something_new_may_not_be_stopped() -> None:
    found = drains.of("birch")
    assert (found.left, found.since, found.is_empty) == (0, None, False)
    assert found.sentence == "node birch is not being drained, and has 0 configs"
    Node.objects.filter(name="birch").cordon()
    assert drains.of("birch").is_empty
    assert not drains.of("ash").is_empty


def test_one_that_said_goodbye_may_be_stopped_when_it_is_empty() -> None:
    note_goodbye("birch", "leaving")
    assert drains.of("birch").is_empty


def test_a_lost_node_has_nothing_and_may_be_stopped() -> None:
    drain()
    silence("ash")
    dispatcher.expire_nodes()
    assert drains.of("ash").sentence == "node ash is lost: safe to stop"


def test_an_unknown_node_is_named() -> None:
    with pytest.raises(UnknownNode, match="node oak is unknown"):
        drains.of("oak")


def test_another_deadline_does_not_begin_it_anew_and_another_drain_does() -> None:
    drain()
    dispatcher.move_misplaced()
    hand_over()
    drain(by=clock.now() + timedelta(hours=1))
    assert drains.of("ash").moved == 5
    Node.objects.filter(name="ash").cordon(schedulable=True)
    drain()
    assert drains.of("ash").moved == 0


def test_what_came_back_has_not_moved() -> None:
    drain()
    dispatcher.move_misplaced()
    hand_over()
    ids = list(Assignment.objects.filter(node__name="birch").values_list("config", flat=True))
    Assignment.objects.filter(config__in=ids[:2]).update(node=Node.objects.get(name="ash"))
    assert (drains.of("ash").moved, drains.of("ash").left) == (3, 5)


class TestStuck:
    def test_what_can_go_is_not_stuck(self) -> None:
        drain()
        assert drains.of("ash").stuck == []

    def test_the_reasons_are_counted_in_the_words_of_the_refusals(self) -> None:
        Node.objects.filter(name="ash").update(labels={"zone": "a"})
        dispatcher.schedule([sent(f"ntp-{number}", name="ntp") for number in range(2)])
        Assignment.objects.update(node=Node.objects.get(name="ash"))
        Rule.objects.create(name="zones", check_pattern="ntp", required={"zone": "a"})
        first = Assignment.objects.order_by("pk").values_list("config", flat=True)[:3]
        Pin.objects.bulk_create(
            Pin(config_id=one, source="file", key=str(one), kind="node", aim="ash", waits=True) for one in first
        )
        drain()
        assert set(drains.of("ash").stuck) == {
            Stuck("the config is pinned to the node ash", 3), Stuck("rule zones: it requires zone=a", 2)
        }  # fmt: skip
        assert drains.of("ash").reasons[0] == "3 configs can't go to another node: the config is pinned to the node ash"

    def test_a_full_node_and_no_other_node_are_reasons(self) -> None:
        Node.objects.filter(name="birch").update(max_configs=0)
        drain()
        assert drains.of("ash").stuck == [Stuck("every other node may have at most 0 configs", 8)]
        note_heartbeat("cedar", last_change=0)
        Node.objects.filter(name="cedar").cordon()
        assert drains.of("ash").stuck == [Stuck("birch may have at most 0 configs, for one", 8)]
        Heartbeat.objects.filter(node__name="cedar").delete()
        Heartbeat.objects.filter(node__name="birch").delete()
        assert drains.of("ash").stuck == [Stuck("no other node reports", 8)]

    def test_what_the_node_does_not_say_that_it_stopped_is_stuck_for_a_while(self) -> None:
        drain()
        Assignment.objects.filter(pk__in=Assignment.objects.all()[:3]).update(reason="withdrawn", since=Now())
        [stuck] = drains.of("ash").stuck
        assert stuck.configs == 3
        assert "ash did not say that it stopped it, so until " in stuck.reason
        Assignment.objects.update(since=Now() - timedelta(minutes=6))
        assert drains.of("ash").stuck == []

    def test_only_the_commonest_reasons_are_named(self) -> None:
        Assignment.objects.update(node=Node.objects.get(name="ash"))
        for number in range(5):
            dispatcher.schedule([sent(f"c{number}", name=f"c{number}")])
            Rule.objects.create(name=f"r{number}", check_pattern=f"c{number}", required={"zone": "a"})
        Assignment.objects.update(node=Node.objects.get(name="ash"))
        drain()
        assert len(drains.of("ash").stuck) == 3


def test_a_node_that_leaves_says_what_it_still_hands_over() -> None:
    note_goodbye("ash", "leaving")
    dispatcher.empty_leaving_nodes()
    assert drains.of("ash").sentence == "node ash is leaving: 8 left, 8 being handed over"
