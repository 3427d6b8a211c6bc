"""Make a plan's moves, if what it names is still as it was."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from checks.dispatcher import CHUNK
from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import Turn, committed, entries_of
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import Assignment, Move, Plan, freezes
from checks.models.map import NotLeader
from checks.models.orders import Isolation
from checks.plans.survey import active, receiving
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id
from nodes.models import Node

log = structlog.get_logger()


class StalePlan(Exception):
    """Something that a plan names is no longer as it was. The message says what."""


def apply(plan: Plan, *, actor: str, term: int | None = None) -> list[Move]:
    """Make the moves of a stored plan, once. Raises StalePlan, and NotLeader when `term` is over, and then moves nothing.

    An empty actor is the leader, who moves nothing while balancing is off. In chunks, each under the store's lock and complete
    in itself. What changes between two of them stops it there: what was moved until then is returned, and the plan's outcome
    says why not all.
    """
    made: list[Move] = []
    try:
        if len(plan.moves) > CHUNK:
            # All moves before the first lock is taken, so that a plan that is stale from the beginning moves nothing.
            check_fresh(plan)
            _checked(plan.moves)
        for start in range(0, len(plan.moves), CHUNK):
            made += _apply(plan, start, actor, term)
    except (StalePlan, NotLeader, OperationalError) as reason:
        _note(plan, len(made), f"stopped after {len(made)} of {len(plan.moves)} moves: {reason}")
        if not made:
            raise
    if made:
        plan.refresh_from_db(fields=["applied_at", "moved", "outcome"])
    return made


@committed
def _apply(plan: Plan, start: int, actor: str, term: int | None) -> list[Move]:
    turn = Turn(term, actor)
    if not actor and (why := freezes.why_off()):
        raise StalePlan(f"nothing is balanced automatically: {why}")
    if not start and not Plan.objects.filter(pk=plan.pk, applied_at=None).update(applied_at=Now()):
        raise StalePlan("the plan was applied already")
    chunk = plan.moves[start : start + CHUNK]
    entries = _checked(chunk)
    moving = [entries[move["config"]] for move in chunk]
    for move, entry in zip(chunk, moving, strict=True):
        turn.move(entry, move["to"], plan.reason)
    turn.transfer(moving, plan.reason)
    moves = turn.finish()
    Plan.objects.filter(pk=plan.pk).update(moved=F("moved") + len(moves))
    return moves


def check_fresh(plan: Plan) -> None:
    if not Plan.objects.filter(pk=plan.pk, applied_at=None).exists():
        raise StalePlan("the plan was applied already")


def _note(plan: Plan, made: int, outcome: str) -> None:
    log.warning("plan_stopped", plan=plan.pk, outcome=outcome)
    # One that moved nothing because another process applied it has that one's outcome.
    Plan.objects.filter(pk=plan.pk, applied_at__isnull=not made).update(outcome=outcome)


def _checked(moves: Sequence[Mapping[str, Any]]) -> dict[int, Entry]:
    """The configs of these moves by id. Raises StalePlan where one of them, or of their nodes, is not as it was."""
    entries = {entry.id: entry for entry in entries_of([move["config"] for move in moves])}
    isolated = set(Isolation.objects.filter(config__in=entries).values_list("config_id", flat=True))
    _check_nodes(moves)
    for move in moves:
        if why := _changed(move, entries.get(move["config"]), isolated):
            raise StalePlan(f"{scrub(move['name'])} {short_id(move['digest'])} {why}")
    _check_rules(moves, entries)
    return entries


def _changed(move: Mapping[str, Any], entry: Entry | None, isolated: set[int]) -> str:
    """What became of a config since the plan was made; empty when nothing."""
    if entry is None:
        return "is gone"
    if entry.digest != move["digest"]:
        return "was edited"
    if entry.paused:
        return "is paused"
    if entry.owner != move["source"]:
        return f"is no longer on {move['from_node']}"
    return "is isolated" if entry.id in isolated else ""


def _check_nodes(moves: Iterable[Mapping[str, Any]]) -> None:
    """Raise StalePlan where a node may not give, or not get, what it should."""
    givers = {move["source"]: move["from_node"] for move in moves}
    takers = {move["to"]: move["to_node"] for move in moves}
    unable = givers.keys() - set(active().filter(pk__in=givers).values_list("pk", flat=True))
    unable |= takers.keys() - set(receiving().filter(pk__in=takers).values_list("pk", flat=True))
    for pk in sorted(unable):
        raise StalePlan(f"node {(givers | takers)[pk]} {_unable(pk)}")


def _unable(pk: int) -> str:
    """Why a node neither gives nor gets."""
    node: Any = Node.objects.filter(pk=pk).with_state().first()
    if node is None or node.state == "lost":
        return "is lost"
    if not node.schedulable:
        return "is cordoned"
    if node.leaving:
        return "said that it leaves"
    if node.state == "silent":
        return "is silent"
    isolated = Isolation.objects.filter(config__assignment__node=pk)
    return "is kept for an isolated config" if isolated.exists() else "restarts, or comes and goes"


def _check_rules(moves: Sequence[Mapping[str, Any]], entries: Mapping[int, Entry]) -> None:
    """Raise StalePlan where an order, a rule or a node's limit has no room for a move."""
    eligibility = Eligibility(candidates(active()))
    if eligibility.needs_origins():
        name_origins(entries.values())
    for move in moves:
        entry = entries[move["config"]]
        among = eligibility.among(entry)
        if among is not None and move["to"] not in among:
            why = eligibility.refusals(entry)[move["to_node"]]
            raise StalePlan(f"{scrub(move['name'])} {short_id(move['digest'])} can't go to {move['to_node']}: {why}")
        eligibility.take(entry, move["to"])
    _check_limits(moves)


def _check_limits(moves: Sequence[Mapping[str, Any]]) -> None:
    more = Counter(move["to"] for move in moves)
    more.subtract(move["source"] for move in moves)
    limited = Node.objects.filter(pk__in=more, max_configs__isnull=False)
    counts = Assignment.objects.counts() if limited.exists() else {}
    for node in limited:
        assert node.max_configs is not None
        if more[node.pk] > 0 and counts.get(node.pk, 0) + more[node.pk] > node.max_configs:
            raise StalePlan(f"node {node.name} may have at most {node.max_configs} configs")
