"""Roles and tokens that are bound to sources and checks: what they cover is done as ever, and all else is refused."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db.models import Q
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import costs, deciding
from checks.dispatcher.costs import Measured
from checks.models import Config, Move, Origin, Plan, Source
from checks.models.bounds import STEERING, WRITING, Reach
from checks.models.orders import Isolation, Pause, Pin
from checks.models.tags import tags_of_instances
from checks.sources import files
from checks.tests.cast import hand_over, owners, report, sent, silence
from checks.tests.operators import act, config, page_of
from clusteragent.lib import conf
from nodes.models import Node
from nodes.statsclient import Round
from operators import bounds
from operators.roles import Role
from operators.tests import test_acts
from operators.tests.cast import Caller, bearer, user

pytestmark = pytest.mark.django_db

TEAM = "url: x\ntags: [env:prod, team:payments]\n"
ONE = {"name": "one", "check": "http_check", "instances": [{"url": "http://one"}]}
# What concerns the whole cluster. A bound group may have been given it all the same.
WIDE = {
    "nodes.change_node", "checks.add_plan", "checks.change_plan", "checks.add_freeze", "checks.delete_freeze",
    *(f"{rule.format(deed)}rule" for rule in ("checks.{}_", "nodes.{}_node") for deed in ("add", "change", "delete")),
}  # fmt: skip


def group(name: str, permissions: frozenset[str] | set[str], *, sources: Any = (), checks: Any = ()) -> Group:
    made = Group.objects.create(name=name)
    wanted = [
        Q(content_type__app_label=app, codename=code) for app, _, code in (one.partition(".") for one in permissions)
    ]
    made.permissions.set(Permission.objects.filter(Q(*wanted, _connector=Q.OR)))
    bounds.bind(sources, checks, group=made)
    return made


def paula(*roles: Role) -> User:
    """Someone who may look at everything, and steer what is of payments."""
    made = user("paula", Role.VIEWER, *roles)
    made.groups.add(group("payments", STEERING | WIDE, checks=["team:payments", "pay*"]))
    return made


def wanda(*sources: str) -> User:
    """Someone who may look at everything, and write these sources."""
    made = user("wanda", Role.VIEWER)
    made.groups.add(group("writers", WRITING, sources=sources))
    return made


def calls(who: User, *, sources: Any = (), checks: Any = ()) -> Caller:
    row, token = AuthToken.objects.create(who)
    bounds.bind(sources, checks, token=row)
    # Of its own: what each caller may not do is on record ten times an hour.
    return bearer(token)._replace(client=Client())


def clicks(who: User) -> Client:
    client = Client()
    client.force_login(who)
    return client


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """ash has theirs and paycheck, which are of payments, shop, and hand, which somebody wrote; birch is idle."""
    report("ash")
    dispatcher.schedule(
        [
            sent("theirs", instances=(TEAM,)),
            sent("paycheck", name="paycheck"),
            sent("shop", instances=("url: shop\ntags: [team:shop]\n",)),
            sent("hand", source="admin"),
        ]
    )
    hand_over()
    report("birch")


def ids(*keys: str) -> list[int]:
    return [config(key).pk for key in keys]


def refused(answer: Any, *words: str) -> None:
    """The call was refused with these words, and that is on record once."""
    assert answer.status_code == 403, answer.content
    last = Act.objects.order_by("-pk")[:2]
    assert [one.verb for one in last][:1] == [Act.Verb.REFUSE]
    for word in words:
        assert word in answer.json()["detail"]
        assert word in last[0].reason


def state() -> Any:
    """What a refusal must not change."""
    rows = [list(model.objects.order_by("pk").values()) for model in (Pin, Pause, Isolation, Plan, Node, Origin)]
    return owners(), rows


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


def test_an_order_that_waits_for_its_origin_is_nobodys() -> None:
    waiting = Pin.objects.create(source="file", key="later", aim="ash")
    refused(calls(paula()).call("DELETE", f"pins/{waiting.pk}"), "waits for its origin", "the role payments")
    assert Pin.objects.exists()


# What concerns the cluster, and what it needs.
CLUSTER = [
    ("POST", "nodes/ash/cordon", None),
    ("POST", "nodes/ash/uncordon", None),
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


def test_a_saved_plan_of_somebody_else_is_no_way_around() -> None:
    rebalance = Plan.objects.create(revision=1)
    pause = plans.store(deciding.pause(ids("shop")), author="eve")
    theirs = plans.store(deciding.pause(ids("theirs")), author="eve")
    who = paula()
    client = clicks(who)
    for plan in (rebalance, pause):
        assert client.post(f"/admin/checks/plan/{plan.pk}/apply/").status_code == 403
        assert client.post(f"/admin/checks/plan/{plan.pk}/anew/").status_code in (302, 403)
    refused(calls(who).call("POST", f"plans/{pause.pk}/apply"), "the whole cluster")
    assert not Pause.objects.exists()
    client.post(f"/admin/checks/plan/{theirs.pk}/apply/")
    assert Pause.objects.get().config == config("theirs")


def test_nor_is_the_undo_of_what_somebody_did() -> None:
    plan, _ = plans.order(lambda: deciding.reassign(ids("shop"), "birch"), actor="eve")
    paused, _ = plans.order(lambda: deciding.pause(ids("hand")), actor="eve")
    client, before = clicks(paula()), owners()
    client.post(f"/admin/checks/plan/{plan.pk}/undo/")
    client.post(f"/admin/checks/plan/{paused.pk}/undo/")
    client.post("/admin/changes/undo/", {"move": [Move.objects.get(to_node="birch").pk]})
    assert Plan.objects.count() == 2
    assert owners() == before
    refusals = Act.objects.filter(verb=Act.Verb.REFUSE)
    assert refusals.count() == 3
    assert all("team:payments" in one.reason for one in refusals)


# Each action on configs, with what its form asks for.
ACTIONS: dict[str, dict[str, str]] = {
    "reassign": {"asked": "yes", "node": "birch"},
    "pin": {"asked": "yes", "kind": "node", "aim": "birch"},
    "pause": {"asked": "yes"},
    "unpin": {},
    "resume": {},
    "isolate": {},
    "release": {},
}


def ordered(*keys: str) -> None:
    """Give these all orders that actions end."""
    for key in keys:
        for model in (Pin, Isolation):
            extra = {"aim": "ash"} if model is Pin else {}
            model.objects.create(config=config(key), source="file", key=key, **extra)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_in_the_admin_is_refused_as_a_whole(action: str) -> None:
    if action in ("unpin", "release"):
        ordered("shop", "theirs")
    elif action == "resume":
        dispatcher.pause(ids("shop", "theirs"), actor="eve")
    before = state()
    page = act(clicks(paula()), action, ["theirs", "shop"], **ACTIONS[action])
    assert "the bound of the role payments" in page
    assert state() == before
    last = Act.objects.latest("pk")
    assert (last.verb, str(config("shop")) in last.reason) == (Act.Verb.REFUSE, True)


def test_each_action_on_configs_is_in_these_tests() -> None:
    from operators.admin.configs import ConfigAdmin

    assert {*ACTIONS, "unschedule"} == set(ConfigAdmin.actions)


def test_a_filter_chooses_no_more_than_a_selection() -> None:
    client = clicks(paula())
    client.post("/admin/checks/config/", {"action": "pause", "select_across": "1", "asked": "yes"})
    assert not Plan.objects.exists()
    client.post("/admin/checks/config/?q=team%3Apayments", {"action": "pause", "select_across": "1", "asked": "yes"})
    assert [move["config"] for move in Plan.objects.get().moves] == ids("theirs")


@pytest.mark.parametrize("kind", ["pin", "pause", "isolation"])
def test_the_pages_of_orders_give_none_to_others(kind: str) -> None:
    fields = {"configs": f"{config('theirs').short_id}, {config('shop').short_id}", "kind": "node", "aim": "birch"}
    answer = clicks(paula()).post(f"/admin/checks/{kind}/add/", fields, follow=True)
    assert "the bound of the role payments" in answer.content.decode()
    assert not Plan.objects.exists()
    assert Act.objects.filter(verb=Act.Verb.REFUSE, reason__contains=str(config("shop"))).count() == 1


def test_all_that_were_paused_together_come_back_together_or_not_at_all() -> None:
    plans.order(lambda: deciding.pause(ids("theirs", "shop")), actor="eve")
    chosen = Pause.objects.get(config=config("theirs")).pk
    clicks(paula()).post("/admin/checks/pause/", {"action": "resume_group", "_selected_action": [chosen]})
    assert Plan.objects.count() == 1


@pytest.mark.parametrize("kind", ["unscheduled", "dangling", "pause_overdue", "quarantined", "unpin"])
def test_the_remedies_of_alerts_are_no_way_around(kind: str) -> None:
    dispatcher.pause(ids("shop"), actor="eve")
    Pause.objects.update(until="2020-01-01T00:00Z")
    Isolation.objects.create(config=config("hand"), source="admin", key="hand", reason=Isolation.Reason.QUARANTINED)
    before = state()
    clicks(paula()).post(f"/admin/now/remedy/{kind}/", {"subject": ""})
    assert state() == before
    assert not Act.objects.exclude(verb=Act.Verb.LOG_IN).exclude(verb=Act.Verb.REFUSE).exists()


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
    ],
)
def test_words_are_names_of_checks_or_tags(words: list[str], name: str, tags: str, covered: bool) -> None:
    text = f"check_name: {name}\ninstances:\n- url: x\n" + (f"  tags:\n  - {tags}\n" if tags else "")
    assert Reach("it", (), tuple(words)).has_check(name, lambda: text) is covered


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


def test_what_is_written_by_hand_is_a_source_too() -> None:
    client, hand = clicks(wanda("api:shop")), config("hand")
    fields = {"key": "new", "check": "http_check", "yaml": "instances:\n- url: x\n"}
    assert client.get("/admin/checks/config/add/").status_code == 403
    assert client.post("/admin/checks/config/add/", fields).status_code == 403
    client.post(page_of("hand"), fields)
    page = act(client, "unschedule", ["hand"])
    assert "admin is outside of api:shop, the bound of the role writers" in page
    assert Config.objects.filter(pk=hand.pk, digest=hand.digest).exists()
    assert not Origin.objects.filter(key="new").exists()
    Group.objects.get(name="writers").bound.delete()
    bounds.bind(["admin"], [], group=Group.objects.get(name="writers"))
    assert client.post("/admin/checks/config/add/", fields, follow=True).status_code == 200
    assert Origin.objects.filter(source="admin", key="new").exists()


def test_held_removals_are_accepted_where_all_of_them_are_covered() -> None:
    dispatcher.schedule(
        [sent("clustercheck/shop/web", source="kubernetes"), sent("clustercheck/mail/web", source="kubernetes")]
    )
    held = ["clustercheck/shop/web", "clustercheck/mail/web"]
    row = Source.objects.create(name="kubernetes", held_removals=held, state={"phase": "off"})
    client = clicks(wanda("kubernetes:shop"))
    where, fields = "/admin/checks/source/", {"action": "accept_removals", "_selected_action": [row.pk]}
    asked = client.post(where, fields)
    answer = client.post(where, fields | {"seen": asked.context["seen"], "typed": asked.context["word"]}, follow=True)
    assert "kubernetes:mail is outside of kubernetes:shop, the bound of the role writers" in answer.content.decode()
    assert Origin.objects.filter(source="kubernetes").count() == 2
    Source.objects.update(held_removals=held[:1])
    asked = client.post(where, fields)
    client.post(where, fields | {"seen": asked.context["seen"], "typed": asked.context["word"]})
    assert [one.key for one in Origin.objects.filter(source="kubernetes")] == [held[1]]


def test_what_a_bound_keeps_is_greyed_with_the_reason() -> None:
    client = clicks(paula())
    page = client.get(page_of("shop")).content.decode()
    assert 'value="pause"' not in page
    assert "disabled" in page
    assert (
        f"Not yours to do: {config('shop')} is outside of team:payments and pay*, the bound of the role payments"
        in page
    )
    assert "Move here…" not in page
    page = client.get(page_of("theirs")).content.decode()
    assert 'value="pause"' in page
    assert "Not yours" not in page
    for url in (
        f"/admin/nodes/node/{Node.objects.get(name='ash').pk}/change/",
        "/admin/nodes/node/",
        "/admin/checks/rule/",
    ):
        assert (
            "this concerns the whole cluster, and the role payments is bound to team:payments"
            in client.get(url).content.decode()
        )
    assert "Rebalance…" in client.get("/admin/checks/plan/").content.decode()
    plan = plans.store(deciding.pause(ids("shop")), author="eve")
    page = client.get(f"/admin/checks/plan/{plan.pk}/change/").content.decode()
    assert "Apply" in page
    assert f"Not yours to do: {config('shop')} is outside" in page
    dispatcher.pin(ids("shop"), "ash", actor="eve")
    page = client.get(f"/admin/checks/pin/{Pin.objects.get().pk}/change/").content.decode()
    assert f"Not yours to do: {config('shop')} is outside" in page
    assert (
        "The role payments is bound to team:payments and pay*" in client.get("/admin/checks/config/").content.decode()
    )


def test_the_button_of_an_alert_is_greyed_with_the_reason() -> None:
    silence("ash", "birch")
    dispatcher.expire_nodes(force=True)
    page = clicks(paula()).get("/admin/now/").content.decode()
    assert (
        "Not yours to do: it places whatever dangles, and that is more than team:payments and pay*, the bound of"
        in page
    )
    assert "now/remedy/" not in page
    assert "Not yours" not in clicks(user("otto", Role.OPERATOR)).get("/admin/now/").content.decode()


def test_who_is_not_bound_sees_nothing_of_it() -> None:
    client = clicks(user("otto", Role.OPERATOR))
    for url in (page_of("shop"), "/admin/checks/config/", "/admin/nodes/node/", "/admin/checks/plan/"):
        page = client.get(url).content.decode()
        assert "Not yours" not in page
        assert "is bound to" not in page


def test_an_admin_binds_a_group_on_record() -> None:
    client = clicks(user("ada", Role.ADMIN))
    pause = Permission.objects.get(codename="add_pause").pk
    fields = {"name": "payments", "permissions": [pause], "sources": "", "checks": "team:payments, pay*"}
    assert client.post("/admin/auth/group/add/", fields).status_code == 302
    made = Group.objects.get(name="payments")
    assert made.bound.checks == ["team:payments", "pay*"]
    url = f"/admin/auth/group/{made.pk}/change/"
    assert "team:payments, pay*" in client.get(url).content.decode()
    client.post(url, fields | {"checks": "team:x", "sources": "api:x"})
    last = Act.objects.latest("pk")
    assert last.before["bound"] == {"sources": [], "checks": ["team:payments", "pay*"]}
    assert last.after["bound"] == {"sources": ["api:x"], "checks": ["team:x"]}
    page = client.post(url, fields | {"sources": "shop"}).content.decode()
    assert "&#x27;shop&#x27; is no pattern of sources" in page
    client.post(url, fields | {"checks": ""})
    assert "bound" not in Act.objects.latest("pk").after
    assert not hasattr(Group.objects.get(name="payments"), "bound")


@pytest.mark.parametrize("role", Role)
def test_roles_keep_their_names_and_stay(role: Role) -> None:
    client, row = clicks(user("ada", Role.ADMIN)), Group.objects.get(name=role)
    client.post(f"/admin/auth/group/{row.pk}/change/", {"name": "x", "permissions": [], "checks": "team:x"})
    assert client.post(f"/admin/auth/group/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Group.objects.filter(name=role).exists()


def test_an_admin_makes_a_bound_token() -> None:
    client = clicks(user("ada", Role.ADMIN))
    fields = {
        "user": wanda("*").pk,
        "sources": "api:shop",
        "checks": "",
        "expiry_0": "2100-01-01",
        "expiry_1": "08:00:00",
    }
    page = client.post("/admin/knox/authtoken/add/", fields).content.decode()
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


# What everybody does with what is its own.
OWN = {"save-view", "delete-view", "changes", "password_change", "login", "logout"}
ENTRANCES = {
    f"{number} {name}": passes
    for number, table in enumerate((test_acts.ADMIN, test_acts.PAGES, test_acts.REMEDIES, test_acts.API))
    for name, passes in table.items()
    if callable(passes) and name not in OWN
}


@pytest.fixture
def bob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> test_acts.World:
    """The world of test_acts, where bob has every permission, and a bound that covers nothing of it."""
    monkeypatch.setattr(costs, "measure", lambda: Measured(Round(0, 0, 0.0), 0, 0))
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    dispatcher.schedule([sent("mail")])
    report("elm")
    silence("elm")
    dispatcher.expire_nodes(force=True)
    who = user("bob")
    everything = Group.objects.create(name="everything")
    everything.permissions.set(Permission.objects.all())
    bounds.bind(["api:none"], ["team:none"], group=everything)
    who.groups.add(everything)
    return test_acts.World(client=clicks(who), olga=who, caller=calls(who), folder=tmp_path)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_entrance_leads_out_of_a_bound(bob: test_acts.World, entrance: str) -> None:
    """The entrances are all that leave an act: `test_acts` fails for a new one that is not among them."""
    with suppress(Exception):
        ENTRANCES[entrance](bob)
    found = Act.objects.filter(person="bob").exclude(verb__in=(Act.Verb.LOG_IN, Act.Verb.REFUSE))
    assert not [(one.verb, one.object) for one in found]
