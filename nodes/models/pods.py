"""Pods: where nodes run, as the watch of Kubernetes saw it. The rules are in `nodes/pods.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from django.db import models
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import Now

from nodes.models.heartbeats import Heartbeat
from nodes.models.nodes import Node


class Place(NamedTuple):
    """A pod as it is kept beside its node. kubernetes_node, zone: where it runs; empty if unknown."""

    namespace: str
    name: str
    uid: str
    kubernetes_node: str = ""
    zone: str = ""


class PodQuerySet(models.QuerySet["Pod"]):
    def bind(self, places: Mapping[int, Place]) -> None:
        """Store that these nodes run in these pods: {node's id: pod}. Of another pod all that was found out is forgotten."""
        known = dict(self.filter(node_id__in=places).values_list("node_id", "uid"))
        fresh = [Pod(node_id=node, **place._asdict()) for node, place in places.items() if node not in known]
        moved = [Pod(node_id=node, **place._asdict()) for node, place in places.items() if node in known]
        self.filter(node_id__in=[pod.node_id for pod in moved if known[pod.node_id] != pod.uid]).update(
            since=Now(), deleted_at=None, gone_at=None, cordoned=False
        )
        self.bulk_update(moved, list(Place._fields), batch_size=1000)
        self.bulk_create(fresh, batch_size=1000)

    def unbind(self, node_ids: Collection[int]) -> None:
        """Forget the pods of these nodes, and of all that are lost or deleted."""
        self.filter(node_id__in=node_ids).delete()
        self.exclude(Exists(Heartbeat.objects.filter(pk=OuterRef("node_id")))).delete()

    def gone(self) -> PodQuerySet:
        """Pods that are proven to be gone, and whose nodes have said nothing since."""
        return self.filter(gone_at__gt=F("node__heartbeat__seen_at"))


class Pod(models.Model):
    """The pod of a known node. Written by the process that watches Kubernetes; no row: it is not known."""

    # No constraint, so that an older version that knows no pods can delete nodes during an upgrade.
    node = models.OneToOneField(Node, models.CASCADE, primary_key=True, db_constraint=False)
    namespace = models.CharField(max_length=253)
    name = models.CharField(max_length=253)
    uid = models.CharField(max_length=253)
    kubernetes_node = models.CharField(max_length=253, db_default="")
    zone = models.CharField(max_length=253, db_default="")
    # Since when the node is known to run in it.
    since = models.DateTimeField(db_default=Now())
    # When it was seen that it is being deleted: its node leaves.
    deleted_at = models.DateTimeField(null=True)
    # It is gone or has ended. Whoever reports after this time lives.
    gone_at = models.DateTimeField(null=True)
    # That its Kubernetes node is cordoned was followed.
    cordoned = models.BooleanField(db_default=False)

    objects = PodQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def told(self) -> str:
        """The pod, where it runs, and what becomes of it, for people."""
        end = "gone" if self.gone_at else "being deleted" if self.deleted_at else ""
        on = f"on {self.kubernetes_node}" if self.kubernetes_node else ""
        return ", ".join(filter(None, (str(self), on, self.zone and f"zone {self.zone}", end)))
