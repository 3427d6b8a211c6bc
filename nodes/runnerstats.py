"""What runners told of themselves and of their checks, with the SQL that takes a whole round of answers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, models, transaction

from nodes import models as nodestore  # its classes take their managers from here, so it is looked up when called

DEFAULT_WORKERS = 4


class CheckStats(NamedTuple):
    """What a runner tells of one check: the columns of RunnerStats after the node."""

    check_id: str
    execution_ms: float
    total_runs: int
    total_errors: int
    failed: bool
    last_error: str
    last_execution: datetime | None


class Answer(NamedTuple):
    """What a node answered: the stats of its checks, or in one line why there are none. workers: None when unknown."""

    stats: Sequence[CheckStats] | None
    workers: int | None = None
    error: str = ""


class RunnerQuerySet(models.QuerySet["nodestore.Runner"]):
    # Not the ORM: its upsert can't add to what is there, and the database's own time is wanted. Rows in the order of the
    # key, so that two rounds at once wait for each other. KEY SHARE: a node that is pruned meanwhile would break all.
    _NOTE = """
        WITH node AS (
            SELECT id FROM nodes_node WHERE id = ANY(%(ids)s) ORDER BY id FOR KEY SHARE
        )
        INSERT INTO nodes_runner AS r (node_id, workers, stats_at, failures, failed_total, error)
        SELECT node.id, t.workers, CASE WHEN t.error = '' THEN statement_timestamp() END,
            (t.error <> '')::int, (t.error <> '')::int, t.error
        FROM node
        JOIN unnest(%(ids)s::bigint[], %(workers)s::int[], %(errors)s::text[]) AS t (id, workers, error) USING (id)
        ORDER BY node.id
        ON CONFLICT (node_id) DO UPDATE SET
            workers = coalesce(excluded.workers, r.workers),
            stats_at = coalesce(excluded.stats_at, r.stats_at),
            failures = CASE WHEN excluded.error = '' THEN 0 ELSE r.failures + 1 END,
            failed_total = r.failed_total + excluded.failed_total,
            error = excluded.error
        RETURNING node_id
    """

    @transaction.atomic
    def note(self, answers: Mapping[int, Answer]) -> None:
        """Write what these nodes answered. One that failed keeps its stats and its workers; one that is gone is left out."""
        values: dict[str, Any] = {
            "ids": list(answers),
            "workers": [answer.workers for answer in answers.values()],
            "errors": [answer.error for answer in answers.values()],
        }
        with connection.cursor() as cursor:
            cursor.execute(self._NOTE, values)
            noted = [node_id for (node_id,) in cursor.fetchall()]
        stats = {node_id: answers[node_id].stats for node_id in noted}
        nodestore.RunnerStats.objects.replace({node_id: told for node_id, told in stats.items() if told is not None})

    def workers(self) -> dict[int, int]:
        """How many workers each known node has, as far as it said: {node's id: number}."""
        known = nodestore.Heartbeat.objects.values_list("node_id", "node__runner__workers")
        return {node_id: workers or DEFAULT_WORKERS for node_id, workers in known}


class RunnerStatsQuerySet(models.QuerySet["nodestore.RunnerStats"]):
    def replace(self, told: Mapping[int, Sequence[CheckStats]]) -> None:
        """Make these all that is known of these nodes' checks. The caller holds their Runner rows."""
        self.filter(node_id__in=list(told))._raw_delete(self.db)
        columns = ", ".join(("node_id", *CheckStats._fields))
        # By COPY, since a round of many nodes has more rows than bulk_create writes in a second.
        statement = f"COPY nodes_runnerstats ({columns}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(statement) as stream:
            for node_id, stats in told.items():
                for one in stats:
                    stream.write_row((node_id, *one))
