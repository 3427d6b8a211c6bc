"""Orders in the admin: actions on many configs, drains and rebalances as plans, lists of orders and rules."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from acts.models import Act
from checks import dispatcher
from checks.models import Move, Origin, Plan, freezes
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.tests.cast import counts, dangling, owners, report, sent
from checks.tests.operators import (
    CONFIGS,
    act,
    act_confirmed,
    apply,
    config,
    confirmed,
    listed,
    opened,
    operator,
    planned,
    refused,
    shown,
    superuser,
)
from nodes.models import Node, NodeEvent, Slowness
from operators.admin.base import row_url
from tests.webserver import database_url

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

PLANS, PINS, PAUSES, ISOLATIONS, RULES = (
    f"/admin/checks/{name}/" for name in ("plan", "pin", "pause", "isolation", "rule")
)


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """shop, mail and db run on ash, birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("db", name="postgres")])
    report("birch")


def post(client: Client, url: str, **fields: Any) -> str:
    return words(client.post(url, opened(client, url) | fields, follow=True))


def words(response: Any) -> str:
    """The page without its tags."""
    assert response.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def isolation(client: Client, key: str) -> Plan:
    """Ask to isolate a config, and return the plan whose page the operator then sees."""
    page = act(client, "isolate", [key])
    plan = Plan.objects.latest("pk")
    assert f"/admin/checks/plan/{plan.pk}/apply/" in page
    return plan


def test_a_reassignment_says_that_the_next_rebalance_may_undo_it_unless_it_is_held() -> None:
    client = superuser()
    once = planned(client, "reassign", ["shop"], node="birch", hold="once")
    page = client.get(f"{PLANS}{once.pk}/change/").content.decode()
    assert "the next rebalance may move it away again" in page
    day = planned(client, "reassign", ["shop"], node="birch", hold="day", note="spare")
    apply(client, day)
    pin = Pin.objects.get()
    assert (pin.aim, pin.note) == ("birch", "spare")
    assert pin.until is not None
    assert timedelta(hours=23) < pin.until - timezone.now() <= timedelta(hours=24)


def test_a_plans_page_tells_moves_nodes_and_loads() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop", "mail"], node="birch")
    page = post(client, f"{PLANS}{plan.pk}/apply/")
    for text in (
        "Give 2 configs to birch",
        "2 configs move. 2 nodes touched, highest load 75 % → 50 %.",
        "2 configs moved",
    ):
        assert text in page
    assert "ash 75 % 25 %" in page
    assert "Apply" not in page
    assert counts() == {"ash": 1, "birch": 2}


def test_the_page_of_a_pause_names_it_everywhere_by_what_it_does() -> None:
    client = superuser()
    plan = planned(client, "pause", ["shop", "mail"])
    apply(client, plan)
    page = client.get(f"{PLANS}{plan.pk}/change/").content.decode()
    assert f"/api/operator/v1/plans/{plan.pk}" in page
    assert "<title> Pause 2 configs" in " ".join(page.split())
    assert (
        "oved" not in re.sub(r"<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL).partition("Pause 2 configs")[2]
    )


def test_a_stale_plan_says_what_changed_and_moves_nothing() -> None:
    client = superuser()
    plan = planned(client, "pause", ["shop", "mail"])
    dispatcher.reassign([config("mail").pk], "birch", actor="otto")
    page = apply(client, plan)
    assert f"Nothing was moved, since something changed: {config('mail')} is now on birch. Plan anew." in page
    assert owners() == {"shop": "ash", "mail": "birch", "db": "ash"}


def test_all_that_match_the_filter_are_paused_and_resumed() -> None:
    dispatcher.schedule([sent("pod", node_name="ash")])
    client = superuser()
    query = CONFIGS + "?check=http_check"
    asked = client.post(query, {"action": "pause", "select_across": "1", "index": "0"}).content.decode()
    assert "2 configs" in asked
    post(
        client,
        query,
        action="pause",
        select_across="1",
        _selected_action="0",
        asked="yes",
        until="2 hours",
        note="deploy",
    )
    plan = Plan.objects.get()
    assert {move["name"] for move in plan.moves} == {"http_check"}
    assert "Pause 2 configs: 2 configs paused." in apply(client, plan)
    assert listed(client, "?order=paused") == {"shop", "mail"}
    assert {(pause.author, pause.note) for pause in Pause.objects.all()} == {("olga", "deploy")}
    resume = shown(client, CONFIGS + "?order=paused", action="resume", select_across="1", index="0")
    assert "shop" not in owners()
    apply(client, resume)
    assert owners().keys() == {"shop", "mail", "db"}


@pytest.mark.parametrize("end", ["soon", "2020-01-01 00:00"])
def test_an_end_that_is_none_is_refused_at_its_field(end: str) -> None:
    assert re.search("2026-12-24 08:00|over already", act(superuser(), "pause", ["shop"], asked="yes", until=end))
    assert not Plan.objects.exists()


def test_a_label_without_a_value_is_refused_at_its_field() -> None:
    page = act(superuser(), "pin", ["shop"], asked="yes", kind="label", aim="zone")
    assert "a label is written as zone=a" in page
    assert not Plan.objects.exists()


@pytest.mark.parametrize(("waits", "what"), [({}, "it runs elsewhere"), ({"waits": "on"}, "it runs nowhere")])
def test_a_pin_that_aims_at_no_node_says_so_before(waits: dict[str, str], what: str) -> None:
    client = superuser()
    plan = planned(client, "pin", ["shop"], kind="node", aim="brich", **waits)
    page = client.get(f"{PLANS}{plan.pk}/change/").content.decode()
    assert f"There is no such node now: until there is one, {what}. Is it meant to be birch?" in page
    assert "on the right node already" not in page
    found = planned(client, "pin", ["shop"], kind="pattern", aim="bir*")
    assert "no such node" not in client.get(f"{PLANS}{found.pk}/change/").content.decode()


def test_pin_unpin_isolate_and_release_in_one_go() -> None:
    client = superuser()
    apply(client, planned(client, "pin", ["shop", "mail"], kind="node", aim="birch"))
    assert listed(client, "?order=pinned") == {"shop", "mail"}
    assert "2 configs unpinned." in act_confirmed(client, "unpin", ["shop", "mail"])
    assert owners() == {"shop": "birch", "mail": "birch", "db": "ash"}
    assert "Isolate http_check shop" in apply(client, isolation(client, "shop"))
    assert listed(client, "?order=isolated") == {"shop"}
    assert listed(client, "?order=none") == {"mail", "db"}
    assert "1 config released." in act_confirmed(client, "release", ["shop"])
    assert not Isolation.objects.exists()


def test_pins_whose_node_is_gone_are_found() -> None:
    dispatcher.pin([config("shop").pk], "cedar")
    dispatcher.pin([config("mail").pk], "runner-*", kind="pattern")
    dispatcher.pin([config("db").pk], "as?", kind="pattern")
    assert listed(superuser(), "?order=astray") == {"shop", "mail"}


def test_what_can_not_be_isolated_says_why() -> None:
    Node.objects.filter(name="birch").cordon()
    assert "Not isolated: No other runners available." in act(superuser(), "isolate", ["shop"])
    assert not Plan.objects.exists()


def test_an_isolation_shows_first_who_would_leave() -> None:
    client = superuser()
    plan = isolation(client, "shop")
    page = client.get(f"{PLANS}{plan.pk}/change/").content.decode()
    for text in (
        "Isolate http_check shop",
        "2 configs move.",
        "Until it is released, nothing else is placed on its node.",
    ):
        assert text in page
    assert not Isolation.objects.exists()
    assert set(owners().values()) == {"ash"}
    apply(client, plan)
    assert owners() == {"shop": "ash", "mail": "birch", "db": "birch"}
    assert Isolation.objects.get().author == "olga"


def test_a_drain_shows_first_where_everything_would_go() -> None:
    client, ash = superuser(), Node.objects.get(name="ash")
    page = post(client, "/admin/nodes/node/", action="drain", _selected_action=ash.pk)
    assert "Drain ash" in page
    assert "3 configs move. 2 nodes touched" in page
    assert not Node.objects.filter(draining=True).exists()
    assert "Drain ash: begun, 3 configs to move bit by bit." in apply(client, Plan.objects.get())
    assert Node.objects.get(draining=True) == ash
    assert NodeEvent.objects.get(kind="draining").cause == "olga"


def test_the_deadline_of_a_drain_is_given_when_its_plan_is_applied() -> None:
    client, ash = superuser(), Node.objects.get(name="ash")
    page = post(client, "/admin/nodes/node/", action="drain", _selected_action=ash.pk)
    assert "Empty: at the usual pace." in page
    url = f"{PLANS}{Plan.objects.get().pk}/apply/"
    refused = post(client, url, by="soon")
    assert "Nothing was done. By soon: That is neither a span nor a time: 90s, 30m, 2h" in refused
    assert not Node.objects.filter(draining=True).exists()
    page = post(client, url, by="2100-12-24 08:00", note="a new disk")
    assert "By 2100-12-24 08:00 UTC, in " in page
    assert "Note: a new disk" in page
    assert Act.objects.get(verb=Act.Verb.DRAIN).reason == "a new disk"
    assert f"{Node.objects.get(draining=True).drain_by:%F %H:%M}" == "2100-12-24 08:00"
    assert NodeEvent.objects.get(kind="draining").cause == "olga, by 2100-12-24 08:00 UTC"


def test_a_rebalance_is_planned_looked_at_and_applied() -> None:
    client = superuser()
    assert "Rebalance…" in client.get(PLANS).content.decode()
    page = post(client, f"{PLANS}rebalance/", make="yes", unlimited="on")
    assert "Rebalance http_check " in page
    assert counts() == {"ash": 3}
    apply(client, Plan.objects.get())
    assert counts() == {"ash": 2, "birch": 1}
    assert "There is nothing to move" in post(client, f"{PLANS}rebalance/", make="yes")


PIN = {"kind": "node", "aim": "birch", "note": "near"}


def test_a_pin_that_is_added_or_changed_shows_its_plan_first() -> None:
    client = superuser()
    named = f"{config('shop').digest} {config('db').instances.get().check_id}"
    plan = shown(client, f"{PINS}add/", configs=named, **PIN)
    assert not Pin.objects.exists()
    apply(client, plan)
    assert owners() == {"shop": "birch", "mail": "ash", "db": "birch"}
    pin = Pin.objects.get(config=config("shop"))
    assert (pin.author, pin.note) == ("olga", "near")
    apply(client, shown(client, f"{PINS}{pin.pk}/change/", **PIN | {"aim": "ash", "until": "3d"}))
    assert owners()["shop"] == "ash"
    changed = Pin.objects.get(config=config("shop"))
    confirmed(client, f"{PINS}{changed.pk}/delete/")
    assert Pin.objects.get().config == config("db")
    assert owners()["shop"] == "ash"


def test_where_nothing_is_pinned_the_list_says_what_a_pin_is() -> None:
    client = superuser()
    assert "A pin says on which node" in client.get(PINS).content.decode()
    dispatcher.pin([config("shop").pk], "ash")
    assert "A pin says on which node" not in client.get(PINS).content.decode()


def test_whoever_may_not_see_digests_orders_by_short_ids() -> None:
    """A digest is refused like any unknown word, so that a guess confirms nothing."""
    client = operator("view_pin", "add_pin", "view_config", "view_plan")
    check = config("db").instances.get()
    for name in (config("shop").digest, check.check_id):
        assert "no config has the title or short ID" in post(client, f"{PINS}add/", configs=name, **PIN)
    apply(client, shown(client, f"{PINS}add/", configs=f"{config('shop').short_id} {check.shown_id()} ", **PIN))
    assert owners() == {"shop": "birch", "mail": "ash", "db": "birch"}


def test_orders_name_configs_by_their_titles() -> None:
    client = superuser()
    apply(client, shown(client, f"{PINS}add/", configs=f"{config('shop')}, {config('db')}", **PIN))
    assert owners() == {"shop": "birch", "mail": "ash", "db": "birch"}


def test_an_order_keeps_the_end_that_its_form_shows() -> None:
    client = superuser()
    apply(client, shown(client, f"{PAUSES}add/", configs=config("shop").digest, until="2100-12-24 08:00"))
    pause = Pause.objects.get()
    form = client.get(f"{PAUSES}{pause.pk}/change/").context["adminform"].form
    apply(client, shown(client, f"{PAUSES}{pause.pk}/change/", until=str(form["until"].value()), note="longer"))
    again = Pause.objects.get()
    assert (again.until, again.note) == (pause.until, "longer")


def test_a_pause_shows_what_stops_and_its_end_what_comes_back() -> None:
    client = superuser()
    plan = shown(client, f"{PAUSES}add/", configs=config("shop").digest, until="2h", note="deploy")
    assert "shop" in owners()
    apply(client, plan)
    assert "shop" not in owners()
    pause = Pause.objects.get()
    assert pause.until is not None
    assert client.post(f"{PAUSES}{pause.pk}/delete/", {"post": "yes"}).status_code == 403
    resume = shown(client, PAUSES, action="resume", _selected_action=pause.pk)
    assert "1 config comes back." in words(client.get(f"{PLANS}{resume.pk}/change/"))
    assert "shop" not in owners()
    apply(client, resume)
    assert "shop" in owners()


def test_a_pause_that_waits_for_its_origin_is_not_ended_unseen() -> None:
    """What it kept from running would run when its file is back."""
    client = superuser()
    dispatcher.pause([config("shop").pk, config("mail").pk])
    dispatcher.unschedule([("file", "shop")])
    both = {"action": "resume", "_selected_action": list(Pause.objects.values_list("pk", flat=True))}
    asked = client.post(PAUSES, both)
    page = words(asked)
    assert "file:shop: nothing comes from there now. When a config comes from there again, it runs." in page
    assert "The plan that resumes 1 config is shown after that." in page
    assert Pause.objects.count() == 2
    resume = shown(client, PAUSES, **both, seen=asked.context["seen"])
    assert set(Pause.objects.values_list("config__name", flat=True)) == {"http_check"}
    apply(client, resume)
    assert "mail" in owners()
    assert not Pause.objects.exists()


def test_what_no_node_may_have_is_named_before_it_is_resumed() -> None:
    client = superuser()
    dispatcher.pause([config("shop").pk, config("mail").pk])
    Node.objects.all().cordon()
    resume = shown(client, CONFIGS, action="resume", _selected_action=[config("shop").pk, config("mail").pk])
    page = words(client.get(f"{PLANS}{resume.pk}/change/"))
    assert "2 configs would run nowhere." in page
    assert f"Would run nowhere Config {config('shop')} {config('mail')}" in page


def test_pauses_of_one_order_are_resumed_as_one() -> None:
    client, ids = superuser(), [config(key).pk for key in ("shop", "mail")]
    dispatcher.pause(ids, actor="eve", note="deploy")
    dispatcher.pause([config("db").pk], actor="eve", note="disk")
    one = Pause.objects.get(config=ids[0])
    page = client.get(f"{PAUSES}{one.pk}/change/").content.decode()
    assert "Resume all that were paused together with it" in page
    alone = Pause.objects.get(note="disk")
    assert "paused together" not in client.get(f"{PAUSES}{alone.pk}/change/").content.decode()
    apply(client, shown(client, PAUSES, action="resume_group", _selected_action=one.pk))
    assert owners().keys() == {"shop", "mail"}
    assert Pause.objects.get() == alone


def test_two_orders_with_the_same_words_are_two_groups() -> None:
    """One person gave them, in the same minute, with the same note: their plans tell them apart."""
    client = superuser()
    for key in ("shop", "mail"):
        apply(client, planned(client, "pause", [key], note="deploy"))
    shop = Pause.objects.get(config=config("shop"))
    assert shop.plan == Plan.objects.order_by("pk")[0].pk
    assert list(Pause.objects.given_with([shop])) == [shop]
    assert "paused together" not in client.get(f"{PAUSES}{shop.pk}/change/").content.decode()
    first = Plan.objects.get(pk=shop.plan)
    apply(client, shown(client, f"{PLANS}{first.pk}/undo/"))
    assert Pause.objects.get().config == config("mail")


def test_a_plan_takes_back_its_own_moves_alone() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop", "mail"], node="birch")
    apply(client, plan)
    # As if it had been stopped between the two, and another had moved the other one the same way.
    Move.objects.filter(config_id=config("mail").pk, plan=plan.pk).update(plan=None)
    apply(client, shown(client, f"{PLANS}{plan.pk}/undo/"))
    assert (owners()["shop"], owners()["mail"]) == ("ash", "birch")


@pytest.mark.parametrize("verb", ["reassign", "pause"])
def test_what_an_older_version_applied_is_taken_back_by_its_time_and_way(verb: str) -> None:
    client = superuser()
    plan = planned(client, verb, ["shop", "mail"], note="deploy", **({"node": "birch"} if verb == "reassign" else {}))
    apply(client, plan)
    for model in (Move, Pause):
        model.objects.update(plan=None)
    apply(client, shown(client, f"{PLANS}{plan.pk}/undo/"))
    assert owners().keys() == {"shop", "mail", "db"}
    assert owners()["shop"] == owners()["mail"] == "ash" or verb == "pause"
    assert not Pause.objects.exists()


def test_an_applied_plan_is_undone_by_a_plan() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop", "mail"], node="birch")
    assert "Undo…" not in client.get(f"{PLANS}{plan.pk}/change/").content.decode()
    assert "Undo…" in apply(client, plan)
    dispatcher.reassign([config("mail").pk], "ash", actor="eve")
    undo = shown(client, f"{PLANS}{plan.pk}/undo/")
    page = words(client.get(f"{PLANS}{undo.pk}/change/"))
    assert "1 config moves." in page
    assert "1 move can't be undone: it has moved again since." in page
    assert "Balancing goes on and may move them, or others, again: at most 5 configs in" in page
    freezes.freeze(actor="eve")
    assert "Balancing goes on" not in words(client.get(f"{PLANS}{undo.pk}/change/"))
    assert owners()["shop"] == "birch"
    apply(client, undo)
    assert owners()["shop"] == "ash"
    assert "Nothing to undo: it has moved again since." in post(client, f"{PLANS}{plan.pk}/undo/")


def test_a_plan_says_that_a_slow_node_may_take_longer_than_its_loads_tell() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop"], node="birch")
    said = "birch is slow: what moves there may take longer than it does now"
    assert said not in words(client.get(f"{PLANS}{plan.pk}/change/"))
    Slowness.objects.create(node=Node.objects.get(name="birch"), level=Slowness.SLOW, factor=9)
    assert said in words(client.get(f"{PLANS}{plan.pk}/change/"))


def test_what_a_plan_paused_is_resumed_from_its_page() -> None:
    client = superuser()
    plan = planned(client, "pause", ["shop", "mail"], note="deploy", until="2h")
    assert "Resume what it paused…" in apply(client, plan)
    dispatcher.resume([config("mail").pk])
    dispatcher.pause([config("mail").pk], actor="eve")
    apply(client, shown(client, f"{PLANS}{plan.pk}/undo/"))
    assert owners().keys() == {"shop", "db"}


def test_a_plan_that_leaves_configs_nowhere_is_applied_only_by_typing_their_check() -> None:
    client = superuser()
    plan = planned(client, "pin", ["shop", "mail"], kind="label", aim="rack=nowhere", waits="on")
    page = client.get(row_url(plan)).content.decode()
    assert "2 configs would run nowhere." in page
    assert "Type <strong>http_check</strong>" in page
    assert "Nothing was done: type http_check to confirm it." in apply(client, plan)
    assert Act.objects.latest("pk").verb == Act.Verb.REFUSE
    assert not dangling()
    assert "It was applied" in apply(client, plan, typed="http_check")
    assert dangling() == {"shop", "mail"}


def test_one_config_that_would_run_nowhere_is_confirmed_by_its_title() -> None:
    client = superuser()
    plan = planned(client, "pin", ["shop"], kind="label", aim="rack=nowhere", waits="on")
    assert "type http_check shop to confirm it" in apply(client, plan, typed="1")
    assert "It was applied" in apply(client, plan, typed=" http_check  shop")


def test_resuming_what_would_dangle_is_confirmed_by_its_name() -> None:
    client = superuser()
    apply(client, planned(client, "pause", ["shop"]))
    Rule.objects.create(name="none", check_pattern="*", required={"rack": "nowhere"})
    plan = shown(client, "/admin/checks/config/", action="resume", _selected_action=[config("shop").pk])
    assert "Type <strong>http_check shop</strong>" in client.get(row_url(plan)).content.decode()
    assert "type http_check shop to confirm it" in apply(client, plan)
    assert not dangling()
    apply(client, plan, typed="http_check shop")
    assert dangling() == {"shop"}


def test_what_a_plan_pinned_is_unpinned_on_its_page() -> None:
    client = superuser()
    plan = planned(client, "pin", ["shop", "mail"], kind="node", aim="birch")
    assert "Unpin what it pinned…" in apply(client, plan)
    undo = reverse("admin:checks_plan_undo", args=[plan.pk])
    assert "What runs stays where it is." in confirmed(client, undo)
    assert not Pin.objects.exists()
    # Its moves are still there to be undone.
    assert shown(client, undo).moves


def test_a_move_that_was_held_is_taken_back_by_who_may_unpin_or_undo_as_far_as_that_holds() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop", "mail"], node="birch", hold="pinned")
    apply(client, plan)
    url, page = f"{PLANS}{plan.pk}/undo/", row_url(plan)
    undoer = operator("view_config", "view_plan", "change_assignment")
    unpinner = operator("view_config", "view_plan", "delete_pin", name="una")
    # What is pinned there would not stay anywhere else.
    assert "Undo…" not in undoer.get(page).content.decode()
    assert undoer.post(url).status_code == 403
    assert "Unpin what it pinned…" in unpinner.get(page).content.decode()
    dispatcher.unpin([config("shop").pk])
    assert "Undo…" in undoer.get(page).content.decode()
    assert [move["config"] for move in shown(undoer, url).moves] == [config("shop").pk]
    both = client.get(page).content.decode()
    assert "Undo…" in both
    assert "Unpin what it pinned…" in both
    assert shown(client, url, way="undo").moves
    assert "1 config unpinned" in confirmed(unpinner, url, way="unpin")
    assert not Pin.objects.exists()


def test_a_refused_order_is_on_record_with_its_button_and_its_rows() -> None:
    Node.objects.filter(name="birch").cordon()
    act(superuser(), "reassign", ["shop", "mail"], node="birch", asked="yes")
    refused = Act.objects.get(verb=Act.Verb.REFUSE)
    assert (refused.object, refused.reason) == (
        "reassign http_check shop and http_check mail",
        "node birch is cordoned",
    )
    assert refused.about == {"configs": sorted([config("shop").pk, config("mail").pk])}


def test_draining_all_nodes_says_that_none_would_take_work() -> None:
    client = superuser()
    nodes = {"action": "drain", "_selected_action": Node.objects.values_list("pk", flat=True)}
    plan = shown(client, "/admin/nodes/node/", **nodes)
    page = client.get(row_url(plan)).content.decode()
    assert "No node would take work then" in page
    number = f"{Node.objects.count()} nodes"
    assert f"type {number} to confirm it" in apply(client, plan)
    assert not Node.objects.filter(draining=True).exists()
    assert "begun" in apply(client, plan, typed=number)


def test_cordoning_the_last_nodes_that_take_work_asks_first() -> None:
    client = superuser()
    fields = {"action": "cordon", "_selected_action": list(Node.objects.values_list("pk", flat=True))}
    assert "No node would take work then" in client.post("/admin/nodes/node/", fields).content.decode()
    assert not Node.objects.filter(schedulable=False).exists()
    assert "cordoned" in confirmed(client, "/admin/nodes/node/", **fields)
    assert not Node.objects.filter(schedulable=True).exists()


def test_a_drain_names_what_is_pinned_there() -> None:
    client = superuser()
    dispatcher.pin([config("shop").pk], owners()["shop"], actor="otto")
    ash = Node.objects.filter(name=owners()["shop"]).values_list("pk", flat=True)
    plan = shown(client, "/admin/nodes/node/", action="drain", _selected_action=ash)
    assert (
        "1 config of it pinned there: back as soon as the node takes work again."
        in client.get(row_url(plan)).content.decode()
    )


def test_who_may_not_reassign_undoes_no_plan() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop"], node="birch")
    apply(client, plan)
    viewer = operator("view_config", "view_plan", "add_pause")
    assert "Undo…" not in viewer.get(f"{PLANS}{plan.pk}/change/").content.decode()
    assert viewer.post(f"{PLANS}{plan.pk}/undo/").status_code == 403


def test_an_isolation_shows_its_plan_and_its_deletion_moves_nothing() -> None:
    client = superuser()
    plan = shown(client, f"{ISOLATIONS}add/", configs=config("shop").digest, note="noisy")
    assert set(owners().values()) == {"ash"}
    apply(client, plan)
    assert owners() == {"shop": "ash", "mail": "birch", "db": "birch"}
    confirmed(client, ISOLATIONS, action="delete_selected", _selected_action=Isolation.objects.get().pk)
    assert not Isolation.objects.exists()


def test_an_orders_page_has_its_origins_name_as_it_is_and_one_button_to_delete_it() -> None:
    dispatcher.isolate([config("shop").pk], actor="eve")
    page = superuser().get(f"{ISOLATIONS}{Isolation.objects.get().pk}/change/").content.decode()
    assert ">file:shop<" in page
    assert f"{CONFIGS}{config('shop').pk}/change/" in page
    assert "Delete isolation" in page
    assert "delete_selected" not in page


@pytest.mark.parametrize(
    ("url", "fields", "error"),
    [
        (PINS, PIN | {"configs": "nope:1"}, "no config has the title, digest, check ID or short ID nope:1"),
        (PINS, PIN | {"configs": "posgres"}, "short ID posgres"),
        (PINS, PIN | {"configs": "postgr"}, "short ID postgr, did you mean postgres db?"),
        (PINS, PIN | {"configs": "postgers db"}, "short ID postgers db, did you mean postgres db?"),
        (PINS, PIN | {"configs": ""}, "This field is required."),
        (PINS, PIN | {"configs": " , "}, "no config is named"),
        (PINS, PIN | {"kind": "label", "configs": "shop"}, "a label is written as zone=a"),
        (PAUSES, {"configs": "pod"}, "is an endpoint check"),
        (ISOLATIONS, {"configs": "mail"}, "No other runners available"),
    ],
)
def test_an_order_that_can_not_be_given_is_refused_with_the_reason(url: str, fields: Any, error: str) -> None:
    dispatcher.schedule([sent("pod", node_name="ash")])
    Node.objects.filter(name="birch").cordon()
    named = {"shop", "pod", "mail"} & {fields["configs"]}
    given = fields | {"configs": config(fields["configs"]).digest if named else fields["configs"]}
    assert error in post(superuser(), f"{url}add/", **given)
    assert not Pin.objects.exists()
    assert not Pause.objects.exists()
    assert not Isolation.objects.exists()


def test_an_order_that_waits_for_its_origin_is_changed_and_deleted_too() -> None:
    dispatcher.pin([config("shop").pk], "ash", actor="eve")
    dispatcher.unschedule([("file", "shop")])
    client, pin = superuser(), Pin.objects.get()
    assert "none: its origin sends nothing now" in client.get(PINS).content.decode()
    post(client, f"{PINS}{pin.pk}/change/", **PIN)
    dispatcher.schedule([sent("shop")])
    assert owners()["shop"] == "birch"
    assert Pin.objects.get().author == "olga"


def test_a_rule_bears_its_author_and_holds_for_what_is_placed_next() -> None:
    Node.objects.filter(name="birch").update(labels={"disk": "fast"})
    client = superuser()
    rule = {
        "name": "fast",
        "check_pattern": "postgres",
        "source_pattern": "*",
        "required": '{"disk": "fast"}',
        "forbidden": "{}",
    }
    assert "move within seconds" in confirmed(client, f"{RULES}add/", **rule)
    assert Rule.objects.get().author == "olga"
    dispatcher.move_misplaced()
    assert owners()["db"] == "birch"
    assert "labels are an object with texts" in post(
        client, f"{RULES}add/", **rule | {"name": "bad", "required": '{"a": 1}'}
    )
    confirmed(client, f"{RULES}{Rule.objects.get().pk}/delete/", post="yes")
    assert not Rule.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_rule_wakes_the_leader() -> None:
    client = superuser()
    with psycopg.connect(database_url(), autocommit=True) as session:
        session.execute("LISTEN clusteragent")
        rule = {"name": "x", "check_pattern": "*", "source_pattern": "*", "required": "{}", "forbidden": "{}"}
        confirmed(client, f"{RULES}add/", **rule)
        [heard] = session.notifies(timeout=10, stop_after=1)
    assert heard.payload == "pass"


ALLOWED = {
    "reassign": ("change_assignment", {"node": "birch"}),
    "pin": ("add_pin", {"kind": "node", "aim": "birch"}),
    "pause": ("add_pause", {}),
}


@pytest.mark.parametrize("action", ALLOWED)
def test_who_may_not_do_it_neither_plans_nor_applies_it(action: str) -> None:
    permission, fields = ALLOWED[action]
    plan = planned(operator("view_config", "view_plan", permission), action, ["shop"], **fields)
    others = [name for name, _ in ALLOWED.values() if name != permission]
    stranger = operator("view_config", "view_plan", *others, name="oona")
    refused(stranger, action, ["shop"], asked="yes", **fields)
    assert Plan.objects.get() == plan
    assert stranger.post(f"{PLANS}{plan.pk}/apply/").status_code == 403
    assert "/apply/" not in stranger.get(f"{PLANS}{plan.pk}/change/").content.decode()
    assert owners() == {"shop": "ash", "mail": "ash", "db": "ash"}


def test_holding_a_reassigned_config_needs_the_permission_to_pin() -> None:
    client = operator("view_config", "view_plan", "change_assignment")
    act(client, "reassign", ["shop"], asked="yes", node="birch", hold="pinned")
    assert client.post(f"{PLANS}{Plan.objects.get().pk}/apply/").status_code == 403
    assert not Pin.objects.exists()


def test_ending_orders_needs_the_permissions_to_delete_them() -> None:
    dispatcher.pause([config("shop").pk])
    client = operator("view_config", "view_plan", "add_pause", "add_pin")
    for action in ("resume", "unpin", "release"):
        refused(client, action, ["shop"])
    assert Pause.objects.exists()


def test_plans_are_applied_by_post_alone_and_what_is_none_is_not_found() -> None:
    client = superuser()
    plan = planned(client, "pause", ["shop"])
    assert client.get(f"{PLANS}{plan.pk}/apply/").status_code == 405
    assert client.post(f"{PLANS}{plan.pk + 1}/apply/").status_code == 404
    assert operator("view_config").post(f"{PLANS}rebalance/").status_code == 403
    assert not Move.objects.filter(reason="paused").exists()


def test_notes_and_names_are_escaped_and_hold_no_secret() -> None:
    client, evil = superuser(), "<script>alert(1)</script> password=hunter22"
    plan = planned(client, "pin", ["shop"], kind="pattern", aim="<b>*", note=evil)
    apply(client, plan)
    for url in (PLANS, f"{PLANS}{plan.pk}/change/", PINS):
        page = client.get(url).content.decode()
        assert "<script>alert(1)" not in page
        assert "<b>*" not in page
        assert "hunter22" not in page


@pytest.mark.parametrize("url", [PLANS, PINS, PAUSES, ISOLATIONS, RULES, CONFIGS + "?order=pinned"])
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    url: str, django_assert_num_queries: Callable[..., Any], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    client = superuser()
    dispatcher.schedule([sent(f"c{number}") for number in range(40)])
    keys = dict(Origin.objects.filter(key__startswith="c").values_list("key", "config"))

    def order(numbers: range) -> None:
        ids = [keys[f"c{number}"] for number in numbers]
        dispatcher.pin(ids, "birch", actor="eve")
        dispatcher.pause(ids[1::2], actor="eve")
        Isolation.objects.bulk_create(Isolation(config_id=one, source="file", key=f"c{one}") for one in ids)
        Rule.objects.bulk_create(Rule(name=f"r{number}", check_pattern="none") for number in numbers)
        Plan.objects.bulk_create(Plan(revision=1, spread={"peak": [1, 0.5]}) for _ in numbers)
        # Of nodes that fell silent meanwhile each page would tell.
        report("ash", "birch")

    order(range(4))
    client.get(url)
    with django_assert_max_num_queries(27) as few:
        client.get(url)
    number = len(few)
    order(range(4, 40))
    client.get(url)  # on a slow machine it notes that the session is in use
    with django_assert_num_queries(number):
        client.get(url)
    assert not dangling() - {"c0"}


def test_what_a_source_orders_is_not_taken_back_but_replaced() -> None:
    client, author = superuser(), "clustercheck shop/shop"
    for give, aim in ((dispatcher.pin, ["birch"]), (dispatcher.pause, [])):
        give([config("shop").pk], *aim, actor=author, origin=("kubernetes", "clustercheck/shop/shop"))
    said = f"ordered by {author}: change its spec."
    assert f"Not unpinned: {said}pin." in act(client, "unpin", ["shop", "mail"])
    assert f"Not resumed: {said}paused." in act(client, "resume", ["shop"])
    pin, pause = Pin.objects.get(), Pause.objects.get()
    assert author in post(client, PINS)
    assert author in post(client, PAUSES)
    assert f"Not done: {said}pin." in post(client, f"{PINS}{pin.pk}/delete/", post="yes")
    assert f"Not done: {said}pin." in post(client, PINS, action="delete_selected", _selected_action=pin.pk, post="yes")
    assert f"Not resumed: {said}paused." in post(client, PAUSES, action="resume", _selected_action=pause.pk)
    assert Act.objects.filter(verb=Act.Verb.REFUSE, reason__startswith=said).count() == 5
    assert (Pin.objects.count(), Pause.objects.count()) == (1, 1)
    apply(client, planned(client, "pin", ["shop"], kind="node", aim="ash"))
    assert list(Pin.objects.values_list("aim", "from_source")) == [("ash", False)]
    assert "1 config unpinned." in act_confirmed(client, "unpin", ["shop"])


def test_a_deadline_may_be_of_the_zone_that_the_page_shows() -> None:
    client = superuser()
    plan = planned(client, "pause", ["shop"], until="2126-11-01 08:30", zone="Asia/Kolkata")
    assert plan.order["until"].startswith("2126-11-01T03:00:00")
