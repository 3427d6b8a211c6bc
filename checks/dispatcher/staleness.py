"""Whether everything that was read for a decision is still true."""

from collections.abc import Collection, Mapping, Sequence

from checks.dispatcher.changes import Entry, shown
from checks.dispatcher.decision import Decision, Step
from checks.dispatcher.eligibility import BALANCE, CHOSEN, ORDER, UNDO, Snapshot, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Assignment
from checks.models.orders import Isolation, Pin
from clusteragent.lib.words import plain_count
from nodes.models import Node

# The decisions that were not made for the purpose CHOSEN, by verb. A pin that does not wait binds these alone.
_PURPOSES = {"": BALANCE, "reassign": ORDER, "undo": UNDO}


class StalePlan(Exception):
    """Something that was read for a decision has changed. The message says what. done: how many steps were committed before."""

    done = 0


def verify(decision: Decision, steps: Sequence[Step]) -> dict[int, Entry]:
    """Return the configs of these steps as they are now, {id: entry}. Raises StalePlan if something has changed.

    If the store is locked, the result holds until the end of the transaction.
    """
    snapshot = read_snapshot(_PURPOSES.get(decision.verb, CHOSEN))
    moving = [step for step in steps if step.moves]
    _check_nodes(decision, moving, snapshot)
    entries = {entry.id: entry for entry in entries_of([step.config for step in steps])}
    _check_configs(decision, steps, entries)
    for entry in entries.values():
        entry.pin = _pin(decision, entry)
    _check_places(moving, entries, snapshot)
    if decision.verb == "isolate":
        _check_company(decision)
    return entries


def _pin(decision: Decision, entry: Entry) -> Pin | None:
    """The pin that a config will have, if it binds. A pin that does not wait may have had no room when the node was chosen."""
    order = decision.order
    pin = entry.pin
    if decision.verb == "pin":
        pin = Pin(kind=order["kind"], aim=order["aim"], waits=order["waits"])
    if order.get("hold"):
        pin = Pin(aim=order["node"])
    return pin if pin is None or pin.waits or decision.verb in _PURPOSES else None


def _check_configs(decision: Decision, steps: Sequence[Step], entries: Mapping[int, Entry]) -> None:
    isolated: Collection[int] = ()
    if not decision.verb:
        isolated = set(Isolation.objects.filter(config__in=entries).values_list("config_id", flat=True))
    found = [(step, why) for step in steps if (why := _changed(decision, step, entries.get(step.config), isolated))]
    if found:
        step, why = found[0]
        others = f", and {plain_count(len(found) - 1, 'other config')} changed, too" if len(found) > 1 else ""
        raise StalePlan(f"{shown(step.name, step.digest)} {why}{others}")


def _changed(decision: Decision, step: Step, entry: Entry | None, isolated: Collection[int]) -> str:
    """What has changed about a config, as the end of a sentence; empty if nothing has."""
    if entry is None:
        return "is gone"
    if entry.digest != step.digest:
        return "was edited"
    if entry.endpoint and (step.moves or decision.verb != "resume"):
        return "is an endpoint check: it runs where its endpoint is"
    if decision.verb == "resume" and not entry.paused:
        return "was resumed"
    if entry.paused and decision.verb not in ("resume", "pin", "pause"):
        return "is paused"
    if entry.owner != step.source:
        return f"is now on {_name(entry.owner)}"
    return "is isolated" if entry.id in isolated else ""


def _check_nodes(decision: Decision, moving: Sequence[Step], snapshot: Snapshot) -> None:
    """Raise StalePlan if a node gets nothing new now, or is lost. In a rebalance this holds for nodes that give configs, too."""
    names = {step.to: step.to_node for step in moving if step.to is not None}
    if not decision.verb:
        names |= {step.source: step.from_node for step in moving if step.source is not None}
    for pk, name in sorted(names.items()):
        node = snapshot.by_id.get(pk)
        if why := "is lost" if node is None else snapshot.node_refusal(node):
            raise StalePlan(f"node {name} {why}" if isinstance(why, str) else why.about(f"node {name}"))
    for name in decision.order.get("nodes", ()):
        if name not in snapshot.by_name:
            raise StalePlan(f"node {name} is lost")


def _check_places(moving: Sequence[Step], entries: Mapping[int, Entry], snapshot: Snapshot) -> None:
    """Raise StalePlan if a node may not have a config that it should get, once all moving configs have left their nodes."""
    snapshot.read_origins(entries.values())
    for step in moving:
        snapshot.give_up(entries[step.config])
    for step in moving:
        if step.to is None:
            continue
        if why := snapshot.refusal(entries[step.config], snapshot.by_id[step.to]):
            raise StalePlan(f"{entries[step.config].shown} can't go to {step.to_node}: {why}")
        snapshot.take(entries[step.config], step.to)


def _check_company(decision: Decision) -> None:
    """Raise StalePlan if the node of a config that is to be isolated has got another config."""
    nodes = Assignment.objects.filter(config__in=decision.order["alone"]).values("node")
    come = Assignment.objects.filter(node__in=nodes).exclude(config__in=[step.config for step in decision.steps])
    for assignment in come.select_related("config", "node")[:1]:
        raise StalePlan(f"node {assignment.node.name} was given {assignment.config}")


def _name(node: int | None) -> str:
    return Node.objects.values_list("name", flat=True).filter(pk=node or 0).first() or "no node"
