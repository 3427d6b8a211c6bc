"""Nodes that need more workers than they have: what needs most, and whether others have room for it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db.models import F

from checks.dispatcher import costs
from checks.dispatcher.inventory import read_reserved
from checks.explain.alerts.kinds import NAMED, Alert, Kind, Target, some
from checks.models import Assignment, Config, Cost
from checks.models.orders import Pin
from checks.models.titles import called
from clusteragent.lib.words import listed, measured_count, percent, plain_count
from nodes.models import Node, Runner, Slowness


class _Told(NamedTuple):
    """What is said of an overloaded node, and the words of it that lead somewhere."""

    words: str
    parts: list[tuple[str, Target]]


def of_overload(now: datetime) -> Iterator[Alert]:
    """Nodes whose configs need more than their capacity, which they did in two rounds of stats, too."""
    rows = list(Runner.objects.overloaded().select_related("node"))
    if not rows:
        return
    needed, able = Cost.objects.by_node(), Runner.objects.capacity()
    loads = costs.loads(needed, able)
    full = sorted((row for row in rows if loads.get(row.pk, 0) > 1), key=lambda row: -loads[row.pk])
    if not full:
        return
    slow = set(Slowness.objects.filter(share__lt=1).values_list("pk", flat=True))
    told = [_told(row, loads[row.pk], able[row.pk], row.pk in slow) for row in full[:NAMED]]
    held = held_by_pins()
    stuck = [row.node.name for row in full if row.pk in held]
    parts = [part for one in told for part in one.parts]
    parts += [(f"pins on {name}", Target.rows(Config, node=name, order="pinned")) for name in stuck[:NAMED]]
    others = "; others" if len(full) > NAMED else ""
    # Room elsewhere helps nobody while pins alone are too much.
    rest = "" if len(stuck) == len(full) else f" {_room(full, needed, able)}"
    cause = f"{'; '.join(one.words for one in told)}{others}.{rest}{_pins(stuck)}"
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


def _room(full: Sequence[Runner], needed: Mapping[int, float], able: Mapping[int, float]) -> str:
    """Whether other nodes have room for what is too much. One that an isolated config keeps for itself has none."""
    excess = sum(needed[row.pk] - able[row.pk] for row in full)
    takers = Node.objects.accepting().exclude(pk__in=read_reserved()).values_list("pk", flat=True)
    room = sum(max(able[node] - needed.get(node, 0.0), 0.0) for node in takers if node in able)
    if room <= 0:
        return "No other node has room: add nodes."
    if room < excess:
        too_many = measured_count(excess, "worker")
        are = "is" if too_many.endswith("worker") else "are"
        return f"Others have room for {room:.2g} of the {too_many} that {are} too many: add nodes."
    return "Others have room for what is too much."


def held_by_pins() -> dict[int, list[int]]:
    """Return the overloaded nodes whose pinned configs alone need more than their capacity, each with the costliest of these
    configs, until the others fit: {node's id: ids of configs}.
    """
    pins = Pin.objects.in_force().filter(
        kind=Pin.Kind.NODE, aim=F("config__assignment__node__name"), config__cost__isnull=False,
        config__assignment__node__in=Runner.objects.overloaded().values("pk"),
    )  # fmt: skip
    columns = ("config__assignment__node", "config", "config__cost__workers_needed")
    found: dict[int, list[tuple[int, float]]] = {}
    for node, config, cost in pins.order_by("-config__cost__workers_needed", "config").values_list(*columns):
        found.setdefault(node, []).append((config, cost))
    able = Runner.objects.capacity() if found else {}
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
