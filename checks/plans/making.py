"""Rebalances: what one would move, decided and made into a plan."""

from collections.abc import Iterable, Iterator
from typing import Any

from checks import dispatcher
from checks.balancing import PlannedMove
from checks.balancing.plan import HIGH
from checks.dispatcher import Decision, Step
from checks.dispatcher.decision import Loads
from checks.models import Move, Plan
from checks.plans import survey
from checks.plans.store import apply, store, to_plan
from checks.plans.survey import Moves, Survey
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
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
    """Make a plan and apply it. Raises StalePlan when something that it names changes in between."""
    plan = make(actor=actor, **how)
    return plan, apply(plan, actor=actor, term=term)


def make(*, actor: str = "", **how: Any) -> Plan:
    """The plan of what `decide` decides, stored if it moves anything."""
    decision = decide(**how)
    return (to_plan if decision.is_empty else store)(decision, author=actor)


def draft(*, actor: str = "", **how: Any) -> Plan:
    """The plan of what `decide` decides, not stored."""
    return to_plan(decide(**how), author=actor)


def decide(
    *, force: bool = False, budget: int | None = None, unlimited: bool = False, settling: bool = False
) -> Decision:
    """Work out what a rebalance would move.

    force: also where it makes no clear difference. budget: most moves, unless given what may move in one period;
    unlimited: no most. settling: while nodes come and go, move only what brings an overloaded node below HIGH.
    """
    sight = survey.take()
    pinned = sight.fixed() | sight.resting()
    limit = None if unlimited else dispatcher.budget() if budget is None else budget
    if not (settling and _nodes_come_and_go()):
        return decision_of(sight, sight.plan(pinned, budget=limit, force=force))
    utilization = sight.utilization()
    calm = {digest for digest, held in sight.held.items() if utilization[held.node] <= HIGH}
    moves = sight.plan(pinned | calm, budget=limit)
    return decision_of(sight, list(_relief(sight, utilization, moves)))


def decision_of(sight: Survey, moves: Moves) -> Decision:
    """The decision to make these moves."""
    touched = {name: name for move in moves for name in (move.source, move.to)}
    loads = Loads.of(sight.utilization(), sight.utilization(moves), touched)
    return Decision(Move.Reason.REBALANCED, {}, [_step(sight, move) for move in moves], sight.revision, loads)


def _step(sight: Survey, move: PlannedMove[str, str]) -> Step:
    config, source, to = sight.held[move.digest], sight.nodes[move.source].id, sight.nodes[move.to].id
    return Step(
        config.id, config.digest, config.name, source, to, move.source, move.to, sight.costs[move.digest], move.gain
    )


def _nodes_come_and_go() -> bool:
    lately = ago(conf.REBALANCE_SETTLING)
    return NodeEvent.objects.filter(kind__in=COMING_AND_GOING, time__gte=lately).exists()


def _relief(
    sight: Survey, utilization: dict[str, float], moves: Iterable[PlannedMove[str, str]]
) -> Iterator[PlannedMove[str, str]]:
    """Of these moves those that it takes to bring their sources below HIGH."""
    for move in moves:
        if utilization[move.source] > HIGH:
            for node, sign in ((move.source, -1), (move.to, 1)):
                utilization[node] += sign * sight.costs[move.digest] / sight.nodes[node].capacity
            yield move
