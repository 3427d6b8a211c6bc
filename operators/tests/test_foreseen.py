"""What somebody was shown before an act is on record with it, and the act on the pages of what it moves, stops or opens."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken
from rest_framework.validators import UniqueValidator

from acts import recording
from acts.models import Act
from acts.recording import entered, foresee, record
from checks import dispatcher
from checks.explain.aftermath import Moving
from checks.models import freezes
from checks.models.freezes import Freeze
from checks.models.orders import Rule
from checks.tests.balance import furnish
from checks.tests.cast import owners, report, silence
from checks.tests.operators import apply, beside_an_idle_node, config, confirmed, page_of, planned, saved, superuser
from clusteragent.lib import clock
from nodes import tokens
from nodes.models import Node, NodeRule, NodeToken
from operators.admin.base import row_url
from operators.admin.questions import MOST_GOALS, is_agreed, seen_of_moves
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
    return beside_an_idle_node()


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
    assert act.about == {"configs": sorted(config(key).pk for key in ("mail", "shop")), "nodes": ["ash"]}


def test_who_reads_the_act_sees_it_in_red_and_on_the_configs_page(client: Client) -> None:
    confirmed(client, f"{RULES}add/", **NOWHERE)
    page = client.get(page_of_act()).content.decode()
    assert f'text-red-400">{STOPS}</p>' in page
    assert f"{config('shop')}: ash → nobody" in page
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
    with entered("command", "here", lambda: "olga"):
        foresee(["x" * 1000])
        record("make", "rule x")
    assert last().foreseen["sentences"] == ["x" * 60]


def test_what_one_entrance_foresaw_is_not_told_of_the_next() -> None:
    with entered("command", "here", lambda: "olga"):
        foresee(["all would stop"])
    with entered("command", "here", lambda: "olga"):
        record("make", "rule x")
    assert last().foreseen is None


def test_a_title_is_no_key_that_hides_what_stands_below_it() -> None:
    with entered("command", "here", lambda: "olga"):
        foresee([], tables={"What user pat may do": [("pins", "checks")], "Token of api-key": [("password=hunter2",)]})
        record("change", "user pat")
    assert last().foreseen["tables"]["What user pat may do"] == [["pins", "checks"]]
    assert "hunter2" not in str(last().foreseen)


def test_a_rule_is_on_the_pages_of_the_nodes_between_which_it_moves(client: Client) -> None:
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    away = NOWHERE | {"required": "{}", "forbidden": '{"zone": "a"}'}
    confirmed(client, f"{RULES}add/", **away)
    assert last().foreseen["tables"]["Moves"]
    assert last().about["nodes"] == ["ash", "birch"]


def test_a_higher_load_than_was_shown_is_shown_first() -> None:
    """The colleague who cordoned a node since does not change which configs move, but what they do to the others."""
    furnish(ash=[0.8, 0.8], birch=[1.6], cedar=[1.6])
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    client, away = superuser(), NOWHERE | {"required": "{}", "forbidden": '{"zone": "a"}'}
    asked = client.post(f"{RULES}add/", away)
    assert "It raises the highest load from 40" in asked.content.decode()
    Node.objects.filter(name="cedar").cordon()
    later = client.post(f"{RULES}add/", away | {"seen": asked.context["seen"]})
    assert "Nothing was done, since something changed" in later.content.decode()
    assert "It raises the highest load" in later.content.decode()
    assert not Rule.objects.exists()
    refusal = last()
    assert (refusal.verb, len(refusal.about["configs"]), refusal.about["nodes"]) == ("refuse", 2, ["ash", "birch"])


def test_another_config_that_would_move_is_shown_first(client: Client) -> None:
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    away = NOWHERE | {"required": "{}", "forbidden": '{"zone": "a"}'}
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    asked = client.post(f"{RULES}add/", away)
    dispatcher.reassign([config("shop").pk], "ash", actor="eve")
    dispatcher.reassign([config("mail").pk], "birch", actor="eve")
    later = client.post(f"{RULES}add/", away | {"seen": asked.context["seen"]})
    assert "Nothing was done, since something changed" in later.content.decode()
    assert not Rule.objects.exists()


def test_who_answers_too_late_is_on_record_on_the_nodes_page(client: Client) -> None:
    Node.objects.filter(name="birch").cordon()
    chosen = {"action": "uncordon", "_selected_action": [Node.objects.get(name="birch").pk]}
    asked = client.post("/admin/nodes/node/", chosen)
    Node.objects.filter(name="birch").cordon(schedulable=True, actor="eve")
    client.post("/admin/nodes/node/", chosen | {"seen": asked.context["seen"]})
    assert (last().verb, last().about["nodes"]) == ("refuse", ["birch"])


@pytest.mark.parametrize(
    ("url", "fields", "ends"),
    [
        ("/admin/checks/freeze/add/", {"until": "1h", "note": ""}, lambda: Freeze.objects.get().until),
        (
            f"{TOKENS}add/",
            {"expires_at": "1h", "note": "a", "pattern": "a*"},
            lambda: NodeToken.objects.get().expires_at,
        ),
    ],
)
def test_a_span_ends_when_the_page_said(client: Client, url: str, fields: dict[str, str], ends: Any) -> None:
    before = clock.now()
    shown = client.post(url, fields).context
    hidden = dict(shown["hidden"])
    time = next(value for name, value in hidden.items() if name in ("until", "expires_at"))
    assert before + timedelta(hours=1) <= datetime.fromisoformat(time) <= clock.now() + timedelta(hours=1)
    client.post(url, hidden | {"seen": shown["seen"]})
    assert ends() == datetime.fromisoformat(time)


def test_another_goal_of_a_few_is_shown_first(client: Client) -> None:
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    away = NOWHERE | {"required": "{}", "forbidden": '{"zone": "a"}'}
    asked = client.post(f"{RULES}add/", away)
    report("cedar")
    Node.objects.filter(name="birch").cordon()
    later = client.post(f"{RULES}add/", away | {"seen": asked.context["seen"]})
    assert "Nothing was done, since something changed" in later.content.decode()


def test_fewer_moves_than_were_shown_are_no_reason_to_ask_again() -> None:
    """Of many it is not said where each goes."""

    def seen(number: int, to: str = "ash") -> str:
        moves = [Moving(one, "http_check", "", to) for one in range(number)]
        return seen_of_moves(["rule"], lost=[], moves=moves)

    assert is_agreed(seen(MOST_GOALS + 5), seen(MOST_GOALS - 5, "birch"))
    assert is_agreed(seen(MOST_GOALS + 5), seen(MOST_GOALS + 5, "birch"))
    assert not is_agreed(seen(2), seen(2, "birch"))
    assert not is_agreed(seen(2), seen(3))


def test_what_dangles_and_would_get_a_node_is_shown_first(client: Client) -> None:
    """A page that said that nothing moves is no consent to that either."""
    rule = Rule.objects.create(name="gpu", check_pattern="*", required={"gpu": "yes"})
    url = f"{RULES}{rule.pk}/delete/"
    asked = client.get(url)
    dispatcher.move_misplaced()
    later = client.post(url, {"post": "yes", "seen": asked.context["seen"]})
    assert "3 configs without a node would get one." in later.content.decode()
    assert Rule.objects.exists()


def test_a_page_with_a_new_token_that_is_loaded_anew_makes_no_second_one(client: Client) -> None:
    asked = client.post(f"{TOKENS}add/", {"note": "a", "pattern": "a*"}).context
    sent = dict(asked["hidden"]) | {"seen": asked["seen"]}
    for _ in range(2):
        client.post(f"{TOKENS}add/", sent)
    assert NodeToken.objects.count() == 1


def test_a_node_token_that_opens_more_by_then_is_shown_first(client: Client) -> None:
    sent = {"note": "a", "pattern": "c*"}
    asked = client.post(f"{TOKENS}add/", sent).context
    report("cedar")
    client.post(f"{TOKENS}add/", dict(asked["hidden"]) | {"seen": asked["seen"]})
    assert not NodeToken.objects.exists()


def test_the_end_of_a_freeze_by_the_first_page_says_what_was_shown(client: Client) -> None:
    freezes.freeze(actor="eve")
    confirmed(client, "/admin/now/remedy/frozen/")
    assert last().verb == "thaw"
    assert [one[:17] for one in last().foreseen["sentences"][:2]] == ["It ends this: fro", "Balancing goes on"]


def test_what_is_written_by_hand_is_on_the_page_of_its_node(client: Client) -> None:
    add = {"key": "door", "check": "http_check", "yaml": "instances:\n  - name: door\n    url: http://door\n"}
    saved(client, "/admin/checks/config/add/", **add)
    node = owners()["door"]
    assert last().about["nodes"] == [node]
    chosen = {"action": "unschedule", "_selected_action": [config("door").pk]}
    confirmed(client, "/admin/checks/config/", **chosen)
    assert (last().verb, last().about["nodes"]) == ("delete", [node])


def test_a_drain_is_on_the_pages_of_the_nodes_that_get_what_it_has(client: Client) -> None:
    call_command("drain", "ash", "--as", "olga")
    assert last().about["nodes"] == ["ash", "birch"]


def test_a_rule_of_a_name_that_was_taken_meanwhile_is_a_conflict(caller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by two calls at once: neither sees the other's."""
    body = NOWHERE | {"required": {}, "forbidden": {}}
    assert caller.call("POST", "rules", body).status_code == 201
    assert last().after["id"] == Rule.objects.get().pk
    monkeypatch.setattr(UniqueValidator, "__call__", lambda *_: None)
    answer = caller.call("POST", "rules", body)
    assert (answer.status_code, answer.json()) == (409, {"detail": "Somebody else has just stored rule gpu."})


def test_dispatching_by_the_first_page_says_what_was_shown(client: Client) -> None:
    silence("ash", "birch")
    dispatcher.expire_nodes(force=True)
    report("cedar")
    confirmed(client, "/admin/now/remedy/dangling/")
    begun, done = Act.objects.filter(verb="dispatch").order_by("pk")
    assert begun.foreseen["sentences"][0].endswith("would get a node.")
    assert done.foreseen == begun.foreseen


@pytest.mark.parametrize(
    ("more", "changed"),
    [("# why\n", "only how it is written"), ("    password: other\n", "what changed is hidden")],
)
def test_an_edit_that_the_texts_on_record_do_not_show_says_so(client: Client, more: str, changed: str) -> None:
    yaml = "instances:\n  - url: http://door\n    password: one\n"
    add = {"key": "door", "check": "http_check"}
    saved(client, "/admin/checks/config/add/", **add, yaml=yaml)
    edited = yaml.replace("    password: one\n", more) if "password" in more else yaml + more
    saved(client, page_of("door"), **add, yaml=edited)
    assert last().object == f"config admin:door: {changed}"
    assert last().before == last().after


def test_a_rule_whose_name_shows_a_secret_is_refused(client: Client, caller: Any) -> None:
    named = {"name": "password=hunter2"}
    form = client.post(f"{RULES}add/", NOWHERE | named).content.decode()
    assert "It shows a secret" in form
    answer = caller.call("POST", "rules?accept_dangling=1", NOWHERE | {"required": {}, "forbidden": {}} | named)
    assert (answer.status_code, [*answer.json()]) == (400, ["name"])
    assert not Rule.objects.exists()


@pytest.mark.parametrize("field", ["name", "check_pattern", "source_pattern", "apart_from"])
def test_a_rule_has_printable_characters_alone(client: Client, caller: Any, field: str) -> None:
    body = NOWHERE | {"required": {}, "forbidden": {}, field: "pay\u202ements"}
    answer = caller.call("POST", "rules?accept_dangling=1", body)
    assert (answer.status_code, [*answer.json()]) == (400, [field])
    node_rule = {"pattern": "b*", "labels": {"zone": "a\x07"}}
    assert [*caller.call("POST", "node-rules", node_rule).json()] == ["labels"]
    assert "printable characters" in client.post(f"{RULES}add/", NOWHERE | {field: "pay\u202ements"}).content.decode()
    assert not Rule.objects.exists()


class TestPlans:
    """What a plan said is on record with its act, which is kept for longer; and it does not lead to more than it said."""

    @pytest.fixture
    def world(self) -> Client:
        furnish(ash=[0.8, 0.8], birch=[1.6], cedar=[1.6])
        return superuser()

    def test_by_its_page(self, world: Client) -> None:
        plan = planned(world, "pin", ["ash-0"], aim="birch", kind="node")
        page = world.get(row_url(plan)).content.decode()
        red = "It raises the highest load from 40\u202f% to 60\u202f%."
        assert red in page
        apply(world, plan)
        told = last().foreseen
        assert told["worse"] == [red]
        assert told["sentences"][0] in page
        assert ["birch", "40\u202f%", "60\u202f%"] in told["tables"]["Nodes, load before and after"]

    def test_so_is_an_order_by_a_call_and_by_a_command(self, world: Client) -> None:
        caller = bearer(AuthToken.objects.create(User.objects.get(username="olga"))[1])
        body = {"configs": [config("ash-0").pk], "aim": "birch", "kind": "node"}
        told = caller.call("POST", "pins?dry_run=1", body).json()
        assert caller.call("POST", "pins", body).status_code == 201
        called = last().foreseen
        assert called["worse"] == ["It raises the highest load from 40\u202f% to 60\u202f%."]
        assert set(told["sentences"]) <= {*called["sentences"], *called["worse"]}
        call_command("pin", str(config("ash-1")), "cedar", "--as", "olga")
        assert last().foreseen["sentences"][0].startswith("1 config moves.")

    def test_a_node_that_is_fuller_by_then_makes_it_stale(self, world: Client) -> None:
        plan = planned(world, "pin", ["ash-0"], aim="birch", kind="node")
        dispatcher.reassign([config("ash-1").pk], "birch", actor="eve")
        why = "it would raise the highest load to 80\u202f% by now, and said 60\u202f%"
        assert why in world.get(row_url(plan)).content.decode()
        assert why in apply(world, plan)
        assert owners()["ash-0"] == "ash"
        assert (last().verb, last().reason) == ("refuse", why)

    def test_a_config_by_hand_is_asked_about_again_for_the_load(self, world: Client) -> None:
        Rule.objects.create(name="there", check_pattern="http_check", required={"zone": "b"})
        Node.objects.filter(name="birch").update(labels={"zone": "b"})
        url = "/admin/checks/config/add/"
        add = {"key": "door", "check": "http_check", "yaml": "instances:\n  - name: door\n    url: http://door\n"}
        asked = world.post(url, add)
        assert "The load of birch would go from 40\u202f%" in asked.content.decode()
        dispatcher.reassign([config("ash-0").pk, config("ash-1").pk], "birch", actor="eve")
        later = world.post(url, add | dict(asked.context["hidden"]) | {"seen": asked.context["seen"]})
        assert "Nothing was done, since something changed" in later.content.decode()
        assert "The load of birch would go from 80\u202f%" in later.content.decode()
