"""Stored plans: decisions with an author, which people can read, and which are applied once or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from acts.recording import concern, someone_acts
from checks import dispatcher
from checks.dispatcher import Decision, Placement, StalePlan, acting, deciding
from checks.models import Config, Move, Plan
from checks.models.bounds import NEEDED, Outside
from checks.models.orders import CHUNKS, Pause, Pin
from clusteragent.lib.words import percent

# A highest load that is higher by so much than a plan says, as a share of a node's capacity, makes it stale.
FULLER = 0.1
# The fields of every stored move, and of a move in the operators' API.
MOVE_FIELDS = ("config", "digest", "name", "title", "source", "to", "from_node", "to_node", "cost", "gain")


def to_plan(decision: Decision, *, author: str) -> Plan:
    """Return the plan of a decision, not stored."""
    order = dict(decision.order)
    if decision.verb:
        staying = (one for one in decision.placements if not one.moves)
        order["also"] = [[one.config, one.digest, one.source, one.name, one.title] for one in staying]
    if decision.refused:
        order["refused"] = {str(id_): why for id_, why in decision.refused.items()}
    moves = [
        {name: value for name, value in one._asdict().items() if name in MOVE_FIELDS or value} for one in decision.moves
    ]
    return Plan(
        author=author,
        reason=decision.reason,
        revision=decision.revision,
        moves=moves,
        size=len(moves),
        order=order,
        nodes=decision.loads.nodes,
        spread=decision.loads.spread,
        moved=0,
        outcome="",
    )


def store(decision: Decision, *, author: str) -> Plan:
    """Store the plan of a decision, and return it."""
    plan = to_plan(decision, author=author)
    plan.save()
    plan.refresh_from_db(fields=["time"])
    return plan


def apply(plan: Plan, *, actor: str, term: int | None = None, may_close: bool = False) -> list[Move]:
    """Apply a plan, once, and return the moves. An empty actor is the leader. More than CHUNK configs are not atomic.

    may_close: it is accepted that no node takes work then.

    Raises StalePlan and Outside, which are on record, and NotLeader when `term` is over; then nothing has changed. What stops it
    after the first chunk is written to the plan's outcome, and not raised.
    """
    decision = replace(_decision(plan), may_close=may_close)
    try:
        _require_no_fuller(plan, decision)
        return _apply(decision, plan, actor, term)
    except (StalePlan, Outside) as stale:
        acting.record_refusal(f"plan {plan.pk}: {plan}", stale, plan=plan)
        raise


def why_stale(plan: Plan) -> str:
    """Return for what a plan that was not applied can't be applied any more; empty if it can."""
    decision = _decision(plan)
    return dispatcher.why_stale(decision) or _why_fuller(plan, decision)


def _require_no_fuller(plan: Plan, decision: Decision) -> None:
    """Raise StalePlan for what `_why_fuller` says. Other reasons come first: those are the commit's to say."""
    if not plan.applied_at and (why := _why_fuller(plan, decision)) and not dispatcher.why_stale(decision):
        raise StalePlan(why)


def _why_fuller(plan: Plan, decision: Decision) -> str:
    """Why a plan does not hold any more: it raises the highest load by FULLER above what it said; empty if it does not."""
    if not (said := plan.spread.get("peak")):
        return ""
    before, after = decision.loads.spread["peak"]
    if after > before and after - said[1] >= FULLER:
        return f"it would raise the highest load to {percent(after)} by now, and said {percent(said[1])}"
    return ""


def replaced_by(plan: Plan) -> QuerySet[Any] | None:
    """Return the orders of people that a plan would replace or end; None if its verb is about none."""
    return acting.replaced(_decision(plan))


def require_applicable(plan: Plan) -> None:
    """Raise what `apply` would raise now, and change nothing: StalePlan or Outside."""
    acting.require_within(_decision(plan))
    if why := "the plan was applied already" if plan.applied_at else why_stale(plan):
        raise StalePlan(why)


def why_outside(plan: Plan) -> str:
    """Return for which bound the person who acts may not apply a plan; empty if it may."""
    try:
        acting.require_within(_decision(plan))
    except Outside as refusal:
        return str(refusal)
    return ""


def can_be_decided_anew(plan: Plan) -> bool:
    """Whether what the plan orders can be decided again from what is stored of it."""
    return plan.order.get("verb", "") in _ANEW


def decide_anew(plan: Plan) -> Decision:
    """Decide again what a plan orders, of those of its configs that exist. Raises REFUSALS."""
    ids = [move["config"] for move in plan.moves] + [config for config, *_ in plan.order.get("also", ())]
    known = Config.objects.filter(pk__in=ids).values_list("pk", flat=True)
    return _ANEW[plan.order.get("verb", "")](list(known), plan.order)


def _ordered(verb: Callable[..., Decision], *names: str) -> Callable[[list[int], Mapping[str, Any]], Decision]:
    """A function that decides an order again. names: of what else it says."""

    def decide(ids: list[int], order: Mapping[str, Any]) -> Decision:
        said = {name: order[name] for name in names}
        if said.get("until"):
            said["until"] = datetime.fromisoformat(said["until"])
        return verb(ids, **said)

    return decide


# {verb: what decides such an order again}
_ANEW: dict[str, Callable[[list[int], Mapping[str, Any]], Decision]] = {
    "reassign": _ordered(deciding.reassign, "node", "hold", "until", "note"),
    "pin": _ordered(deciding.pin, "aim", "kind", "waits", "until", "note"),
    "pause": _ordered(deciding.pause, "until", "note"),
    "resume": _ordered(deciding.resume),
    "isolate": lambda ids, order: deciding.isolate(
        [id_ for id_ in order["alone"] if id_ in ids], note=order["note"], reason=order["reason"]
    ),
    "drain": lambda _, order: deciding.drain(order["nodes"], note=order.get("note", "")),
}


def _apply(decision: Decision, plan: Plan, actor: str, term: int | None = None) -> list[Move]:
    if someone_acts():
        # A drain closes nodes, and passes move what they have: its act is on the pages of those that get it, too.
        concern(*plan.concerned(acting.MOST_BEFORE))
    made = dispatcher.commit(decision, actor=actor, term=term, plan=plan)
    if plan.pk:
        plan.refresh_from_db(fields=["applied_at", "moved", "outcome"])
    return made


def _decision(plan: Plan) -> Decision:
    """The decision that a plan stores."""
    # Plans of older versions have no names or titles of the configs that stay.
    staying = [
        Placement(config, digest, (*names, "config")[0], owner, owner, title=(*names, "", "")[1])
        for config, digest, owner, *names in plan.order.get("also", ())
    ]
    placements = [*staying, *(Placement(**move) for move in plan.moves)]
    return Decision(plan.reason, plan.order, placements, plan.revision)


def complete_drain(plan: Plan, by: datetime | None, note: str) -> None:
    """Say why, and by when, a plan that drains nodes empties them; None: at the usual pace. An applied plan stays as it is."""
    plan.order = {name: value for name, value in plan.order.items() if name != "by"} | {"note": note}
    if by is not None:
        plan.order["by"] = by.isoformat()
    Plan.objects.filter(pk=plan.pk, applied_at=None).update(order=plan.order)


def order(decide: Callable[[], Decision], *, actor: str) -> tuple[Plan, list[Move]]:
    """Make a plan, apply it, and return it and its moves. A plan that goes stale meanwhile is deleted and made again.

    Raises what `decide` raises, and StalePlan: see `dispatcher.decide_and_commit`. A plan that concerns no config is not stored.
    """

    def do(decision: Decision) -> tuple[Plan, list[Move]]:
        if decision.is_empty:
            return to_plan(decision, author=actor), []
        plan = store(decision, author=actor)
        try:
            return plan, _apply(replace(_decision(plan), may_close=decision.may_close), plan, actor)
        except StalePlan:
            plan.delete()
            raise

    return dispatcher.decide_and_commit(decide, do)


def decide_undo(plan: Plan) -> Decision:
    """Decide to take an applied plan back, as far as that is possible now: end its pauses, or undo its moves. Raises REFUSALS."""
    ids = [move["config"] for move in plan.moves]
    order, applied = plan.order, plan.applied_at
    assert applied is not None
    if order.get("verb") == "pause":
        theirs = Pause.objects.of([*ids, *(config for config, *_ in order.get("also", ()))]).filter(from_source=False)
        until = datetime.fromisoformat(order["until"]) if order["until"] else None
        # Older versions leave no plan at a pause.
        alike = Q(plan=None, note=order["note"], until=until, time__range=(applied - CHUNKS, applied + CHUNKS))
        return deciding.resume(theirs.filter(Q(plan=plan.pk) | alike).values_list("config_id", flat=True))
    moves = Move.objects.filter(config_id__in=ids, time__gte=applied - CHUNKS).order_by("pk")
    if made := list(moves.filter(plan=plan.pk).values_list("pk", flat=True)):
        return deciding.undo(made)
    # An older version applied it: a move of it is the first that goes its way since then.
    ways = {(move["config"], move["from_node"], move["to_node"]) for move in plan.moves}
    first: dict[int, int] = {}
    for move in moves.filter(plan=None):
        if (move.config_id, move.source_node, move.to_node) in ways:
            first.setdefault(move.config_id, move.pk)
    return deciding.undo(first.values())


def pinned_by(plan: Plan) -> list[int]:
    """Return the ids of the configs that it pinned and that are pinned by it still."""
    return list(Pin.objects.filter(plan=plan.pk, config__isnull=False).values_list("config_id", flat=True))


def ways_back(user: Any, plan: Plan) -> list[str]:
    """Return how the user may take an applied plan back: `unpin` what it pinned, `undo` its pauses, or the moves of what is not
    pinned by it any more.
    """
    if plan.applied_at is None:
        return []
    verb, pinned = plan.order.get("verb", ""), set(pinned_by(plan))
    ways = ["unpin"] if pinned and user.has_perm("checks.delete_pin") else []
    moved = plan.moved and verb not in ("drain", "resume") and {move["config"] for move in plan.moves} - pinned
    if (moved or verb == "pause") and user.has_perm(NEEDED["resume" if verb == "pause" else "undo"]):
        ways.append("undo")
    return ways


def needed(plan: Plan) -> list[str]:
    """Return the permissions that applying a plan needs: those of what it orders."""
    return [NEEDED[plan.order.get("verb", "")], *([NEEDED["pin"]] if plan.order.get("hold") else [])]


def may_apply(user: Any, plan: Plan) -> bool:
    """Whether the user has the permissions to apply a plan."""
    return bool(user.has_perms(needed(plan)))
