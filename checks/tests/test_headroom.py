"""What the loss of a domain would leave to the others, by arithmetic."""

import math

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher, tasks
from checks.explain import alerts, headroom
from checks.explain.alerts import Kind
from checks.models import Assignment, Cost, TaskRun
from checks.models.orders import Rule
from checks.tests.balance import furnish
from checks.tests.cast import lead, report, sent, silence
from checks.tests.domains import zones
from nodes import slowness
from nodes.models import Heartbeat, Node, NodeRule, NodeType

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def told() -> list[tuple[str, int | None]]:
    """What is lost, and the load of the others in percent."""
    return [(one.lost, None if one.reach is None else round(100 * one.reach)) for one in headroom.read()]


def sentence() -> str:
    headroom.note()
    worst = headroom.worst()
    return worst.sentence.replace("\u202f", " ") if worst else ""


def test_the_others_share_what_is_lost_by_their_capacities():
    furnish(ash=[1, 1], birch=[1], cedar=[0.5])
    zones(a=["ash"], b=["birch"], c=["cedar"])
    assert told() == [("zone a", 44), ("zone b", 44), ("zone c", 44)]
    Node.objects.filter(name="ash").update(weight=2)
    assert told() == [("zone a", 44), ("zone b", 29), ("zone c", 29)]
    assert sentence() == "If zone a is lost, the others reach 44 % on average."


def test_own_load_dies_with_its_node_and_closed_nodes_take_nothing():
    furnish(ash=[1, 1], birch=[1], beech=[2])
    zones(a=["ash"], b=["birch", "beech"])
    assert told()[0] == ("zone b", 125)
    assert sentence() == "If zone b is lost, ash reaches 125 %."
    Node.objects.filter(name="beech").cordon()
    assert dict(told())["zone a"] == 75


def test_while_runners_live_they_alone_take_it():
    furnish(ash=[1], birch=[1], cedar=[2])
    zones(a=["ash"], b=["birch", "cedar"])
    Heartbeat.objects.exclude(node__name="cedar").update(node_type=NodeType.RUNNER)
    Heartbeat.objects.filter(node__name="cedar").update(node_type=NodeType.NODE_AGENT)
    assert dict(told()) == {"zone a": 50, "zone b": 100}


def test_above_everything_it_needs_somebody():
    furnish(ash=[2, 1], birch=[2])
    zones(a=["ash"], b=["birch"])
    assert sentence() == "If zone a is lost, birch reaches 125 %."
    [alert] = [one for one in alerts.current() if one.kind == Kind.NO_HEADROOM]
    assert alert.cause.replace("\u202f", " ").startswith(f"{sentence()[:-1]} (as of ")
    assert alert.target.query == {"domain": "a"}


@pytest.mark.parametrize("measured", [True, False])
def test_what_no_other_may_have_needs_somebody(measured: bool):
    furnish(ash=[0.1], birch=[0.1, 0.1])
    if not measured:
        Cost.objects.all().delete()
    zones(a=["ash"], b=["birch"])
    Assignment.objects.filter(config__origins__key__startswith="birch").update(node=Node.objects.get(name="ash"))
    assert sentence() == ("If zone a is lost, birch reaches 7.5 %." if measured else "")
    Rule.objects.create(name="near", required={"zone": "a"})
    assert sentence() == (
        "If zone a is lost, birch reaches 7.5 %, and 3 configs have no node."
        if measured
        else "If zone a is lost, 3 configs have no node."
    )
    assert Kind.NO_HEADROOM in [one.kind for one in alerts.current()]


def test_the_most_that_nodes_may_have_is_room():
    furnish(ash=[0.1] * 3, birch=[0.1])
    zones(a=["ash"], b=["birch"])
    NodeRule.objects.create(pattern="birch", max_configs=3)
    NodeRule.objects.apply()
    assert sentence() == "If zone a is lost, birch reaches 10 %, and 1 config has no node."


def test_where_nothing_else_takes_work_all_is_homeless():
    furnish(ash=[1], birch=[1])
    zones(a=["ash"], b=["birch"])
    Node.objects.filter(name="birch").cordon()
    assert sentence() == "If zone a is lost, no node takes its 1 config."
    assert headroom.read()[0].reach == math.inf


def test_without_domains_it_is_the_worst_node():
    furnish(ash=[1], birch=[1, 1])
    assert sentence() == "If birch is lost, ash reaches 75 %."
    zones(a=["ash", "birch"])
    assert sentence() == "If birch is lost, ash reaches 75 %."
    [only] = headroom.read()
    assert (only.domain, only.node) == ("", "birch")


def test_nothing_is_said_of_one_node_or_while_none_takes_work():
    report("ash")
    dispatcher.schedule([sent("one")])
    assert headroom.worst() is None
    assert headroom.note() == []
    report("birch")
    assert headroom.note()
    assert headroom.worst() is not None
    silence("ash", "birch")
    assert headroom.note() == []
    assert headroom.worst() is None


def test_what_is_told_is_of_the_last_round_of_stats_and_says_so():
    furnish(ash=[1], birch=[1])
    zones(a=["ash"], b=["birch"])
    assert tasks.collect_stats(lead()) != tasks.FAILED
    Cost.objects.update(workers_needed=3)
    worst = headroom.worst()
    assert worst is not None
    assert worst.at == TaskRun.objects.get(name="headroom").ended_at
    noon = worst.at.replace(hour=12, minute=0, second=0)
    said = worst._replace(at=noon).dated(noon).replace("\u202f", " ")
    assert said == "If zone a is lost, birch reaches 50 % (as of 12:00 UTC)."
    assert worst.document["as_of"] == worst.at.isoformat()


def test_what_fails_in_a_round_of_stats_fails_alone(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ValueError

    furnish(ash=[1], birch=[1])
    monkeypatch.setattr(slowness, "note_round", fail)
    assert tasks.collect_stats(lead()) != tasks.FAILED
    assert headroom.worst() is not None


def test_the_first_page_says_it(client: Client):
    client.force_login(User.objects.create_superuser("olga"))
    furnish(ash=[1], birch=[1])
    zones(a=["ash"], b=["birch"])

    def page() -> str:
        return client.get("/admin/").content.decode().replace("\u202f", " ")

    headroom.note()
    assert "If zone a is lost, birch reaches 50 % (as of " in page()
    assert "pages-short" not in page()
    Cost.objects.update(workers_needed=3)
    assert "birch reaches 50 %" in page()
    headroom.note()
    assert '<p id="now-headroom" class="pages-short">If zone a is lost, birch reaches 150 % (as of ' in page()


def test_it_takes_as_many_queries_for_two_nodes_as_for_thirty():
    numbers = []
    Rule.objects.create(name="near", check_pattern="tcp*", required={"zone": "a"})
    for size in (2, 30):
        names = [f"node-{size}-{number}" for number in range(size)]
        report(*names)
        zones(**{f"z{number}": names[number::5] for number in range(5)})
        dispatcher.schedule([sent(f"{size}-{number}") for number in range(size)])
        with CaptureQueriesContext(connection) as queries:
            headroom.read()
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]
