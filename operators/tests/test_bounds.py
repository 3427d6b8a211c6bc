"""Roles and tokens that are bound to sources and checks: what they cover is done as ever, and all else is refused."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from knox.models import AuthToken

from acts import recording
from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.dispatcher.inventory import read_reserved
from checks.models import Source, TaskRun
from checks.models.bounds import STEERING, Reach
from checks.models.orders import Isolation, Pause, Pin
from checks.models.tags import tags_of_instances
from checks.tests.cast import hand_over, owners, report, sent
from checks.tests.operators import config, confirmed
from nodes.models import Node, NodeRule
from operators.roles import Role
from operators.tests.bounded import ONE, calls, clicks, group, ids, paula, refused, state, wanda, work
from operators.tests.cast import Caller, bearer, user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    work()


# What steers configs in the API.
ORDERS = [
    ("configs/{config}/reassign", {"node": "birch"}),
    ("pins", {"aim": "birch"}),
    ("pauses", {}),
    ("isolations", {}),
]


def order(caller: Caller, path: str, body: Any, *keys: str, dry: bool = False) -> Any:
    filled = body if "{config}" in path else body | {"configs": ids(*keys)}
    return caller.call("POST", path.format(config=ids(*keys)[0]) + ("?dry_run=1" if dry else ""), filled)


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(("path", "body"), ORDERS)
def test_an_operator_steers_what_the_bound_covers_and_nothing_else(path: str, body: Any, dry: bool) -> None:
    # The others would have to leave the node of an isolated one.
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "birch", actor="eve")
    report("cedar")
    caller, before = calls(paula()), state()
    refused(order(caller, path, body, "shop", dry=dry), str(config("shop")), "team:payments", "the role payments")
    assert state() == before
    assert order(caller, path, body, "theirs", dry=dry).status_code in (200, 201)


def test_an_order_for_several_is_refused_as_a_whole() -> None:
    caller = calls(paula())
    refused(caller.call("POST", "pauses", {"configs": ids("theirs", "shop", "paycheck")}), str(config("shop")))
    assert not Pause.objects.exists()
    assert caller.call("POST", "pauses", {"configs": ids("theirs", "paycheck")}).status_code == 201


def test_an_isolation_moves_nobody_elses_config() -> None:
    refused(calls(paula()).call("POST", "isolations", {"configs": ids("theirs")}), str(config("shop")))
    assert not Isolation.objects.exists()


@pytest.mark.parametrize("dry", ["", "?dry_run=1"])
@pytest.mark.parametrize(
    ("path", "body"), [*ORDERS[:2], ("pauses", {"until": "10m"})], ids=["reassign", "pin", "pause for a time"]
)
def test_an_isolated_config_is_sent_to_no_node_that_others_would_have_to_leave(path: str, body: Any, dry: str) -> None:
    """Once it is there the leader moves them, whoever they belong to. What is isolated can be released, and paused."""
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "birch", actor="eve")
    caller = calls(paula())
    assert order(caller, "isolations", {}, "theirs").status_code == 201
    before = state()
    refused(order(caller, path, body, "theirs", dry=bool(dry)), "others leave the node", "the role payments")
    assert state() == before
    assert order(calls(User.objects.create_superuser("olga")), path, body, "theirs").status_code in (200, 201)
    assert caller.call("DELETE", f"isolations/{Isolation.objects.get().pk}").status_code == 204
    assert order(caller, path, body, "theirs").status_code in (200, 201)


def test_a_pause_of_what_is_isolated_ends_by_its_release() -> None:
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "birch", actor="eve")
    caller = calls(paula())
    for kind in ("isolations", "pauses"):
        assert order(caller, kind, {}, "theirs").status_code == 201
    pause = f"pauses/{Pause.objects.get().pk}"
    refused(caller.call("DELETE", pause), "others leave the node", "the role payments")
    assert caller.call("DELETE", f"isolations/{Isolation.objects.get().pk}").status_code == 204
    assert caller.call("DELETE", pause).status_code == 204


def test_an_isolation_after_a_pin_has_nobody_leave_a_node_either() -> None:
    """The leader sends it there as soon as there is room, when nobody asks the bound any more."""
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "birch", actor="eve")
    full = NodeRule.objects.create(pattern="birch", max_configs=3)
    NodeRule.objects.apply()
    caller = calls(paula())
    assert order(caller, "pins", {"aim": "birch"}, "theirs").status_code == 201
    assert order(caller, "isolations", {}, "theirs").status_code == 201
    hand_over()
    full.delete()
    NodeRule.objects.apply()
    for _ in range(3):
        dispatcher.reconcile()
        TaskRun.objects.filter(name="reconcile").delete()
        hand_over()
    assert owners() == dict.fromkeys(("shop", "hand", "paycheck", "theirs"), "birch")
    # In company it keeps the node from nobody, who might be kept from many by a few.
    birch = Node.objects.get(name="birch").pk
    assert read_reserved() == {}
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "ash", actor="eve")
    assert {node: one.id for node, one in read_reserved().items()} == {birch: ids("theirs")[0]}


# Whose order it is: of somebody who is bound, or not.
@pytest.mark.parametrize("is_bound", [True, False])
@pytest.mark.parametrize(("path", "body"), ORDERS[1:], ids=["pin", "pause", "isolate"])
def test_an_order_within_a_bound_ends_where_another_source_sends_the_config_too(
    path: str, body: Any, is_bound: bool
) -> None:
    dispatcher.reassign(ids("shop", "hand", "paycheck"), "birch", actor="eve")
    caller = calls(paula() if is_bound else User.objects.create_superuser("olga"))
    assert order(caller, path, body, "theirs").status_code == 201
    # Who writes that source, too, guesses what shop says next.
    following = ("url: next\ntags: [team:shop]\n",)
    dispatcher.schedule([sent("theirs", instances=following)])
    assert _has_order("theirs")
    dispatcher.schedule([sent("same", instances=following)])
    assert _has_order("theirs"), "an origin of the same source changes nothing"
    hand_over()
    dispatcher.schedule([sent("shop-next", source="api:shop", instances=following)])
    dispatcher.resume_due()
    assert config("shop-next") == config("theirs")
    assert _has_order("theirs") is not is_bound
    assert ("shop-next" in owners()) is (is_bound or path != "pauses")


def test_so_it_does_where_that_source_has_sent_another_config() -> None:
    assert order(calls(paula()), "pauses", {}, "theirs").status_code == 201
    following = ("url: next\ntags: [team:shop]\n",)
    dispatcher.schedule([sent("theirs", instances=following)])
    dispatcher.schedule([sent("hand", source="admin", instances=following)])
    dispatcher.resume_due()
    assert not Pause.objects.exists()
    assert config("hand") == config("theirs")
    assert "hand" in owners()


def test_an_order_that_waited_does_not_hold_for_what_comes_with_another_namespace() -> None:
    here, there = "clustercheck/pay/one", "clustercheck/shop/one"
    Pause.objects.create(source="kubernetes", key=here, author="paula", bounded=True)
    same = {"source": "kubernetes", "instances": ("url: same\n",)}
    dispatcher.schedule([sent(here, **same), sent(there, **same)])
    dispatcher.resume_due()
    assert config(here) == config(there)
    assert not Pause.objects.exists()


def _has_order(key: str) -> bool:
    one = config(key)
    return any(kind.objects.in_force().filter(config=one).exists() for kind in (Pin, Pause)) or hasattr(
        one, "isolation"
    )


@pytest.mark.parametrize("dry", ["", "?dry_run=1"])
@pytest.mark.parametrize(("kind", "verb"), [("pins", "pin"), ("pauses", "pause"), ("isolations", "isolate")])
def test_what_others_have_ordered_for_others_stays(kind: str, verb: str, dry: str) -> None:
    model = {"pins": Pin, "pauses": Pause, "isolations": Isolation}[kind]
    how = {"aim": "ash"} if kind == "pins" else {}
    getattr(dispatcher, verb)(ids("shop"), actor="eve", **how)
    caller = calls(paula())
    refused(caller.call("DELETE", f"{kind}/{model.objects.get().pk}{dry}"), "team:payments")
    assert model.objects.exists()
    model.objects.all().delete()
    getattr(dispatcher, verb)(ids("theirs"), actor="eve", **how)
    assert caller.call("DELETE", f"{kind}/{model.objects.get().pk}{dry}").status_code in (200, 204)


def test_a_stored_plan_is_applied_by_whom_the_bound_lets_order_it() -> None:
    plan = plans.store(deciding.pause(ids("theirs", "paycheck")), author="eve")
    applied = calls(paula()).call("POST", f"plans/{plan.pk}/apply")
    assert applied.status_code == 200, applied.content
    assert {pause.config_id for pause in Pause.objects.all()} == set(ids("theirs", "paycheck"))


def test_a_bound_token_applies_a_stored_plan_of_what_it_covers_alone() -> None:
    theirs = plans.store(deciding.reassign(ids("theirs"), "birch"), author="eve")
    shop = plans.store(deciding.reassign(ids("shop"), "birch"), author="eve")
    caller = calls(user("olaf", Role.OPERATOR), checks=["team:payments"])
    refused(caller.call("POST", f"plans/{shop.pk}/apply"), str(config("shop")), "the token")
    assert caller.call("POST", f"plans/{theirs.pk}/apply").status_code == 200
    assert (owners()["theirs"], owners()["shop"]) == ("birch", "ash")


def test_an_order_that_waits_for_its_origin_is_nobodys() -> None:
    waiting = Pin.objects.create(source="file", key="later", aim="ash")
    refused(calls(paula()).call("DELETE", f"pins/{waiting.pk}"), "waits for its origin", "the role payments")
    assert Pin.objects.exists()


# What concerns the cluster, and what it needs.
CLUSTER = [
    ("POST", "nodes/ash/cordon", None),
    ("POST", "nodes/ash/uncordon", None),
    ("POST", "nodes/ash/accept-certificate", None),
    ("POST", "nodes/ash/drain", {}),
    ("POST", "rules", {"name": "x"}),
    ("POST", "node-rules", {"pattern": "x", "labels": {"a": "b"}}),
    ("POST", "plans", {}),
    ("POST", "freezes", {"note": "x"}),
]


@pytest.mark.parametrize(("method", "path", "body"), CLUSTER)
def test_what_concerns_the_cluster_is_no_bound_roles(method: str, path: str, body: Any) -> None:
    before = state()
    refused(calls(paula()).call(method, path, body), "the whole cluster", "the role payments")
    assert state() == before


@pytest.mark.parametrize(("method", "path", "body"), CLUSTER)
def test_nor_a_bound_tokens_even_of_a_superuser(method: str, path: str, body: Any) -> None:
    caller = calls(User.objects.create_superuser("olga"), checks=["*"], sources=["*"])
    refused(caller.call(method, path, body), "the whole cluster", "the token")


def test_a_tag_counts_where_each_instance_has_it() -> None:
    mixed = ("url: a\ntags: [team:payments]\n", "url: b\ntags: [team:shop]\n")
    odd = ("url: a\nnote: |\n  tags:\n  - team:payments\n",)
    init = sent("init", init_config="tags:\n- team:payments\n", instances=("url: i\n",))
    both = ("url: c\ntags: [team:payments]\n", "url: d\ntags: ['team:payments', x]\n")
    dispatcher.schedule(
        [sent("mixed", instances=mixed), sent("odd", instances=odd), init, sent("both", instances=both)]
    )
    caller = calls(paula())
    answers = {key: order(caller, "pauses", {}, key).status_code for key in ("mixed", "odd", "init", "both")}
    assert answers == {"mixed": 403, "odd": 403, "init": 403, "both": 201}
    assert tags_of_instances(config("both").text) == [["team:payments"], ["team:payments", "x"]]
    assert tags_of_instances("check_name: x\ninstances: []\n") == []


@pytest.mark.parametrize(
    ("words", "name", "tags", "covered"),
    [
        (["pay*"], "paycheck", "", True),
        (["pay*"], "Paycheck", "", False),
        (["pay*"], "x", "pay:x", False),
        (["team:pay*"], "x", "team:payments", True),
        (["team:payments"], "x", "Team:payments", False),
        (["team:payments"], "x", "team:payments2", False),
        (["team:payments"], "team", "", False),
        ([], "x", "team:x", False),
        (["*"], "x", "", True),
        (["team:[a-z]hop"], "x", "team:shop", False),
        (["team:[a-z]hop"], "x", "team:[a-z]hop", True),
        (["pay[a-z]heck"], "paycheck", "", False),
    ],
)
def test_words_are_names_of_checks_or_tags(words: list[str], name: str, tags: str, covered: bool) -> None:
    assert Reach("it", (), tuple(words)).has_check(name, lambda: [[tags] if tags else []]) is covered


def test_of_two_roles_either_may_cover() -> None:
    who = paula()
    who.groups.add(group("shop", STEERING, checks=["team:shop"]))
    caller = calls(who)
    assert caller.call("POST", "pauses", {"configs": ids("theirs", "shop")}).status_code == 201
    who.groups.add(Group.objects.get(name=Role.OPERATOR))
    assert caller.call("POST", "pauses", {"configs": ids("hand")}).status_code == 201
    assert caller.call("POST", "nodes/ash/cordon").status_code == 200


def test_a_tokens_bound_narrows_what_its_user_may() -> None:
    olga = User.objects.create_superuser("olga")
    caller = calls(olga, checks=["team:payments"])
    refused(order(caller, "pauses", {}, "shop"), "the token")
    refused(caller.call("PUT", "sources/shop", {"configs": []}), "no sources, the bound of the token")
    assert order(caller, "pauses", {}, "theirs").status_code == 201
    assert order(calls(olga), "pauses", {}, "shop").status_code == 201


def test_a_tokens_bound_adds_nothing_to_a_roles() -> None:
    caller = calls(paula(), checks=["*"])
    refused(order(caller, "pauses", {}, "shop"), "the role payments")
    assert (
        calls(user("vera", Role.VIEWER), checks=["*"]).call("POST", "pauses", {"configs": ids("shop")}).status_code
        == 403
    )


@pytest.mark.parametrize("options", ["", "?dry_run=1", "?accept_removals=1"])
def test_an_author_writes_the_sources_of_the_bound_alone(options: str) -> None:
    assert calls(user("wim", Role.AUTHOR)).call("PUT", "sources/other", {"configs": [ONE]}).status_code == 200
    caller, before = calls(wanda("api:shop", "api:shop-*")), state()
    for name in ("other", "Shop", "shops", "xshop-a", "shop.a"):
        refused(caller.call("PUT", f"sources/{name}{options}", {"configs": []}), f"api:{name} is outside of api:shop")
    assert state() == before
    assert not Source.objects.filter(name="api:shop").exists()
    for name in ("shop", "shop-a"):
        assert caller.call("PUT", f"sources/{name}{options}", {"configs": [ONE]}).status_code == 200


def test_a_name_that_is_no_sources_is_refused_before_it_is_matched() -> None:
    assert calls(wanda("api:*")).call("PUT", "sources/..%2Fx", {"configs": []}).status_code in (400, 404)


def test_an_admin_makes_a_bound_token() -> None:
    client = clicks(user("ada", Role.ADMIN))
    fields = {
        "user": wanda("*").pk,
        "sources": "api:shop",
        "checks": "",
        "expiry_0": "2100-01-01",
        "expiry_1": "08:00:00",
    }
    page = confirmed(client, "/admin/knox/authtoken/add/", **fields)
    assert "is bound to api:shop" in page
    row = AuthToken.objects.get()
    assert row.bound.sources == ["api:shop"]
    assert Act.objects.latest("pk").after["bound"] == {"sources": ["api:shop"], "checks": []}
    assert "api:shop" in client.get("/admin/knox/authtoken/").content.decode()


def made(*options: str) -> str:
    out = io.StringIO()
    call_command("createtoken", "--user", "ci", "--role", "author", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_so_does_the_command() -> None:
    caller = bearer(made("--sources", "api:shop,api:shop-*"))
    assert caller.call("PUT", "sources/shop-a", {"configs": []}).status_code == 200
    refused(caller.call("PUT", "sources/other", {"configs": []}), "api:other is outside of api:shop and api:shop-*")
    assert '"bound": {"sources": ["admin"], "checks": []}' in made("--sources", "admin", "--json")
    for option, value in (
        ("--sources", "shop"),
        ("--sources", "kubernetes"),
        ("--checks", "a b"),
        ("--checks", "team:"),
    ):
        with pytest.raises(CommandError, match=value):
            made(option, value)


@pytest.mark.parametrize("option", ["--sources", "--checks"])
@pytest.mark.parametrize("value", ["", " ", " , "])
def test_a_bound_that_names_nothing_is_no_token_without_one(option: str, value: str) -> None:
    """As from a variable of a script that is not set."""
    with pytest.raises(CommandError):
        made(option, value)
    assert not AuthToken.objects.exists()


def test_a_bound_role_makes_no_roles_and_no_tokens() -> None:
    who = user("eve", Role.VIEWER)
    deeds = {"auth.add_group", "auth.change_group", "auth.change_user", "knox.add_authtoken"}
    who.groups.add(group("helpdesk", deeds, checks=["*"]))
    client = clicks(who)
    for url in ("auth/group/add/", f"auth/user/{who.pk}/change/", "knox/authtoken/add/"):
        assert client.post(f"/admin/{url}").status_code == 403


def test_the_leader_and_commands_are_not_bound() -> None:
    paula()
    assert dispatcher.pause(ids("shop"), actor="leader")


def test_refusals_of_one_who_goes_on_asking_fill_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_REFUSED", 3)
    caller, refusals = calls(paula()), Act.objects.filter(verb=Act.Verb.REFUSE)
    before = refusals.count()
    for _ in range(5):
        assert order(caller, "configs/{config}/reassign", {"node": "birch"}, "shop").status_code == 403
    assert refusals.count() == before + 3
