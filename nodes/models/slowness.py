"""Slow nodes: what rounds of stats concluded of them, and the polls that they missed. The rules are in `nodes/slowness.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import connection, models
from django.db.models import F, Sum

from clusteragent.lib.clock import ago
from clusteragent.lib.words import plain_count
from nodes.models.nodes import Node

# Polls that a node missed are counted for so long.
MISSED_WITHIN = timedelta(minutes=10)


class SlownessQuerySet(models.QuerySet["Slowness"]):
    def slow(self) -> SlownessQuerySet:
        """Rows of known nodes that are slow or very slow."""
        return self.filter(level__gt=0, node__heartbeat__isnull=False)

    def recovering(self) -> SlownessQuerySet:
        """Rows of known nodes that are no longer slow, and still given less."""
        return self.filter(level=0, share__lt=1, node__heartbeat__isnull=False)


class Slowness(models.Model):
    """A node that is slow, may be, or was and still is given less. Other nodes have no row."""

    SLOW, VERY = 1, 2

    # No constraint, so that an older version that does not know the table can delete nodes during an upgrade.
    node = models.OneToOneField(Node, models.CASCADE, primary_key=True, related_name="slowness", db_constraint=False)
    # How many times as long its checks take as elsewhere: null when too few can be compared. checks: how many were
    # compared. others: with how many nodes, by the check that most run.
    factor = models.FloatField(null=True)
    checks = models.PositiveIntegerField(default=0)
    others = models.PositiveIntegerField(default=0)
    # The polls that it missed within MISSED_WITHIN.
    missed = models.PositiveIntegerField(default=0)
    # 0, SLOW or VERY, and for how many rounds it has been above (below, if negative) what the level stands for.
    level = models.SmallIntegerField(default=0)
    rounds = models.SmallIntegerField(default=0)
    # Since when it has been slow.
    since = models.DateTimeField(null=True)
    # What its capacity is multiplied by, and how it last changed: by which part, in which direction, for how many rounds.
    share = models.FloatField(default=1.0)
    step = models.FloatField(default=0.2)
    heading = models.SmallIntegerField(default=0)
    steps = models.PositiveSmallIntegerField(default=0)
    # What its run times are divided by, so that the costs of its configs depend no more on the node than those of others.
    discount = models.FloatField(default=1.0)

    objects = SlownessQuerySet.as_manager()

    def __str__(self) -> str:
        return f"slowness of {self.node_id}"

    @property
    def state(self) -> str:
        """`slow`, `very slow`, or `recovering`: no longer slow, and still given less; empty otherwise."""
        words = {self.SLOW: "slow", self.VERY: "very slow"}
        return words.get(self.level, "recovering" if self.share < 1 else "")

    @property
    def sentence(self) -> str:
        """What is slow about the node."""
        told = []
        if self.factor is not None and (self.factor >= 1.5 or not self.missed):
            told.append(
                f"its checks take {self.factor:.1f} times as long as elsewhere ({plain_count(self.checks, 'check')},"
                f" {plain_count(self.others, 'other node')})"
            )
        if self.missed:
            told.append(f"it missed {plain_count(self.missed, 'poll')} in ten minutes")
        return " and ".join(told) or "too few of its checks can be compared now"


class Missed(NamedTuple):
    """The polls that a node missed since a report. seen_at: the report."""

    node_id: int
    seen_at: datetime
    number: int


class MissedPollsQuerySet(models.QuerySet["MissedPolls"]):
    # Not the ORM, whose upsert writes rows that are as they were, too.
    _NOTE = """
        INSERT INTO nodes_missedpolls AS m (node_id, seen_at, number)
        SELECT * FROM unnest(%s::bigint[], %s::timestamptz[], %s::int[]) AS t (node_id, seen_at, number) ORDER BY 1, 2
        ON CONFLICT (node_id, seen_at) DO UPDATE SET number = excluded.number WHERE m.number < excluded.number
    """

    def note(self, missed: Collection[Missed]) -> None:
        """Store the polls that nodes missed since their last reports. Later calls raise the numbers of the same reports."""
        columns = [list(column) for column in zip(*missed, strict=True)]
        with connection.cursor() as cursor:
            cursor.execute(self._NOTE, columns)

    def counts(self) -> Mapping[int, int]:
        """The polls that known nodes missed within MISSED_WITHIN and reported after: {node's id: number}."""
        lived_on = self.filter(seen_at__gte=ago(MISSED_WITHIN), seen_at__lt=F("node__heartbeat__seen_at"))
        return dict(lived_on.order_by().values_list("node").annotate(Sum("number")))

    def prune(self) -> int:
        """Delete what is older than MISSED_WITHIN. Returns how many rows."""
        return self.filter(seen_at__lt=ago(MISSED_WITHIN)).delete()[0]


class MissedPolls(models.Model):
    """The polls that a node missed after one of its reports."""

    node = models.ForeignKey(Node, models.CASCADE, related_name="missed_polls", db_constraint=False, db_index=False)
    # The last report before them.
    seen_at = models.DateTimeField()
    number = models.PositiveIntegerField()

    objects = MissedPollsQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "seen_at"], name="missedpolls_node_report")]

    def __str__(self) -> str:
        return f"{self.number} missed by {self.node_id}"


class RunLengthQuerySet(models.QuerySet["RunLength"]):
    # Not the ORM: it inserts what it selects. What is known stays: the node may be another time as slow by now.
    _NOTE = """
        INSERT INTO nodes_runlength (node_id, check_id, length)
        SELECT s.node_id, s.check_id, s.execution_ms / t.usual
        FROM unnest(%s::bigint[], %s::bigint[], %s::float8[]) AS t (node_id, kind, usual)
        JOIN nodes_runnerstats AS s ON s.node_id = t.node_id AND hashtextextended(split_part(s.check_id, ':', 1), 0) = t.kind
        WHERE s.execution_ms >= %s
        ORDER BY 1, 2
        ON CONFLICT DO NOTHING
    """

    def note(self, usual: Collection[tuple[int, int, float]], least: float) -> None:
        """Store the lengths of those checks of nodes that have none yet, by the last stats.

        usual: (node's id, kind of its checks, ms that a usual one of the kind takes there). least: ms; shorter runs are left out.
        """
        columns = [list(column) for column in zip(*usual, strict=True)]
        if columns:
            with connection.cursor() as cursor:
                cursor.execute(self._NOTE, [*columns, least])

    # Not the ORM: one row of many for each check. Own checks of agents are the same on thousands of nodes.
    _MOVED = """
        SELECT l.node_id, hashtextextended(split_part(l.check_id, ':', 1), 0), now.execution_ms / l.length, now.node_id
        FROM nodes_runlength AS l CROSS JOIN LATERAL (
            SELECT s.execution_ms, s.node_id FROM nodes_runnerstats AS s
            JOIN nodes_runner AS r ON r.node_id = s.node_id AND r.failures = 0
            WHERE s.check_id = l.check_id AND s.execution_ms >= %s
                AND s.node_id NOT IN (SELECT node_id FROM nodes_runlength)
            LIMIT 1
        ) AS now
        WHERE NOT EXISTS (SELECT FROM nodes_runnerstats AS s WHERE s.node_id = l.node_id AND s.check_id = l.check_id)
    """

    def moved(self, least: float) -> list[tuple[int, int, float, int]]:
        """Checks that left their node and run elsewhere: (node's id, kind, ms there of a usual one of the
        kind, id of the node that has it).

        least: ms; shorter runs are left out.
        """
        with connection.cursor() as cursor:
            cursor.execute(self._MOVED, [least])
            return [(node, kind, milliseconds, taker) for node, kind, milliseconds, taker in cursor.fetchall()]

    # Not the ORM: rows are compared with those of other tables by two columns.
    _PRUNE = """
        DELETE FROM nodes_runlength AS l
        WHERE NOT EXISTS (SELECT FROM nodes_slowness AS s WHERE s.node_id = l.node_id)
            OR EXISTS (SELECT FROM nodes_runnerstats AS s WHERE s.node_id = l.node_id)
            AND NOT EXISTS (
                SELECT FROM nodes_runnerstats AS s JOIN nodes_runlength AS o USING (node_id, check_id)
                WHERE s.node_id = l.node_id
            )
    """

    def prune(self) -> None:
        """Delete what is of nodes that are not slow any more, or that run none of these checks."""
        with connection.cursor() as cursor:
            cursor.execute(self._PRUNE)


class RunLength(models.Model):
    """How many times as long a check takes as a usual one of its kind, by a node that is slow or may be: as if it were so slow.

    The longest checks leave such a node first. By those that it keeps it would soon seem quick.
    """

    node = models.ForeignKey(Node, models.CASCADE, related_name="run_lengths", db_constraint=False, db_index=False)
    check_id = models.TextField()
    length = models.FloatField()

    objects = RunLengthQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "check_id"], name="runlength_node_check")]

    def __str__(self) -> str:
        return f"length of {self.check_id} on {self.node_id}"
