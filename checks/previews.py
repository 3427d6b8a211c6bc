"""Look before you leap: what an order would move, kept as a plan, and carried out only if what it touches is as it was.

An order is kept in the plan as {"verb": …, the verb's arguments, "also": [[config's id, digest, owner's id], …]}: `also`
are the configs that it is about and that don't move.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import OperationalError
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.balancing import spread
from checks.dispatcher import costs
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import ORDER, look
from checks.dispatcher.misplaced import Judge, JudgedPools
from checks.dispatcher.orders import accepting, check_admitted, dispatchable
from checks.models import Assignment, ClusterStore, Config, Move, Plan
from checks.models.orders import Pin
from checks.plans import StalePlan
from checks.plans.applying import check_fresh
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import numbered
from nodes.models import Node, UnknownNode

# What a verb says to an order that can't be carried out.
REFUSALS = (UnknownNode, dispatcher.NotAccepting, dispatcher.NotDispatchable)
# What someone must be allowed who carries out an order.
_PERMISSIONS = {
    "reassign": "checks.change_assignment",
    "pin": "checks.add_pin",
    "pause": "checks.add_pause",
    "drain": "nodes.change_node",
}
_Order = Mapping[str, Any]


class _Touched(NamedTuple):
    """A config that a plan is about, as it was."""

    config: int
    digest: str
    owner: int | None


def reassign(
    config_ids: Collection[int], node: str, *, actor: str, hold: bool = False, until: datetime | None = None, note: str = ""
) -> Plan:  # fmt: skip
    """The plan to give configs to a node; hold: and to pin them there, until then. Raises REFUSALS."""
    snapshot = look(ORDER)
    entries, target = dispatchable(config_ids), accepting(snapshot, node)
    for entry in entries if hold else ():
        entry.pin = None
    check_admitted(snapshot, target, [entry for entry in entries if entry.owner != target.id])
    order = {"verb": "reassign", "node": node, "hold": hold, "until": _text(until), "note": note}
    return _store(Move.Reason.OPERATOR, [(entry, target.id) for entry in entries], order, actor)


def pin(
    config_ids: Collection[int], aim: str, *, actor: str, kind: str = Pin.Kind.NODE, waits: bool = False,
    until: datetime | None = None, note: str = "",
) -> Plan:  # fmt: skip
    """The plan to pin configs to a node, a name pattern or a label. Raises NotDispatchable, and ValidationError."""
    Pin(kind=kind, aim=aim).clean()
    entries = dispatchable(config_ids, paused=True)
    for entry in entries:
        entry.pin = Pin(kind=kind, aim=aim, waits=waits)
    order = {"verb": "pin", "aim": aim, "kind": kind, "waits": waits, "until": _text(until), "note": note}
    return _store(Move.Reason.PINNED, list(_where_pins_lead(entries)), order, actor)


def pause(config_ids: Collection[int], *, actor: str, until: datetime | None = None, note: str = "") -> Plan:
    """The plan to let configs run nowhere. Raises NotDispatchable."""
    entries = dispatchable(config_ids, paused=True)
    order = {"verb": "pause", "until": _text(until), "note": note}
    return _store(Move.Reason.PAUSED, [(entry, None) for entry in entries], order, actor)


def drain(nodes: Collection[str], *, actor: str) -> Plan:
    """The plan to cordon nodes and to move bit by bit what they have. Raises UnknownNode."""
    ids = {node.name: node.pk for node in Node.objects.known().filter(name__in=nodes)}
    for name in sorted(set(nodes) - ids.keys()):
        raise UnknownNode(f"node {name} is unknown")
    entries = dispatchable(Assignment.objects.filter(node__in=ids.values()).values_list("config_id", flat=True))
    placed = {held.id: to for held, to in plans.what_if(remove=ids.keys()).placed.items()}
    names = dict(Node.objects.known().values_list("name", "pk"))
    # What no other node can have stays.
    leads = [(entry, names[to] if (to := placed.get(entry.id)) else entry.owner) for entry in entries]
    return _store(Move.Reason.DRAINED, leads, {"verb": "drain", "nodes": sorted(ids)}, actor)


def may(user: Any, plan: Plan) -> bool:
    """Whether someone may carry out a plan."""
    wanted = [_PERMISSIONS[plan.order["verb"]] if plan.order else "checks.change_plan"]
    if plan.order.get("hold"):
        wanted.append(_PERMISSIONS["pin"])
    return bool(user.has_perms(wanted))


def apply(plan: Plan, *, actor: str) -> list[Move]:
    """Carry out a stored plan, once. Raises StalePlan, and then has changed nothing.

    In chunks, each complete in itself. What changes between two of them stops it there: the plan's outcome says why.
    """
    if not plan.order:
        return plans.apply(plan, actor=actor)
    made: list[Move] = []
    touched = _touched(plan)
    pools = JudgedPools()
    # A drain is begun at once: passes move what the nodes have.
    number = 1 if plan.order["verb"] == "drain" else max(len(touched), 1)
    for start in range(0, number, dispatcher.CHUNK):
        try:
            if not start and len(touched) > dispatcher.CHUNK:
                # All before the first lock is taken, so that a plan that is stale from the beginning changes nothing.
                check_fresh(plan)
                _check_configs(touched)
            pools.prepare()
            made += _carry_out(plan, touched, start, pools, actor)
        except (StalePlan, OperationalError, *REFUSALS) as reason:
            if not start:
                raise reason if isinstance(reason, OperationalError) else StalePlan(str(reason)) from reason
            Plan.objects.filter(pk=plan.pk).update(outcome=f"stopped after {start} of {len(touched)} configs: {reason}")
            break
    return made


def _carry_out(plan: Plan, touched: Sequence[_Touched], start: int, pools: JudgedPools, actor: str) -> list[Move]:
    with dispatcher.as_one():
        # Before looking: nothing may change between the look and the deed.
        ClusterStore.objects.lock()
        if not start and not Plan.objects.filter(pk=plan.pk, applied_at=None).update(applied_at=Now()):
            raise StalePlan("the plan was applied already")
        chunk = touched[start : start + dispatcher.CHUNK]
        _check_configs(chunk)
        _check_nodes(plan)
        moves = _VERBS[plan.order["verb"]]([one.config for one in chunk], plan.order, pools, actor)
        Plan.objects.filter(pk=plan.pk).update(moved=F("moved") + len(moves))
    return moves


def _reassign(ids: Sequence[int], order: _Order, pools: JudgedPools, actor: str) -> list[Move]:
    """Where the node is held, by a pin, which takes the place of one that led elsewhere."""
    moves = []
    if order["hold"]:
        moves += dispatcher.pin(ids, order["node"], until=_time(order), actor=actor, note=order["note"], pools=pools)
    return moves + dispatcher.reassign(ids, order["node"], actor=actor)


def _pin(ids: Sequence[int], order: _Order, pools: JudgedPools, actor: str) -> list[Move]:
    how = {name: order[name] for name in ("aim", "kind", "waits", "note")}
    return dispatcher.pin(ids, until=_time(order), actor=actor, pools=pools, **how)


def _pause(ids: Sequence[int], order: _Order, pools: JudgedPools, actor: str) -> list[Move]:
    return dispatcher.pause(ids, until=_time(order), actor=actor, note=order["note"])


def _drain(ids: Sequence[int], order: _Order, pools: JudgedPools, actor: str) -> list[Move]:
    """From now on passes move what the nodes have, bit by bit."""
    Node.objects.filter(name__in=order["nodes"]).cordon(draining=True, actor=actor)
    ClusterStore.objects.wake()
    return []


_VERBS: Mapping[str, Callable[[Sequence[int], _Order, JudgedPools, str], list[Move]]] = {
    "reassign": _reassign,
    "pin": _pin,
    "pause": _pause,
    "drain": _drain,
}


def _where_pins_lead(entries: Sequence[Entry]) -> Iterable[tuple[Entry, int | None]]:
    """As moving what is astray would do it now."""
    snapshot = look()
    judge = Judge(snapshot)
    snapshot.read_origins(entries)
    for entry in entries:
        must = judge.must_go(entry)
        if not (must or judge.should_go(entry)):
            yield entry, entry.owner
        else:
            to = snapshot.choose(entry)
            yield entry, to if to is not None or must else entry.owner


def _store(reason: str, leads: Sequence[tuple[Entry, int | None]], order: _Order, actor: str) -> Plan:
    """The plan that leads configs to these nodes."""
    names = dict(Node.objects.values_list("pk", "name"))
    expected = costs.expected([entry.id for entry, _ in leads])
    moving = [(entry, to) for entry, to in leads if to != entry.owner]
    also = [(entry.id, entry.digest, entry.owner) for entry, to in leads if to == entry.owner]
    shifts = [(entry.owner, to, expected[entry.id]) for entry, to in moving]
    return Plan.objects.create(
        author=actor,
        reason=reason,
        revision=ClusterStore.objects.get().revision,
        moves=[_row(entry, to, names, expected[entry.id]) for entry, to in moving],
        order={**order, "also": also},
        **_loads(shifts, names),
    )


def _row(entry: Entry, to: int | None, names: Mapping[int, str], cost: float) -> dict[str, Any]:
    return {
        "config": entry.id,
        "digest": entry.digest,
        "name": entry.name,
        "source": entry.owner,
        "to": to,
        "from_node": names.get(entry.owner or 0, ""),
        "to_node": names.get(to or 0, ""),
        "cost": cost,
        "gain": 0.0,
    }


def _loads(shifts: Iterable[tuple[int | None, int | None, float]], names: Mapping[int, str]) -> dict[str, Any]:
    """How loaded the nodes are before and after cost went from one to another: the plan's columns."""
    needed, capacity = costs.by_node(), costs.capacity()
    before = costs.loads(needed, capacity)
    after = dict(before)
    touched = set()
    for source, to, cost in shifts:
        for pk, change in ((source, -cost), (to, cost)):
            if pk in after:
                after[pk] += change / capacity[pk]
                touched.add(pk)
    was, becomes = spread(before.values()), spread(after.values())
    return {
        "nodes": {
            names[pk]: {"before": before[pk], "after": after[pk]} for pk in sorted(touched, key=names.__getitem__)
        },
        "spread": {"peak": [was.peak, becomes.peak], "stddev": [was.stddev, becomes.stddev]},
    }


def _touched(plan: Plan) -> list[_Touched]:
    moving = [_Touched(move["config"], move["digest"], move["source"]) for move in plan.moves]
    return moving + [_Touched(*one) for one in plan.order["also"]]


def _check_configs(touched: Sequence[_Touched]) -> None:
    """Raise StalePlan when one of them was edited or changed its owner since."""
    rows = Config.objects.filter(pk__in=[one.config for one in touched])
    now = {pk: (digest, owner) for pk, digest, owner in rows.values_list("pk", "digest", "assignment__node")}
    changed = [one for one in touched if now.get(one.config) != (one.digest, one.owner)]
    if changed:
        first = changed[0]
        digest, owner = now.get(first.config, ("", None))
        what = "is gone" if not digest else "was edited" if digest != first.digest else f"is now on {_name(owner)}"
        others = f", and {numbered(len(changed) - 1, 'other config')} changed, too" if len(changed) > 1 else ""
        raise StalePlan(f"config {short_id(first.digest)} {what}{others}")


def _name(node: int | None) -> str:
    return Node.objects.values_list("name", flat=True).filter(pk=node or 0).first() or "no node"


def _check_nodes(plan: Plan) -> None:
    """Raise StalePlan when a node that was to be given something accepts nothing any more."""
    wanted = {move["to"]: move["to_node"] for move in plan.moves if move["to"]}
    able = Node.objects.accepting().filter(pk__in=wanted).values_list("pk", flat=True)
    for pk in sorted(wanted.keys() - set(able)):
        raise StalePlan(f"node {wanted[pk]} accepts nothing any more")


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(order: _Order) -> datetime | None:
    return datetime.fromisoformat(order["until"]) if order["until"] else None
