"""The admin's actions on configs: reassign and unschedule."""

import re

import pytest
from django.db.models.functions import Now
from django.urls import reverse

from checks import dispatcher
from checks.models import Assignment, Config, Cost, Move, Origin, Plan
from checks.tests.cast import owners, report, sent, silence
from checks.tests.operators import (
    CONFIGS,
    act,
    act_confirmed,
    apply,
    config,
    operator,
    page_of,
    planned,
    refused,
    superuser,
)
from nodes.models import Heartbeat, Node, Runner, Slowness
from operators.admin import actions, planpage
from operators.admin.questions import seen_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("hand", source="admin")])
    report("birch")


def test_reassign_asks_which_node_and_shows_what_would_move() -> None:
    page = act(superuser(), "reassign", ["shop", "mail"])
    assert '<option value="birch">0\u202f%, 0 configs</option>' in page
    assert "file:shop" in page
    assert "file:mail" in page
    assert "admin:hand" not in page
    assert set(owners().values()) == {"ash"}


def test_reassign_moves_the_selected_configs_under_the_operators_name() -> None:
    client = superuser()
    plan = planned(client, "reassign", ["shop", "mail"], node="birch")
    assert set(owners().values()) == {"ash"}
    assert "Give 2 configs to birch: 2 configs moved." in apply(client, plan)
    assert owners() == {"shop": "birch", "mail": "birch", "hand": "ash"}
    moves = Move.objects.filter(reason=Move.Reason.OPERATOR)
    assert {(move.source_node, move.to_node, move.actor) for move in moves} == {("ash", "birch", "olga")}


@pytest.mark.parametrize(
    ("node", "error"),
    [
        ("cedar", "is unknown"),
        ("BIRCH", "is unknown, did you mean birch?"),
        ("brich", "is unknown, did you mean birch?"),
        ("fir", "is lost: it gets nothing until it reports again"),
        ("oak", "is cordoned"),
        ("elm", "is silent"),
        ("", "This field is required."),
    ],
)
def test_a_node_that_takes_nothing_is_refused_at_the_field(node: str, error: str) -> None:
    report("oak", "elm", "fir")
    Heartbeat.objects.filter(node__name="fir").delete()
    Node.objects.filter(name="oak").update(schedulable=False)
    silence("elm")
    assert error in act(superuser(), "reassign", ["shop"], node=node, asked="yes")
    assert owners()["shop"] == "ash"


def test_the_least_loaded_nodes_are_named_without_slow_overloaded_and_full_ones() -> None:
    report("oak", "elm", "fir", "yew")
    Node.objects.filter(name="yew").update(max_configs=0)
    Cost.objects.create(config=config("shop"), workers_needed=0.4)
    dispatcher.reassign([config("shop").pk], "fir", actor="olga")
    Slowness.objects.create(node=Node.objects.get(name="oak"), level=Slowness.SLOW)
    Runner.objects.create(node=Node.objects.get(name="elm"), overloaded_since=Now())
    client = superuser()
    text = act(client, "reassign", ["shop"])
    # Not where it is already.
    assert "Least loaded: birch (0\u202f%), ash (20\u202f%, assumed)." in text
    assert "birch (0\u202f%), fir (10\u202f%), ash" in act(client, "reassign", ["shop", "mail"])
    assert "Least loaded: birch (0\u202f%), fir (10\u202f%)." in act(client, "reassign", ["hand", "mail"])
    assert not any(f'<option value="{name}">' in text for name in ("oak", "elm", "yew"))


def test_a_load_that_is_a_guess_says_so_and_makes_no_node_full() -> None:
    """Before the first stats each config counts as a worker."""
    dispatcher.schedule([sent(f"one-{number}") for number in range(20)])
    Assignment.objects.filter(config__origins__key__startswith="one").update(node=Node.objects.get(name="birch"))
    client = superuser()
    text = act(client, "reassign", ["shop"])
    assert "Least loaded: birch (500\u202f%, assumed)." in text
    page = " ".join(client.get(f"{reverse('pages:others', args=[config('shop').pk])}").content.decode().split())
    assert re.search(r'>birch</td><td class="py-2">5\d\d\s%, assumed', page)
    plan = planned(client, "reassign", ["shop"], node="birch")
    assert "Loads are assumed, a worker for each config" in " ".join(planpage.notes(plan))
    for one in Config.objects.all():
        Cost.objects.create(config=one, workers_needed=0.1)
    assert "assumed" not in act(client, "reassign", ["shop"])
    assert "assumed" not in " ".join(planpage.notes(plan))


def test_an_endpoint_check_is_not_reassigned() -> None:
    dispatcher.schedule([sent("pod", node_name="ash")])
    assert "is an endpoint check" in act(superuser(), "reassign", ["pod", "shop"], node="birch", asked="yes")
    assert owners()["shop"] == "ash"


def test_unschedule_asks_first() -> None:
    assert "Unscheduled, they stop running" in act(superuser(), "unschedule", ["hand"])
    assert "hand" in owners()


def test_unschedule_removes_what_was_written_by_hand() -> None:
    client, pk = superuser(), config("hand").pk
    page = act_confirmed(client, "unschedule", ["hand"])
    assert "1 config unscheduled." in page
    assert not Config.objects.filter(pk=pk).exists()
    assert Move.objects.get(config_id=pk, reason=Move.Reason.UNSCHEDULED).actor == "olga"


def test_unschedule_refuses_what_a_source_sends_and_names_it() -> None:
    page = act(superuser(), "unschedule", ["hand", "shop"])
    assert "is sent by file:shop. Remove it there." in page
    assert {"hand", "shop"} <= owners().keys()


def test_unschedule_refuses_what_another_source_sends_as_well() -> None:
    dispatcher.schedule([sent("twin", url="http://hand")])
    assert Origin.objects.filter(config__origins__key="hand").count() == 2
    assert "is sent by file:twin" in act(superuser(), "unschedule", ["hand"])
    assert config("hand") == config("twin")


def test_a_configs_page_offers_the_actions() -> None:
    client = superuser()
    assert 'value="reassign"' in client.get(page_of("shop")).content.decode()
    assert 'value="unschedule"' not in client.get(page_of("shop")).content.decode()
    assert 'value="unschedule"' in client.get(page_of("hand")).content.decode()


def test_who_may_only_look_can_do_nothing() -> None:
    client = operator("view_config")
    assert 'value="reassign"' not in client.get(page_of("shop")).content.decode()
    refused(client, "reassign", ["shop"], node="birch", asked="yes")
    refused(client, "unschedule", ["hand"], seen=seen_of([config("hand").pk]))
    assert owners() == {"shop": "ash", "mail": "ash", "hand": "ash"}
    assert not Plan.objects.exists()


def test_reassigning_needs_the_permission_to_change_assignments_and_unscheduling_that_to_delete_configs() -> None:
    client = operator("view_config", "view_plan", "change_config")
    refused(client, "reassign", ["shop"], node="birch", asked="yes")
    assert not Plan.objects.exists()
    client = operator("view_config", "view_plan", "change_assignment", name="oona")
    apply(client, planned(client, "reassign", ["shop"], node="birch"))
    refused(client, "unschedule", ["hand"], seen=seen_of([config("hand").pk]))
    assert owners() == {"shop": "birch", "mail": "ash", "hand": "ash"}


def test_a_box_that_a_script_says_is_not_checked_is_not() -> None:
    client = superuser()
    one = {"action": "pause", "_selected_action": [config("shop").pk], "select_across": "0", "asked": "yes"}
    client.post(CONFIGS, one)
    assert [move["config"] for move in Plan.objects.get().moves] == [config("shop").pk]


def test_too_many_configs_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MOST_SELECTED", 2)
    everything = {"action": "reassign", "select_across": "1", "index": "0"}
    page = superuser().post(CONFIGS, everything, follow=True).content.decode()
    assert "More than 2 configs match. Narrow the filter." in page
