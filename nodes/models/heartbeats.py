"""Heartbeats: when each node was last heard. As few statements as can be, since nearly all calls are these."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from ipaddress import ip_address
from operator import or_
from typing import Any, NamedTuple

from django.db import connection, models
from django.db.models import Case, DurationField, Exists, ExpressionWrapper, F, TextField, Value, When
from django.db.models.functions import Greatest, Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database.arrays import array
from nodes.declarations import UNRESTRICTED
from nodes.models.events import NodeEvent
from nodes.models.hearing import LATE, POLL, Hearing
from nodes.models.nodes import RESTART_TIME, Node, NodeType, deaths
from nodes.names import likeness

# The version that an extra heartbeat names: it only says that the node lives.
EXTRA_HEARTBEAT = -1


class Report(NamedTuple):
    """A heartbeat, as a node agent reports it."""

    name: str
    last_change: int
    node_type: int = 0
    client_ip: str | None = None
    declared: str = UNRESTRICTED
    # The address that it comes from, where a second one in its name is told of (`nodes/holders.py`); None elsewhere.
    peer: str | None = None
    # Seconds since it was answered; 0 while it is not answered.
    age: float = 0.0

    def said(self) -> dict[str, Any]:
        """All that the node agent said, by field; without our `age`."""
        return {key: value for key, value in self._asdict().items() if key != "age"}


class Claim(NamedTuple):
    """A node's name, and the address that calls in it. is_report: whether it reports, by which alone a name is taken."""

    name: str
    address: str
    is_report: bool


class Held(NamedTuple):
    """Who holds a name after a claim: an address; None while nobody does, or while its row is locked.

    rival: the address that held it until now, of a claim from where it was taken over a moment ago: both are heard.
    """

    address: str | None
    rival: str | None


class Death(NamedTuple):
    """Why a node is dead, as `deaths` says it, when it was last heard, and what it said of itself."""

    cause: str
    heard_at: datetime
    address: str | None
    node_type: int

    def last(self) -> dict[str, Any]:
        """What an event keeps of its last report."""
        return {"heard_at": self.heard_at, "address": self.address, "node_type": self.node_type}


class Beat(NamedTuple):
    """What a heartbeat's statement answers: the node's config version, whether we warm up, and what it said before."""

    node_id: int
    config_version: int
    warmup: bool
    declared: str
    said_goodbye: bool
    acknowledged_before: int
    # The other address, when the node's reports come from two addresses in turn.
    rival: str | None = None
    # Something newer of the node was written already, so this report was not.
    is_late: bool = False
    # The report's peer is not the one that holds the name.
    is_elsewhere: bool = False

    def is_current(self, last_change: int) -> bool:
        """Whether a node that reports this version is up to date."""
        return self.warmup or last_change in (EXTRA_HEARTBEAT, self.config_version)


class Arrival(NamedTuple):
    """A node that was registered. is_known: somebody else registered it just before.

    is_ruled: it has labels or limits by rules from before. is_alike: its name looks like that of another known node.
    """

    id: int
    name: str
    version: int
    declared: str
    declared_before: str
    is_new: bool
    is_ruled: bool
    is_known: bool
    is_alike: bool
    has_rules: bool
    warmup: bool


class HeartbeatQuerySet(models.QuerySet["Heartbeat"]):
    # One statement: it must be cheap, and what it answers must be of one moment. Reading the row again in RETURNING
    # gives it as it was before. No row means unknown or lost.
    _BEAT = """
        UPDATE nodes_heartbeat AS h
        SET seen_at = statement_timestamp(),
            former_at = h.seen_at,
            acknowledged = CASE WHEN %(version)s < 0 THEN h.acknowledged ELSE %(version)s END,
            node_type = %(node_type)s,
            client_ip = coalesce(%(client_ip)s::inet, h.client_ip),
            former_ip = CASE WHEN h.client_ip <> %(client_ip)s::inet THEN h.client_ip ELSE h.former_ip END
        FROM nodes_node AS n
        WHERE n.name = %(name)s AND h.node_id = n.id
        RETURNING n.id,
            n.config_version,
            (SELECT warmup FROM nodes_hearing),
            n.declared,
            n.leaving,
            CASE WHEN %(version)s = 0
                THEN (SELECT b.acknowledged FROM nodes_heartbeat AS b WHERE b.node_id = n.id) ELSE 0 END,
            CASE WHEN h.former_ip IS NOT NULL
                THEN (SELECT host(b.client_ip) FROM nodes_heartbeat AS b
                    WHERE b.node_id = n.id AND b.client_ip <> h.client_ip AND b.former_ip = h.client_ip) END,
            false,
            h.peer IS DISTINCT FROM coalesce(%(peer)s::inet, h.peer)
    """

    def beat(self, report: Report) -> Beat | None:
        """Write the heartbeat. None when the node is unknown or lost."""
        values: dict[str, Any] = {"name": report.name, "version": report.last_change, "node_type": report.node_type}
        values |= {"client_ip": report.client_ip or None, "peer": report.peer}
        with connection.cursor() as cursor:
            cursor.execute(self._BEAT, values)
            row = cursor.fetchone()
        return Beat(*row) if row else None

    # It never waits for a row: one node that is being lost would hold up all others, and two of these could deadlock.
    # The names are selected, so that PostgreSQL doesn't count them and think that a plan for just as many would be better:
    # making it anew each time takes longer than the rest. A report that waited after its answer undoes nothing that was said
    # meanwhile: neither what was written later, nor a newer version that the node has.
    _BEAT_TOGETHER = """
        WITH told AS (
            SELECT t.*, n.config_version, n.declared, n.leaving, h.node_id, h.acknowledged,
                statement_timestamp() - t.age * interval '1 second' AS came_at,
                t.age > 0 AND (
                    h.seen_at > statement_timestamp() - t.age * interval '1 second'
                    OR t.version BETWEEN 0 AND h.acknowledged - 1 AND t.version <> n.config_version
                ) AS is_late,
                CASE WHEN h.client_ip <> t.client_ip AND h.former_ip = t.client_ip THEN host(h.client_ip) END AS rival
            FROM unnest((SELECT %s::text[]), %s::bigint[], %s::smallint[], %s::inet[], %s::inet[], %s::float8[])
                AS t (name, version, node_type, client_ip, peer, age)
            JOIN nodes_node AS n ON n.name = t.name
            JOIN nodes_heartbeat AS h ON h.node_id = n.id
            FOR NO KEY UPDATE OF h SKIP LOCKED
        )
        UPDATE nodes_heartbeat AS h
        SET seen_at = CASE WHEN t.is_late THEN greatest(h.seen_at, t.came_at) ELSE t.came_at END,
            former_at = CASE WHEN t.is_late THEN h.former_at ELSE h.seen_at END,
            acknowledged = CASE WHEN t.version < 0 OR t.is_late THEN h.acknowledged ELSE t.version END,
            node_type = CASE WHEN t.is_late THEN h.node_type ELSE t.node_type END,
            client_ip = CASE WHEN t.is_late THEN h.client_ip ELSE coalesce(t.client_ip, h.client_ip) END,
            former_ip = CASE WHEN h.client_ip <> t.client_ip AND NOT t.is_late THEN h.client_ip ELSE h.former_ip END
        FROM told AS t
        WHERE h.node_id = t.node_id
        RETURNING t.name, t.node_id, t.config_version, (SELECT warmup FROM nodes_hearing), t.declared, t.leaving, t.acknowledged,
            t.rival, t.is_late, h.peer IS DISTINCT FROM coalesce(t.peer, h.peer)
    """

    def beat_together(self, reports: Mapping[str, Report]) -> dict[str, Beat]:
        """Write heartbeats of different nodes: {name: beat}, without those that are unknown, lost or locked."""
        with connection.cursor() as cursor:
            columns = zip(
                *((r.name, r.last_change, r.node_type, r.client_ip, r.peer, r.age) for r in reports.values()),
                strict=True,
            )
            cursor.execute(self._BEAT_TOGETHER, [array(column) for column in columns])
            return {name: Beat(*beat) for name, *beat in cursor.fetchall()}

    # One statement, so that of two that claim a name one gets it: who finds the row changed since it was read takes nothing.
    # It waits for no row, since heartbeats lock many in another order.
    _HOLD = """
        WITH told AS (
            SELECT h.node_id, t.name, t.address, t.is_report, h.peer,
                h.peer IS NULL OR h.seen_at < statement_timestamp() - %(timeout)s
                    -- Its own report, which is written already.
                    OR %(takes_over)s AND h.former_at < statement_timestamp() - %(timeout)s
                    -- Who has taken it since a goodbye holds it, though the node may say for long after that it leaves.
                    OR n.leaving AND coalesce(n.left_at >= h.peer_since, true)
                    OR coalesce(n.kept_until - %(restart)s >= h.peer_since, n.kept_until IS NOT NULL) AS is_free,
                t.is_report AND t.address = h.former_peer AND h.peer_since > statement_timestamp() - %(timeout)s AS is_back
            FROM unnest(%(names)s::text[], %(addresses)s::inet[], %(reports)s::bool[]) AS t (name, address, is_report)
            JOIN nodes_node AS n ON n.name = t.name
            JOIN nodes_heartbeat AS h ON h.node_id = n.id
        ), locked AS (
            SELECT h.node_id, told.address, told.is_free FROM nodes_heartbeat AS h JOIN told ON told.node_id = h.node_id
            WHERE told.is_report AND (told.is_free OR %(takes_over)s) AND told.peer IS DISTINCT FROM told.address
                AND h.peer IS NOT DISTINCT FROM told.peer
            FOR NO KEY UPDATE OF h SKIP LOCKED
        ), taken AS (
            UPDATE nodes_heartbeat AS h SET peer = locked.address, peer_since = statement_timestamp(),
                former_peer = CASE WHEN locked.is_free THEN NULL ELSE h.peer END
            FROM locked WHERE h.node_id = locked.node_id
            RETURNING h.node_id
        )
        SELECT told.name, CASE
            WHEN taken.node_id IS NOT NULL THEN host(told.address)
            WHEN NOT (told.is_free OR %(takes_over)s) OR told.peer = told.address THEN host(told.peer) END,
            CASE WHEN told.is_back AND NOT told.is_free AND told.peer <> told.address THEN host(told.peer) END
        FROM told LEFT JOIN taken ON taken.node_id = told.node_id
    """

    def hold(self, claims: Sequence[Claim], *, takes_over: bool = False) -> dict[str, Held]:
        """Give names to who reports in them where nobody holds them or the holder is silent or has said goodbye.

        claims: one of each name. takes_over: also from a holder that is heard. Names that are not known are left out.
        """
        names, addresses, reports = (array(column) for column in zip(*claims, strict=True))
        values: dict[str, Any] = {
            "timeout": conf.NODE_EXPIRATION_TIMEOUT,
            "restart": RESTART_TIME,
            "takes_over": takes_over,
        }
        with connection.cursor() as cursor:
            cursor.execute(self._HOLD, values | {"names": names, "addresses": addresses, "reports": reports})
            # Written as our own: `::102:304` is `::1.2.3.4` there.
            return {name: Held(*(one and str(ip_address(one)) for one in held)) for name, *held in cursor.fetchall()}

    def last_reports(self) -> list[tuple[int, Report]]:
        """What known nodes report while nothing changes, as (node id, report); empty during the warm-up."""
        known = self.filter(node__config_version__gt=0).exclude(Exists(Hearing.objects.filter(warmup=True)))
        columns = ["node_id", "node__name", "node__config_version", "node_type", "client_ip", "node__declared"]
        if conf.ONE_ADDRESS == "tell":
            columns.append("peer")
        return [(node_id, Report(*said)) for node_id, *said in known.values_list(*columns)]

    def overdue(self) -> Any:  # a HeartbeatQuerySet whose annotations may be filtered by
        """Heartbeats whose next one should have come LATE ago, each with its `interval`: that between the node's last two
        reports, but at least a POLL.
        """
        # PostgreSQL's GREATEST leaves out what is null: until a second report the interval is unknown.
        interval = Greatest(ExpressionWrapper(F("seen_at") - F("former_at"), DurationField()), Value(POLL))
        return self.annotate(interval=interval).filter(seen_at__lt=ago(LATE) - F("interval"))

    def perhaps_dead(self) -> Any:  # a HeartbeatQuerySet whose annotations may be filtered by
        """Heartbeats of nodes that are late or proven dead, each with its `cause`, as `deaths` says it."""
        found = deaths()
        causes = (When(condition, then=Value(cause)) for cause, condition in found.items())
        return self.filter(reduce(or_, found.values())).annotate(cause=Case(*causes, output_field=TextField()))

    def delete_silent(self, node_ids: Collection[int]) -> dict[int, Death]:
        """Delete those of these nodes' heartbeats that are late or whose nodes are proven dead. Returns {node's id: its death}.

        Locking waits for heartbeats in flight and looks at them again, so none is overlooked; one that comes later finds no row.
        """
        dead = self.perhaps_dead().filter(pk__in=node_ids).order_by("pk").select_for_update(of=("self",))
        found = {
            pk: Death(*death) for pk, *death in dead.values_list("pk", "cause", "seen_at", "client_ip", "node_type")
        }
        with connection.cursor() as cursor:
            # Not the ORM: it would delete their probes, too, which are locked in another order elsewhere.
            cursor.execute("DELETE FROM nodes_heartbeat WHERE node_id = ANY(%s)", [list(found)])
        return found

    def pull_back(self) -> int:
        """Set heartbeats of the future, which a clock that was set back leaves, to now. Returns how many."""
        future = self.filter(seen_at__gt=Now())
        if not future.exists():
            return 0
        # First, else nodes first seen in the future would look like newcomers that replace the silent.
        Node.objects.filter(first_seen__gt=Now()).update(first_seen=Now())
        return future.update(seen_at=Now())

    # One statement for all, in which nothing waits in a circle. Of rows that are there, none is waited for when others are
    # held (SKIP LOCKED), for they are locked in the order of the key elsewhere. Names that are not there are inserted in
    # their order, so that two of these wait for each other in one direction; what somebody else inserted meanwhile is his.
    _REGISTER = """
        WITH told AS MATERIALIZED (
            SELECT * FROM unnest(%s::text[], %s::bigint[], %s::smallint[], %s::inet[], %s::text[], %s::bigint[])
                AS t (name, version, node_type, client_ip, declared, likeness)
        ), lost AS MATERIALIZED (
            SELECT n.id, n.name, n.declared AS declared_before
            FROM nodes_node AS n JOIN told ON told.name = n.name
            WHERE NOT EXISTS (SELECT FROM nodes_heartbeat AS h WHERE h.node_id = n.id)
            ORDER BY n.id FOR NO KEY UPDATE OF n {skip_locked}
        ), back AS (
            UPDATE nodes_node AS n
            SET lost_at = NULL, leaving = false, kept_until = NULL, likeness = t.likeness,
                declared = CASE WHEN t.version = {extra} THEN n.declared ELSE t.declared END
            FROM lost JOIN told AS t ON t.name = lost.name
            WHERE n.id = lost.id
            RETURNING n.id, n.name, n.config_version, n.declared, lost.declared_before, false AS is_new,
                n.labels <> '{{}}' OR n.weight <> 1 OR n.max_configs IS NOT NULL AS is_ruled
        ), fresh AS (
            INSERT INTO nodes_node (name, labels, likeness, declared)
            SELECT t.name, '{{}}', t.likeness, CASE WHEN t.version = {extra} THEN '' ELSE t.declared END
            FROM told AS t WHERE NOT EXISTS (SELECT FROM nodes_node AS n WHERE n.name = t.name)
            ORDER BY t.name
            ON CONFLICT (name) DO NOTHING
            RETURNING id, name, config_version, declared, '' AS declared_before, true AS is_new, false AS is_ruled
        ), came AS (
            SELECT * FROM back UNION ALL SELECT * FROM fresh
        ), beat AS (
            INSERT INTO nodes_heartbeat AS h (node_id, acknowledged, node_type, client_ip)
            SELECT came.id, greatest(t.version, 0), t.node_type, t.client_ip
            FROM came JOIN told AS t ON t.name = came.name
            ORDER BY came.id
            ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at, acknowledged = excluded.acknowledged,
                node_type = excluded.node_type, client_ip = excluded.client_ip
            RETURNING h.node_id, xmax <> 0 AS is_known
        ), noted AS (
            INSERT INTO nodes_nodeevent (node_name, kind, cause, time)
            SELECT came.name, CASE WHEN came.is_new THEN '{registered}' ELSE '{back}' END, '', statement_timestamp()
            FROM came JOIN beat ON beat.node_id = came.id
            WHERE NOT beat.is_known ORDER BY came.id
        )
        SELECT came.*, beat.is_known,
            EXISTS (
                SELECT FROM nodes_node AS n JOIN nodes_heartbeat AS h ON h.node_id = n.id
                WHERE n.likeness = t.likeness AND n.name <> t.name
            ),
            (SELECT EXISTS (SELECT FROM nodes_noderule)), (SELECT warmup FROM nodes_hearing)
        FROM came JOIN beat ON beat.node_id = came.id JOIN told AS t ON t.name = came.name
        ORDER BY came.id
    """

    def register(self, reports: Iterable[Report], *, wait: bool = False) -> list[Arrival]:
        """Insert or revive these nodes with their first heartbeats, without those that somebody else registers now.

        wait: for a row that is locked. For a single report only, since several could wait in a circle.
        """
        columns = zip(
            *((r.name, r.last_change, r.node_type, r.client_ip or None, r.declared, likeness(r.name)) for r in reports),
            strict=True,
        )
        statement = self._REGISTER.format(
            skip_locked="" if wait else "SKIP LOCKED",
            extra=EXTRA_HEARTBEAT,
            registered=NodeEvent.Kind.REGISTERED.value,
            back=NodeEvent.Kind.BACK.value,
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [array(column) for column in columns])
            return [Arrival(*row) for row in cursor.fetchall()]


class Heartbeat(models.Model):
    """When a node was last heard. The row exists exactly while its node is not lost; no index but the key (HOT updates)."""

    node = models.OneToOneField(Node, models.CASCADE, primary_key=True)
    seen_at = models.DateTimeField(db_default=Now())
    # When it was heard before that, since it registered. A release that does not know the column leaves it as it was.
    former_at = models.DateTimeField(null=True)
    acknowledged = models.BigIntegerField(db_default=0)
    node_type = models.SmallIntegerField(choices=NodeType, db_default=NodeType.UNKNOWN)
    client_ip = models.GenericIPAddressField(null=True)
    # The address that it had before this one, since it registered.
    former_ip = models.GenericIPAddressField(null=True)
    # Where the calls come from that hold its name, since it registered; not what the node says.
    peer = models.GenericIPAddressField(null=True)
    # Since when, and from whom it was taken over while that was heard.
    peer_since = models.DateTimeField(null=True)
    former_peer = models.GenericIPAddressField(null=True)

    objects = HeartbeatQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.node_id} heard {self.seen_at:%H:%M:%S}"
