"""Probes: what the stats ports of nodes that may be dead said. The rules are in `nodes/proofs.py`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Now

from clusteragent.lib.clock import ago
from nodes.models.events import NodeEvent
from nodes.models.hearing import OVERDUE, Hearing
from nodes.models.heartbeats import Heartbeat, HeartbeatQuerySet
from nodes.models.nodes import PROOF_HOLDS

# The time between two refusals that prove a death, and between two calls of the same node.
AGAIN = timedelta(seconds=2)
# A port that answered before one of these was another start's of the agent.
_STARTS = (NodeEvent.Kind.REGISTERED, NodeEvent.Kind.BACK, NodeEvent.Kind.RESTARTED)


class Suspect(NamedTuple):
    """A node that may be dead: its last report, and whether its port has refused since."""

    node_id: int
    seen_at: datetime
    address: str
    has_refused: bool = False


class ProbeQuerySet(models.QuerySet["Probe"]):
    # Not the ORM: its upsert can't look at what is there, and the database's own time is wanted.
    _NOTE = """
        INSERT INTO nodes_probe AS p (node_id, seen_at, address, asked_at, refused_at, doubted)
        SELECT t.id, t.seen_at, t.address, statement_timestamp(), CASE WHEN t.refused THEN statement_timestamp() END,
            t.refused AND %(doubted)s
        FROM unnest(%(ids)s::bigint[], %(seen_at)s::timestamptz[], %(addresses)s::inet[], %(refused)s::bool[])
            AS t (id, seen_at, address, refused)
        ORDER BY t.id
        ON CONFLICT (node_id) DO UPDATE SET
            seen_at = excluded.seen_at,
            address = excluded.address,
            asked_at = excluded.asked_at,
            refused_at = CASE
                WHEN excluded.refused_at IS NULL OR (p.seen_at, p.address) <> (excluded.seen_at, excluded.address)
                THEN excluded.refused_at ELSE coalesce(p.refused_at, excluded.refused_at) END,
            proven_at = CASE
                WHEN (p.seen_at, p.address) = (excluded.seen_at, excluded.address) AND NOT excluded.doubted
                    AND excluded.refused_at >= p.refused_at + %(again)s
                THEN excluded.refused_at END,
            doubted = excluded.doubted
        RETURNING proven_at IS NOT NULL
    """

    def note(self, asked: Collection[Suspect], refused: Collection[int], *, doubted: bool = False) -> int:
        """Store which of these nodes refused just now. Returns how many are proven dead: they refused twice, AGAIN apart.

        doubted: refusals prove nothing.
        """
        values: dict[str, Any] = {
            "ids": [one.node_id for one in asked],
            "seen_at": [one.seen_at for one in asked],
            "addresses": [one.address for one in asked],
            "refused": [one.node_id in refused for one in asked],
            "doubted": doubted,
            "again": AGAIN,
        }
        with connection.cursor() as cursor:
            cursor.execute(self._NOTE, values)
            return sum(proven for (proven,) in cursor.fetchall())

    def void(self) -> ProbeQuerySet:
        """Probes of nodes that have reported since, or are lost."""
        return self.exclude(Exists(Heartbeat.objects.filter(pk=OuterRef("pk"), seen_at=OuterRef("seen_at"))))

    def answering(self) -> HeartbeatQuerySet:
        """Heartbeats of nodes whose stats ports answered lately at the address of their last report."""
        return Heartbeat.objects.filter(node__runner__failures=0, node__runner__address=F("client_ip"))

    def suspects(self) -> Any:  # a HeartbeatQuerySet whose annotations may be filtered by
        """Heartbeats of nodes that may be dead and whose ports are to be asked now, those that were never asked first.

        Only while we hear: what is overdue is so although somebody else's report was written after it was due.
        """
        restarted = NodeEvent.objects.filter(
            node_name=OuterRef("node__name"), kind__in=_STARTS, time__gte=OuterRef("node__runner__stats_at")
        )
        rests = self.filter(pk=OuterRef("pk"), seen_at=OuterRef("seen_at"), address=OuterRef("client_ip")).filter(
            Q(asked_at__gte=ago(AGAIN)) | Q(proven_at__gte=ago(PROOF_HOLDS)) | Q(doubted=True)
        )
        latest = Subquery(Heartbeat.objects.order_by("-seen_at").values("seen_at")[:1])
        heard = Heartbeat.objects.filter(seen_at__gte=ago(OVERDUE))
        overdue = Heartbeat.objects.overdue().filter(seen_at__lt=latest - F("interval"))
        leaving = Q(node__leaving=True, seen_at__lt=latest)
        # A round of stats may have found out that the port refuses before we ask.
        answered = Q(node__runner__failures=0) | Q(node__runner__failing_since__gt=F("seen_at"))
        return (
            # An address that it did not have from the beginning may be named by somebody else, who can let it refuse.
            Heartbeat.objects.filter(answered, node__runner__address=F("client_ip"), former_ip=None)
            .filter(leaving | Q(pk__in=overdue.values("pk")), Exists(heard), ~Exists(Hearing.objects.disturbed()))
            .exclude(node__kept_until__gte=Now())
            .exclude(Exists(restarted))
            .exclude(Exists(rests))
            .order_by(F("probe__asked_at").asc(nulls_first=True), "pk")
        )


class Probe(models.Model):
    """What the stats port of a suspected node said last. It counts while the node's last report is the one that it names.

    Rows of nodes that have reported since stay until ports are asked the next time.
    """

    # No constraint, so that an older version that knows no probes can delete nodes during an upgrade.
    heartbeat = models.OneToOneField(
        Heartbeat, models.CASCADE, primary_key=True, db_column="node_id", db_constraint=False
    )
    # The node's last report when it was asked, and the address of that.
    seen_at = models.DateTimeField()
    address = models.GenericIPAddressField()
    asked_at = models.DateTimeField()
    # Since when it has refused each time.
    refused_at = models.DateTimeField(null=True)
    # When it refused again, AGAIN later or more, and nothing spoke against it.
    proven_at = models.DateTimeField(null=True)
    # Others refused, too: the node's silence alone decides, until it reports again.
    doubted = models.BooleanField(db_default=False)

    objects = ProbeQuerySet.as_manager()

    def __str__(self) -> str:
        return f"probe of {self.heartbeat_id}"
