"""Acts that move nothing by themselves are shown first, with what follows, in the same words by each entrance."""

import io
import json
import re
import shlex
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models.functions import Now
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher
from checks.explain import forecasts
from checks.explain.aftermath import Moving
from checks.explain.forecasts import Forecast
from checks.models import Config, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pin, Rule
from checks.tests.cast import owners, report, sent, silence
from checks.tests.operators import CONFIGS, act_confirmed, config, confirmed, superuser
from clusteragent.lib import clock
from nodes import tokens
from nodes.models import Hearing, Heartbeat, Node, NodeToken
from operators.admin import sameness
from operators.admin.questions import Question, seen_of
from operators.roles import Role
from operators.tests.cast import bearer, having, user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NODES = "/admin/nodes/node/"


@pytest.fixture
def client() -> Client:
    """shop and mail run on ash; birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail")])
    report("birch")
    return superuser()


def words(client: Client, url: str, **fields: Any) -> str:
    """What the page says that asks."""
    response = client.post(url, fields)
    assert response.status_code == 200
    return " ".join([response.context["question"].what, *response.context["question"].sentences])


def cordoned(name: str, **how: Any) -> Node:
    Node.objects.filter(name=name).cordon(**how)
    return Node.objects.get(name=name)


def dangle() -> None:
    """Two configs that run nowhere, since only birch may have them."""
    Rule.objects.create(name="b", check_pattern="dns", required={"zone": "b"})
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    dispatcher.schedule([sent("one", name="dns"), sent("two", name="dns")])
    assert "one" not in owners()


def test_uncordoning_says_what_would_come_to_the_node(client: Client) -> None:
    birch = cordoned("birch")
    dangle()
    fields = {"action": "uncordon", "_selected_action": birch.pk}
    told = words(client, NODES, **fields)
    assert told.startswith("Uncordon birch It gets new checks again, and keeps what it has.")
    assert "2 configs without a node would get one." in told
    assert "Balancing may move more to it: at most 5 configs in 1 min." in told
    row = client.post(NODES, fields).context["tables"][0].rows[0]
    assert f">{config('one')}</a>" in row[0]
    assert row[1:] == ("nobody", "birch")
    assert not Node.objects.get(name="birch").schedulable
    assert "1 node uncordoned." in confirmed(client, NODES, **fields)
    dispatcher.redispatch()
    assert owners()["one"] == "birch"


def test_ending_a_drain_says_what_stays(client: Client) -> None:
    ash = cordoned("ash", draining=True)
    assert "2 configs about to move away would stay." in words(
        client, NODES, action="uncordon", _selected_action=ash.pk
    )


def test_unpinning_says_that_the_next_rebalance_may_move_it(client: Client) -> None:
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    told = words(client, CONFIGS, action="unpin", _selected_action=config("shop").pk)
    assert "It stays where it is for now. Nothing else moves for it. Balancing may move it: at most 5 configs" in told
    assert Pin.objects.exists()
    freezes.freeze(actor="eve")
    told = words(client, f"/admin/checks/pin/{Pin.objects.get().pk}/delete/")
    assert "Nothing is balanced automatically now: frozen by eve." in told
    act_confirmed(client, "unpin", ["shop"])
    assert not Pin.objects.exists()


@pytest.mark.parametrize("resumed", ["shop", "mail"])
def test_another_config_that_stops_is_asked_about_again(client: Client, resumed: str) -> None:
    """As many as before are not the same."""
    dispatcher.pause(list(Config.objects.exclude(pk=config("shop").pk).values_list("pk", flat=True)), actor="eve")
    rule = {
        "name": "z",
        "check_pattern": "http_check",
        "source_pattern": "*",
        "required": '{"zone": "z"}',
        "forbidden": "{}",
    }
    page: Any = client.post("/admin/checks/rule/add/", rule)
    dispatcher.pause([config("shop").pk], actor="eve")
    dispatcher.resume([config(resumed).pk], actor="eve")
    answer = client.post(
        "/admin/checks/rule/add/", rule | {"seen": page.context["seen"], "typed": page.context["word"]}
    )
    assert page.context["question"].word
    assert answer.status_code == (302 if resumed == "shop" else 200)


@pytest.mark.parametrize("action", ["unpin", "release", "uncordon"])
def test_once_balancing_goes_on_it_is_asked_about_again(client: Client, action: str) -> None:
    """Who saw that nothing is balanced automatically did not see that more may move."""
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    dispatcher.isolate([config("shop").pk], actor="eve")
    sent = {"action": action, "_selected_action": cordoned("birch").pk if action == "uncordon" else config("shop").pk}
    url = NODES if action == "uncordon" else CONFIGS
    freezes.freeze(actor="eve")
    seen = client.post(url, sent).context["seen"]
    freezes.thaw(actor="eve")
    page = client.post(url, sent | {"seen": seen})
    assert "Balancing may move" in page.content.decode()
    freezes.freeze(actor="eve")
    assert client.post(url, sent | {"seen": page.context["seen"]}).status_code == 302


def test_unpinning_says_what_waited_for_the_pin(client: Client) -> None:
    dispatcher.pin([config("shop").pk], "oak", waits=True, actor="eve")
    assert "shop" not in owners()
    told = words(client, CONFIGS, action="unpin", _selected_action=config("shop").pk)
    assert "1 config without a node would get one." in told


def test_releasing_says_that_others_may_come(client: Client) -> None:
    dispatcher.isolate([config("shop").pk], actor="eve")
    told = words(client, CONFIGS, action="release", _selected_action=config("shop").pk)
    assert "Others may be placed on its node again." in told
    assert Isolation.objects.exists()


def test_ending_a_freeze_says_what_the_next_round_moves(client: Client) -> None:
    freeze = freezes.freeze(actor="eve")
    told = words(client, "/admin/checks/freeze/", action="thaw", _selected_action=freeze.pk)
    assert (
        "Balancing goes on: at most 5 configs in 1 min. By the last measured loads the next round moves 0 configs."
        in told
    )
    assert told == words(client, "/admin/now/remedy/frozen/")
    assert Freeze.objects.in_force().exists()


def test_dispatching_says_what_would_go_where_and_what_stays_and_why(client: Client) -> None:
    birch = cordoned("birch")
    dangle()
    Rule.objects.create(name="gpu", check_pattern="gpu", required={"gpu": "yes"})
    dispatcher.schedule([sent("three", name="gpu")])
    Node.objects.filter(pk=birch.pk).cordon(schedulable=True)
    told = words(client, "/admin/now/remedy/dangling/")
    assert "2 configs would get a node. 1 config would go on dangling." in told
    assert "rule gpu: it requires gpu=yes" in told
    assert Config.objects.dangling().count() == 3
    assert "2 configs dispatched." in confirmed(client, "/admin/now/remedy/dangling/")


def test_forgetting_says_what_is_lost(client: Client) -> None:
    silence("birch")
    dispatcher.expire_nodes(force=True)
    told = words(client, NODES, action="forget", _selected_action=Node.objects.get(name="birch").pk)
    assert "Forget birch It leaves the list, with its charts" in told
    assert "Events, moves and acts stay." in told
    assert Node.objects.filter(name="birch").exists()


def test_deleting_a_user_or_a_token_says_who_can_do_no_more(client: Client) -> None:
    otto = user("otto", Role.OPERATOR)
    token = AuthToken.objects.create(otto)[0]
    assert "1 token of it can't call any more." in words(client, f"/admin/auth/user/{otto.pk}/delete/")
    assert "is answered 401 from then on." in words(client, f"/admin/knox/authtoken/{token.pk}/delete/")
    assert AuthToken.objects.exists()


def test_who_decided_on_other_rows_is_asked_again_and_that_is_on_record(client: Client) -> None:
    dispatcher.pin([config("shop").pk, config("mail").pk], "ash", actor="eve")
    both = {"action": "unpin", "_selected_action": [config("shop").pk, config("mail").pk]}
    seen = client.post(CONFIGS, {"action": "unpin", "_selected_action": config("shop").pk}).context["seen"]
    page = client.post(CONFIGS, both | {"seen": seen}).content.decode()
    assert "Nothing was done, since something changed." in page
    assert Pin.objects.count() == 2
    assert Act.objects.get(verb=Act.Verb.REFUSE).person == "olga"


def pinned() -> str:
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    return f"pins/{Pin.objects.get().pk}"


def isolated() -> str:
    dispatcher.isolate([config("shop").pk], actor="eve")
    return f"isolations/{Isolation.objects.get().pk}"


def frozen() -> str:
    return f"freezes/{freezes.freeze(actor='eve').pk}"


def uncordonable() -> str:
    cordoned("ash")
    return "nodes/ash/uncordon"


@pytest.mark.parametrize(
    ("method", "given", "what", "command"),
    [
        ("DELETE", pinned, "Unpin ", ["unpin", "shop"]),
        ("DELETE", isolated, "Release ", ["release", "shop"]),
        ("DELETE", frozen, "End the freeze", ["thaw"]),
        ("POST", uncordonable, "Uncordon ash", ["drain", "ash", "--undo"]),
    ],
)
def test_dry_runs_say_the_same_and_change_nothing(
    client: Client, capsys: Any, method: str, given: Callable[[], str], what: str, command: list[str]
) -> None:
    path = given()
    before = [list(model.objects.values()) for model in (Pin, Isolation, Freeze)]
    acts = Act.objects.count()
    answer = having(Role.OPERATOR).call(method, f"{path}?dry_run=1")
    assert answer.status_code == 200, answer.content
    assert answer.json()["what"].startswith(what)
    named = [config("shop").instances.get().check_id if word == "shop" else word for word in command]
    call_command(*named, "--dry-run", "--as", "olga")
    assert capsys.readouterr().out.splitlines() == answer.json()["sentences"]
    assert [list(model.objects.values()) for model in (Pin, Isolation, Freeze)] == before
    assert Act.objects.count() == acts


def test_dispatching_has_a_dry_run_as_a_command(client: Client, capsys: Any) -> None:
    cordoned("birch")
    dangle()
    call_command("redispatch", "--dry-run", "--as", "olga")
    out = capsys.readouterr().out
    assert "No config would get a node now.\n2 configs would go on dangling.\n" in out
    assert not Act.objects.exists()


def test_the_heading_names_the_only_row_or_their_kind(client: Client) -> None:
    for name in ("ash", "birch"):
        cordoned(name)
    both = list(Node.objects.values_list("pk", flat=True))
    for chosen, original in (([both[0]], Node.objects.get(pk=both[0])), (both, None)):
        page = client.post(NODES, {"action": "uncordon", "_selected_action": chosen})
        assert (page.context["opts"], page.context.get("original")) == (Node._meta, original)
        assert "Welcome" not in page.content.decode()
    assert "Welcome" not in client.post("/admin/now/remedy/dangling/").content.decode()


DISPATCH = "/admin/now/remedy/dangling/"


def test_dispatching_looks_at_the_first_of_very_many(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    cordoned("birch")
    dangle()
    monkeypatch.setattr(forecasts, "MOST_FORESEEN", 1)
    told = words(client, DISPATCH)
    assert (
        "Of the first 1 of 2 configs that dangle: No config would get a node now. 1 config would go on dangling."
        in told
    )


def test_dispatching_says_what_goes_back_to_a_node_that_reports_again(client: Client) -> None:
    silence("ash")
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch(force=True)
    assert set(owners().values()) == {"birch"}
    report("ash")
    told = words(client, DISPATCH)
    assert "2 configs would go back to their former nodes, which report again, since no other has fetched it." in told
    assert {move.to for move in forecasts.redispatch().moves} == {"ash"}
    dispatcher.redispatch()
    assert set(owners().values()) == {"ash"}


def test_under_a_ceiling_what_nobody_may_ever_have_is_explained_by_that(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    cordoned("birch")
    dangle()
    monkeypatch.setattr(forecasts, "pile_up_ceiling", lambda: 2)
    told = words(client, DISPATCH)
    assert "Why: no node can have it: " in told
    assert "too many of lost nodes" not in told
    Rule.objects.all().delete()
    assert "For a minute no node gets too many of lost nodes at once." in words(client, DISPATCH)


def test_dispatching_says_that_the_warm_up_ends_or_is_not_over(client: Client) -> None:
    Hearing.objects.update(warmup=True, warm_until=Now() + timedelta(minutes=1))
    assert "The warm-up is not over" in words(client, DISPATCH)
    Hearing.objects.update(warm_until=Now())
    told = words(client, DISPATCH)
    assert "It ends the warm-up." in told
    assert "not over" not in told
    dispatcher.redispatch()
    assert not Hearing.objects.get().warmup


def test_what_would_run_nowhere_is_red_and_its_check_must_be_typed(client: Client) -> None:
    moves = [Moving(config(key).pk, "http_check", "ash", "") for key in ("shop", "mail")]
    said = ["Others may come.", "2 configs would run nowhere."]
    question = Question.of(lambda: Forecast("Release", said, moves), "Release", [1])
    assert (question.worse, question.word, question.sentences) == (
        ["2 configs would run nowhere."],
        "http_check",
        said[:1],
    )
    # One more than was seen is another question.
    more = Question.of(lambda: Forecast("Release", said, [*moves, moves[0]]), "Release", [1])
    assert more.agreed(question.seen) is None


def test_a_node_that_was_lost_meanwhile_is_not_forgotten_unasked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ash", "birch"):
        silence(name)
    dispatcher.expire_nodes(force=True)
    report("birch")
    keys = list(Node.objects.values_list("pk", flat=True))
    foresee = forecasts.forget

    def lose_birch(names: Any) -> Forecast:
        Heartbeat.objects.filter(node__name="birch").delete()
        return foresee(names)

    seen = client.post(NODES, {"action": "forget", "_selected_action": keys}).context["seen"]
    monkeypatch.setattr(forecasts, "forget", lose_birch)
    client.post(NODES, {"action": "forget", "_selected_action": keys, "seen": seen})
    assert set(Node.objects.values_list("name", flat=True)) == {"birch"}


def same(client: Client, url: str, **fields: Any) -> dict[str, str]:
    """What the page that asks says of the same elsewhere, by what it is."""
    return {label: text for _, label, text in client.post(url, fields).context["elsewhere"]}


def run(told: str) -> None:
    """Run a command as it is told."""
    call_command(*shlex.split(told)[1:], stdout=io.StringIO())


def call(told: str, user: str = "olga") -> None:
    """Send a call as it is told, with a token of the user."""
    words = shlex.split(told)
    method, path = words[words.index("-X") + 1], urlsplit(words[-1]).path
    body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
    token = AuthToken.objects.create(User.objects.get(username=user))[1]
    response = bearer(token).call(method, path, body)
    assert response.status_code < 300, response.content


def ordered(name: str) -> None:
    """Give shop an order, or ash, or all."""
    shop = [config("shop").pk]
    if name == "pin":
        dispatcher.pin(shop, "ash", actor="olga")
    elif name == "isolation":
        dispatcher.isolate(shop)
    elif name == "freeze":
        freezes.freeze(until=None, note="", actor="olga")
    elif name == "cordon":
        cordoned("ash")


def selected(row: Any, action: str) -> dict[str, Any]:
    return {"action": action, "_selected_action": [row.pk]}


ENDINGS: dict[str, tuple[str, Callable[[], dict[str, Any]], Callable[[], bool], str]] = {
    "pin": (
        CONFIGS,
        lambda: selected(config("shop"), "unpin"),
        Pin.objects.exists,
        "clusteragent unpin 'http_check shop'",
    ),
    "isolation": (
        CONFIGS,
        lambda: selected(config("shop"), "release"),
        Isolation.objects.exists,
        "clusteragent release 'http_check shop'",
    ),
    "freeze": (
        "/admin/checks/freeze/",
        lambda: selected(Freeze.objects.get(), "thaw"),
        Freeze.objects.in_force().exists,
        "clusteragent thaw",
    ),
    "cordon": (
        NODES,
        lambda: selected(Node.objects.get(name="ash"), "uncordon"),
        Node.objects.filter(schedulable=False).exists,
        "clusteragent drain --undo ash",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("way", ["command", "call"])
def test_what_is_asked_can_be_done_by_a_command_and_by_a_call(client: Client, name: str, way: str) -> None:
    url, fields, exists, command = ENDINGS[name]
    ordered(name)
    told = same(client, url, **fields())
    assert told["command that does the same"] == command
    assert exists(), "it is only asked"
    (run if way == "command" else call)(told[f"{way} that does the same"])
    assert not exists()


@pytest.mark.parametrize("verb", ["pin", "isolation"])
def test_a_deletion_in_the_list_of_orders_says_so_too(client: Client, verb: str) -> None:
    ordered(verb)
    _, _, exists, command = ENDINGS[verb]
    order = (Pin if verb == "pin" else Isolation).objects.get()
    told = same(client, f"/admin/checks/{verb}/{order.pk}/delete/")
    assert told["command that does the same"] == command
    call(told["call that does the same"])
    assert not exists()


def test_a_freeze_is_told_with_its_end_and_its_note(client: Client) -> None:
    until = (clock.now() + timedelta(hours=2)).replace(second=0, microsecond=0)
    fields = {"until": f"{until:%Y-%m-%d %H:%M}", "note": "a release's night"}
    told = same(client, "/admin/checks/freeze/add/", **fields)
    run(told["command that does the same"])
    call(told["call that does the same"])
    assert [(one.until, one.note) for one in Freeze.objects.all()] == [(until, "a release's night")] * 2


def test_cordoning_has_a_call_alone(client: Client) -> None:
    told = same(client, NODES, **selected(Node.objects.get(name="ash"), "cordon"))
    assert list(told) == ["call that does the same"]
    call(told["call that does the same"])
    assert not Node.objects.get(name="ash").schedulable


def test_deleting_a_rule_has_a_call_alone(client: Client) -> None:
    rule = Rule.objects.create(name="b", check_pattern="dns", required={"zone": "b"})
    told = same(client, f"/admin/checks/rule/{rule.pk}/delete/")
    assert list(told) == ["call that does the same"]
    call(told["call that does the same"])
    assert not Rule.objects.exists()


def test_deleting_a_node_token_has_a_command_and_a_call(client: Client) -> None:
    for way, do in (("command", run), ("call", call)):
        row = NodeToken(note="pool", pattern="runner-*")
        tokens.make(row)
        do(same(client, f"/admin/nodes/nodetoken/{row.pk}/delete/")[f"{way} that does the same"])
        assert not NodeToken.objects.exists()


def test_of_several_only_the_command_is_told_and_of_very_many_nothing(client: Client) -> None:
    dispatcher.schedule([sent(f"more-{number}") for number in range(sameness.MOST)])
    dispatcher.pin([one.pk for one in Config.objects.all()], "ash", actor="olga")
    both = [config("shop").pk, config("mail").pk]
    told = same(client, CONFIGS, action="unpin", _selected_action=both)
    assert told == {"command that does the same": "clusteragent unpin 'http_check shop' 'http_check mail'"}
    everything = list(Config.objects.values_list("pk", flat=True))
    assert same(client, CONFIGS, action="unpin", _selected_action=everything) == {}


def test_who_is_asked_about_a_user_is_told_of_no_way_elsewhere(client: Client) -> None:
    other = user("otto")
    response = client.post(f"/admin/auth/user/{other.pk}/delete/")
    assert response.context["elsewhere"] == []
    assert "The same elsewhere" not in response.content.decode()


@pytest.mark.parametrize(
    ("kind", "order", "told"),
    [
        ("frozen", "freeze", {"command": "clusteragent thaw", "call": "-X DELETE"}),
        ("dangling", "", {"command": "clusteragent redispatch"}),
    ],
)
def test_remedies_say_so_too(client: Client, kind: str, order: str, told: dict[str, str]) -> None:
    ordered(order)
    said = same(client, f"/admin/now/remedy/{kind}/")
    assert set(said) == {f"{way} that does the same" for way in told}
    assert all(words in said[f"{way} that does the same"] for way, words in told.items())


@pytest.mark.parametrize("forged", [seen_of(["ash"], 0), "yes", "", "{cordon}"])
def test_only_what_was_shown_counts_as_seen(client: Client, forged: str) -> None:
    """Not what anybody can work out, nor what another page has shown of the same node."""
    chosen = {"action": "cordon", "_selected_action": Node.objects.get(name="ash").pk}
    cordon = client.post(NODES, chosen).context["seen"]
    seen = forged.format(cordon=cordon)
    act = {"action": "uncordon" if forged == "{cordon}" else "cordon"}
    Node.objects.filter(name="ash").update(schedulable=act["action"] == "cordon")
    client.post(NODES, chosen | act | {"seen": seen})
    assert Node.objects.get(name="ash").schedulable == (act["action"] == "cordon")
    # Nor what another session was shown.
    another = Client()
    another.force_login(User.objects.get())
    Node.objects.filter(name="ash").update(schedulable=True)
    another.post(NODES, chosen | {"seen": cordon})
    assert Node.objects.get(name="ash").schedulable
    client.post(NODES, chosen | {"seen": cordon})
    assert not Node.objects.get(name="ash").schedulable


def test_an_answer_about_one_row_counts_for_none_of_another_kind(client: Client) -> None:
    """Their keys may be the same."""
    pin = Pin.objects.create(source="file", key="later", aim="ash", pk=77)
    Isolation.objects.create(source="file", key="later", pk=77)
    delete = {"action": "delete_selected", "_selected_action": pin.pk}
    seen = client.post("/admin/checks/pin/", delete).context["seen"]
    client.post("/admin/checks/isolation/", delete | {"seen": seen})
    assert Isolation.objects.exists()
    client.post("/admin/checks/pin/", delete | {"seen": seen})
    assert not Pin.objects.exists()


def test_another_end_of_a_freeze_than_was_shown_is_shown_first(client: Client) -> None:
    add = "/admin/checks/freeze/add/"
    shown = client.post(add, {"until": "1h", "note": ""}).context
    sent = dict(shown["hidden"]) | {"seen": shown["seen"]}
    assert "something changed" in client.post(add, sent | {"until": ""}).content.decode()
    assert not Freeze.objects.exists()
    client.post(add, sent)
    assert Freeze.objects.exists()


def test_a_drain_that_began_since_is_not_ended_unseen(client: Client) -> None:
    cordon = {"action": "cordon", "_selected_action": Node.objects.get(name="birch").pk}
    seen = client.post(NODES, cordon).context["seen"]
    cordoned("birch", draining=True)
    assert "The drain of birch ends" in client.post(NODES, cordon | {"seen": seen}).content.decode()
    assert Node.objects.get(name="birch").draining


def test_all_that_is_unpinned_is_listed(client: Client) -> None:
    dispatcher.schedule([sent(f"many-{number}") for number in range(12)])
    ids = list(Config.objects.filter(origins__key__startswith="many").values_list("pk", flat=True))
    dispatcher.pin(ids, "ash", actor="olga")
    page = client.post(CONFIGS, {"action": "unpin", "_selected_action": ids}).content.decode()
    titles = re.findall(r">http_check (many-\d+)</a>", page)
    assert titles == [f"many-{number}" for number in range(12)]
