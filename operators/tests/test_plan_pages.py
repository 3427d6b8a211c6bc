"""The page of a plan that has begun, or that the world has overtaken."""

import io
import json
import shlex
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from knox.models import AuthToken

from checks import dispatcher
from checks.models import Config, Plan
from checks.models.orders import Pause
from checks.tests.cast import hand_over, owners, report, sent
from checks.tests.operators import apply, config, planned, shown, superuser
from nodes.models import Node
from operators.admin import sameness
from operators.tests.cast import bearer

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
    assert page(client, plan).context["progress"] == ["Node ash: 2 of 2 left to move."]
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


def elsewhere(client: Client, plan: Plan) -> dict[str, str]:
    return {label: text for _, label, text in page(client, plan).context["elsewhere"]}


def call_of(curl: str) -> tuple[str, Any]:
    """The path and the body of a call for a terminal, which posts."""
    words = shlex.split(curl)
    assert words[words.index("-X") + 1] == "POST"
    return urlsplit(words[-1]).path, json.loads(words[words.index("-d") + 1]) if "-d" in words else None


def test_the_command_and_the_call_that_apply_a_plan_do(client: Client) -> None:
    first, second = (planned(client, "pause", [key]) for key in ("one", "two"))
    call_command(*shlex.split(elsewhere(client, first)["command that applies it"])[1:], stdout=io.StringIO())
    token = AuthToken.objects.create(User.objects.get(username="olga"))[1]
    path, body = call_of(elsewhere(client, second)["call that applies it"])
    assert bearer(token).call("POST", path, body).status_code == 200
    assert Pause.objects.count() == 2
    assert ">Call of the API<" in page(client, first).content.decode()
    assert "command that applies it" not in elsewhere(client, first)


ORDERS: list[tuple[str, dict[str, Any]]] = [
    ("pin", {"kind": "node", "aim": "birch", "note": "it's near"}),
    ("pin", {"kind": "pattern", "aim": "bi*", "waits": "on", "until": "2100-12-24 08:00"}),
    ("pause", {"until": "2100-12-24 08:00", "note": "deploy"}),
    ("reassign", {"node": "birch"}),
]


@pytest.mark.parametrize(("verb", "fields"), ORDERS)
def test_what_a_plan_orders_is_ordered_the_same_by_a_command_and_by_a_call(
    client: Client, verb: str, fields: dict[str, Any]
) -> None:
    plan = planned(client, verb, ["one"], **fields)
    told = elsewhere(client, plan)
    before = Plan.objects.count()
    call_command(*shlex.split(told["command that orders the same"])[1:], stdout=io.StringIO())
    if verb == "reassign":
        dispatcher.reassign([config("one").pk], "ash", actor="eve")
        hand_over()
    dispatcher.unpin([config("one").pk])
    path, body = call_of(told["call that orders the same"])
    token = AuthToken.objects.create(User.objects.get(username="olga"))[1]
    assert bearer(token).call("POST", path, body).status_code in (200, 201)
    made = list(Plan.objects.order_by("pk")[before:])
    ordered = [
        {name: value for name, value in one.order.items() if name not in ("also", "replaces")} for one in (plan, *made)
    ]
    assert len(made) == 2
    assert ordered[1:] == [ordered[0]] * 2


def test_an_isolation_a_resumption_and_a_drain_can_be_ordered_elsewhere_too(client: Client) -> None:
    isolation = elsewhere(client, planned_isolation(client))
    assert isolation["command that orders the same"] == "clusteragent isolate 'http_check one'"
    call_command(*shlex.split(isolation["command that orders the same"])[1:], stdout=io.StringIO())
    assert owners() == {"one": "ash", "two": "birch"}
    assert call_of(isolation["call that orders the same"])[1] == {"configs": [config("one").pk]}
    dispatcher.pause([config("two").pk], actor="eve")
    resumption = shown(client, "/admin/checks/config/", action="resume", _selected_action=[config("two").pk])
    assert elsewhere(client, resumption)["command that orders the same"] == "clusteragent resume 'http_check two'"
    told = elsewhere(client, drain_of_ash(client))
    assert told["command that orders the same"] == "clusteragent drain ash"
    assert call_of(told["call that orders the same"]) == ("/api/operator/v1/nodes/ash/drain", None)


def planned_isolation(client: Client) -> Plan:
    return shown(client, "/admin/checks/config/", action="isolate", _selected_action=[config("one").pk])


def test_what_nobody_would_type_is_not_told(client: Client) -> None:
    dispatcher.schedule([sent(f"more-{number}") for number in range(sameness.MOST)])
    everything = Config.objects.values_list("origins__key", flat=True)
    assert "command that orders the same" not in elsewhere(client, planned(client, "pause", list(everything)))


@pytest.mark.parametrize("verb", ["pause", "pin"])
def test_a_plan_whose_end_is_over_is_stale(client: Client, verb: str) -> None:
    aim = {"aim": "birch", "kind": "node"} if verb == "pin" else {}
    plan = planned(client, verb, ["one"], until="2h", **aim)
    Plan.objects.filter(pk=plan.pk).update(order=plan.order | {"until": "2020-01-01T08:00:00+00:00"})
    assert "its end, 2020-01-01 08:00 UTC, is over" in page(client, plan).content.decode()
    apply(client, plan)
    assert owners() == {"one": "ash", "two": "ash"}
    assert not Pause.objects.exists()


def test_a_pin_by_which_a_config_stops_does_not_say_that_it_moves(client: Client) -> None:
    plan = planned(client, "pin", ["one"], aim="nobody", kind="node", waits="on")
    assert "1 config stops running. 1 node touched" in " ".join(page(client, plan).content.decode().split())
