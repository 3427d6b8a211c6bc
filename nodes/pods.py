"""What follows from the pods of nodes: whose pod is being deleted leaves, and whose pod is gone is dead.

The process that watches Kubernetes calls these verbs; they know nothing of it. ADR 17 says what must hold of a proof.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from nodes.hearing import too_many
from nodes.models import Node, NodeEvent, Pod
from nodes.signals import node_changed

# Who orders drains because of cordons.
KUBERNETES = "kubernetes"

log = structlog.get_logger()


@transaction.atomic
def note_deletions(node_ids: Collection[int]) -> list[str]:
    """Note that the pods of these nodes are being deleted: the nodes leave. Returns the names of those that said nothing before.

    It is noted once of each pod: when it lives on for so long that the goodbye is void, the node stays.
    """
    deleted = Pod.objects.filter(node_id__in=node_ids, deleted_at=None)
    staying = Node.objects.known().filter(pk__in=deleted.values("node_id"), leaving=False)
    # In the order of the key, as every change of the map locks them.
    found = dict(staying.order_by("pk").select_for_update(no_key=True, of=("self",)).values_list("pk", "name"))
    Node.objects.filter(pk__in=found).update(leaving=True, left_at=Now(), kept_until=None)
    deleted.update(deleted_at=Now())
    names = list(found.values())
    if names:
        NodeEvent.objects.note(names, NodeEvent.Kind.LEAVING, NodeEvent.POD_DELETED)
        node_changed.send(sender=Node, names=names)
    return names


@transaction.atomic
def follow_cordons(cordoned: Collection[int]) -> None:
    """Drain the nodes that run on Kubernetes nodes which were cordoned since, and give work again to those that no longer do.

    cordoned: the ids of all nodes on cordoned Kubernetes nodes. Each cordon is followed once, and what a person ordered stays.
    """
    fresh = list(Pod.objects.filter(node_id__in=cordoned, cordoned=False).values_list("node_id", flat=True))
    over = list(Pod.objects.filter(cordoned=True).exclude(node_id__in=cordoned).values_list("node_id", flat=True))
    Node.objects.known().filter(pk__in=fresh, schedulable=True).cordon(draining=True, actor=KUBERNETES)
    Node.objects.filter(name__in=_drained_here(over)).cordon(schedulable=True, actor=KUBERNETES)
    Pod.objects.filter(node_id__in=fresh).update(cordoned=True)
    Pod.objects.filter(node_id__in=over).update(cordoned=False)


def _drained_here(node_ids: Collection[int]) -> list[str]:
    """The names of those of these nodes whose last order was ours."""
    kinds = NodeEvent.Kind
    names = Node.objects.filter(pk__in=node_ids, draining=True).values_list("name", flat=True)
    orders = NodeEvent.objects.filter(node_name__in=names, kind__in=(kinds.CORDONED, kinds.DRAINING, kinds.UNCORDONED))
    last = dict(orders.order_by("pk").values_list("node_name", "cause"))
    return [name for name, cause in last.items() if cause == KUBERNETES]


@transaction.atomic
def note_gone(found: Mapping[int, datetime]) -> int:
    """Note that the pods of these nodes are proven to be gone: {node's id: after which time a report is somebody alive}.

    Returns how many; 0 if so many pods are gone that nobody announced that it is not the nodes.
    """
    expected = Node.objects.expected()
    unannounced = expected.filter(Q(pk__in=found) | Q(pk__in=Pod.objects.gone().values("node_id"))).count()
    if too_many(expected.count(), unannounced):
        log.warning("pods_doubted", gone=unannounced)
        return 0
    by_time: dict[datetime, list[int]] = defaultdict(list)
    for node, at in found.items():
        by_time[at].append(node)
    number = sum(Pod.objects.filter(node_id__in=ids).update(gone_at=at) for at, ids in by_time.items())
    names = list(Node.objects.filter(pk__in=found).values_list("name", flat=True))
    node_changed.send(sender=Node, names=names)
    return number
