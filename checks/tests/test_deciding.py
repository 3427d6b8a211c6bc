"""Plans of orders: they change nothing, and applying one is refused when something that it names has changed."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from checks import dispatcher, plans
from checks.dispatcher import Decision, committing, deciding, transaction
from checks.models import Config, Move, Plan
from checks.models.orders import Pause, Pin, Rule
from checks.plans import StalePlan
from checks.tests.cast import counts, ledger, owners, report, sent, silence
from nodes.goodbyes import note_goodbye
from nodes.models import Node, UnknownNode

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """Four configs on ash, of one worker each, and nothing on birch: ash is fully loaded."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("db", name="postgres"), sent("web")])
    report("birch")


def stored(decision: Decision) -> Plan:
    return plans.store(decision, author="eve")


def ids(*keys: str) -> list[int]:
    return list(Config.objects.filter(origins__key__in=keys).values_list("pk", flat=True))


def test_nothing_happens_before_a_plan_is_applied() -> None:
    before = owners(), ledger()
    stored(deciding.reassign(ids("shop"), "birch"))
    stored(deciding.pin(ids("shop"), "birch"))
    stored(deciding.pause(ids("shop")))
    stored(deciding.drain(["ash"]))
    assert (owners(), ledger()) == before
    assert not Pin.objects.exists()
    assert Node.objects.get(name="ash").schedulable


def test_a_plan_to_reassign_tells_moves_and_loads_and_then_makes_them() -> None:
    plan = stored(deciding.reassign(ids("shop", "mail"), "birch"))
    assert [(move["from_node"], move["to_node"]) for move in plan.moves] == [("ash", "birch")] * 2
    assert plan.nodes == {"ash": {"before": 1.0, "after": 0.5}, "birch": {"before": 0.0, "after": 0.5}}
    assert plan.spread["peak"] == [1.0, 0.5]
    moves = plans.apply(plan, actor="otto")
    assert {(move.reason, move.actor) for move in moves} == {("operator", "otto")}
    assert counts() == {"ash": 2, "birch": 2}
    plan.refresh_from_db()
    assert (plan.moved, plan.outcome, plan.author) == (2, "", "eve")
    assert plan.applied_at is not None


def test_a_node_that_restarts_is_given_what_a_person_gives_it() -> None:
    note_goodbye("birch", "restarting")
    plan = stored(deciding.reassign(ids("shop"), "birch"))
    assert len(plans.apply(plan, actor="eve")) == 1


def test_what_is_there_already_is_counted_but_does_not_move() -> None:
    dispatcher.reassign(ids("shop"), "birch", actor="eve")
    plan = stored(deciding.reassign(ids("shop", "mail"), "birch"))
    assert len(plan.moves) == len(plan.order["also"]) == 1
    assert len(plans.apply(plan, actor="eve")) == 1


def test_a_reassigned_config_is_held_by_a_pin_in_place_of_the_one_it_had() -> None:
    until = timezone.now() + timedelta(hours=24)
    dispatcher.pin(ids("shop"), "ash", actor="eve")
    plan = stored(deciding.reassign(ids("shop"), "birch", hold=True, until=until, note="spare"))
    plans.apply(plan, actor="eve")
    pin = Pin.objects.get()
    assert (pin.aim, pin.until, pin.note) == ("birch", until, "spare")
    assert owners()["shop"] == "birch"


def test_a_plan_to_pin_tells_where_the_pin_leads() -> None:
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    plan = stored(deciding.pin(ids("shop", "db"), "zone=b", kind="label", note="near"))
    assert {move["to_node"] for move in plan.moves} == {"birch"}
    plans.apply(plan, actor="eve")
    assert owners()["shop"] == owners()["db"] == "birch"
    assert set(Pin.objects.values_list("kind", "aim", "author", "note")) == {("label", "zone=b", "eve", "near")}


def test_a_pin_that_waits_for_its_node_is_told_to_stop_the_check() -> None:
    plan = stored(deciding.pin(ids("shop"), "cedar", waits=True))
    assert [(move["from_node"], move["to_node"]) for move in plan.moves] == [("ash", "")]
    plans.apply(plan, actor="eve")
    assert "shop" not in owners()


def test_a_pin_that_leads_nowhere_moves_nothing() -> None:
    plan = stored(deciding.pin(ids("shop"), "cedar"))
    assert plan.moves == []
    plans.apply(plan, actor="eve")
    assert (Pin.objects.get().aim, owners()["shop"]) == ("cedar", "ash")


def test_a_plan_to_pause_tells_what_load_goes_and_then_pauses() -> None:
    plan = stored(deciding.pause(ids("shop", "mail"), until=timezone.now() + timedelta(hours=1), note="deploy"))
    assert plan.nodes == {"ash": {"before": 1.0, "after": 0.5}}
    plans.apply(plan, actor="eve")
    assert owners().keys() == {"db", "web"}
    assert {(pause.author, pause.note) for pause in Pause.objects.all()} == {("eve", "deploy")}


def test_a_plan_to_drain_tells_where_everything_would_go_and_then_cordons() -> None:
    plan = stored(deciding.drain(["ash"]))
    assert len(plan.moves) == 4
    assert plan.nodes == {"ash": {"before": 1.0, "after": 0.0}, "birch": {"before": 0.0, "after": 1.0}}
    assert plans.apply(plan, actor="eve") == []
    ash = Node.objects.get(name="ash")
    assert (ash.schedulable, ash.draining) == (False, True)


def test_a_plan_to_drain_names_its_deadline_and_is_refused_after_it() -> None:
    by = timezone.now() + timedelta(hours=1)
    plan = stored(deciding.drain(["ash"], by=by))
    plans.apply(plan, actor="eve")
    assert Node.objects.get(name="ash").drain_by == by
    late = stored(deciding.drain(["birch"], by=timezone.now() - timedelta(seconds=1)))
    with pytest.raises(dispatcher.StalePlan, match=r"its deadline, .+ UTC, is over"):
        plans.apply(late, actor="eve")
    assert not Node.objects.get(name="birch").draining


def test_what_no_other_node_may_have_stays_on_a_drained_one() -> None:
    Node.objects.filter(name="ash").update(labels={"disk": "fast"})
    Rule.objects.create(name="fast", check_pattern="postgres", required={"disk": "fast"})
    plan = stored(deciding.drain(["ash"]))
    assert "postgres" not in {move["name"] for move in plan.moves}
    assert plan.nodes["ash"]["after"] == 0.25


def test_a_rebalance_is_applied_as_it_was_planned() -> None:
    plan = plans.make(actor="eve")
    assert plan.moves
    assert len(plans.apply(plan, actor="eve")) == len(plan.moves)


def after_first_chunk(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Change something when the first chunk of the next commit is done."""
    commit, left = committing._commit, [change]

    def and_then(*args: Any, **how: Any) -> list[Move]:
        moves = commit(*args, **how)
        left.pop()() if left else None
        return moves

    monkeypatch.setattr(committing, "_commit", and_then)


STALE = {
    "is now on birch": lambda: dispatcher.reassign(ids("mail"), "birch", actor="otto"),
    "was edited": lambda: dispatcher.schedule([sent("mail", url="http://other")]),
    "is gone": lambda: dispatcher.unschedule([("file", "mail")]),
    "is paused": lambda: dispatcher.pause(ids("mail"), actor="otto"),
    "node birch is cordoned": lambda: Node.objects.filter(name="birch").cordon(),
    "node birch is silent": lambda: silence("birch"),
}


@pytest.mark.parametrize("why", STALE)
def test_a_plan_is_refused_as_a_whole_when_something_that_it_touches_changed(why: str) -> None:
    plan = stored(deciding.reassign(ids("shop", "mail"), "birch"))
    STALE[why]()
    before = owners()
    with pytest.raises(StalePlan, match=why):
        plans.apply(plan, actor="eve")
    plan.refresh_from_db()
    assert (owners(), plan.applied_at) == (before, None)


def test_a_plan_says_how_much_else_changed() -> None:
    plan = stored(deciding.pause(ids("shop", "mail", "db")))
    dispatcher.reassign(ids("shop", "mail", "db"), "birch", actor="otto")
    with pytest.raises(StalePlan, match="is now on birch, and 2 other configs changed, too"):
        plans.apply(plan, actor="eve")


def test_what_others_changed_elsewhere_does_not_matter() -> None:
    plan = stored(deciding.pause(ids("shop")))
    dispatcher.reassign(ids("mail"), "birch", actor="otto")
    plans.apply(plan, actor="eve")
    assert "shop" not in owners()


def test_a_plan_is_applied_once() -> None:
    plan = stored(deciding.pause(ids("shop")))
    plans.apply(plan, actor="eve")
    dispatcher.resume(ids("shop"))
    with pytest.raises(StalePlan, match="applied already"):
        plans.apply(plan, actor="eve")


def test_what_changes_between_two_chunks_stops_a_plan_there_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 2)
    plan = stored(deciding.pause(ids("shop", "mail", "db")))
    last = Config.objects.get(pk=plan.moves[2]["config"])
    after_first_chunk(monkeypatch, lambda: Config.objects.filter(pk=last.pk).update(digest="edited"))
    assert len(plans.apply(plan, actor="eve")) == 2
    assert plan.moved == 2
    assert plan.outcome.startswith(f"stopped after 2 of 3 configs: {last.title} was edited")


REFUSED: dict[str, tuple[type[Exception], Any]] = {
    "node cedar is unknown": (UnknownNode, lambda: stored(deciding.reassign(ids("shop"), "cedar"))),
    "cedar": (UnknownNode, lambda: stored(deciding.drain(["cedar"]))),
    "zone=a": (ValidationError, lambda: stored(deciding.pin(ids("shop"), "zone", kind="label"))),
    "pinned to the node ash": (
        dispatcher.NotAccepting,
        lambda: [
            dispatcher.pin(ids("shop"), "ash", actor="eve"),
            stored(deciding.reassign(ids("shop"), "birch")),
        ],
    ),
    "is paused": (
        dispatcher.NotDispatchable,
        lambda: [dispatcher.pause(ids("shop"), actor="eve"), stored(deciding.reassign(ids("shop"), "birch"))],
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_can_not_be_done_is_no_plan(why: str) -> None:
    kind, ask = REFUSED[why]
    with pytest.raises(kind, match=why):
        ask()
    assert not Plan.objects.exists()
