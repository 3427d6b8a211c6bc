"""Applying a plan: all moves once, or none when something that it names has changed."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.dispatcher import NotLeader, committing, transaction
from checks.models import Config, Move, Plan
from checks.models.orders import Rule
from checks.plans import StalePlan
from checks.tests.balance import furnish, join, routes, settle
from checks.tests.cast import hand_over, lead, ledger, owners, report, sent, silence, versions
from nodes.goodbyes import note_goodbye
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


@pytest.fixture
def plan(warm: None) -> Plan:
    """A plan that moves two of four configs from ash to birch; cedar is not involved."""
    furnish(ash=[0.4, 0.4, 0.4, 0.4], birch=[], cedar=[0.8])
    return plans.make(actor="eve")


@pytest.fixture
def moving(plan: Plan) -> str:
    """One of the two, by its origin's key."""
    return min(routes(plan))


def test_every_move_is_made_and_written_down(plan: Plan):
    before, told, number = owners(), versions(), Move.objects.count()
    moves = plans.apply(plan, actor="eve", term=lead())
    assert owners() == before | routes(plan)
    assert ledger()[number:] == [("ash", "birch", "rebalanced")] * 2
    assert {(move.actor, move.term) for move in moves} == {("eve", 1)}
    hand_over()
    assert {name for name, version in versions().items() if version != told[name]} == {"ash", "birch"}
    assert (plan.moved, plan.outcome) == (2, "")
    assert plan.applied_at is not None


def test_a_plan_is_applied_once(plan: Plan):
    plans.apply(plan, actor="eve")
    after = owners()
    with pytest.raises(StalePlan, match="the plan was applied already"):
        plans.apply(plan, actor="eve")
    plan.refresh_from_db()
    assert (plan.moved, plan.outcome) == (2, "")
    assert owners() == after


def test_of_a_term_that_is_over_nothing_is_applied(plan: Plan):
    before = owners()
    with pytest.raises(NotLeader):
        plans.apply(plan, actor="rebalance", term=lead() + 1)
    assert owners() == before


def test_right_after_it_there_is_nothing_to_do(plan: Plan):
    plans.apply(plan, actor="eve")
    settle()
    assert plans.make(force=True).moves == []


CHANGES: dict[str, Callable[[str], object]] = {
    "is gone": lambda key: dispatcher.unschedule([("file", key)]),
    "was edited": lambda key: dispatcher.schedule([sent(key, url="http://elsewhere")]),
    "is paused": lambda key: dispatcher.pause([id_of(key)]),
    "is now on cedar": lambda key: dispatcher.reassign([id_of(key)], "cedar", actor="eve"),
    "can't go to birch: the config is pinned to the node ash": lambda key: dispatcher.pin([id_of(key)], "ash"),
}


@pytest.mark.parametrize("why", CHANGES)
def test_a_config_that_changed_is_named_and_nothing_moves(plan: Plan, moving: str, why: str):
    CHANGES[why](moving)
    before = owners()
    with pytest.raises(StalePlan, match=f"http_check ash-1 {why}"):
        plans.apply(plan, actor="eve")
    plan.refresh_from_db()
    assert owners() == before
    assert plan.applied_at is None
    assert plan.outcome.startswith("stopped after 0 of 2 configs: http_check")


def test_a_config_that_was_isolated_stays(plan: Plan):
    dispatcher.isolate([plan.moves[0]["config"]])
    with pytest.raises(StalePlan, match="is isolated"):
        plans.apply(plan, actor="eve")


def test_a_pin_to_where_it_goes_anyway_changes_nothing(plan: Plan, moving: str):
    dispatcher.pin([id_of(moving)], "*", kind="pattern")
    assert len(plans.apply(plan, actor="eve")) == 2


NODE_CHANGES: dict[str, Callable[[str], object]] = {
    "is lost": lambda name: (silence(name), dispatcher.expire_nodes()),
    "is silent": lambda name: silence(name),
    "is cordoned": lambda name: Node.objects.filter(name=name).cordon(),
    "said that it leaves": lambda name: note_goodbye(name, "leaving"),
    "said that it restarts": lambda name: note_goodbye(name, "restarting"),
}


@pytest.mark.parametrize("why", NODE_CHANGES)
@pytest.mark.parametrize("name", ["ash", "birch"])
def test_a_node_that_changed_is_named_and_nothing_moves(plan: Plan, name: str, why: str):
    NODE_CHANGES[why](name)
    before = owners()
    with pytest.raises(StalePlan, match=f"node {name} {why}"):
        plans.apply(plan, actor="eve")
    assert owners() == before


def test_a_node_that_came_and_goes_again_gets_nothing(plan: Plan):
    Node.objects.filter(name="birch").update(not_before=Now() + timedelta(minutes=1))
    with pytest.raises(StalePlan, match="can't go to birch: it comes and goes"):
        plans.apply(plan, actor="eve")


def test_a_node_that_is_reserved_for_an_isolated_config_gets_nothing(plan: Plan):
    dispatcher.reassign([id_of("cedar-0")], "birch", actor="eve")
    dispatcher.isolate([id_of("cedar-0")])
    with pytest.raises(StalePlan, match=r"can't go to birch: it is reserved for http_check .*, which is isolated"):
        plans.apply(plan, actor="eve")


def test_a_node_gets_no_more_configs_than_it_may_have(plan: Plan):
    Node.objects.filter(name="birch").update(max_configs=1)
    with pytest.raises(StalePlan, match="can't go to birch: it may have at most 1 config"):
        plans.apply(plan, actor="eve")


def test_a_rule_that_was_made_meanwhile_holds(plan: Plan):
    Rule.objects.create(name="fast", required={"disk": "fast"})
    with pytest.raises(StalePlan, match="can't go to birch: rule fast: it requires disk=fast"):
        plans.apply(plan, actor="eve")


def test_a_rule_s_most_per_node_holds(plan: Plan):
    Rule.objects.create(name="few", max_per_node=1, source_pattern="file:ash-*")
    with pytest.raises(StalePlan, match="rule few: at most 1 on one node"):
        plans.apply(plan, actor="eve")


def test_what_the_plan_does_not_name_may_change(plan: Plan):
    report("doum")
    Node.objects.filter(name="cedar").cordon()
    dispatcher.schedule([sent("new")])
    assert len(plans.apply(plan, actor="eve")) == 2


class TestChunks:
    """A long plan: each chunk is one transaction."""

    @pytest.fixture
    def plan(self, warm: None, monkeypatch: pytest.MonkeyPatch) -> Plan:
        monkeypatch.setattr(transaction, "CHUNK", 2)
        furnish(ash=[0.1] * 10, birch=[])
        return plans.make(actor="eve")

    def test_all_are_moved(self, plan: Plan):
        assert len(plans.apply(plan, actor="eve")) == len(plan.moves) == plan.moved == 5

    def test_the_first_answers_for_all(self, plan: Plan):
        dispatcher.pause([plan.moves[-1]["config"]])
        with pytest.raises(StalePlan, match="is paused"):
            plans.apply(plan, actor="eve")
        assert "birch" not in owners().values()

    @pytest.mark.parametrize("change", ["pause", "new term"])
    def test_a_later_one_that_is_stale_stops_there_and_says_what_moved(
        self, plan: Plan, change: str, monkeypatch: pytest.MonkeyPatch
    ):
        term, commit = lead(), committing._commit

        def first(*args: Any, **how: Any) -> list[Move]:
            monkeypatch.setattr(committing, "_commit", commit)
            moves = commit(*args, **how)
            dispatcher.pause([plan.moves[3]["config"]]) if change == "pause" else lead()
            return moves

        monkeypatch.setattr(committing, "_commit", first)
        moves = plans.apply(plan, actor="eve", term=term)
        assert [move.config_id for move in moves] == [move["config"] for move in plan.moves[:2]]
        why = "http_check .* is paused" if change == "pause" else "term 1 is over"
        assert plan.moved == 2
        assert re.match(f"stopped after 2 of 5 configs: {why}", plan.outcome)


def test_an_empty_plan_is_applied_without_a_trace():
    furnish(ash=[0.4], birch=[0.4])
    revision = plans.make().revision
    assert plans.apply(plans.make(), actor="eve") == []
    assert plans.make().revision == revision


def test_a_second_rebalance_finds_nothing():
    furnish(ash=[0.1] * 30, birch=[])
    join("cedar")
    plan, moves = plans.rebalance(actor="eve", unlimited=True)
    assert len(moves) == len(plan.moves) == plan.moved
    settle()
    assert plans.rebalance(actor="eve", unlimited=True)[1] == []
