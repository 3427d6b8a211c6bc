"""Nodes that need more workers than they have: what needs most, and whether others have room for it."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import F, Max, Sum

from checks import dispatcher
from checks.dispatcher import costs
from checks.dispatcher.inventory import read_reserved
from checks.explain.alerts.kinds import NAMED, Alert, Kind, Target, some
from checks.models import Assignment, Config, Cost
from checks.models.orders import Pin
from checks.models.titles import called
from clusteragent.lib.words import agreeing, listed, measured_count, percent, plain_count
from nodes.models import Node, Runner, Slowness


class _Told(NamedTuple):
    """What is said of an overloaded node, and the words of it that lead somewhere."""

    words: str
    parts: list[tuple[str, Target]]


class _Large(NamedTuple):
    """The configs of a node that alone need more workers than any node has. rest: workers for all but the costliest."""

    configs: list[str]
    rest: float


def of_overload(now: datetime, only: int | None = None) -> Iterator[Alert]:
    """Nodes whose configs need more than their capacity, which they did in two rounds of stats, too. only: one node's id."""
    found = Runner.objects.overloaded().select_related("node")
    rows = list(found if only is None else found.filter(pk=only))
    if not rows:
        return
    needed, able = Cost.objects.by_node(), Runner.objects.capacity()
    loads = costs.loads(needed, able)
    full = sorted((row for row in rows if loads.get(row.pk, 0) > 1), key=lambda row: -loads[row.pk])
    if not full:
        return
    slow = set(Slowness.objects.filter(share__lt=1).values_list("pk", flat=True))
    told = [_told(row, loads[row.pk], able[row.pk], row.pk in slow) for row in full[:NAMED]]
    held, large = held_by_pins(), _too_large([row.pk for row in full], max(able.values()))
    stuck = [row.node.name for row in full if row.pk in held]
    parts = [part for one in told for part in one.parts]
    parts += [(f"pins on {name}", Target.rows(Config, node=name, order="pinned")) for name in stuck[:NAMED]]
    others = "; others" if len(full) > NAMED else ""
    # Room elsewhere helps nobody while pins alone are too much, or a config that no node could run.
    rests = {node: one.rest for node, one in large.items()}
    excess = sum(min(needed[row.pk] - able[row.pk], rests.get(row.pk, math.inf)) for row in full if row.pk not in held)
    rest = f" {_room(excess, needed, able, 'what else' if large else 'what')}" if excess > 0 else ""
    plans = _more_plans([row.pk for row in full if row.pk not in {*held, *large}], needed, able)
    cause = f"{'; '.join(one.words for one in told)}{others}.{_of_large(large)}{rest}{plans}{_pins(stuck)}"
    since = min(row.overloaded_since for row in full if row.overloaded_since)
    target = Target.row(full[0].node) if len(full) == 1 else Target.rows(Node)
    yield Alert(Kind.OVERLOADED, len(full), cause, target, now, since, parts=parts)


def _told(row: Runner, load: float, workers: float, is_slow: bool) -> _Told:
    name, on_it = row.node.name, Assignment.objects.filter(node=row.pk, config__cost__isnull=False)
    costly = on_it.order_by("-config__cost__workers_needed", "config")[:NAMED]
    columns = ("config__title", "config__name", "config__digest", "config__cost__workers_needed", "config_id")
    dear = [(called(*words), cost, config) for *words, cost, config in costly.values_list(*columns)]
    most = listed([f"{config} ({measured_count(cost, 'worker')})" for config, cost, _ in dear], None)
    its = (
        f"the {measured_count(workers, 'worker')} that it is given while it is slow"
        if is_slow
        else f"its {measured_count(workers, 'worker')}"
    )
    by = f", most by {most}" if most else ""
    pinned = on_it.filter(config__pin__isnull=False).count()
    stay = f"; {plain_count(pinned, 'config')} of it pinned" if pinned else ""
    parts = [(name, Target.row(row.node))]
    parts += [(f"{words} on {name}", Target(Config, {}, config)) for words, _, config in dear]
    return _Told(f"{name} is at {percent(load)} of {its}{by}{stay}", parts)


def _pins(stuck: Sequence[str]) -> str:
    """What is said of the nodes that pins alone fill, if there are any."""
    if not stuck:
        return ""
    return f" What is pinned to {some(stuck)} needs more than all of its workers: no move helps before some of it is unpinned."


def _too_large(nodes: Collection[int], largest: float) -> dict[int, _Large]:
    """What is too large on these nodes: {node's id: what}. largest: the most workers that a node has."""
    of_nodes = Assignment.objects.filter(node__in=nodes, config__cost__isnull=False).order_by()
    costly = of_nodes.filter(config__cost__workers_needed__gt=largest)
    costly = costly.order_by("-config__cost__workers_needed", "config")
    found: dict[int, list[str]] = {}
    for node, *words in costly.values_list("node", "config__title", "config__name", "config__digest"):
        found.setdefault(node, []).append(called(*words))
    needs = "config__cost__workers_needed"
    rest = dict(of_nodes.filter(node__in=found).values_list("node").annotate(rest=Sum(needs) - Max(needs)))
    return {node: _Large(configs, rest[node]) for node, configs in found.items()}


def _of_large(large: Mapping[int, _Large]) -> str:
    """What is said of configs that no node could run in time, and what helps; empty if there are none."""
    configs = [config for one in large.values() for config in one.configs]
    if not configs:
        return ""
    alone = f"{some(configs)} alone {agreeing(len(configs), 'needs', 'each need')} more than any node has"
    its = agreeing(len(configs), "its instances", "their instances")
    return (
        f" {alone}, which no move mends: spread {its} over several configs, lengthen min_collection_interval, or raise"
        " check_runners of a node."
    )


def beyond_moves(held: Collection[int]) -> set[int]:
    """Return the overloaded nodes that no move relieves: pins alone are too much for them, or all that they have is one config
    too large for any node. They are ids. held: those of `held_by_pins`.
    """
    nodes = list(Runner.objects.overloaded().values_list("pk", flat=True))
    large = _too_large(nodes, max(Runner.objects.capacity().values(), default=math.inf))
    return {*held, *(node for node, one in large.items() if not one.rest)}


def _room(excess: float, needed: Mapping[int, float], able: Mapping[int, float], what: str) -> str:
    """Whether other nodes have room for so many workers. One that an isolated config keeps for itself has none."""
    takers = Node.objects.accepting().exclude(pk__in=read_reserved()).values_list("pk", flat=True)
    room = sum(max(able[node] - needed.get(node, 0.0), 0.0) for node in takers if node in able)
    if room <= 0:
        return "No other node has room: add nodes."
    if room < excess:
        too_many = measured_count(excess, "worker")
        are = "is" if too_many.endswith("worker") else "are"
        return f"Others have room for {room:.2g} of the {too_many} that {are} too many: add nodes."
    return f"Others have room for {what} is too much."


def _more_plans(nodes: Collection[int], needed: Mapping[int, float], able: Mapping[int, float]) -> str:
    """That one relief moves too few configs for these nodes, where not even the costliest would be enough; else empty."""
    most = dispatcher.budget()
    excess = {node: more for node in nodes if (more := needed[node] - able[node]) > 0}
    number = len(excess)
    # Each takes one move at least. The costs of more nodes than moves need not be read.
    if number <= most:
        on_them = Assignment.objects.filter(node__in=excess, config__cost__isnull=False)
        costly = on_them.order_by("-config__cost__workers_needed").values_list("node", "config__cost__workers_needed")
        number = 0
        for node, cost in costly:
            if excess[node] > 0:
                excess[node] -= cost
                number += 1
    if number <= most:
        return ""
    return f" A relief moves {plain_count(most, 'config')} at most, which is not enough: plan another one after it."


def held_by_pins() -> dict[int, list[int]]:
    """Return the overloaded nodes whose pinned configs alone need more than their capacity, each with the costliest of these
    configs, until the others fit: {node's id: ids of configs}. Unpinning a config too large for any node helps nobody.
    """
    able = Runner.objects.capacity()
    pins = Pin.objects.in_force().filter(
        kind=Pin.Kind.NODE, aim=F("config__assignment__node__name"),
        config__cost__workers_needed__lte=max(able.values(), default=0.0),
        config__assignment__node__in=Runner.objects.overloaded().values("pk"),
    )  # fmt: skip
    columns = ("config__assignment__node", "config", "config__cost__workers_needed")
    found: dict[int, list[tuple[int, float]]] = {}
    for node, config, cost in pins.order_by("-config__cost__workers_needed", "config").values_list(*columns):
        found.setdefault(node, []).append((config, cost))
    held = {}
    for node, costly in found.items():
        excess, chosen = sum(cost for _, cost in costly) - able[node], []
        for config, cost in costly:
            if excess > 0:
                chosen.append(config)
                excess -= cost
        if chosen:
            held[node] = chosen
    return held
