"""Make a plan's moves, if what it names is still as it was."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from checks.dispatcher import CHUNK
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import BALANCE, Snapshot, look
from checks.dispatcher.transaction import Turn, committed, entries_of
from checks.models import Move, Plan, freezes
from checks.models.map import NotLeader
from checks.models.orders import Isolation
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id

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
    snapshot = look(BALANCE)
    _check_open(snapshot, moves)
    for move in moves:
        if why := _changed(move, entries.get(move["config"]), isolated):
            raise StalePlan(f"{scrub(move['name'])} {short_id(move['digest'])} {why}")
    _check_places(snapshot, moves, entries)
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


def _check_open(snapshot: Snapshot, moves: Iterable[Mapping[str, Any]]) -> None:
    """Raise StalePlan where a node neither gives nor gets anything."""
    names = {move["source"]: move["from_node"] for move in moves} | {move["to"]: move["to_node"] for move in moves}
    for pk, name in sorted(names.items()):
        node = snapshot.by_id.get(pk)
        if node is None:
            raise StalePlan(f"node {name} is lost")
        if why := snapshot.closed(node):
            raise StalePlan(why.of(f"node {name}"))


def _check_places(snapshot: Snapshot, moves: Sequence[Mapping[str, Any]], entries: Mapping[int, Entry]) -> None:
    """Raise StalePlan where a node may not get what it should, after all that moves has left its nodes."""
    snapshot.read_origins(entries.values())
    for entry in entries.values():
        snapshot.give_up(entry)
    for move in moves:
        entry = entries[move["config"]]
        if why := snapshot.refusal(entry, snapshot.by_id[move["to"]]):
            raise StalePlan(f"{scrub(move['name'])} {short_id(move['digest'])} can't go to {move['to_node']}: {why}")
        snapshot.take(entry, move["to"])
