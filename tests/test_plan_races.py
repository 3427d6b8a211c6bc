"""Two sessions at once, with real locks: plans against each other, against expiry and against schedule."""

import pytest

from checks import dispatcher, plans
from checks.models import ClusterStore, Config, Move, Plan, freezes
from checks.plans import StalePlan
from checks.tests.balance import furnish, routes
from checks.tests.cast import owners, sent, silence
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, NodeType
from tests.test_races import Session, held

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _uneven(transactional_db: None) -> None:
    """Make a state in which every plan moves two of ash's configs to birch."""
    Hearing.objects.update(warmup=False)
    furnish(ash=[0.4, 0.4, 0.4, 0.4], birch=[], cedar=[0.8])


def rebalanced() -> list[tuple[str, str]]:
    moves = Move.objects.filter(reason=Move.Reason.REBALANCED)
    return list(moves.order_by("config_id").values_list("source_node", "to_node"))


def rebalance() -> list[Move]:
    return plans.rebalance(actor="eve")[1]


def outcome(session: Session) -> int | str:
    """Return the number of moves of a session, or why its plan was refused."""
    try:
        return len(session.finish())
    except StalePlan as error:
        return str(error)


def key_in(plan: Plan) -> str:
    return min(routes(plan))


def test_of_two_rebalances_at_once_one_moves_and_the_other_is_stale() -> None:
    with held(ClusterStore.objects.lock):
        first, second = Session(rebalance), Session(rebalance)
        first.waits()
        second.waits()
    moved, refused = sorted((outcome(first), outcome(second)), key=str)
    assert moved == 2
    assert "is now on birch" in str(refused)
    assert rebalanced() == [("ash", "birch")] * 2
    assert sorted(plan.moved for plan in Plan.objects.all()) == [0, 2]


def test_a_plan_that_two_apply_at_once_is_applied_once() -> None:
    plan = plans.make()
    with held(ClusterStore.objects.lock):
        twins = [Session(lambda: plans.apply(Plan.objects.get(pk=plan.pk), actor="eve")) for _ in range(2)]
        for twin in twins:
            twin.waits()
    assert {outcome(twin) for twin in twins} == {2, "the plan was applied already"}
    assert rebalanced() == [("ash", "birch")] * 2


@pytest.mark.parametrize("name", ["ash", "birch"])
def test_a_rebalance_that_waits_for_expiry_moves_nothing_from_or_to_the_dead(name: str) -> None:
    plan = plans.make()
    silence(name)
    with held(dispatcher.expire_nodes):
        late = Session(lambda: plans.apply(plan, actor="eve"))
        late.waits()
    with pytest.raises(StalePlan, match=f"node {name} is lost"):
        late.finish()
    assert rebalanced() == []
    assert name not in owners().values()


def test_expiry_that_waits_for_a_rebalance_takes_what_it_moved() -> None:
    plan = plans.make()
    with held(lambda: plans.apply(plan, actor="eve")):
        Session(lambda: silence("birch")).finish()
        expiry = Session(dispatcher.expire_nodes)
        expiry.waits()
    assert {(move.source_node, move.digest) for move in expiry.finish()} == {
        ("birch", move["digest"]) for move in plan.moves
    }


def test_a_rebalance_that_waits_for_an_edit_of_what_it_moves_is_stale() -> None:
    plan = plans.make()
    edited = sent(key_in(plan), url="http://elsewhere")
    with held(lambda: dispatcher.schedule([edited])):
        late = Session(lambda: plans.apply(plan, actor="eve"))
        late.waits()
    with pytest.raises(StalePlan, match="was edited"):
        late.finish()
    assert rebalanced() == []


def test_the_leader_that_waits_for_a_freeze_balances_nothing() -> None:
    plan = plans.make()
    with held(lambda: freezes.freeze(actor="eve")):
        late = Session(lambda: plans.apply(plan, actor="", term=ClusterStore.objects.get().term))
        late.waits()
    with pytest.raises(StalePlan, match="frozen by eve"):
        late.finish()
    assert rebalanced() == []


def test_node_agents_do_not_give_way_to_runners_after_a_freeze_that_was_waited_for() -> None:
    note_heartbeat("birch", last_change=-1, node_type=NodeType.RUNNER)
    with held(lambda: freezes.freeze(actor="eve")):
        late = Session(dispatcher.move_misplaced)
        late.waits()
    assert late.finish() == []
    assert rebalanced() == []


def test_a_rebalance_that_waits_for_a_new_config_moves_what_it_planned() -> None:
    plan = plans.make()
    with held(lambda: dispatcher.schedule([sent("new")])):
        late = Session(lambda: plans.apply(plan, actor="eve"))
        late.waits()
    assert len(late.finish()) == 2


def test_an_edit_that_waits_for_a_rebalance_finds_its_config_on_the_new_node() -> None:
    plan = plans.make()
    key = key_in(plan)
    with held(lambda: plans.apply(plan, actor="eve")):
        edit = Session(lambda: dispatcher.schedule([sent(key, url="http://elsewhere")]))
        edit.waits()
    assert [(move.source_node, move.to_node, move.reason) for move in edit.finish()] == [("birch", "birch", "changed")]
    assert Config.objects.get(origins__key=key).assignment.node.name == "birch"
