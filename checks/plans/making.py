"""Rebalances: deciding what one moves, and making plans of it."""

from typing import Any

from checks import dispatcher
from checks.balancing.plan import HIGH
from checks.dispatcher import Decision, Placement
from checks.dispatcher.decision import Loads
from checks.models import Move, Plan
from checks.plans.store import apply, store, to_plan
from checks.plans.survey import Moves, Survey, take_survey
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.traces import span
from nodes.models import NodeEvent

COMING_AND_GOING = (
    NodeEvent.Kind.REGISTERED,
    NodeEvent.Kind.BACK,
    NodeEvent.Kind.RESTARTED,
    NodeEvent.Kind.EXPIRED,
    NodeEvent.Kind.LEAVING,
    NodeEvent.Kind.RESTARTING,
)


def rebalance(*, actor: str, term: int | None = None, **how: Any) -> tuple[Plan, list[Move]]:
    """Make a plan by `decide`, apply it, and return it and its moves. Raises StalePlan and NotLeader, see `store.apply`."""
    plan = make(actor=actor, **how)
    return plan, apply(plan, actor=actor, term=term)


def make(*, actor: str = "", **how: Any) -> Plan:
    """Return the plan of what `decide` decides, stored if it moves anything."""
    with span("decide", verb="rebalance") as deciding:
        decision = decide(**how)
        deciding.set_attributes({"configs": len(decision.placements)})
    return (to_plan if decision.is_empty else store)(decision, author=actor)


def draft(*, actor: str = "", **how: Any) -> Plan:
    """Return the plan of what `decide` decides, not stored."""
    return to_plan(decide(**how), author=actor)


def decide(
    *, force: bool = False, budget: int | None = None, unlimited: bool = False, settling: bool = False
) -> Decision:
    """Decide what a rebalance moves, without changing anything.

    force: also when the improvement is small. budget: the most moves; `dispatcher.budget()` unless given. unlimited: no
    limit. settling: while nodes come and go, move only as much as brings overloaded nodes below HIGH.
    """
    survey = take_survey()
    pinned = survey.fixed() | survey.resting()
    limit = None if unlimited else dispatcher.budget() if budget is None else budget
    coming_and_going = NodeEvent.objects.filter(kind__in=COMING_AND_GOING, time__gte=ago(conf.REBALANCE_SETTLING))
    if not (settling and coming_and_going.exists()):
        return decision_of(survey, survey.plan(pinned, budget=limit, force=force))
    utilization = survey.utilization()
    calm = {digest for digest, held in survey.held.items() if utilization[held.node] <= HIGH}
    # Of these moves only those that are needed to bring their sources below HIGH.
    relieving = []
    for move in survey.plan(pinned | calm, budget=limit):
        if utilization[move.source] > HIGH:
            for node, sign in ((move.source, -1), (move.to, 1)):
                utilization[node] += sign * survey.costs[move.digest] / survey.nodes[node].capacity
            relieving.append(move)
    return decision_of(survey, relieving)


def decision_of(survey: Survey, moves: Moves) -> Decision:
    """Return the decision to make these moves."""
    touched = {name: name for move in moves for name in (move.source, move.to)}
    loads = Loads.of(survey.utilization(), survey.utilization(moves), touched)
    placements = []
    for digest, source, to, gain in moves:
        config, source_id, to_id = survey.held[digest], survey.nodes[source].id, survey.nodes[to].id
        cost = survey.costs[digest]
        placements.append(
            Placement(config.id, digest, config.name, source_id, to_id, source, to, cost, gain, title=config.shown)
        )
    return Decision(Move.Reason.REBALANCED, {}, placements, survey.revision, loads)
