"""What a bound covers is done in the admin as ever. All else is refused, and greyed with the reason."""

import re

import pytest
from django.contrib.auth.models import Group, Permission

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.explain import writing
from checks.models import Config, Move, Origin, Plan, Source
from checks.models.bounds import within
from checks.models.orders import Isolation, Pause, Pin
from checks.sources import authored, origins
from checks.tests.cast import owners, sent, silence
from checks.tests.operators import act, config, opened, page_of, saved, superuser
from nodes.models import Node
from operators import bounds
from operators.roles import Role
from operators.tests.bounded import calls, clicks, ids, paula, refused, state, wanda, work
from operators.tests.cast import user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    work()


def test_a_saved_plan_of_somebody_else_is_no_way_around() -> None:
    rebalance = Plan.objects.create(revision=1)
    pause = plans.store(deciding.pause(ids("shop")), author="eve")
    theirs = plans.store(deciding.pause(ids("theirs")), author="eve")
    who = paula()
    client = clicks(who)
    for plan in (rebalance, pause):
        assert client.post(f"/admin/checks/plan/{plan.pk}/apply/").status_code == 403
        assert client.post(f"/admin/checks/plan/{plan.pk}/anew/").status_code in (302, 403)
    caller = calls(who)
    refused(caller.call("POST", f"plans/{rebalance.pk}/apply"), "the whole cluster")
    refused(caller.call("POST", f"plans/{pause.pk}/apply"), str(config("shop")), "team:payments")
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


def test_what_is_written_by_hand_is_a_source_too() -> None:
    client, hand = clicks(wanda("api:shop")), config("hand")
    fields = {"key": "new", "check": "http_check", "yaml": "instances:\n- url: x\n"}
    assert client.get("/admin/checks/config/add/").status_code == 403
    assert client.post("/admin/checks/config/add/", fields).status_code == 403
    assert client.post(page_of("hand"), fields).status_code == 403
    page = act(client, "unschedule", ["hand"])
    assert "admin is outside of api:shop, the bound of the role writers" in page
    assert Config.objects.filter(pk=hand.pk, digest=hand.digest).exists()
    assert not Origin.objects.filter(key="new").exists()
    Group.objects.get(name="writers").bound.delete()
    bounds.bind(["admin"], [], group=Group.objects.get(name="writers"))
    assert saved(client, "/admin/checks/config/add/", **fields).status_code == 302
    assert Origin.objects.filter(source="admin", key="new").exists()


@pytest.mark.parametrize("places", [True, False])
def test_who_is_bound_to_what_is_written_by_hand_learns_no_password_of_another_source(places: bool) -> None:
    """A config that is the same as another's would be told apart from one that is not, guess by guess."""
    yaml = "instances:\n- {url: http://db, password: GUESS}\n"
    dispatcher.schedule([authored.written("db", "http_check", yaml.replace("GUESS", "right"), source="file")])
    Node.objects.update(schedulable=places)
    fields = {"key": "mine", "check": "http_check"}
    for client, tells in ((superuser(), True), (clicks(wanda("admin")), False)):
        for path in ("add/", "remarks/"):
            right, wrong = (
                client.post(
                    f"/admin/checks/config/{path}", fields | {"yaml": yaml.replace("GUESS", guess)}
                ).content.decode()
                for guess in ("right", "wrong")
            )
            assert ("file:db gives the same already" in right) == tells
            assert ("1 config would be added" in wrong) == (tells and places)
            assert (writing.UNTOLD in right) != tells
            assert ("1 config would run nowhere" in wrong) != places
            assert ("1 config would run nowhere" in right) != (places or tells)


def test_what_stands_for_what_somebody_bound_was_shown_does_not_tell_it_either() -> None:
    """Who knows the program can work it out for each guess."""
    yaml = "instances:\n- {url: http://db, password: right}\n"
    own = authored.written("mine", "http_check", yaml)
    admitted = origins.admit("admin", "mine", own.original, text=own.written)
    who = wanda("admin")
    with within(lambda permission: bounds.limits(who, permission)):
        before = writing.save("admin", [admitted], {})
        dispatcher.schedule([authored.written("db", "http_check", yaml, source="file")])
        assert writing.save("admin", [admitted], {}).about == before.about


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
    # What is said on hover begins with the same words, not with the name of a check.
    assert re.findall(r'disabled title="([^"]*)"', page)[0].startswith(f"Not yours to do: {config('shop')} is")
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
        # An operator writes no configs, and is told so.
        kept = re.findall("Not yours to do: ([^.<]*)[.]<", page)
        assert kept == (["this comes with the role author"] if url == "/admin/checks/config/" else [])
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
    client.post(url, opened(client, url) | fields | {"checks": "team:x", "sources": "api:x"})
    last = Act.objects.latest("pk")
    assert last.before["bound"] == {"sources": [], "checks": ["team:payments", "pay*"]}
    assert last.after["bound"] == {"sources": ["api:x"], "checks": ["team:x"]}
    page = client.post(url, fields | {"sources": "shop"}).content.decode()
    assert "&#x27;shop&#x27; is no pattern of sources" in page
    client.post(url, opened(client, url) | fields | {"checks": ""})
    assert "bound" not in Act.objects.latest("pk").after
    assert not hasattr(Group.objects.get(name="payments"), "bound")


@pytest.mark.parametrize("role", Role)
def test_roles_keep_their_names_and_stay(role: Role) -> None:
    client, row = clicks(user("ada", Role.ADMIN)), Group.objects.get(name=role)
    url = f"/admin/auth/group/{row.pk}/change/"
    client.post(url, opened(client, url) | {"name": "x", "permissions": [], "checks": "team:x"})
    assert client.post(f"/admin/auth/group/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Group.objects.filter(name=role).exists()


def test_a_group_is_offered_what_pages_and_calls_ask_for_and_what_it_has() -> None:
    odd = Permission.objects.get(codename="add_logentry")
    holder = Group.objects.create(name="holder")
    holder.permissions.add(odd)
    client = superuser()

    def offered(url: str) -> set[str]:
        field = client.get(url).context["adminform"].form.fields["permissions"]
        return set(field.queryset.values_list("codename", flat=True))

    new = offered("/admin/auth/group/add/")
    roles = set(Permission.objects.filter(group__name__in=Role.values).values_list("codename", flat=True))
    assert roles | {"add_pause", "delete_pause", "change_assignment"} <= new
    assert new & {"add_logentry", "add_session", "delete_ormq", "add_heartbeat"} == set()
    assert offered(f"/admin/auth/group/{holder.pk}/change/") == {*new, "add_logentry"}
