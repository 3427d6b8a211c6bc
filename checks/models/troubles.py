"""Troubles that the runners' stats show: checks that fail, don't run, or take longer than their interval."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

from django.db import connection, models
from django.db.models.functions import Coalesce, Now

from checks.models.configs import Instance
from checks.models.history import BUCKETS
from checks.models.map import fetched
from checks.wire import standins
from checks.wire.scrub import scrub
from clusteragent.lib.database.bulk import without_nested_loops
from clusteragent.lib.words import cut_at_word
from nodes.models import RunnerStats

# The most characters of an error line.
MOST_CHARACTERS = 200
# A check must be in the stats of its node so many intervals after the node got it, and at least so many seconds.
_INTERVALS, _GRACE = 3, 120
# Seconds between two rounds of stats, at most.
_ROUND = 60
# In so many minutes before a check began to fail it is looked for one in which it ran well.
_GOOD_MINUTES = 5
# A check is slow everywhere when the median of its runs takes this part of the interval on most nodes that run it, and on so
# many at least.
_NEARLY, _NODES = 0.8, 2


def error_line(last_error: str) -> str:
    """Return a check's last error as one scrubbed line of at most MOST_CHARACTERS, which ends with a whole word."""
    return cut_at_word(whole_error(last_error), MOST_CHARACTERS)


@lru_cache(1_000)  # those of alerts are asked for every few seconds, and hiding secrets takes a millisecond
def whole_error(last_error: str) -> str:
    """Return a check's last error as one scrubbed line. Agents report most errors as JSON with a traceback."""
    try:
        message = json.loads(last_error)[0]["message"]
    except (ValueError, LookupError, TypeError):
        message = last_error
    return " ".join(scrub(str(message)).split())


def put_handles_back(stats: Collection[RunnerStats | Trouble]) -> None:
    """Change the errors of these: handles of Secrets stand in place of what node agents got for them."""
    told = {one.check_id for one in stats if one.last_error}
    if not told:
        return
    resolved = Instance.objects.filter(check_id__in=told, config__original__has_key="secrets")
    secrets = dict(resolved.values_list("check_id", "config__original__secrets"))
    for one in stats:
        one.last_error = standins.put_back(one.last_error, secrets.get(one.check_id, {}))


class Everywhere(NamedTuple):
    """A check that is slow on most nodes that run it, whichever they are.

    nodes: on how many it is. configs: how many are. milliseconds, interval: medians of their run times and of their intervals in
    seconds. sources: where they come from.
    """

    name: str
    nodes: int
    configs: int
    milliseconds: float
    interval: float
    sources: list[str]


class TroubleQuerySet(models.QuerySet["Trouble"]):
    """Updates and reads troubles."""

    # One statement, so that a trouble that goes on keeps its time. Nodes are asked at different moments: the stats of each are
    # compared with what it had been given, and fetched, before. A check that a runner reports under its bare name can't be
    # told from others of that name, so it counts as running. So does a check when the runner reports an unknown check ID of
    # its name, since agents change some instances before they hash them. What failed where it was goes on until its new node
    # tells of it, as long as that has time to; so does what failed or was slow on a node that started again. An error that begins
    # as before is not written anew: many have a time in it. A last good run is kept: a node that never ran the check well
    # knows of none.
    _NOTE = f"""
        WITH reported AS (
            SELECT a.config_id, s.failed, s.execution_ms > i.interval * 1000 AS slow, s.check_id, s.last_error,
                CASE WHEN s.last_success BETWEEN 1 AND extract(epoch FROM statement_timestamp()) + %(round)s
                    THEN to_timestamp(s.last_success) END AS last_good
            FROM nodes_runnerstats AS s
            JOIN checks_instance AS i ON i.check_id = s.check_id
            JOIN checks_assignment AS a ON a.config_id = i.config_id AND a.node_id = s.node_id
            WHERE s.failed OR s.execution_ms > i.interval * 1000
        ), expected AS (
            SELECT a.config_id, a.node_id, i.check_id, c.name
            FROM checks_assignment AS a
            JOIN checks_config AS c ON c.id = a.config_id
            JOIN checks_instance AS i ON i.config_id = a.config_id
            JOIN nodes_runner AS r ON r.node_id = a.node_id AND r.failures = 0
            JOIN nodes_heartbeat AS h ON h.node_id = a.node_id
            JOIN nodes_node AS n ON n.id = a.node_id
            WHERE r.stats_at > greatest(a.since, c.changed)
                    + greatest(%(intervals)s * i.interval, %(grace)s) * interval '1 second'
                AND {fetched("greatest(a.since, c.changed)")}
        ), strange AS (
            SELECT DISTINCT s.node_id, split_part(s.check_id, ':', 1) AS name
            FROM nodes_runnerstats AS s
            WHERE NOT EXISTS (SELECT FROM checks_instance AS i WHERE i.check_id = s.check_id)
        ), busy AS (
            SELECT c.name, a.node_id, a.config_id, s.execution_ms / 1000 / i.interval AS part
            FROM nodes_runnerstats AS s
            JOIN nodes_runner AS r ON r.node_id = s.node_id AND r.failures = 0
            JOIN checks_instance AS i ON i.check_id = s.check_id
            JOIN checks_assignment AS a ON a.config_id = i.config_id AND a.node_id = s.node_id
            JOIN checks_config AS c ON c.id = a.config_id
        ), everywhere AS (
            SELECT name FROM (
                SELECT name, percentile_cont(0.5) WITHIN GROUP (ORDER BY part) AS part FROM busy GROUP BY name, node_id
            ) AS of_node
            GROUP BY name
            HAVING count(*) FILTER (WHERE part > %(nearly)s) >= %(nodes)s
                AND 2 * count(*) FILTER (WHERE part > %(nearly)s) > count(*)
        ), found AS (
            (
                SELECT DISTINCT ON (config_id) config_id, 'failing' AS kind, check_id, last_error,
                    max(last_good) OVER (PARTITION BY config_id) AS last_good
                FROM reported WHERE failed ORDER BY config_id, check_id
            )
            UNION
            SELECT config_id, 'slow', '', '', NULL FROM reported WHERE slow
            UNION
            SELECT config_id, 'slow_everywhere', '', '', NULL FROM busy JOIN everywhere USING (name) WHERE part > %(nearly)s
            UNION
            SELECT config_id, 'not_running', '', '', NULL FROM expected AS e
            WHERE NOT EXISTS (SELECT FROM nodes_runnerstats WHERE node_id = e.node_id AND check_id = e.check_id)
                AND NOT EXISTS (SELECT FROM strange WHERE node_id = e.node_id AND name = e.name)
        ), restarted AS (
            SELECT node_name, max(time) AS time FROM nodes_nodeevent
            WHERE kind = 'restarted' AND time > statement_timestamp() - interval '1 hour' GROUP BY node_name
        ), silent AS (
            SELECT t.id
            FROM checks_trouble AS t
            JOIN checks_assignment AS a ON a.config_id = t.config_id AND a.since <= t.since
            JOIN nodes_node AS n ON n.id = a.node_id
            JOIN restarted AS r ON r.node_name = n.name
            JOIN checks_instance AS i ON i.config_id = t.config_id AND t.check_id IN ('', i.check_id)
            WHERE t.kind IN ('failing', 'slow') AND r.time > statement_timestamp()
                    - (greatest(%(intervals)s * i.interval, %(grace)s) + %(round)s) * interval '1 second'
                AND NOT EXISTS (
                    SELECT FROM nodes_runnerstats AS s
                    WHERE s.node_id = a.node_id AND s.check_id = i.check_id AND s.total_runs IS DISTINCT FROM 0
                )
        ), moved AS (
            SELECT t.id
            FROM checks_trouble AS t
            JOIN checks_assignment AS a ON a.config_id = t.config_id AND a.since > t.since
            JOIN checks_instance AS i ON i.config_id = t.config_id AND i.check_id = t.check_id
            WHERE t.kind = 'failing' AND a.since > statement_timestamp()
                    - (greatest(%(intervals)s * i.interval, %(grace)s) + %(round)s) * interval '1 second'
                AND NOT EXISTS (SELECT FROM nodes_runnerstats AS s WHERE s.node_id = a.node_id AND s.check_id = i.check_id)
        ), over AS (
            DELETE FROM checks_trouble AS t
            WHERE NOT EXISTS (SELECT FROM found AS f WHERE f.config_id = t.config_id AND f.kind = t.kind)
                AND NOT EXISTS (SELECT FROM moved AS m WHERE m.id = t.id)
                AND NOT EXISTS (SELECT FROM silent AS s WHERE s.id = t.id)
        ), noted AS (
            INSERT INTO checks_trouble AS t (config_id, kind, since, check_id, last_error, last_good)
            SELECT config_id, kind, statement_timestamp(), check_id, last_error, last_good FROM found
            ORDER BY config_id, kind
            ON CONFLICT (config_id, kind) DO UPDATE SET check_id = excluded.check_id, last_error = excluded.last_error,
                last_good = greatest(t.last_good, excluded.last_good)
            WHERE t.check_id <> excluded.check_id OR left(t.last_error, 100) <> left(excluded.last_error, 100)
                OR greatest(t.last_good, excluded.last_good) IS DISTINCT FROM t.last_good
            RETURNING t.since = statement_timestamp() AS is_new
        )
        SELECT count(*) FILTER (WHERE is_new), statement_timestamp() FROM noted
    """  # noqa: S608 - our own words

    # Most runners tell no last good run. That of what has just begun to fail is then the last minute in which it ran well. A
    # statement of its own: here nested loops are quick, by the key of the history.
    _FIND_GOOD = f"""
        UPDATE checks_trouble AS t SET last_good = ran.time
        FROM checks_trouble AS new CROSS JOIN LATERAL (
            SELECT max(h.time) AS time FROM checks_confighistory AS h
            WHERE h.step = 1 AND h.bucket = new.config_id %% {BUCKETS} AND h.time > new.since - %(minutes)s * interval '1 minute'
                AND h.ok[array_position(h.config_ids, new.config_id)] > 0
        ) AS ran
        WHERE t.id = new.id AND new.kind = 'failing' AND new.since = %(since)s AND new.last_good IS NULL
            AND ran.time IS NOT NULL
    """  # noqa: S608 - our own words

    def note(self) -> int:
        """Update the troubles from the last stats. Return how many are new."""
        with without_nested_loops() as cursor:
            bounds = {"intervals": _INTERVALS, "grace": _GRACE, "round": _ROUND, "nearly": _NEARLY, "nodes": _NODES}
            cursor.execute(self._NOTE, bounds)
            new, since = cursor.fetchone()
        if new:
            with connection.cursor() as cursor:
                cursor.execute(self._FIND_GOOD, {"since": since, "minutes": _GOOD_MINUTES})
        return int(new)

    # Not the ORM: stats name their checks by ID, and medians are of all instances of a check.
    _EVERYWHERE = """
        SELECT c.name, count(DISTINCT a.node_id), count(DISTINCT t.config_id),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY s.execution_ms),
            percentile_cont(0.5) WITHIN GROUP (ORDER BY i.interval), array_agg(DISTINCT o.source ORDER BY o.source)
        FROM checks_trouble AS t
        JOIN checks_config AS c ON c.id = t.config_id
        JOIN checks_assignment AS a ON a.config_id = c.id
        JOIN checks_instance AS i ON i.config_id = c.id
        JOIN nodes_runnerstats AS s ON s.check_id = i.check_id AND s.node_id = a.node_id
        JOIN checks_origin AS o ON o.config_id = c.id
        WHERE t.kind = 'slow_everywhere'
        GROUP BY c.name ORDER BY c.name
    """

    def everywhere(self) -> list[Everywhere]:
        """The checks that are slow everywhere, by name."""
        with connection.cursor() as cursor:
            cursor.execute(self._EVERYWHERE)
            return [Everywhere(*row) for row in cursor.fetchall()]

    def current(self) -> TroubleQuerySet:
        """Troubles of configs that have an owner: others may have lost it since the last stats."""
        return self.filter(config__assignment__isnull=False)

    def failing_on(self, node: str = "pk") -> Coalesce:
        """Expression: how many configs fail on the node of a row. node: the path from the row to the node's id."""
        of_node = self.filter(kind=Trouble.Kind.FAILING, config__assignment__node=models.OuterRef(node)).order_by()
        number = of_node.values("kind").annotate(number=models.Count("pk")).values("number")
        return Coalesce(models.Subquery(number), 0)


def trouble_kinds() -> list[tuple[str, str]]:
    """Return the choices of a trouble's kind. They are given as a function, so that a new kind needs no migration."""
    return Trouble.Kind.choices


class Trouble(models.Model):
    """Something wrong with a config on its present node, by the last round of stats. The row is deleted once it is over."""

    class Kind(models.TextChoices):
        """What is wrong: the last run failed, a run exceeds its interval, or nearly so wherever the check runs, or its node does
        not run it.
        """

        FAILING = "failing"
        SLOW = "slow"
        SLOW_EVERYWHERE = "slow_everywhere", "slow everywhere"
        NOT_RUNNING = "not_running", "not running"

    # No constraint, so that removing configs never waits for a round of stats. The next round deletes what they leave.
    config = models.ForeignKey("checks.Config", models.DO_NOTHING, related_name="troubles", db_constraint=False)
    kind = models.CharField(max_length=16, choices=trouble_kinds)
    since = models.DateTimeField(db_default=Now())
    # Of what fails: the first of its checks that does, and that one's error as the runner sent it, so it may hold a secret.
    check_id = models.TextField(default="", db_default="")
    last_error = models.TextField(default="", db_default="")
    # When one of the checks that fail last succeeded, on whichever node; None where nobody knows.
    last_good = models.DateTimeField(null=True)

    objects: ClassVar[Any] = TroubleQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["config", "kind"], name="trouble_config_kind")]

    def __str__(self) -> str:
        return f"{self.kind}: {self.config_id}"
