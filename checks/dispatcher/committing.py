"""Committing decisions: lock the store, compare with what was read, write. A stale decision changes nothing: StalePlan."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from checks.dispatcher import transaction
from checks.dispatcher.changes import Entry
from checks.dispatcher.decision import Decision, Placement
from checks.dispatcher.staleness import StalePlan, verify
from checks.dispatcher.transaction import Choice, MapWriter, in_chunks, own_transaction, single_transaction
from checks.models import ClusterStore, Config, Move, Origin, Plan, freezes
from checks.models.map import NotLeader
from checks.models.orders import Isolation, Order, Pause, Pin
from clusteragent.lib.words import plain_count
from nodes.models import Node

T = TypeVar("T")

# How many decisions are tried without the lock. The next one is made with the store locked, and can't go stale.
ATTEMPTS = 3

log = structlog.get_logger()


def commit(decision: Decision, *, actor: str = "", term: int | None = None, plan: Plan | None = None) -> list[Move]:
    """Carry out a decision, and return the moves. Raises StalePlan, and NotLeader when `term` is over; then nothing has changed.

    More than CHUNK configs are not atomic: each chunk is a transaction. A change of others between two chunks stops it there:
    the outcome of the plan says so; without a plan StalePlan is raised, with a note of what is done. A rebalance without an
    actor is the leader's, and raises StalePlan while automatic balancing is off.
    """
    made: list[Move] = []
    done, number = 0, len(decision.placements)

    def step(placements: Sequence[Placement]) -> list[Move]:
        nonlocal done
        made.extend(_commit(decision, placements, actor, term, plan, is_first=not done))
        done += len(placements)
        return []

    try:
        if number > transaction.CHUNK:
            # Verify all chunks before the first one is written, so that a plan that is stale already changes nothing.
            _check_unapplied(plan)
            verify(decision, decision.placements)
        if decision.verb == "drain":
            # It only cordons the nodes, in one step: passes move their configs.
            step(decision.placements[: transaction.CHUNK])
        else:
            in_chunks(decision.placements, step)
    except (StalePlan, NotLeader, OperationalError) as reason:
        if isinstance(reason, StalePlan):
            reason.done = done
        if plan is not None:
            outcome = f"stopped after {done} of {number} configs: {reason}"
            log.warning("plan_stopped", plan=plan.pk, outcome=outcome)
            # If another process applied the plan, it keeps the outcome of that process.
            Plan.objects.filter(pk=plan.pk, applied_at__isnull=not done).update(outcome=outcome)
        if plan is None or not done:
            raise
    return made


def decide_and_commit(decide: Callable[[], Decision], do: Callable[[Decision], T]) -> T:
    """Decide, commit the decision by `do`, and return its result. A decision that goes stale is made again.

    The last attempt decides with the store locked, so that nobody can change the map; but that of a drain, which only cordons,
    leaves out the forecast of its moves. More than CHUNK configs need several transactions, and would hold the lock for too
    long. Raises what `decide` raises, and StalePlan when a part is committed, or when more than CHUNK configs went stale in each
    attempt.
    """
    for attempt in range(1, ATTEMPTS + 1):
        decision = decide()
        try:
            return do(decision)
        except StalePlan as stale:
            if stale.done or (attempt == ATTEMPTS and _takes_several(decision)):
                raise
            log.info("decided_anew", verb=decision.verb, reason=str(stale))
    if decision.verb == "drain":
        return do(replace(decision, placements=()))
    with single_transaction():
        ClusterStore.objects.lock()
        decision = decide()
        if _takes_several(decision):
            raise StalePlan(f"{plain_count(len(decision.placements), 'config')} went stale again and again")
        return do(decision)


def _takes_several(decision: Decision) -> bool:
    return decision.verb != "drain" and len(decision.placements) > transaction.CHUNK


@own_transaction
def _commit(
    decision: Decision,
    placements: Sequence[Placement],
    actor: str,
    term: int | None,
    plan: Plan | None,
    *,
    is_first: bool,
) -> list[Move]:
    # Take the lock before reading: nothing may change between reading and writing.
    writer = MapWriter(term, actor)
    if not (actor or decision.verb) and (why := freezes.why_off()):
        raise StalePlan(f"nothing is balanced automatically: {why}")
    if is_first and plan is not None:
        _check_unapplied(plan)
        Plan.objects.filter(pk=plan.pk).update(applied_at=Now(), outcome="")
    entries = verify(decision, placements)
    if decision.verb == "drain":
        Node.objects.filter(name__in=decision.order["nodes"]).cordon(draining=True, actor=actor)
        return []
    _write_order(decision.order, entries, actor)
    for one in placements:
        entries[one.config].why = dict(one.why) if one.why else None
    writer.apply(Choice(entries[one.config], one.to, one.reason or decision.reason) for one in placements)
    moves = writer.finish()
    if plan is not None:
        Plan.objects.filter(pk=plan.pk).update(moved=F("moved") + len(moves))
    return moves


def _check_unapplied(plan: Plan | None) -> None:
    if plan is not None and not Plan.objects.filter(pk=plan.pk, applied_at=None).exists():
        raise StalePlan("the plan was applied already")


def _write_order(order: Mapping[str, Any], entries: Mapping[int, Entry], actor: str) -> None:
    """Store what is ordered of these configs. A rebalance and an undo store nothing: they only move configs."""
    verb = order.get("verb")
    if verb == "reassign" and order["hold"]:
        _replace(Pin, entries, order, actor, aim=order["node"])
    elif verb == "pin":
        _replace(Pin, entries, order, actor, **{name: order[name] for name in ("aim", "kind", "waits")})
    elif verb == "pause":
        _replace(Pause, entries, order, actor)
        Config.objects.settle(entries.keys())
        for entry in entries.values():
            entry.paused = True
    elif verb == "resume":
        Pause.objects.filter(config_id__in=entries).delete()
        # The moves of the same transaction end this for those that get a node.
        Config.objects.let_dangle([one.id for one in entries.values() if not one.endpoint and one.owner is None])
    elif verb == "isolate":
        alone = entries.keys() & set(order["alone"])
        if not order["note"]:
            # An isolation without a note keeps the note of the present one: the API of the Datadog Cluster Agent can't give any.
            same = Isolation.objects.filter(config__in=alone, reason=order["reason"])
            alone -= set(same.values_list("config_id", flat=True))
        _replace(Isolation, alone, order, actor, reason=order["reason"])


def _replace(model: type[Order], ids: Collection[int], order: Mapping[str, Any], actor: str, **how: Any) -> None:
    """Replace the orders of this kind of these configs. An order names the first origin of its config, by source and key."""
    if until := order.get("until"):
        how["until"] = datetime.fromisoformat(until)
    firsts = Origin.objects.filter(config__in=ids).order_by("config_id", "source", "key").distinct("config_id")
    model.objects.filter(config__in=ids).delete()
    model.objects.bulk_create(
        model(config_id=first.config_id, source=first.source, key=first.key, author=actor, note=order["note"], **how)
        for first in firsts
    )
