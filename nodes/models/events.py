"""What happened to nodes. The events that nodes themselves can cause are bounded, so that a flood does not fill the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, models
from django.db.models.functions import Now

from clusteragent.lib.clock import ago
from clusteragent.lib.database import bulk
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id

log = structlog.get_logger()

# What lasts is noted again after this time.
SAID_AGAIN_AFTER = timedelta(minutes=10)
# A node's own words cause at most so many rows in that time; then the last row of each kind is overwritten.
MOST_OF_A_NODE, OF_A_NODE_WITHIN = 20, timedelta(minutes=10)
# Rows that are kept at most, and characters of a cause.
MOST_KEPT = 1_000_000
MOST_CHARACTERS = 1000


def brief(text: str) -> str:
    """The text as a cause: of a long one its beginning, its length and a digest that tells two apart."""
    if len(text) <= MOST_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    return f"{text[: MOST_CHARACTERS - 100]}… ({len(text)} characters, SHA-256 {digest}…)"


class NodeEventQuerySet(models.QuerySet["NodeEvent"]):
    def outages(self, span: timedelta) -> NodeEventQuerySet:
        """Unannounced losses and restarts in that time."""
        kinds = (self.model.Kind.EXPIRED, self.model.Kind.RESTARTED)
        return self.filter(kind__in=kinds, time__gte=ago(span)).exclude(
            cause__in=(self.model.ANNOUNCED, self.model.ANNOUNCED_GONE)
        )

    def noted(self, name: str, kind: str, span: timedelta) -> bool:
        """Whether an event of the kind was noted for the node in that time."""
        return self.filter(node_name=name, kind=kind, time__gte=ago(span)).exists()

    def note(self, names: Iterable[str], kind: str, cause: str = "") -> None:
        """Add an event of the kind for each of these nodes, all with one cause."""
        self.note_each(kind, dict.fromkeys(names, cause))

    def note_each(
        self, kind: str, causes: Mapping[str, str], last: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Add an event of the kind for each of these nodes, with its own cause: {name: cause}. last: {name: {field: value}} of
        the last report of each.

        A node that says too much gets no more rows for what it says: the last such row gets the new time and cause.
        """
        told = {name: brief(cause) for name, cause in causes.items()}
        if kind in self.model.SAID:
            for name in self._overrun(told):
                rows = self.filter(node_name=name, kind=kind, time__gte=ago(OF_A_NODE_WITHIN)).order_by("-id")
                if self.filter(pk__in=rows.values("pk")[:1]).update(time=Now(), cause=told[name]):
                    del told[name]
        self.bulk_create(
            [
                self.model(node_name=name, kind=kind, cause=cause, time=Now(), **(last or {}).get(name, {}))
                for name, cause in told.items()
            ],
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

    def note_addresses(self, name: str, addresses: Collection[str]) -> None:
        """Note that a node's reports come from these addresses in turn: two nodes have one name. Not again for a while."""
        kind = self.model.Kind.TWO_ADDRESSES
        if not self.noted(name, kind, SAID_AGAIN_AFTER):
            self.note([name], kind, " and ".join(sorted(addresses)))
            log.warning("node_at_two_addresses", node=name, addresses=sorted(addresses))

    def prune(self, before: datetime | Any, most: float = bulk.MOST) -> int:
        """Delete events older than `before`, and the eldest beyond MOST_KEPT. In batches. Returns how many."""
        surplus = self.order_by("-id").values_list("pk", flat=True)[MOST_KEPT : MOST_KEPT + 1]
        old = self.filter(time__lt=before).order_by("time"), self.filter(pk__lte=max(surplus, default=0)).order_by("pk")
        return sum(bulk.delete(rows, most=most) for rows in old)


def event_kinds() -> list[tuple[str, str]]:
    """Return the choices of an event's kind. They are given as a function, so that a new kind needs no migration."""
    return NodeEvent.Kind.choices


class NodeEvent(models.Model):
    """What happened to a node. It outlives the node, so it holds the name."""

    # The cause of a restart of which the node told us before.
    ANNOUNCED = "announced"
    # The causes of an expiry before the timeout: the proofs.
    REFUSES = "its port refuses connections"
    POD_GONE = "its pod is gone"
    # The cause of an expiry by that proof after a goodbye.
    ANNOUNCED_GONE = f"{ANNOUNCED}, and {POD_GONE}"
    # The cause of a goodbye that Kubernetes said for the node.
    POD_DELETED = "its pod is being deleted"

    class Kind(models.TextChoices):
        REGISTERED = "registered"
        RESTARTED = "restarted"
        SILENT = "silent"
        EXPIRED = "expired"
        BACK = "back"
        CORDONED = "cordoned"
        UNCORDONED = "uncordoned"
        DRAINING = "draining"
        LEAVING = "leaving"
        RESTARTING = "restarting"
        FLAPPING = "flapping"
        DECLARED = "declared"
        NOT_RUNNING = "not running"
        QUARANTINED = "quarantined"
        RELEASED = "released"
        TWO_ADDRESSES = "two addresses"
        # It told implausible stats.
        CLAMPED = "clamped"
        # It showed another certificate than the one that is kept.
        CERTIFICATE = "new certificate"
        # Its goodbye does not count.
        GOODBYE_VOID = "goodbye void"
        LOOKS_ALIKE = "looks alike"
        # Its checks take longer than elsewhere, or it misses polls.
        SLOW = "slow"
        SLOW_NO_MORE = "no longer slow"

    # What a node causes by its own words, or by what answers at its address, as often as it likes.
    SAID = frozenset({
        Kind.RESTARTED, Kind.LEAVING, Kind.RESTARTING, Kind.FLAPPING, Kind.DECLARED, Kind.GOODBYE_VOID, Kind.CERTIFICATE
    })  # fmt: skip

    node_name = models.CharField(max_length=253)
    kind = models.CharField(max_length=16, choices=event_kinds)
    cause = models.TextField(db_default="")
    time = models.DateTimeField(db_default=Now())
    # Of an expiry: when the node was last heard, and what it said of itself. Null in rows of older versions.
    heard_at = models.DateTimeField(null=True)
    address = models.GenericIPAddressField(null=True)
    node_type = models.PositiveSmallIntegerField(null=True)

    objects = NodeEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["node_name", "-id"], name="nodeevent_of_node"),  # a node's page; the silent transition
            models.Index(fields=["time"], name="nodeevent_by_time"),  # prune()
        ]

    def __str__(self) -> str:
        return f"{self.node_name} {self.kind}"

    @property
    def digest(self) -> str:
        """The digest of the config that it is about; empty if it is about none."""
        return self.cause.rpartition(" ")[2] if self.kind in (self.Kind.NOT_RUNNING, self.Kind.QUARANTINED) else ""

    @property
    def told(self) -> str:
        """The cause as people see it: what is about a config ends with its digest, which is told as its short ID."""
        if not self.digest:
            return scrub(self.cause)
        return f"{scrub(self.cause.removesuffix(self.digest).rstrip())} {short_id(self.digest)}".strip()
