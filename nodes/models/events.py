"""What happened to nodes. What nodes can cause is bounded: a flood of it must not fill the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, models
from django.db.models import Exists
from django.db.models.functions import Now

from clusteragent.lib.clock import ago
from clusteragent.lib.database import batches
from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called

log = structlog.get_logger()

# What goes on is said again.
SAID_AGAIN_AFTER = timedelta(minutes=10)
# Of events that a node's own words cause, so many rows in that time; then the last of each kind is written anew.
MOST_OF_A_NODE, OF_A_NODE_WITHIN = 20, timedelta(minutes=10)
# Of all nodes, the rows that a pruning leaves; and the characters of a cause.
MOST_KEPT = 1_000_000
MOST_CHARACTERS = 1000


def brief(text: str) -> str:
    """A text as a cause holds it: of a long one the beginning, its length and a digest, by which two can be compared."""
    if len(text) <= MOST_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    return f"{text[: MOST_CHARACTERS - 100]}… ({len(text)} characters, SHA-256 {digest}…)"


class NodeEventQuerySet(models.QuerySet["nodestore.NodeEvent"]):
    def outages(self, span: timedelta) -> NodeEventQuerySet:
        """Nodes that were lost, or started anew, without a word in that time."""
        kinds = (self.model.Kind.EXPIRED, self.model.Kind.RESTARTED)
        return self.filter(kind__in=kinds, time__gte=ago(span)).exclude(cause=self.model.ANNOUNCED)

    def noted(self, name: str, kind: str, span: timedelta) -> bool:
        """Whether that happened to the node in that time."""
        return self.filter(node_name=name, kind=kind, time__gte=ago(span)).exists()

    def note(self, names: Iterable[str], kind: str, cause: str = "") -> None:
        """Note that it happened to each of these nodes."""
        self.note_each(kind, dict.fromkeys(names, cause))

    def note_each(self, kind: str, causes: Mapping[str, str]) -> None:
        """Note that it happened to each of these nodes, each with a cause of its own: {name: cause}.

        A node that says too much gets no more rows for what it says: the time and the cause of the last such row are
        written anew.
        """
        told = {name: brief(cause) for name, cause in causes.items()}
        if kind in self.model.SAID:
            for name in self._overrun(told):
                last = self.filter(node_name=name, kind=kind, time__gte=ago(OF_A_NODE_WITHIN)).order_by("-id")
                if self.filter(pk__in=last.values("pk")[:1]).update(time=Now(), cause=told[name]):
                    del told[name]
        self.bulk_create(
            [self.model(node_name=name, kind=kind, cause=cause, time=Now()) for name, cause in told.items()],
            batch_size=1000,
        )

    def _overrun(self, names: Collection[str]) -> list[str]:
        """Those of these nodes that got too many events lately."""
        with connection.cursor() as cursor:
            # Not the ORM: a lateral look at the one row of each name that decides, by the index, however many there are.
            cursor.execute(
                "SELECT t.name FROM unnest(%s::text[]) AS t (name) CROSS JOIN LATERAL ("
                " SELECT time FROM nodes_nodeevent WHERE node_name = t.name ORDER BY id DESC OFFSET %s LIMIT 1"
                ") AS e WHERE e.time >= statement_timestamp() - %s * interval '1 second'",
                [list(names), MOST_OF_A_NODE - 1, OF_A_NODE_WITHIN.total_seconds()],
            )
            return [name for (name,) in cursor.fetchall()]

    def note_silent(self) -> list[str]:
        """Note each node that fell silent since its last heartbeat and was not noted yet. Returns their names."""
        noted = self.filter(
            node_name=models.OuterRef("name"),
            kind=self.model.Kind.SILENT,
            time__gte=models.OuterRef("heartbeat__seen_at"),
        )
        silent = nodestore.Node.objects.expected().silent()
        names = list(silent.exclude(Exists(noted)).values_list("name", flat=True))
        self.note(names, self.model.Kind.SILENT)
        return names

    def note_addresses(self, name: str, addresses: Collection[str]) -> None:
        """Note, once in a while, that a node's reports come from these addresses in turn: they are two of one name."""
        kind = self.model.Kind.TWO_ADDRESSES
        if not self.noted(name, kind, SAID_AGAIN_AFTER):
            self.note([name], kind, " and ".join(sorted(addresses)))
            log.warning("node_at_two_addresses", node=name, addresses=sorted(addresses))

    def prune(self, before: datetime | Any, most: float = batches.MOST) -> int:
        """Delete what is older than that, and the eldest of what is too much. Returns how many."""
        surplus = self.order_by("-id").values_list("pk", flat=True)[MOST_KEPT : MOST_KEPT + 1]
        old = self.filter(time__lt=before).order_by("time"), self.filter(pk__lte=max(surplus, default=0)).order_by("pk")
        return sum(batches.delete(rows, most=most) for rows in old)
