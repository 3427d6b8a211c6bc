"""What somebody was shown before an act is on record with it, and the act on the pages of what it moves, stops or opens."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from acts import recording
from acts.models import Act
from acts.recording import entered, foresee, record
from checks import dispatcher
from checks.models.orders import Rule
from checks.tests.cast import report, sent
from checks.tests.operators import config, confirmed, page_of, superuser
from nodes import tokens
from nodes.models import Node, NodeRule, NodeToken
from operators.tests.cast import bearer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

RULES, NODE_RULES, TOKENS = "/admin/checks/rule/", "/admin/nodes/noderule/", "/admin/nodes/nodetoken/"
NOWHERE = {
    "name": "gpu",
    "check_pattern": "http*",
    "source_pattern": "*",
    "required": '{"gpu": "yes"}',
    "forbidden": "{}",
}
STOPS = "2 configs would run nowhere."


@pytest.fixture
def client() -> Client:
    """shop, mail and db run on ash, birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("db", name="postgres")])
    report("birch")
    return superuser()


@pytest.fixture
def caller(client: Client) -> Any:
    return bearer(AuthToken.objects.create(User.objects.get(username="olga"))[1])


def last() -> Act:
    return Act.objects.latest("pk")


def page_of_act() -> str:
    return reverse("admin:acts_act_change", args=[last().pk])


def test_a_rule_says_what_stops_as_its_page_did(client: Client) -> None:
    confirmed(client, f"{RULES}add/", **NOWHERE)
    act = last()
    assert act.object == "rule gpu"
    assert act.foreseen["worse"] == [STOPS]
    assert "Highest load" in act.foreseen["sentences"][0]
    [(title, rows)] = act.foreseen["tables"].items()
    assert title == "Would run nowhere"
    assert {tuple(row) for row in rows} == {(str(config(key)), "ash", "nobody") for key in ("mail", "shop")}
    assert act.about == {"configs": sorted(config(key).pk for key in ("mail", "shop"))}


def test_who_reads_the_act_sees_it_in_red_and_on_the_configs_page(client: Client) -> None:
    confirmed(client, f"{RULES}add/", **NOWHERE)
    page = client.get(page_of_act()).content.decode()
    assert f'text-red-400">{STOPS}</p>' in page
    assert f"{config('shop')} → ash → nobody" in page
    link = page_of_act()
    assert link in client.get(page_of("shop")).content.decode()
    assert link not in client.get(page_of("db")).content.decode()


def test_a_deleted_rule_says_what_moves(client: Client) -> None:
    Rule.objects.create(name="gpu", check_pattern="http*", required={"gpu": "yes"})
    rule = Rule.objects.get()
    confirmed(client, f"{RULES}{rule.pk}/delete/")
    assert (last().verb, last().foreseen["sentences"][0][:13]) == ("delete", "Nothing moves")


@pytest.mark.parametrize("accepts", ["?accept_dangling=1", "?accept_dangling=1&accept_no_node=1"])
def test_so_does_a_rule_by_the_api(caller: Any, accepts: str) -> None:
    body = NOWHERE | {"required": {"gpu": "yes"}, "forbidden": {}}
    told = caller.call("POST", "rules?dry_run=1", body).json()
    assert told["sentences"][0] == STOPS
    assert caller.call("POST", f"rules{accepts}", body).status_code == 201
    act = last()
    assert [*act.foreseen["worse"], *act.foreseen["sentences"]] == told["sentences"]
    assert len(act.foreseen["tables"]["Would run nowhere"]) == 2
    assert len(act.about["configs"]) == 2
    found = caller.call("GET", f"acts/{act.pk}").json()
    assert found["foreseen"] == act.foreseen
    number = Rule.objects.get().pk
    assert caller.call("DELETE", f"rules/{number}").status_code == 204
    assert last().foreseen["sentences"]


def test_a_node_rule_is_on_the_pages_of_the_nodes_that_it_changes(client: Client, caller: Any) -> None:
    fields = {"pattern": "ash", "labels": '{"zone": "a"}', "network": ""}
    confirmed(client, f"{NODE_RULES}add/", **fields)
    assert last().about["nodes"] == ["ash"]
    number = NodeRule.objects.get().pk
    assert caller.call("DELETE", f"node-rules/{number}").status_code == 204
    assert last().about["nodes"] == ["ash"]


def revoked_by_page(client: Client, row: NodeToken) -> None:
    confirmed(client, f"{TOKENS}{row.pk}/delete/")


def revoked_by_call(client: Client, row: NodeToken) -> None:
    token = AuthToken.objects.create(User.objects.get(username="olga"))[1]
    assert bearer(token).call("DELETE", f"node-tokens/{row.key}").status_code == 204


def revoked_by_command(client: Client, row: NodeToken) -> None:
    call_command("nodetoken", "revoke", row.key, "--as", "olga")


@pytest.mark.parametrize("revoke", [revoked_by_page, revoked_by_call, revoked_by_command])
def test_a_node_token_is_on_the_pages_of_the_nodes_that_it_opens(client: Client, revoke: Any) -> None:
    row = NodeToken(note="pool a", pattern="b*", author="olga")
    with entered("command", "here", lambda: "olga"):
        tokens.make(row)
    assert last().about["nodes"] == ["birch"]
    revoke(client, row)
    assert (last().verb, last().about["nodes"]) == ("delete", ["birch"])


def test_what_follows_an_uncordoning_is_on_record(client: Client) -> None:
    Node.objects.filter(name="birch").update(schedulable=False)
    chosen = [Node.objects.get(name="birch").pk]
    confirmed(client, "/admin/nodes/node/", action="uncordon", _selected_action=chosen)
    assert last().foreseen["sentences"][0] == "It gets new checks again, and keeps what it has."


def test_secrets_are_hidden_and_long_ones_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_FORESEEN", 60)
    rows = [(f"check {number}", "ash", "birch") for number in range(100)]
    with entered("command", "here", lambda: "olga"):
        foresee(["password=hunter2 would go"], tables={"Moves": rows}, configs=range(5000))
        record("make", "rule x", configs=[7])
    told = last().foreseen
    assert "hunter2" not in str(told)
    assert 1 <= len(told["tables"]["Moves"]) < 10
    assert len(last().about["configs"]) == recording.MOST_ABOUT


def test_what_one_entrance_foresaw_is_not_told_of_the_next() -> None:
    with entered("command", "here", lambda: "olga"):
        foresee(["all would stop"])
    with entered("command", "here", lambda: "olga"):
        record("make", "rule x")
    assert last().foreseen is None
