"""The page of a plan that has begun, or that the world has overtaken."""

from typing import Any

import pytest
from django.test import Client

from checks import dispatcher
from checks.models import Plan
from checks.tests.cast import hand_over, owners, report, sent
from checks.tests.operators import apply, config, planned, shown, superuser
from nodes.models import Node

pytestmark = pytest.mark.django_db
NODES = "/admin/nodes/node/"


@pytest.fixture
def client(warm: None) -> Client:
    """one and two are on ash; birch has nothing."""
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    hand_over()
    report("birch")
    return superuser()


def page(client: Client, plan: Plan) -> Any:
    return client.get(f"/admin/checks/plan/{plan.pk}/change/")


def drain_of_ash(client: Client) -> Plan:
    plan = shown(client, NODES, action="drain", _selected_action=[Node.objects.get(name="ash").pk])
    apply(client, plan)
    return plan


def test_a_drain_says_what_it_has_moved_and_what_is_left(client: Client) -> None:
    plan = drain_of_ash(client)
    assert page(client, plan).context["progress"] == ["Node ash: 2 of 2 left."]
    assert "field-moved" not in page(client, plan).content.decode()
    dispatcher.move_misplaced()
    hand_over()
    assert set(owners().values()) == {"birch"}
    assert page(client, plan).context["progress"] == [
        "Node ash: nothing left, but not fetched yet, 2 configs moved since."
    ]
    hand_over()
    assert page(client, plan).context["progress"] == ["Node ash is empty: safe to stop, 2 configs moved since."]


def test_a_drain_that_was_ended_says_so(client: Client) -> None:
    plan = drain_of_ash(client)
    Node.objects.filter(name="ash").cordon(schedulable=True, actor="olga")
    assert page(client, plan).context["progress"] == ["Node ash is not being drained, and has 2 configs."]


def test_a_drain_of_a_node_that_is_gone_says_so(client: Client) -> None:
    plan = drain_of_ash(client)
    Plan.objects.update(order=plan.order | {"nodes": ["oak"]})
    assert page(client, plan).context["progress"] == ["node oak is unknown."]


def test_a_stale_plan_offers_to_plan_anew_and_no_more(client: Client) -> None:
    plan = planned(client, "reassign", ["one", "two"], node="birch", note="near it")
    assert "Nothing has moved yet" in page(client, plan).content.decode()
    dispatcher.reassign([config("one").pk], "birch", actor="eve")
    text = page(client, plan).content.decode()
    assert "It can't be applied any more: http_check one is now on birch" in text
    assert "Nothing has moved yet" not in text
    assert f"/plan/{plan.pk}/apply/" not in text
    anew = shown(client, f"/admin/checks/plan/{plan.pk}/anew/")
    assert (anew.order["node"], anew.order["note"]) == ("birch", "near it")
    assert [move["title"] for move in anew.moves] == ["http_check two"]
    apply(client, anew)
    assert set(owners().values()) == {"birch"}


@pytest.mark.parametrize("action", ["pin", "pause", "isolate"])
def test_other_orders_are_planned_anew_too(client: Client, action: str) -> None:
    fields = {"kind": "node", "aim": "birch"} if action == "pin" else {}
    plan = planned(client, action, ["one"], **fields)
    dispatcher.reassign([config("one").pk], "birch", actor="eve")
    assert page(client, plan).context["stale"]
    anew = shown(client, f"/admin/checks/plan/{plan.pk}/anew/")
    assert anew.order["verb"] == action
    assert not page(client, anew).context["stale"]


def test_a_rebalance_is_not_planned_anew_by_its_page(client: Client) -> None:
    plan = Plan.objects.create(revision=1)
    assert client.post(f"/admin/checks/plan/{plan.pk}/anew/").status_code == 404
