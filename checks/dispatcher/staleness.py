"""Whether everything that was read for a decision is still true."""

from collections.abc import Collection, Mapping, Sequence

from checks.dispatcher.changes import Entry, shown
from checks.dispatcher.decision import Decision, Placement
from checks.dispatcher.eligibility import BALANCE, CHOSEN, ORDER, UNDO, Snapshot, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Assignment
from checks.models.orders import Isolation, Pin
from clusteragent.lib.words import plain_count
from nodes.models import Node

# The decisions that were not made for the purpose CHOSEN, by verb. A pin that does not wait binds these alone.
_PURPOSES = {"": BALANCE, "reassign": ORDER, "undo": UNDO}


class StalePlan(Exception):
    """Something that was read for a decision has changed. The message says what. done: how many configs were committed before."""

    done = 0


def verify(decision: Decision, placements: Sequence[Placement]) -> dict[int, Entry]:
    """Return the configs of these placements as they are now, {id: entry}. Raises StalePlan if something has changed.

    If the store is locked, the result holds until the end of the transaction.
    """
    order, moving = decision.order, [one for one in placements if one.moves]
    snapshot = _read_nodes_of(decision, moving)
    _check_nodes(decision, moving, snapshot)
    entries = {entry.id: entry for entry in entries_of([one.config for one in placements])}
    _check_configs(decision, placements, entries)
    for entry in entries.values():
        if decision.verb == "pin":
            entry.pin = Pin(kind=order["kind"], aim=order["aim"], waits=order["waits"])
        if order.get("hold"):
            entry.pin = Pin(aim=order["node"])
        # A pin that does not wait may have had no room when the node was chosen: then it does not bind.
        if entry.pin and not entry.pin.waits and decision.verb not in _PURPOSES:
            entry.pin = None
    _check_places(moving, entries, snapshot)
    if decision.verb == "isolate":
        nodes = Assignment.objects.filter(config__in=order["alone"]).values("node")
        come = Assignment.objects.filter(node__in=nodes).exclude(config__in=[one.config for one in decision.placements])
        for assignment in come.select_related("config", "node")[:1]:
            raise StalePlan(f"node {assignment.node.name} was given {assignment.config}")
    return entries


def _read_nodes_of(decision: Decision, moving: Sequence[Placement]) -> Snapshot:
    """Read the nodes that decide: those that are named, if a person named the node or no config gets one.

    For other purposes all nodes count: one may be preferred, or shared because all are reserved.
    """
    purpose = _PURPOSES.get(decision.verb, CHOSEN)
    is_local = purpose is ORDER or all(one.to is None for one in moving)
    named = {one.to_node for one in moving} | set(decision.order.get("nodes", ()))
    return read_snapshot(purpose, names=named if is_local and decision.verb else None)


def _check_nodes(decision: Decision, moving: Sequence[Placement], snapshot: Snapshot) -> None:
    """Raise StalePlan if a node gets nothing new now, or is lost. In a rebalance this holds for nodes that give configs, too."""
    names = {one.to: one.to_node for one in moving if one.to is not None}
    if not decision.verb:
        names |= {one.source: one.from_node for one in moving if one.source is not None}
    for pk, name in sorted(names.items()):
        node = snapshot.by_id.get(pk)
        if node is None:
            raise StalePlan(f"node {name} is lost")
        if why := snapshot.node_refusal(node):
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
        raise StalePlan(f"{shown(first.name, first.digest)} {why}{others}")


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
