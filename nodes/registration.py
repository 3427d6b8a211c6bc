"""The slow path of heartbeats: nodes that are new or return, start again, or change their declaration.

After an outage of a minute a whole cluster takes it, at the rate of heartbeats. So many nodes take no more statements than
one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Count, Q
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes import runnercertificates
from nodes.models import Heartbeat, Node, NodeEvent, NodeRule
from nodes.models.heartbeats import Beat, Report
from nodes.names import likeness
from nodes.signals import node_arrived, node_changed

log = structlog.get_logger()

# A node that said that it leaves may report for so long that it never had a config, without having started again.
FAREWELL_TIME = timedelta(seconds=20)
# A node that was away so often in this time is flapping.
FLAPPING_TIMES, FLAPPING_SPAN = 2, timedelta(minutes=10)
# Names that an event or a log line about look-alikes has at most.
_ALIKE = 3


@transaction.atomic
def register(reports: Mapping[str, Report], *, wait: bool = False) -> dict[str, Beat]:
    """Insert or revive these nodes: {name: beat}, without those that somebody else registers now.

    wait: for a row that is locked. For a single report only, since several could wait in a circle.
    """
    registered = Heartbeat.objects.register(reports.values(), wait=wait)
    runnercertificates.forget([one.name for one in registered if not one.is_new and reports[one.name].last_change == 0])
    if arrivals := [arrival for arrival in registered if not arrival.is_known]:
        if ruled := [one.id for one in arrivals if one.has_rules or one.is_ruled]:
            NodeRule.objects.apply(Node.objects.filter(pk__in=ruled))
        _distrust_if_flapping([one.name for one in arrivals if not one.is_new])
        alike_before = [one.name for one in arrivals if one.is_alike]
        _note_lookalikes({one.name: likeness(one.name) for one in arrivals}, alike_before)
        node_arrived.send(sender=Node, names=[one.name for one in arrivals])
    _note_declared({one.name: one.declared for one in registered if one.declared != one.declared_before})
    # Its declaration is written already, and it neither started again nor said goodbye since.
    return {
        one.name: Beat(
            one.id, one.version, one.warmup, one.declared, False, 0, is_elsewhere=reports[one.name].peer is not None
        )
        for one in registered
    }


def _note_lookalikes(arrived: Mapping[str, int], alike_before: Collection[str]) -> None:
    """Note which of these nodes have names that look like those of other known nodes.

    arrived: {name: likeness}. alike_before: names of these that look like those of nodes that were known before.
    """
    shared = {number for number, times in Counter(arrived.values()).items() if times > 1}
    numbers = {name: number for name, number in arrived.items() if number in shared or name in alike_before}
    if not numbers:
        return
    alike: dict[int | None, list[str]] = defaultdict(list)
    living = Node.objects.known().filter(likeness__in=set(numbers.values())).order_by("name")
    for number, name in living.values_list("likeness", "name"):
        alike[number].append(name)
    others = {name: [one for one in alike[number] if one != name] for name, number in numbers.items()}
    causes = {name: ", ".join(found[:_ALIKE]) for name, found in others.items() if found}
    if causes:
        NodeEvent.objects.note_each(NodeEvent.Kind.LOOKS_ALIKE, causes)
        log.warning("node_names_look_alike", names=list(causes.items())[:_ALIKE], number=len(causes))


def _distrust_if_flapping(names: Collection[str]) -> None:
    """Give those of these nodes that are flapping nothing new for a timeout."""
    if not names:
        return
    outages = NodeEvent.objects.outages(FLAPPING_SPAN).filter(node_name__in=names).order_by()
    often = outages.values("node_name").annotate(times=Count("pk")).filter(times__gte=FLAPPING_TIMES)
    flapping = list(often.values_list("node_name", flat=True))
    if flapping:
        Node.objects.filter(name__in=flapping).update(not_before=Now() + conf.NODE_EXPIRATION_TIMEOUT)
        NodeEvent.objects.note(flapping, NodeEvent.Kind.FLAPPING)


@transaction.atomic
def note_restarts(beats: Mapping[str, Beat]) -> None:
    """Note that these nodes started again: their goodbyes are over. One that does so again and again is flapping."""
    events, kinds = NodeEvent.objects, NodeEvent.Kind
    unconfigured = [name for name, beat in beats.items() if beat.config_version == 0]
    leaving = events.filter(node_name__in=unconfigured, kind=kinds.LEAVING, time__gte=ago(FAREWELL_TIME))
    staying = set(leaving.values_list("node_name", flat=True)) if unconfigured else set()
    # In the order of the key, as every change of the map locks them.
    locked = Node.objects.filter(name__in=beats.keys() - staying).order_by("pk").select_for_update(no_key=True)
    said = dict(locked.annotate(said=Q(leaving=True) | Q(kept_until__gte=Now())).values_list("name", "said"))
    Node.objects.filter(name__in=said).update(leaving=False, kept_until=None)
    runnercertificates.forget(said.keys())
    announced = NodeEvent.ANNOUNCED
    events.note_each(kinds.RESTARTED, {name: announced if word else "" for name, word in said.items()})
    _distrust_if_flapping(said.keys())
    if said:
        node_arrived.send(sender=Node, names=list(said))


@transaction.atomic
def note_declarations(declared: Mapping[str, str]) -> None:
    """Store what nodes declare: {name: declaration}, with an event for each that changed."""
    locked = Node.objects.filter(name__in=declared).order_by("pk").select_for_update(no_key=True)
    before: Any = locked.values_list("pk", "name", "declared")
    changed = [Node(pk=pk, name=name, declared=declared[name]) for pk, name, was in before if was != declared[name]]
    Node.objects.bulk_update(changed, ["declared"])
    _note_declared({node.name: node.declared for node in changed})


def _note_declared(declared: Mapping[str, str]) -> None:
    if declared:
        NodeEvent.objects.note_each(NodeEvent.Kind.DECLARED, declared)
        node_changed.send(sender=Node, names=list(declared))
