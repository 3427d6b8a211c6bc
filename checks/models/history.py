"""How configs, nodes and the cluster were: each minute for two hours, each hour for a week.

Two hours, so that an hour is whole while it is rolled up. A minute that nobody noted has no row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.postgres.fields import ArrayField
from django.db import connection, models

from checks.models.costs import FRESH, REPORTED, Held
from clusteragent.lib.database.bulk import without_nested_loops

MINUTES_KEPT, HOURS_KEPT = timedelta(hours=2), timedelta(days=7)
# A row has the configs whose ids leave the same rest. A row for each config would take three times the space and the time.
BUCKETS = 2048
# The buckets that one call rolls up. All at once, once an hour, would take several seconds.
MOST_BUCKETS = 64


# Configs without an owner: those that dangle, and those that are paused. Together with the assignments they are all that are
# dispatched, and quicker to find than by reading all configs.
_DANGLING = """
    SELECT id FROM checks_config AS c
    WHERE dangling_since IS NOT NULL AND NOT EXISTS (SELECT FROM checks_assignment AS a WHERE a.config_id = c.id)
"""
_PAUSED = """
    SELECT c.id FROM checks_pause AS p JOIN checks_config AS c ON c.id = p.config_id
    WHERE coalesce(p.until >= statement_timestamp(), true) AND c.node_name = '' AND c.dangling_since IS NULL
        AND NOT EXISTS (SELECT FROM checks_assignment AS a WHERE a.config_id = c.id)
"""


class Step(models.IntegerChoices):
    """What a row is of, in minutes."""

    MINUTE = 1
    HOUR = 60


# How the columns of minutes become those of an hour, as they are read: of loads what was measured.
_NODE = {
    "load": "avg({}) FILTER (WHERE NOT assumed)", "peak": "max({}) FILTER (WHERE NOT assumed)", "configs": "max({})",
    "failing": "max({})", "gained": "sum({})", "lost": "sum({})",
}  # fmt: skip
_CLUSTER = {
    "load": "avg({}) FILTER (WHERE NOT assumed)", "peak": "max({}) FILTER (WHERE NOT assumed)", "nodes": "min({})",
    "configs": "max({})", "dangling": "max({})", "failing": "max({})", "paused": "max({})", "moves": "sum({})",
}  # fmt: skip
_CONFIG = {
    "node_id": "(array_agg({} ORDER BY time DESC))[1]", "mean_ms": "round(avg({}))::int", "longest_ms": "max({})",
    "ok": "sum({})::smallint", "failing": "sum({})::smallint", "unknown": "sum({})::smallint", "paused": "sum({})::smallint",
}  # fmt: skip
# And as they are stored: of an hour in which nothing was measured, the guesses, marked as such.
_STORED_LOADS = {
    "load": "coalesce(avg({0}) FILTER (WHERE NOT assumed), avg({0}))",
    "peak": "coalesce(max({0}) FILTER (WHERE NOT assumed), max({0}))",
    "assumed": "bool_and({})",
}
_ARRAYS = {"node_id": "node_ids"}  # the other arrays are called as what they are of


def _aggregates(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{how.format(name)} AS {name}" for name, how in columns.items())


def _unnested() -> str:
    arrays = ", ".join(_ARRAYS.get(name, name) for name in _CONFIG)
    return f"unnest(h.config_ids, {arrays}) AS u (config_id, {', '.join(_CONFIG)})"


# A time is that of the beginning. Of hours that are not rolled up yet the minutes are put together.
def _points(rows: str, columns: Mapping[str, str], step: Step) -> str:
    unit = step.name.lower()
    return f"""
        WITH row AS MATERIALIZED ({rows})
        SELECT date_trunc('{unit}', time) AS at, {_aggregates(columns)} FROM row AS r
        WHERE step = {step:d} OR {step:d} = 60 AND NOT EXISTS (
            SELECT FROM row WHERE row.step = 60 AND row.time = date_trunc('hour', r.time)
        )
        GROUP BY 1 ORDER BY 1
    """  # noqa: S608 - our own words


def _read(statement: str, values: Mapping[str, Any], kind: type[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [kind(*row) for row in cursor.fetchall()]


class NodePoint(NamedTuple):
    """How a node was from `time` on. load, peak: shares of its capacity, None where they would be guesses. gained, lost: configs
    that came and went.
    """

    time: datetime
    load: float | None
    peak: float | None
    configs: int
    failing: int
    gained: int
    lost: int


class ClusterPoint(NamedTuple):
    """How the cluster was from `time` on. load: of all nodes. peak: of the fullest. Both are None where they would be guesses.
    moves: of configs to and from nodes.
    """

    time: datetime
    load: float | None
    peak: float | None
    nodes: int
    configs: int
    dangling: int
    failing: int
    paused: int
    moves: int


class ConfigPoint(NamedTuple):
    """How a config was from `time` on. mean_ms, longest_ms: None if no runner told. node_id: 0 for none.

    ok, failing, unknown, paused: in how many minutes it was so.
    """

    time: datetime
    node_id: int
    mean_ms: int | None
    longest_ms: int | None
    ok: int
    failing: int
    unknown: int
    paused: int


class HistoryQuerySet(models.QuerySet[Any]):
    """Rows of minutes and hours."""

    def prune(self, now: datetime) -> None:
        """Delete minutes and hours that are kept no longer."""
        self.filter(step=Step.MINUTE, time__lt=now - MINUTES_KEPT).delete()
        self.filter(step=Step.HOUR, time__lt=now - HOURS_KEPT).delete()


class ClusterHistoryQuerySet(HistoryQuerySet):
    # Not the ORM: counts of several tables at one moment.
    _NOTE = f"""
        INSERT INTO checks_clusterhistory
            (step, time, load, peak, assumed, nodes, configs, dangling, failing, paused, moves)
        SELECT 1, %(minute)s, %(load)s, %(peak)s, %(assumed)s, %(nodes)s,
            (SELECT count(*) FROM checks_assignment) + dangling.number + paused.number, dangling.number,
            (SELECT count(*) FROM checks_trouble JOIN checks_assignment USING (config_id) WHERE kind = 'failing'),
            paused.number,
            (SELECT count(*) FROM checks_move
                WHERE time >= %(minute)s AND time < %(minute)s + interval '1 minute' AND source_node <> to_node)
        FROM (SELECT count(*) AS number FROM ({_DANGLING}) AS d) AS dangling,
            (SELECT count(*) AS number FROM ({_PAUSED}) AS p) AS paused
        ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own words

    def note(self, minute: datetime, held: Mapping[int, Held], able: Mapping[int, float]) -> None:
        """Note how the cluster is as that of this minute, and how many moves were in it. able: workers of known nodes.

        The fullest node is one whose load was measured, if that of any was.
        """
        having = {node: held[node] for node in able if node in held}
        needed, assumed = (sum(getattr(one, name) for one in having.values()) for name in ("workers", "assumed"))
        loads = {node: one.workers / able[node] for node, one in having.items()}
        measured = [load for node, load in loads.items() if not having[node].is_assumed]
        values: dict[str, Any] = {
            "minute": minute, "load": needed / sum(able.values()) if able else 0.0, "nodes": len(able),
            "peak": max(measured or loads.values(), default=0.0), "assumed": assumed > needed / 2,
        }  # fmt: skip
        with connection.cursor() as cursor:
            cursor.execute(self._NOTE, values)

    _ROLL_UP = f"""
        INSERT INTO checks_clusterhistory (step, time, {", ".join(_CLUSTER | _STORED_LOADS)})
        SELECT 60, date_trunc('hour', time), {_aggregates(_CLUSTER | _STORED_LOADS)} FROM checks_clusterhistory
        WHERE step = 1 AND time < date_trunc('hour', %(now)s::timestamptz)
        GROUP BY 2 ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own words

    def roll_up(self, now: datetime) -> None:
        """Put the minutes of hours that are over together."""
        with connection.cursor() as cursor:
            cursor.execute(self._ROLL_UP, {"now": now})

    _ROWS = "SELECT * FROM checks_clusterhistory WHERE time >= %(since)s"

    def points(self, step: Step, since: datetime) -> list[ClusterPoint]:
        """The cluster's minutes or hours from then on, in order."""
        return _read(_points(self._ROWS, _CLUSTER, step), {"since": since}, ClusterPoint)


class ClusterHistory(models.Model):
    """The cluster in a minute or an hour: see ClusterPoint."""

    pk = models.CompositePrimaryKey("step", "time")
    step = models.PositiveSmallIntegerField(choices=Step)
    time = models.DateTimeField()
    load = models.FloatField()
    peak = models.FloatField()
    # Whether its loads are guesses. An older release, which does not know it, stores none as such.
    assumed = models.BooleanField(db_default=False)
    nodes = models.IntegerField()
    configs = models.IntegerField()
    dangling = models.IntegerField()
    failing = models.IntegerField()
    paused = models.IntegerField()
    moves = models.IntegerField()

    objects = ClusterHistoryQuerySet.as_manager()

    def __str__(self) -> str:
        return f"the cluster at {self.time}"


class NodeHistoryQuerySet(HistoryQuerySet):
    # Not the ORM: it inserts what it selects.
    _NOTE = """
        WITH moved AS MATERIALIZED (
            SELECT source_node, to_node FROM checks_move
            WHERE time >= %(minute)s AND time < %(minute)s + interval '1 minute' AND source_node <> to_node
        ), gained AS MATERIALIZED (
            SELECT n.id, number FROM (SELECT to_node AS name, count(*) AS number FROM moved GROUP BY 1) AS m
            JOIN nodes_node AS n USING (name)
        ), lost AS MATERIALIZED (
            SELECT n.id, number FROM (SELECT source_node AS name, count(*) AS number FROM moved GROUP BY 1) AS m
            JOIN nodes_node AS n USING (name)
        ), has AS MATERIALIZED (
            SELECT a.node_id AS id, count(*) AS configs, count(t.id) AS failing
            FROM checks_assignment AS a
            LEFT JOIN checks_trouble AS t ON t.config_id = a.config_id AND t.kind = 'failing'
            GROUP BY a.node_id
        )
        INSERT INTO checks_nodehistory (step, time, node_id, load, peak, assumed, configs, failing, gained, lost)
        SELECT 1, %(minute)s, k.id, k.load, k.load, k.id = ANY(%(assumed)s), coalesce(has.configs, 0), coalesce(has.failing, 0),
            coalesce(gained.number, 0), coalesce(lost.number, 0)
        FROM unnest(%(ids)s::bigint[], %(loads)s::float8[]) AS k (id, load)
        LEFT JOIN has USING (id) LEFT JOIN gained USING (id) LEFT JOIN lost USING (id)
        ON CONFLICT DO NOTHING
    """

    def note(self, minute: datetime, loads: Mapping[int, float], assumed: Collection[int]) -> None:
        """Note how known nodes are as that of this minute, and what came and went in it.

        loads: {node's id: load}. assumed: of which nodes they are guesses.
        """
        values = {"minute": minute, "ids": list(loads), "loads": list(loads.values()), "assumed": list(assumed)}
        with without_nested_loops() as cursor:
            cursor.execute(self._NOTE, values)

    # An hour is rolled up as a whole, in one statement.
    _ROLL_UP = f"""
        INSERT INTO checks_nodehistory (step, time, node_id, {", ".join(_NODE | _STORED_LOADS)})
        SELECT 60, date_trunc('hour', time), node_id, {_aggregates(_NODE | _STORED_LOADS)} FROM checks_nodehistory
        WHERE step = 1 AND time < date_trunc('hour', %(now)s::timestamptz) AND time >= date_trunc('hour', (
            SELECT min(c.time) FROM checks_clusterhistory AS c
            WHERE step = 1 AND NOT EXISTS (
                SELECT FROM checks_clusterhistory AS h WHERE h.step = 60 AND h.time = date_trunc('hour', c.time)
            )
        ))
        GROUP BY 2, 3 ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own words

    def roll_up(self, now: datetime) -> None:
        """Put the minutes together of hours that are over, and that are not rolled up for the cluster."""
        with connection.cursor() as cursor:
            cursor.execute(self._ROLL_UP, {"now": now})

    # By each time: the key begins with it, since all nodes are written and deleted by it.
    _ROWS = """
        SELECT * FROM checks_nodehistory WHERE node_id = %(node)s AND (
            step = 1 AND time = ANY(ARRAY(SELECT generate_series(
                date_trunc('minute', greatest(%(since)s, %(now)s::timestamptz - interval '3 hours')), %(now)s, '1 minute')))
            OR step = 60 AND time = ANY(ARRAY(SELECT generate_series(date_trunc('hour', %(since)s), %(now)s, '1 hour')))
        )
    """

    def points(self, node_id: int, step: Step, since: datetime, now: datetime) -> list[NodePoint]:
        """A node's minutes or hours from `since` to `now`, in order."""
        return _read(_points(self._ROWS, _NODE, step), {"node": node_id, "since": since, "now": now}, NodePoint)


class NodeHistory(models.Model):
    """A node in a minute or an hour: see NodePoint. It has no constraint, so that nodes are deleted without it."""

    pk = models.CompositePrimaryKey("step", "time", "node_id")
    step = models.PositiveSmallIntegerField(choices=Step)
    time = models.DateTimeField()
    node_id = models.BigIntegerField()
    load = models.FloatField()
    peak = models.FloatField()
    # Whether its loads are guesses. An older release, which does not know it, stores none as such.
    assumed = models.BooleanField(db_default=False)
    configs = models.IntegerField()
    failing = models.IntegerField()
    gained = models.IntegerField()
    lost = models.IntegerField()

    objects = NodeHistoryQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.node_id} at {self.time}"


class ConfigHistoryQuerySet(HistoryQuerySet):
    # Not the ORM: it inserts what it selects. All arrays are of the same rows in the same order.
    _NOTE = f"""
        {FRESH}{REPORTED}
        , told AS (
            SELECT config_id, coalesce(max(ms) FILTER (WHERE by_id), max(ms)) AS ms, bool_or(failed) AS failed
            FROM reported GROUP BY config_id
        ), one AS (
            SELECT a.config_id AS id, a.node_id, CASE WHEN t.ms IS NOT NULL THEN least(t.ms, 2147483647)::int END AS ms,
                CASE WHEN t.failed THEN 'failing' WHEN t.config_id IS NOT NULL THEN 'ok' ELSE 'unknown' END AS state
            FROM checks_assignment AS a LEFT JOIN told AS t USING (config_id)
            UNION ALL SELECT id, 0, NULL, 'unknown' FROM ({_DANGLING}) AS dangling
            UNION ALL SELECT id, 0, NULL, 'paused' FROM ({_PAUSED}) AS paused
        )
        INSERT INTO checks_confighistory
            (step, bucket, time, config_ids, node_ids, mean_ms, longest_ms, ok, failing, unknown, paused)
        SELECT 1, id %% {BUCKETS}, %(minute)s, array_agg(id), array_agg(node_id), array_agg(ms), array_agg(ms),
            array_agg((state = 'ok')::int::smallint), array_agg((state = 'failing')::int::smallint),
            array_agg((state = 'unknown')::int::smallint), array_agg((state = 'paused')::int::smallint)
        FROM one GROUP BY 2
        ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own words

    def note(self, minute: datetime) -> None:
        """Note how all configs that are dispatched are as that of this minute, by the last stats."""
        with without_nested_loops() as cursor:
            cursor.execute(self._NOTE, {"minute": minute})

    _ROLL_UP = f"""
        WITH due AS MATERIALIZED (
            SELECT bucket, date_trunc('hour', time) AS hour FROM checks_confighistory AS m
            WHERE step = 1 AND time < date_trunc('hour', %(now)s::timestamptz) AND NOT EXISTS (
                SELECT FROM checks_confighistory AS h
                WHERE h.step = 60 AND h.bucket = m.bucket AND h.time = date_trunc('hour', m.time)
            )
            GROUP BY 1, 2 ORDER BY 2, 1 LIMIT {MOST_BUCKETS}
        ), minute AS (
            SELECT due.bucket, due.hour, h.time, u.*
            FROM due JOIN checks_confighistory AS h
                ON h.step = 1 AND h.bucket = due.bucket AND h.time >= due.hour AND h.time < due.hour + interval '1 hour',
            {_unnested()}
        ), config AS (
            SELECT bucket, hour, config_id, {_aggregates(_CONFIG)} FROM minute GROUP BY 1, 2, 3
        )
        INSERT INTO checks_confighistory
            (step, bucket, time, config_ids, {", ".join(_ARRAYS.get(name, name) for name in _CONFIG)})
        SELECT 60, bucket, hour, array_agg(config_id), {", ".join(f"array_agg({name})" for name in _CONFIG)}
        FROM config GROUP BY bucket, hour
        ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own words

    def roll_up(self, now: datetime) -> int:
        """Put the minutes of hours that are over together, for MOST_BUCKETS at most. Return for how many it did."""
        with connection.cursor() as cursor:
            cursor.execute(self._ROLL_UP, {"now": now})
            return int(cursor.rowcount)

    # Minutes that are not rolled up stay until they are.
    _PRUNE = """
        DELETE FROM checks_confighistory AS m WHERE step = 1 AND time < %(minutes)s AND EXISTS (
            SELECT FROM checks_confighistory AS h
            WHERE h.step = 60 AND h.bucket = m.bucket AND h.time = date_trunc('hour', m.time)
        ) OR step = 60 AND time < %(hours)s
    """

    def prune(self, now: datetime) -> None:
        """Delete minutes and hours that are kept no longer."""
        with connection.cursor() as cursor:
            cursor.execute(self._PRUNE, {"minutes": now - MINUTES_KEPT, "hours": now - HOURS_KEPT})

    _ROWS = f"""
        SELECT step, time, u.* FROM checks_confighistory AS h, {_unnested()}
        WHERE bucket = %(config)s::bigint %% {BUCKETS} AND step IN (1, 60) AND time >= %(since)s AND u.config_id = %(config)s
    """  # noqa: S608 - our own words

    def points(self, config_id: int, step: Step, since: datetime) -> list[ConfigPoint]:
        """A config's minutes or hours from then on, in order."""
        return _read(_points(self._ROWS, _CONFIG, step), {"config": config_id, "since": since}, ConfigPoint)


class ConfigHistory(models.Model):
    """Some configs in a minute or an hour: see ConfigPoint. The values of one config stand at the same place in each array."""

    pk = models.CompositePrimaryKey("step", "bucket", "time")
    step = models.PositiveSmallIntegerField(choices=Step)
    bucket = models.PositiveSmallIntegerField()
    time = models.DateTimeField()
    config_ids = ArrayField(models.BigIntegerField())
    node_ids = ArrayField(models.BigIntegerField())
    mean_ms = ArrayField(models.IntegerField(null=True))
    longest_ms = ArrayField(models.IntegerField(null=True))
    ok = ArrayField(models.SmallIntegerField())
    failing = ArrayField(models.SmallIntegerField())
    unknown = ArrayField(models.SmallIntegerField())
    paused = ArrayField(models.SmallIntegerField())

    objects = ConfigHistoryQuerySet.as_manager()

    def __str__(self) -> str:
        return f"configs of bucket {self.bucket} at {self.time}"
