"""What is done is what was decided: all of it, as long as nothing that it was decided on changed, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checks import dispatcher, plans
from checks.dispatcher import Decision, StalePlan, deciding, transaction
from checks.models import Config, Move, Plan
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.plans import making
from checks.tests.balance import furnish, settle
from checks.tests.cast import dangling, ledger, owners, report, sent
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """Six configs of ash, nothing on birch and cedar; two of ash's were on birch once, and two more are paused."""
    furnish(ash=[0.3] * 8, birch=[], cedar=[])
    dispatcher.reassign(ids()[:2], "birch", actor="eve")
    dispatcher.reassign(ids()[:2], "ash", actor="eve")
    dispatcher.pause(ids()[6:])
    settle()


def ids() -> list[int]:
    return list(Config.objects.order_by("pk").values_list("pk", flat=True))


def back() -> list[int]:
    """The moves that took configs away from birch."""
    return list(Move.objects.filter(source_node="birch").values_list("pk", flat=True))


VERBS: dict[str, Callable[[], Decision]] = {
    "reassign": lambda: deciding.reassign(ids()[:6], "birch"),
    "reassign and hold": lambda: deciding.reassign(ids()[:6], "birch", hold=True, note="spare"),
    "pin": lambda: deciding.pin(ids()[:6], "*r*", kind="pattern"),
    "pin that waits": lambda: deciding.pin(ids()[:6], "dogwood", waits=True),
    "pause": lambda: deciding.pause(ids()[:6]),
    "resume": lambda: deciding.resume(ids()),
    "isolate": lambda: deciding.isolate(ids()[:2]),
    "undo": lambda: deciding.undo(back()),
    "rebalance": lambda: making.decide(force=True, unlimited=True),
}


def told(moves: Any) -> list[Any]:
    return sorted((move.config_id, move.source_node, move.to_node, move.reason, _sorted(move.why)) for move in moves)


def _sorted(why: Any) -> str:
    return json.dumps(why, sort_keys=True)


@pytest.mark.parametrize("verb", VERBS)
def test_the_moves_are_those_that_were_decided_and_shown(verb: str) -> None:
    decision = VERBS[verb]()
    before, number = owners(), Move.objects.count()
    plan = plans.store(decision, author="eve")
    assert (owners(), Move.objects.count()) == (before, number)
    moves = plans.apply(Plan.objects.get(pk=plan.pk), actor="otto")
    shown = sorted(
        (
            one.config,
            one.from_node,
            one.to_node,
            str(one.reason or decision.reason),
            _sorted(one.why if one.to else None),
        )
        for one in decision.moves
    )
    assert shown
    assert told(moves) == told(Move.objects.all()[: len(shown)]) == shown
    now = dict(Config.objects.values_list("pk", "assignment__node"))
    assert [now[step.config] for step in decision.placements] == [step.to for step in decision.placements]


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_decided_and_done_at_once_is_the_same(verb: str) -> None:
    shown = [(step.config, step.source, step.to) for step in VERBS[verb]().moves]
    plan, moves = plans.order(VERBS[verb], actor="eve")
    assert [(move["config"], move["source"], move["to"]) for move in plan.moves] == shown
    assert len(moves) == plan.moved == len(shown)
    assert (plan.author, plan.outcome) == ("eve", "")


def test_a_drain_moves_what_it_said_in_the_passes_that_follow() -> None:
    decision = deciding.drain(["ash"])
    assert plans.order(lambda: decision, actor="eve")[1] == []
    moves = dispatcher.move_misplaced()
    settle()  # no more than so many a minute
    moves += dispatcher.move_misplaced()
    assert {(move.config_id, move.to_node) for move in moves} == {
        (step.config, step.to_node) for step in decision.moves
    }
    assert {(move.source_node, move.reason) for move in moves} == {("ash", "drained")}


@pytest.mark.parametrize("verb", [*VERBS, "drain"])
def test_a_change_in_a_later_chunk_that_was_there_before_the_start_lets_nothing_happen(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 1)
    decision = VERBS[verb]() if verb in VERBS else deciding.drain(["ash"])
    assert len(decision.placements) > 1
    plan = plans.store(decision, author="eve")
    Config.objects.filter(pk=decision.placements[-1].config).update(digest="edited")
    before = owners(), ledger(), orders()
    with pytest.raises(StalePlan, match="was edited"):
        plans.apply(plan, actor="eve")
    with pytest.raises(StalePlan, match="was edited"):
        dispatcher.commit(decision, actor="eve")
    plan.refresh_from_db()
    assert (owners(), ledger(), orders()) == before
    assert not Node.objects.filter(draining=True).exists()
    assert (plan.applied_at, plan.moved) == (None, 0)
    assert plan.outcome.startswith(f"stopped after 0 of {len(decision.placements)} configs: ")


def orders() -> list[list[Any]]:
    return [list(model.objects.order_by("pk").values()) for model in (Pin, Pause, Isolation)]


def test_an_isolation_is_stale_when_its_node_was_given_another_config() -> None:
    decision = deciding.isolate(ids()[:1])
    dispatcher.resume(ids()[6:])
    dispatcher.reassign(ids()[6:7], "ash", actor="eve")
    with pytest.raises(StalePlan, match="node ash was given http_check"):
        dispatcher.commit(decision)
    assert not Isolation.objects.exists()


def test_what_goes_stale_at_once_is_decided_anew() -> None:
    tried: list[Decision] = []

    def decide() -> Decision:
        tried.append(deciding.reassign(ids()[:2], "birch"))
        if len(tried) < 3:
            Config.objects.filter(pk=ids()[0]).update(digest=f"edited {len(tried)}")
        return tried[-1]

    plan, moves = plans.order(decide, actor="eve")
    assert (len(tried), len(moves)) == (3, 2)
    assert Plan.objects.get() == plan


def test_more_configs_than_a_chunk_are_decided_anew_while_nothing_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 1)
    tried: list[Decision] = []

    def decide() -> Decision:
        tried.append(deciding.isolate(ids()[:1]))
        if len(tried) < 3:
            Config.objects.filter(pk=ids()[3]).update(digest=f"edited {len(tried)}")
        return tried[-1]

    _, moves = plans.order(decide, actor="eve")
    assert len(tried) == 3
    assert moves
    assert Isolation.objects.count() == 1


@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_drain_that_always_goes_stale_cordons_in_the_end_without_a_forecast(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Working out the forecast of a large node takes long: never with the store locked."""
    monkeypatch.setattr(transaction, "CHUNK", chunk)

    def decide() -> Decision:
        assert not transaction._is_single.get()
        decision = deciding.drain(["ash"])
        Config.objects.filter(pk=ids()[3]).update(digest=str(id(decision))[-16:])
        return decision

    plan, _ = plans.order(decide, actor="eve")
    assert (plan.moves, plan.outcome) == ([], "")
    assert Node.objects.get(name="ash").draining


def test_what_grows_beyond_a_chunk_under_the_lock_is_refused_as_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Decision] = []

    def decide() -> Decision:
        tried.append(deciding.reassign(ids()[: 2 if len(tried) == 3 else 1], "birch"))
        Config.objects.filter(pk=ids()[0]).update(digest=f"edited {len(tried)}")
        return tried[-1]

    monkeypatch.setattr(transaction, "CHUNK", 1)
    with pytest.raises(StalePlan, match="2 configs went stale"):
        plans.order(decide, actor="eve")
    assert len(tried) == 4
    assert not Plan.objects.exists()


@pytest.mark.parametrize("verb", ["reassign", "reassign and hold", "pause"])
def test_an_order_that_depends_on_no_other_node_reads_none(verb: str) -> None:
    """However many nodes there are: the store is locked meanwhile."""
    decision = VERBS[verb]()
    report(*(f"elm-{number}" for number in range(9)))
    with CaptureQueriesContext(connection) as queries:
        dispatcher.commit(decision, actor="eve")
    tables = ("nodes_node", "nodes_heartbeat", "checks_assignment")
    assert not [
        query["sql"]
        for query in queries
        if any(f'FROM "{table}"' in query["sql"] for table in tables) and "WHERE" not in query["sql"]
    ]
    listed = [query["sql"] for query in queries if 'AS "signal"' in query["sql"]]
    assert len(listed) <= 1
    assert all('"name" IN' in sql for sql in listed)


def test_what_always_goes_stale_is_refused_and_no_plan_of_it_is_left() -> None:
    def decide() -> Decision:
        decision = deciding.pause(ids()[:1])
        Config.objects.filter(pk=ids()[0]).update(digest=str(id(decision))[-16:])
        return decision

    with pytest.raises(StalePlan, match="was edited"):
        plans.order(decide, actor="eve")
    assert not Plan.objects.exists()
    assert Pause.objects.count() == 2


def test_a_rule_that_was_made_meanwhile_is_heeded_by_every_order() -> None:
    resume, isolate = deciding.resume(ids()), deciding.isolate(ids()[:1])
    Rule.objects.create(name="fast", required={"disk": "fast"})
    for decision in (resume, isolate):
        with pytest.raises(StalePlan, match="rule fast: it requires disk=fast"):
            dispatcher.commit(decision)


def test_what_a_resumption_has_no_node_for_dangles_and_is_told_before() -> None:
    Node.objects.cordon()
    decision = deciding.resume(ids())
    assert [step.config for step in decision.dangling] == ids()[6:]
    dispatcher.commit(decision)
    assert len(dangling()) == 2


def test_what_changed_its_order_meanwhile_is_not_overruled() -> None:
    resume, pinned = deciding.resume(ids()[6:]), deciding.reassign(ids()[:1], "birch")
    dispatcher.resume(ids()[6:7])
    dispatcher.pin(ids()[:1], "ash")
    with pytest.raises(StalePlan, match="was resumed"):
        dispatcher.commit(resume)
    with pytest.raises(StalePlan, match="can't go to birch: the config is pinned to the node ash"):
        dispatcher.commit(pinned)


@pytest.mark.parametrize("number", [2, 3])
def test_of_several_isolated_configs_on_a_node_each_is_alone_in_the_end(number: int) -> None:
    report("dogwood", "elm")
    dispatcher.schedule([sent(f"other-{one}") for one in range(8)])
    dispatcher.commit(deciding.isolate(ids()[:number]))
    held = list(owners().items())
    for key in [f"ash-{one}" for one in range(number)]:
        assert [other for other, node in held if node == owners()[key]] == [key]
    assert len(held) == 14
    assert owners()["ash-0"] == "ash"


def test_no_two_moves_of_one_config_are_decided() -> None:
    report("dogwood")
    for decide in VERBS.values():
        configs = [step.config for step in decide().placements]
        assert len(configs) == len(set(configs))
