"""The costs of configs in workers, and the SQL that computes them from the runners' stats, for all configs at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from django.db import connection, models
from django.db.models.functions import Now

from checks.models.configs import Config
from clusteragent.lib import conf
from clusteragent.lib.database.bulk import without_nested_loops

# Only stats of nodes that answered last time, since older stats are no measurement. A check in the stats has run. Runs of
# less than a millisecond are reported as 0 and counted as 0.5 ms: at no cost a node could get any number of them. A node
# that is given less because it is slow has a discount: its configs would cost less elsewhere.
FRESH = """
        WITH fresh AS NOT MATERIALIZED (
            SELECT s.node_id, s.check_id, s.execution_ms AS ms, s.failed,
                greatest(s.execution_ms, 0.5) / 1000 / coalesce(slow.discount, 1) AS seconds
            FROM nodes_runnerstats AS s JOIN nodes_runner AS r ON r.node_id = s.node_id AND r.failures = 0
            LEFT JOIN nodes_slowness AS slow ON slow.node_id = s.node_id
        )
    """

# What the stats say of each config. A runner reports some checks under their bare name. Their config is only known while the node
# has a single config of the check.
REPORTED = """
        , single AS (
            SELECT a.node_id, c.name, min(a.config_id) AS config_id
            FROM checks_assignment AS a JOIN checks_config AS c ON c.id = a.config_id
            GROUP BY a.node_id, c.name HAVING count(*) = 1
        ), reported AS (
            SELECT a.config_id, true AS by_id, f.ms, f.failed, f.seconds, least(1, f.seconds / i.interval) AS workers
            FROM fresh AS f
            JOIN checks_instance AS i ON i.check_id = f.check_id
            JOIN checks_assignment AS a ON a.config_id = i.config_id AND a.node_id = f.node_id
            UNION ALL
            SELECT i.config_id, false, f.ms, f.failed, f.seconds, least(1, f.seconds / i.interval)
            FROM fresh AS f
            JOIN single ON single.node_id = f.node_id AND single.name = f.check_id
            JOIN checks_instance AS i ON i.config_id = single.config_id
        )
    """


class Means(NamedTuple):
    """The mean cost of a config, in workers. checks: {check: mean of its configs}. usual: the mean over all checks."""

    checks: dict[str, float]
    usual: float

    def of(self, check: str) -> float:
        """Return the expected cost of a config of this check, in workers."""
        return self.checks.get(check, self.usual)


class Held(NamedTuple):
    """What a node has. workers: those that it needs, as of `by_node`; assumed: those of them that nobody measured."""

    configs: int
    workers: float
    assumed: float

    @property
    def is_assumed(self) -> bool:
        """Whether its load is a guess for the most part."""
        return self.assumed > self.workers / 2


class CostQuerySet(models.QuerySet["Cost"]):
    """Measured and expected costs of configs, in workers."""

    # Not the ORM: means of the measured costs are computed once and joined to the configs that have none.
    _MEANS = """
        WITH mean AS MATERIALIZED (
            SELECT c.name, sum(k.workers_needed) AS total, count(*) AS number
            FROM checks_cost AS k JOIN checks_config AS c ON c.id = k.config_id
            GROUP BY c.name
        ), usual AS MATERIALIZED (
            SELECT coalesce(sum(total) / sum(number), 1) AS cost FROM mean
        )
    """

    _ALL_MEANS = "SELECT NULL, cost FROM usual UNION ALL SELECT name, total / number FROM mean"

    def means(self) -> Means:
        """Return the mean costs, for configs that were not measured yet; `usual` is 1 while nothing is measured."""
        with connection.cursor() as cursor:
            cursor.execute(self._MEANS + self._ALL_MEANS)
            [(_, usual), *checks] = cursor.fetchall()
        return Means(dict(checks), usual)

    _EXPECTED = """
        SELECT c.id, coalesce(k.workers_needed, mean.total / mean.number, usual.cost)
        FROM checks_config AS c
        LEFT JOIN checks_cost AS k ON k.config_id = c.id
        LEFT JOIN mean ON mean.name = c.name
        CROSS JOIN usual
        WHERE c.node_name = ''
    """

    def expected(self, config_ids: Collection[int] | None = None) -> dict[int, float]:
        """Return the expected cost of these configs, or of all dispatchable ones: {id: workers}.

        The cost of an unmeasured config is the mean of its check, else of all checks.
        """
        wanted, values = ("", []) if config_ids is None else (" AND c.id = ANY(%s)", [list(config_ids)])
        return self._numbers(self._MEANS + self._EXPECTED + wanted, values)

    # The configs' names and the means are read only if something is not measured. As a rule all is.
    _HELD = """
        , held AS (
            SELECT a.node_id, count(*)::int AS number, sum(k.workers_needed) AS cost,
                count(*) - count(k.config_id) AS unmeasured
            FROM checks_assignment AS a LEFT JOIN checks_cost AS k ON k.config_id = a.config_id
            WHERE %(nodes)s::bigint[] IS NULL OR a.node_id = ANY(%(nodes)s)
            GROUP BY a.node_id
        ), expected AS (
            SELECT a.node_id, c.name, count(*) AS number
            FROM checks_assignment AS a
            JOIN checks_config AS c ON c.id = a.config_id
            LEFT JOIN checks_cost AS k ON k.config_id = a.config_id
            WHERE (SELECT sum(unmeasured) > 0 FROM held) AND k.config_id IS NULL
                AND (%(nodes)s::bigint[] IS NULL OR a.node_id = ANY(%(nodes)s))
            GROUP BY a.node_id, c.name
        )
        SELECT node_id, sum(number), sum(cost), coalesce(sum(cost) FILTER (WHERE is_guess), 0) FROM (
            SELECT node_id, number, cost, false AS is_guess FROM held
            UNION ALL
            SELECT e.node_id, 0, e.number * coalesce(mean.total / mean.number, usual.cost), true
            FROM expected AS e LEFT JOIN mean ON mean.name = e.name CROSS JOIN usual
            UNION ALL
            SELECT node_id, 0, own_load, false FROM nodes_runner
            WHERE own_load > 0 AND (%(nodes)s::bigint[] IS NULL OR node_id = ANY(%(nodes)s))
        ) AS load
        GROUP BY node_id
    """

    def held(self, nodes: Collection[int] | None = None) -> dict[int, Held]:
        """Return what each node has that has something: {node's id: what}. nodes: the ids of those to read; without them all."""
        with connection.cursor() as cursor:
            cursor.execute(self._MEANS + self._HELD, {"nodes": None if nodes is None else list(nodes)})
            return {node: Held(*of) for node, *of in cursor.fetchall()}

    def by_node(self) -> dict[int, float]:
        """Return the expected cost of the configs of each node, plus its load of checks that we did not dispatch.

        {node's id: workers}.
        """
        return {node: one.workers for node, one in self.held().items()}

    # An instance that did not run yet costs as much as the mean of the config's others.
    _MEASURE = f"""
        {REPORTED}
        , needed AS (
            SELECT config_id, coalesce(avg(workers) FILTER (WHERE by_id), avg(workers)) * i.number AS workers,
                coalesce(max(seconds) FILTER (WHERE by_id), max(seconds)) AS seconds
            FROM reported JOIN (
                SELECT config_id, count(*) AS number FROM checks_instance GROUP BY config_id
            ) AS i USING (config_id)
            GROUP BY config_id, i.number
        )
        INSERT INTO checks_cost AS k (config_id, workers_needed, seconds, measured_at)
        SELECT n.config_id, n.workers, n.seconds, statement_timestamp()
        FROM needed AS n LEFT JOIN checks_cost AS old USING (config_id)
        WHERE old.seconds IS NULL OR abs(n.workers - old.workers_needed) > 0.01 * old.workers_needed
            OR abs(n.seconds - old.seconds) > 0.01 * old.seconds
        ORDER BY n.config_id
        ON CONFLICT (config_id) DO UPDATE
            SET workers_needed = excluded.workers_needed, seconds = excluded.seconds, measured_at = excluded.measured_at
    """  # noqa: S608 - our own words

    def measure(self) -> int:
        """Update the costs of configs from the last round of stats of their present nodes. Return how many costs changed.

        Changes of at most one percent are ignored. Rows are locked in the order of their keys.
        """
        with without_nested_loops() as cursor:
            cursor.execute(FRESH + self._MEASURE)
            return int(cursor.rowcount)

    # Own load is what a node's stats show besides dispatched configs. Configs that just moved away or were edited are still in
    # old stats, so no check with a dispatched check's name counts, and only nodes that fetched their last change do. The
    # intervals of the other checks are unknown: 15 s is the agents' default.
    _OWN_LOAD = """
        , own AS (
            SELECT f.node_id, sum(least(1, f.seconds / 15)) AS load
            FROM fresh AS f
            WHERE NOT EXISTS (
                SELECT FROM checks_instance AS i JOIN checks_config AS c ON c.id = i.config_id
                WHERE i.check_id = f.check_id AND c.node_name = ''
            ) AND NOT EXISTS (SELECT FROM checks_config AS c WHERE c.name = f.check_id AND c.node_name = '')
            GROUP BY f.node_id
        ), changed AS (
            SELECT r.node_id, coalesce(own.load, 0) AS load
            FROM nodes_runner AS r
            JOIN nodes_heartbeat AS h ON h.node_id = r.node_id
            JOIN nodes_node AS n ON n.id = r.node_id AND n.config_version = h.acknowledged
            LEFT JOIN (
                SELECT own.node_id, least(own.load, coalesce(w.workers, %(usual)s), %(most)s) AS load
                FROM own LEFT JOIN nodes_runner AS w USING (node_id)
            ) AS own ON own.node_id = r.node_id
            WHERE r.failures = 0 AND abs(r.own_load - coalesce(own.load, 0)) > 0.01 * r.own_load
            ORDER BY r.node_id FOR NO KEY UPDATE OF r
        )
        UPDATE nodes_runner AS r SET own_load = changed.load FROM changed WHERE r.node_id = changed.node_id
    """

    def measure_own_load(self) -> int:
        """Update the own load of nodes: that of checks which are not dispatched. Return for how many it changed.

        It is at most the workers of the node: else a runner that reports very many checks would raise
        clusteragent_wanted_nodes without limit.
        """
        with without_nested_loops() as cursor:
            bounds = {"usual": conf.DEFAULT_WORKERS, "most": conf.RUNNER_MAX_WORKERS}
            cursor.execute(FRESH + self._OWN_LOAD, bounds)
            return int(cursor.rowcount)

    def _numbers(self, statement: str, values: list[list[int]]) -> dict[int, float]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return dict(cursor.fetchall())


class Cost(models.Model):
    """The workers that a config keeps busy, as last measured. It does not depend on the node."""

    # No constraint, so that removing configs never waits for a measurement. Pruning deletes the costs that they leave.
    config = models.OneToOneField(Config, models.DO_NOTHING, primary_key=True, db_constraint=False)
    workers_needed = models.FloatField()
    # The longest run time of its instances; None while an older version's figure is stored.
    seconds = models.FloatField(null=True)
    measured_at = models.DateTimeField(db_default=Now())

    objects = CostQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.workers_needed:g} workers for {self.config_id}"
