"""Committing decisions: lock the store, compare with what was read, write. A stale decision changes nothing: StalePlan."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from checks.dispatcher import acting, transaction
from checks.dispatcher.acting import Asked
from checks.dispatcher.changes import Entry
from checks.dispatcher.deciding import REFUSALS
from checks.dispatcher.decision import Decision, Placement
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.refusals import BALANCE, CHOSEN, ORDER, UNDO
from checks.dispatcher.transaction import Choice, MapWriter, entries_of, in_chunks, own_transaction, single_transaction
from checks.models import Assignment, ClusterStore, Config, Move, Origin, Plan, bounds, freezes
from checks.models.map import NotLeader
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.models.titles import called
from clusteragent.lib import clock
from clusteragent.lib.traces import counting, span
from clusteragent.lib.words import grouped, grouped_count, plain_count, utc
from nodes.models import Node

T = TypeVar("T")

# How many decisions are tried without the lock. The next one is made with the store locked, and can't go stale.
ATTEMPTS = 3

# The decisions that were not made for the purpose CHOSEN, by verb. A pin that does not wait binds these alone.
_PURPOSES = {"": BALANCE, "reassign": ORDER, "undo": UNDO}

# What runs on a node is adopted there, whatever rules say: they move it once its node has fetched it.
ADOPT = "adopt"

_GIVEN: dict[type[Order], str] = {Pin: "another pin", Pause: "another pause", Isolation: "another isolation"}

log = structlog.get_logger()


class StalePlan(Exception):
    """Something that was read for a decision has changed. The message says what. done: how many configs were committed before."""

    done = 0


@counting("moves")
def commit(decision: Decision, *, actor: str = "", term: int | None = None, plan: Plan | None = None) -> list[Move]:
    """Carry out a decision, and return the moves. Raises StalePlan, and NotLeader when `term` is over; then nothing has changed.

    More than CHUNK configs are not atomic: each chunk is a transaction. A change of others between two chunks stops it there:
    the outcome of the plan says so; without a plan StalePlan is raised, with a note of what is done. A rebalance without an
    actor is the leader's, and raises StalePlan while automatic balancing is off. Raises Outside for who may not touch all of it.
    """
    acting.require_within(decision)
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
            _verify(decision, decision.placements)
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
    attempt. What is refused to a person is on record.
    """
    try:
        return _decide_and_commit(decide, do)
    except (StalePlan, *REFUSALS) as refusal:
        # What was done in part is on record already.
        if not getattr(refusal, "done", 0):
            acting.record_refusal("order", refusal)
        raise


def _decide_and_commit(decide: Callable[[], Decision], do: Callable[[Decision], T]) -> T:
    for attempt in range(1, ATTEMPTS + 1):
        decision = _decided(decide)
        try:
            return do(decision)
        except StalePlan as stale:
            acting.asking(stale, Asked(decision.verb or "rebalance", [one.config for one in decision.placements]))
            if stale.done or (attempt == ATTEMPTS and _takes_several(decision)):
                raise
            log.info("decided_anew", verb=decision.verb, reason=str(stale))
    if decision.verb == "drain":
        order = {name: value for name, value in decision.order.items() if name != "held"}
        return do(replace(decision, placements=(), order=order))
    with single_transaction():
        ClusterStore.objects.lock()
        decision = _decided(decide)
        if _takes_several(decision):
            raise StalePlan(f"{plain_count(len(decision.placements), 'config')} went stale again and again")
        return do(decision)


def _decided(decide: Callable[[], Decision]) -> Decision:
    with span("decide") as deciding:
        decision = decide()
        deciding.set_attributes({"verb": decision.verb, "configs": len(decision.placements)})
        return decision


def _takes_several(decision: Decision) -> bool:
    return decision.verb != "drain" and len(decision.placements) > transaction.CHUNK


def require_takers(closed: Collection[str], *, may_close: bool) -> None:
    """Raise StalePlan if no node would take work once these are closed, unless that is accepted.

    Call it with the store locked: else two people could each close one of the last two nodes, beside the other one.
    """
    if not may_close and Node.objects.are_last(closed):
        raise StalePlan("no node would take work then")


def _drain(decision: Decision, now: datetime, actor: str, plan: Plan | None) -> None:
    by = datetime.fromisoformat(decision.order["by"]) if decision.order.get("by") else None
    if by and by <= now:
        raise StalePlan(f"its deadline, {utc(by)}, is over")
    require_takers(decision.order["nodes"], may_close=decision.may_close)
    nodes = Node.objects.filter(name__in=decision.order["nodes"])
    # A plan of an older version has neither number nor note.
    held, now_held = decision.order.get("held"), Assignment.objects.filter(node__in=nodes).count()
    if held is not None and now_held > held:
        raise StalePlan(f"{grouped_count(now_held, 'config')} would move now, and not {grouped(held)}")
    note = decision.order.get("note", "")
    configs = [one.config for one in decision.placements]
    if not nodes.cordon(draining=True, by=by, actor=actor, plan=plan.pk if plan else None, note=note, configs=configs):
        # They were drained already. Who applied the plan is on record all the same.
        acting.record(decision, plan)


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
    number = plan.pk if plan else None
    writer = MapWriter(term, actor, number)
    if not (actor or decision.verb) and (why := freezes.why_off()):
        raise StalePlan(f"nothing is balanced automatically: {why}")
    if is_first and plan is not None:
        _check_unapplied(plan)
        Plan.objects.filter(pk=plan.pk).update(applied_at=Now(), outcome="")
    entries = _verify(decision, placements)
    if decision.verb == "drain":
        _drain(decision, writer.store.now, actor, plan)
        return []
    if is_first:
        # Of all chunks: what stops it after the first one is the outcome of the plan.
        acting.record(decision, plan)
    _write_order(decision.order, entries, actor, number, {one.config for one in placements if one.to is not None})
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


def _write_order(
    order: Mapping[str, Any], entries: Mapping[int, Entry], actor: str, plan: int | None, placed: Collection[int]
) -> None:
    """Store what is ordered of these configs. A rebalance and an undo store nothing: they only move configs.

    plan: the number of the plan that orders it, if any. placed: ids of the configs that will have a node.
    """
    verb = order.get("verb")
    if verb == "reassign" and order["hold"]:
        _replace(Pin, entries, order, actor, plan, aim=order["node"])
    elif verb == "pin":
        _replace(Pin, entries, order, actor, plan, **{name: order[name] for name in ("aim", "kind", "waits")})
    elif verb == "pause":
        _replace(Pause, entries, order, actor, plan)
        Config.objects.settle(entries.keys())
        for entry in entries.values():
            entry.paused = True
    elif verb == "resume":
        Pause.objects.filter(config_id__in=entries).delete()
        unplaced = [one for one in entries.values() if one.id not in placed and one.owner is None and not one.endpoint]
        Config.objects.let_dangle([one.id for one in unplaced])
    elif verb == "isolate":
        alone = entries.keys() & set(order["alone"])
        if not order["note"]:
            # An isolation without a note keeps the note of the present one: the API of the Datadog Cluster Agent can't give any.
            same = Isolation.objects.filter(config__in=alone, reason=order["reason"])
            alone -= set(same.values_list("config_id", flat=True))
        _replace(Isolation, alone, order, actor, plan, reason=order["reason"])


def _replace(
    model: type[Order], ids: Collection[int], order: Mapping[str, Any], actor: str, plan: int | None, **how: Any
) -> None:
    """Replace the orders of this kind of these configs. An order names the first origin of its config, by source and key.

    One of a source names the key that orders it, which is not a shard's.
    """
    if until := order.get("until"):
        how["until"] = datetime.fromisoformat(until)
    origin = order.get("origin")
    if origin:
        # Somebody may have ordered otherwise since it was decided.
        theirs: Any = model.objects.filter(config__in=ids, from_source=False)
        ids = set(ids) - set(theirs.in_force().values_list("config_id", flat=True))
    firsts = Origin.objects.filter(config__in=ids).order_by("config_id", "source", "key").distinct("config_id")
    model.objects.filter(config__in=ids).delete()
    rows = [(first.config_id, *(origin or (first.source, first.key))) for first in firsts]
    bounded = not origin and bounds.narrows(bounds.NEEDED[order["verb"]])
    how |= {"author": actor, "note": order["note"], "from_source": bool(origin), "plan": plan, "bounded": bounded}
    model.objects.bulk_create(model(config_id=pk, source=source, key=key, **how) for pk, source, key in rows)


def why_stale(decision: Decision) -> str:
    """Return what has changed since it was decided, for which `commit` would refuse it; empty if nothing has. It takes no lock.

    Of a decision of very many configs only the first chunk is looked at.
    """
    try:
        _verify(decision, decision.placements[: transaction.CHUNK])
    except StalePlan as stale:
        return str(stale)
    return ""


def _verify(decision: Decision, placements: Sequence[Placement]) -> dict[int, Entry]:
    """Return the configs of these placements as they are now, {id: entry}. Raises StalePlan if something has changed.

    If the store is locked, the result holds until the end of the transaction.
    """
    order, moving = decision.order, [one for one in placements if one.moves]
    _check_end(order)
    snapshot = _read_nodes_of(decision, moving)
    _check_nodes(decision, moving, snapshot)
    entries = {entry.id: entry for entry in entries_of([one.config for one in placements])}
    _check_configs(decision, placements, entries)
    _check_orders(decision, placements)
    for entry in entries.values():
        if decision.verb == "pin":
            entry.pin = Pin(kind=order["kind"], aim=order["aim"], waits=order["waits"])
        if order.get("hold"):
            entry.pin = Pin(aim=order["node"])
        # A pin that does not wait may have had no room when the node was chosen: then it does not bind.
        if entry.pin and not entry.pin.waits and decision.verb not in _PURPOSES:
            entry.pin = None
    if decision.verb != ADOPT:
        _check_places(moving, entries, snapshot)
    if decision.verb == "isolate":
        nodes = Assignment.objects.filter(config__in=order["alone"]).values("node")
        come = Assignment.objects.filter(node__in=nodes).exclude(config__in=[one.config for one in decision.placements])
        for assignment in come.select_related("config", "node")[:1]:
            raise StalePlan(f"node {assignment.node.name} was given {assignment.config}")
    return entries


def _check_end(order: Mapping[str, Any]) -> None:
    """Raise StalePlan if what is ordered would be over at once."""
    if order.get("until") and (end := datetime.fromisoformat(order["until"])) <= clock.now():
        raise StalePlan(f"its end, {utc(end)}, is over")


def _read_nodes_of(decision: Decision, moving: Sequence[Placement]) -> Snapshot:
    """Read the nodes that decide: those that are named, if no other node can change the answer.

    All nodes count in a rebalance and an undo, which respect preferences, and where a node is reserved for an isolated config:
    it is shared if all are.
    """
    purpose = _PURPOSES.get(decision.verb, CHOSEN)
    to = {one.to for one in moving if one.to is not None}
    named = {one.to_node for one in moving} | set(decision.order.get("nodes", ()))
    is_local = purpose is ORDER or not to
    if purpose is CHOSEN and to:
        is_local = not Isolation.objects.filter(config__assignment__node__in=to).exists()
    return read_snapshot(purpose, names=named if is_local and decision.verb else None, asked_of=named)


def _check_nodes(decision: Decision, moving: Sequence[Placement], snapshot: Snapshot) -> None:
    """Raise StalePlan if a node gets nothing new now, or is lost. In a rebalance this holds for nodes that give configs, too.

    What is adopted is nothing new to its node.
    """
    names = {one.to: one.to_node for one in moving if one.to is not None}
    if not decision.verb:
        names |= {one.source: one.from_node for one in moving if one.source is not None}
    for pk, name in sorted(names.items()):
        node = snapshot.by_id.get(pk)
        if node is None:
            raise StalePlan(f"node {name} is lost")
        if decision.verb != ADOPT and (why := snapshot.node_refusal(node)):
            raise StalePlan(why.about(f"node {name}"))
    for name in decision.order.get("nodes", ()):
        if name not in snapshot.by_name:
            raise StalePlan(f"node {name} is lost")


def _check_configs(decision: Decision, placements: Sequence[Placement], entries: Mapping[int, Entry]) -> None:
    isolated: Collection[int] = ()
    if not decision.verb:
        isolated = set(Isolation.objects.filter(config__in=entries).values_list("config_id", flat=True))
    changes = [_changed(decision, one, entries.get(one.config), isolated) for one in placements]
    found = [(one, why) for one, why in zip(placements, changes, strict=True) if why]
    if found:
        first, why = found[0]
        others = f", and {plain_count(len(found) - 1, 'other config')} changed, too" if len(found) > 1 else ""
        raise StalePlan(f"{called(first.title, first.name, first.digest)} {why}{others}")
    if decision.order.get("by_source"):
        for theirs in Pause.objects.of(entries).filter(from_source=False)[:1]:
            raise StalePlan(f"{entries[theirs.config_id].shown} was paused by {theirs.author}")


def _check_orders(decision: Decision, placements: Sequence[Placement]) -> None:
    """Raise StalePlan if somebody gave an order meanwhile that the decision would replace or end without having shown it."""
    # A plan of an older version does not say which it has shown.
    shown = decision.order.get("replaces")
    if shown is None or (orders := acting.replaced(replace(decision, placements=placements))) is None:
        return
    known = set(shown)
    for one in orders.select_related("config"):
        if one.pk not in known:
            raise StalePlan(f"{one.config} was given {_GIVEN[type(one)]} by {one.author or 'somebody'}")


def _changed(decision: Decision, placement: Placement, entry: Entry | None, isolated: Collection[int]) -> str:
    """What has changed about a config, as the end of a sentence; empty if nothing has."""
    if entry is None:
        return "is gone"
    if entry.digest != placement.digest:
        return "was edited"
    if entry.endpoint and (placement.moves or decision.verb != "resume"):
        return "is an endpoint check: it runs where its endpoint is"
    if decision.verb == "resume" and not entry.paused:
        return "was resumed"
    if entry.paused and decision.verb not in ("resume", "pin", "pause"):
        return "is paused"
    if entry.owner != placement.source:
        name = Node.objects.filter(pk=entry.owner or 0).values_list("name", flat=True).first()
        return f"is now on {name or 'no node'}"
    return "is isolated" if entry.id in isolated else ""


def _check_places(moving: Sequence[Placement], entries: Mapping[int, Entry], snapshot: Snapshot) -> None:
    """Raise StalePlan if a node may not have a config that it should get, once all moving configs have left their nodes."""
    snapshot.read_origins(entries.values())
    for one in moving:
        snapshot.give_up(entries[one.config])
    for one in moving:
        entry = entries[one.config]
        if one.to is None:
            continue
        if why := snapshot.refusal(entry, snapshot.by_id[one.to]):
            raise StalePlan(f"{entry.shown} can't go to {one.to_node}: {why}")
        snapshot.take(entry, one.to)
