"""Whether what a decision was made on is still so."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from checks.dispatcher.changes import Entry
from checks.dispatcher.decision import Decision, Step
from checks.dispatcher.transaction import entries_of
from checks.eligibility import Eligibility, candidates, name_origins
from checks.models import Assignment
from checks.models.orders import Isolation, Pin
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import numbered
from nodes.models import Node
from nodes.models.querysets import NodeQuerySet


class StalePlan(Exception):
    """Something that a decision was made on is no longer so. The message says what."""


def check(decision: Decision, steps: Sequence[Step]) -> dict[int, Entry]:
    """The configs of these steps by id, as the decision's order will have them. Raises StalePlan where something changed.

    Said while the store is locked, it holds until the transaction ends.
    """
    moving = [step for step in steps if step.moves]
    _check_nodes(decision, moving)
    entries = {entry.id: entry for entry in entries_of([step.config for step in steps])}
    _check_configs(decision, steps, entries)
    if pin := _ordered_pin(decision.order):
        for entry in entries.values():
            entry.pin = pin
    _check_rules(decision, moving, entries)
    _check_limits(moving)
    if decision.verb == "isolate":
        _check_company(decision)
    return entries


def active() -> NodeQuerySet:
    """Nodes between which configs may move. Unlike where they must, silence counts even after we were deaf."""
    return Node.objects.accepting().filter(heartbeat__seen_at__gte=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))


def receiving() -> NodeQuerySet:
    """Those of them that may get more: steady if any is, and not the nodes of isolated configs."""
    steady = active().steady()
    kept = Isolation.objects.filter(config__assignment__isnull=False).values("config__assignment__node")
    return (steady if steady.exists() else active()).exclude(pk__in=kept)


def _check_configs(decision: Decision, steps: Sequence[Step], entries: Mapping[int, Entry]) -> None:
    isolated: Collection[int] = ()
    if not decision.verb:
        isolated = set(Isolation.objects.filter(config__in=entries).values_list("config_id", flat=True))
    found = [(step, why) for step in steps if (why := _changed(decision, step, entries.get(step.config), isolated))]
    if found:
        step, why = found[0]
        others = f", and {numbered(len(found) - 1, 'other config')} changed, too" if len(found) > 1 else ""
        raise StalePlan(f"{_shown(step)} {why}{others}")


def _changed(decision: Decision, step: Step, entry: Entry | None, isolated: Collection[int]) -> str:
    """What became of a config since; empty when nothing."""
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


def _check_nodes(decision: Decision, moving: Sequence[Step]) -> None:
    """Raise StalePlan where a node may not get, or in a rebalance not give, what it should, or can't be drained."""
    takers = {step.to: step.to_node for step in moving if step.to is not None}
    givers = {step.source: step.from_node for step in moving if step.source is not None and not decision.verb}
    unable = takers.keys() - set(_taking(decision.verb).filter(pk__in=takers).values_list("pk", flat=True))
    unable |= givers.keys() - set(active().filter(pk__in=givers).values_list("pk", flat=True))
    unable |= _kept(decision, takers.keys())
    for pk in sorted(unable):
        raise StalePlan(f"node {(givers | takers)[pk]} {_unable(pk)}")
    drained = decision.order.get("nodes", ())
    for name in sorted(
        set(drained) - set(Node.objects.known().filter(name__in=drained).values_list("name", flat=True))
    ):
        raise StalePlan(f"node {name} is lost")


def _taking(verb: str) -> NodeQuerySet:
    """The nodes that may be given something. A person who names one knows why: only a silence that ends in its expiry counts."""
    if verb == "reassign":
        return Node.objects.alive().filter(schedulable=True, leaving=False)
    return Node.objects.accepting() if verb else receiving()


def _kept(decision: Decision, nodes: Collection[int]) -> set[int]:
    """Which of these nodes are kept for isolated configs. Where all are, a choice may have fallen on one."""
    alone = Isolation.objects.filter(config__assignment__node__isnull=False)
    kept = set(alone.values_list("config__assignment__node", flat=True))
    is_chosen = decision.verb not in ("", "reassign", "undo")
    if kept and is_chosen and not Node.objects.accepting().exclude(pk__in=kept).exists():
        return set()
    return kept & set(nodes)


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


def _check_rules(decision: Decision, moving: Sequence[Step], entries: Mapping[int, Entry]) -> None:
    """Raise StalePlan where an order, a rule or what a node declares refuses a move. What is only preferred may have changed."""
    nodes = {node.id: node for node in candidates(Node.objects.known().filter(pk__in={step.to for step in moving}))}
    eligibility = Eligibility(list(nodes.values()))
    if eligibility.needs_origins():
        name_origins(entries.values())
    for step in moving:
        if step.to is None:
            continue
        entry, node = entries[step.config], nodes[step.to]
        why = eligibility.objection(entry, node)
        if (
            entry.pin is not None
            and decision.verb in ("", "reassign")
            and not entry.pin.matches(node.name, node.labels)
        ):
            why = why or f"the config is pinned to {entry.pin}"
        if why:
            raise StalePlan(f"{_shown(step)} can't go to {step.to_node}: {why}")
        eligibility.take(entry, step.to)


def _check_limits(moving: Sequence[Step]) -> None:
    more = Counter(step.to for step in moving if step.to is not None)
    more.subtract(step.source for step in moving if step.source is not None)
    limited = Node.objects.filter(pk__in=more, max_configs__isnull=False)
    counts = Assignment.objects.filter(node__in=limited).counts() if more and limited.exists() else {}
    for node in limited if more else ():
        assert node.max_configs is not None
        if more[node.pk] > 0 and counts.get(node.pk, 0) + more[node.pk] > node.max_configs:
            raise StalePlan(f"node {node.name} may have at most {node.max_configs} configs")


def _check_company(decision: Decision) -> None:
    """Raise StalePlan where a node that is to be left to a config was given another one."""
    nodes = Assignment.objects.filter(config__in=decision.order["alone"]).values("node")
    come = Assignment.objects.filter(node__in=nodes).exclude(config__in=[step.config for step in decision.steps])
    for assignment in come.select_related("config", "node")[:1]:
        raise StalePlan(f"node {assignment.node.name} was given {assignment.config}")


def _ordered_pin(order: Mapping[str, Any]) -> Pin | None:
    """The pin that an order gives to its configs, if it does."""
    if order.get("verb") == "pin":
        return Pin(kind=order["kind"], aim=order["aim"], waits=order["waits"])
    return Pin(aim=order["node"]) if order.get("hold") else None


def _shown(step: Step) -> str:
    return f"{scrub(step.name)} {short_id(step.digest)}"


def _name(node: int | None) -> str:
    return Node.objects.values_list("name", flat=True).filter(pk=node or 0).first() or "no node"
