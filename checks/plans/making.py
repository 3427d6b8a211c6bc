"""What a rebalance would move, as a row that says what it changes."""

from collections.abc import Iterable, Iterator
from typing import Any

from checks import dispatcher
from checks.balancing import PlannedMove, spread
from checks.balancing.plan import HIGH
from checks.models import Move, Plan
from checks.plans import survey
from checks.plans.applying import apply
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


def make(**how: Any) -> Plan:
    """As `draft`, and store the plan if it moves anything."""
    plan = draft(**how)
    if plan.moves:
        plan.save()
        plan.refresh_from_db(fields=["time"])
    return plan


def draft(
    *, actor: str = "", force: bool = False, budget: int | None = None, unlimited: bool = False, settling: bool = False
) -> Plan:
    """Work out what a rebalance would move, and store nothing.

    force: also where it makes no clear difference. budget: most moves, unless given what may move in one period;
    unlimited: no most. settling: while nodes come and go, move only what brings an overloaded node below HIGH.
    """
    sight = survey.take()
    pinned = sight.fixed() | sight.resting()
    limit = None if unlimited else dispatcher.budget() if budget is None else budget
    if not (settling and _nodes_come_and_go()):
        return describe(sight, sight.plan(pinned, budget=limit, force=force), actor=actor)
    utilization = sight.utilization()
    calm = {digest for digest, held in sight.held.items() if utilization[held.node] <= HIGH}
    moves = sight.plan(pinned | calm, budget=limit)
    return describe(sight, list(_relief(sight, utilization, moves)), actor=actor)


def describe(sight: Survey, moves: Moves, *, actor: str = "") -> Plan:
    """The plan of these moves, unsaved."""
    before, after = sight.utilization(), sight.utilization(moves)
    touched = sorted({name for move in moves for name in (move.source, move.to)})
    was, becomes = spread(before.values()), spread(after.values())
    return Plan(
        author=actor,
        revision=sight.revision,
        moves=[_row(sight, move) for move in moves],
        nodes={name: {"before": before[name], "after": after[name]} for name in touched},
        spread={"peak": [was.peak, becomes.peak], "stddev": [was.stddev, becomes.stddev]},
        moved=0,
        outcome="",
    )


def _row(sight: Survey, move: PlannedMove[str, str]) -> dict[str, Any]:
    config = sight.held[move.digest]
    return {
        "config": config.id,
        "digest": config.digest,
        "name": config.name,
        "source": sight.nodes[move.source].id,
        "to": sight.nodes[move.to].id,
        "from_node": move.source,
        "to_node": move.to,
        "cost": sight.costs[move.digest],
        "gain": move.gain,
    }


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
