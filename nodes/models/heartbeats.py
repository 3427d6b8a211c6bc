"""The one write path of heartbeats: as few statements as can be, since nearly all calls are these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

from django.db import DataError, IntegrityError, connection, models
from django.db.models import Exists
from django.db.models.functions import Now

from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called
from nodes.declarations import UNRESTRICTED

T = TypeVar("T")
R = TypeVar("R")

# The version that an extra heartbeat names: it only says that the node lives.
EXTRA_HEARTBEAT = -1


class Report(NamedTuple):
    """What a node agent reports: a heartbeat."""

    name: str
    last_change: int
    node_type: int = 0
    client_ip: str | None = None
    declared: str = UNRESTRICTED
    # Seconds that it waited since it was answered; 0: it was not answered yet.
    age: float = 0.0

    def said(self) -> dict[str, Any]:
        """All that the node agent said, by the names of what it said."""
        return {key: value for key, value in self._asdict().items() if key != "age"}


class Beat(NamedTuple):
    """What a heartbeat's statement answers: the node's config version, whether we warm up, and what it said before."""

    node_id: int
    config_version: int
    warmup: bool
    declared: str
    said_goodbye: bool
    acknowledged_before: int
    # The address before this one, if this one was there before it: the node's reports come from both in turn.
    rival: str | None = None
    # Something was heard of the node after this report, so it was not written.
    is_late: bool = False

    def is_current(self, last_change: int) -> bool:
        """Whether a node that reports this version is up to date."""
        return self.warmup or last_change in (EXTRA_HEARTBEAT, self.config_version)


class HeartbeatQuerySet(models.QuerySet["nodestore.Heartbeat"]):
    # One statement: it must be cheap, and what it answers must be of one moment. Reading the row again in RETURNING
    # gives it as it was before. No row means unknown or lost.
    _BEAT = """
        UPDATE nodes_heartbeat AS h
        SET seen_at = statement_timestamp(),
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
                    WHERE b.node_id = n.id AND b.client_ip <> h.client_ip AND b.former_ip = h.client_ip) END
    """

    def beat(self, name: str, last_change: int, node_type: int, client_ip: str | None) -> Beat | None:
        """Write the heartbeat. None when the node is unknown or lost."""
        values: dict[str, Any] = {
            "name": name,
            "version": last_change,
            "node_type": node_type,
            "client_ip": client_ip or None,
        }
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
            FROM unnest((SELECT %s::text[]), %s::bigint[], %s::smallint[], %s::inet[], %s::float8[])
                AS t (name, version, node_type, client_ip, age)
            JOIN nodes_node AS n ON n.name = t.name
            JOIN nodes_heartbeat AS h ON h.node_id = n.id
            FOR NO KEY UPDATE OF h SKIP LOCKED
        )
        UPDATE nodes_heartbeat AS h
        SET seen_at = CASE WHEN t.is_late THEN greatest(h.seen_at, t.came_at) ELSE t.came_at END,
            acknowledged = CASE WHEN t.version < 0 OR t.is_late THEN h.acknowledged ELSE t.version END,
            node_type = CASE WHEN t.is_late THEN h.node_type ELSE t.node_type END,
            client_ip = CASE WHEN t.is_late THEN h.client_ip ELSE coalesce(t.client_ip, h.client_ip) END,
            former_ip = CASE WHEN h.client_ip <> t.client_ip AND NOT t.is_late THEN h.client_ip ELSE h.former_ip END
        FROM told AS t
        WHERE h.node_id = t.node_id
        RETURNING t.name, t.node_id, t.config_version, (SELECT warmup FROM nodes_hearing), t.declared, t.leaving, t.acknowledged,
            t.rival, t.is_late
    """

    def beat_together(self, reports: Mapping[str, Report]) -> dict[str, Beat]:
        """Write heartbeats of different nodes: {name: beat}, without those that are unknown, lost or locked."""
        with connection.cursor() as cursor:
            columns = zip(
                *((r.name, r.last_change, r.node_type, r.client_ip, r.age) for r in reports.values()), strict=True
            )
            cursor.execute(self._BEAT_TOGETHER, [array(column) for column in columns])
            return {name: Beat(*beat) for name, *beat in cursor.fetchall()}

    def last_reports(self) -> list[tuple[int, Report]]:
        """What known nodes report while nothing changes, each with the node's id; none while we warm up."""
        known = self.filter(node__config_version__gt=0).exclude(Exists(nodestore.Hearing.objects.filter(warmup=True)))
        columns = ("node_id", "node__name", "node__config_version", "node_type", "client_ip", "node__declared")
        return [(node_id, Report(*said)) for node_id, *said in known.values_list(*columns)]

    def delete_silent(self, node_ids: Collection[int], timeout: timedelta) -> list[int]:
        """Delete these nodes' heartbeats that are older than the timeout, and return the nodes' ids.

        A DELETE waits for heartbeats in flight and looks at them again, so none is overlooked; one that comes later
        finds no row.
        """
        with connection.cursor() as cursor:
            # Not the ORM: its delete() can't return what it deleted.
            cursor.execute(
                "DELETE FROM nodes_heartbeat WHERE node_id = ANY(%s)"
                " AND seen_at < statement_timestamp() - %s * interval '1 second' RETURNING node_id",
                [list(node_ids), timeout.total_seconds()],
            )
            return [node_id for (node_id,) in cursor.fetchall()]

    def pull_back(self) -> int:
        """Bring heartbeats of the future, left by a clock that was set back, to now. Returns how many."""
        future = self.filter(seen_at__gt=Now())
        if not future.exists():
            return 0
        # First, else nodes first seen in the future would look like newcomers that replace the silent.
        nodestore.Node.objects.filter(first_seen__gt=Now()).update(first_seen=Now())
        return future.update(seen_at=Now())


def apart(
    work: Callable[[Mapping[str, T]], Mapping[str, R] | None], items: Mapping[str, T]
) -> tuple[dict[str, R], dict[str, Exception]]:
    """What the work returned for these items, by their names, and what went wrong with some of them.

    Work that fails for one of them is done again for halves, until that one is alone. An outage is nobody's fault: it is raised.
    """
    if not items:
        return {}, {}
    try:
        return dict(work(items) or {}), {}
    except (DataError, IntegrityError, ValueError) as error:
        if len(items) == 1:
            return {}, dict.fromkeys(items, error)
    pairs, middle = list(items.items()), len(items) // 2
    done, wrong = apart(work, dict(pairs[:middle]))
    more, odd = apart(work, dict(pairs[middle:]))
    return done | more, wrong | odd


def array(values: Iterable[object]) -> str:
    """An array as PostgreSQL reads it. Psycopg takes as long to make one, element by element, as for all the rest."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
