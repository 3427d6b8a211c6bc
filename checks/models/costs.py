"""What configs cost, and the SQL that works it out of runners' stats for all of them at once."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection, models
from django.db.models.functions import Now

from checks.models.configs import Config
from clusteragent.lib import conf
from clusteragent.lib.database import batches
from clusteragent.lib.database.sweeps import sweep


class CostQuerySet(models.QuerySet["Cost"]):
    # Not the ORM: the means of what was measured are taken once, and joined to what was not.
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

    def means(self) -> tuple[dict[str, float], float]:
        """What a config costs on average: {check: workers}, and over all checks, 1 while nothing is measured."""
        with connection.cursor() as cursor:
            cursor.execute(self._MEANS + self._ALL_MEANS)
            [(_, usual), *checks] = cursor.fetchall()
        return dict(checks), usual

    _EXPECTED = """
        SELECT c.id, coalesce(k.workers_needed, mean.total / mean.number, usual.cost)
        FROM checks_config AS c
        LEFT JOIN checks_cost AS k ON k.config_id = c.id
        LEFT JOIN mean ON mean.name = c.name
        CROSS JOIN usual
        WHERE c.node_name = ''
    """

    def expected(self, config_ids: Collection[int] | None = None) -> dict[int, float]:
        """What these configs cost, or all that are dispatched: {id: workers}; unmeasured ones as others do on average."""
        wanted, values = ("", []) if config_ids is None else (" AND c.id = ANY(%s)", [list(config_ids)])
        return self._numbers(self._MEANS + self._EXPECTED + wanted, values)

    _BY_NODE = """
        SELECT node_id, sum(cost) FROM (
            SELECT a.node_id, coalesce(k.workers_needed, mean.total / mean.number, usual.cost) AS cost
            FROM checks_assignment AS a
            JOIN checks_config AS c ON c.id = a.config_id
            LEFT JOIN checks_cost AS k ON k.config_id = a.config_id
            LEFT JOIN mean ON mean.name = c.name
            CROSS JOIN usual
            UNION ALL
            SELECT node_id, own_load FROM nodes_runner WHERE own_load > 0
        ) AS load
        GROUP BY node_id
    """

    def by_node(self) -> dict[int, float]:
        """The expected cost of all that each node has, and its own load: {node's id: workers}."""
        return self._numbers(self._MEANS + self._BY_NODE, [])

    # Of nodes that answered the last time: what others told long ago is no measurement. What is told of has run. Runs of
    # less than a millisecond are told as 0; they cost nearly nothing, but not nothing, or a node could be given any number
    # of them.
    _FRESH = """
        WITH fresh AS NOT MATERIALIZED (
            SELECT s.node_id, s.check_id, greatest(s.execution_ms, 0.5) / 1000 AS seconds
            FROM nodes_runnerstats AS s JOIN nodes_runner AS r ON r.node_id = s.node_id AND r.failures = 0
        )
    """

    # A runner tells the stats of some checks under their bare names. Which config that is, is only sure while the node has
    # a single one of the check. Instances that did not run yet cost what the config's others do.
    _MEASURE = """
        , single AS (
            SELECT a.node_id, c.name, min(a.config_id) AS config_id
            FROM checks_assignment AS a JOIN checks_config AS c ON c.id = a.config_id
            GROUP BY a.node_id, c.name HAVING count(*) = 1
        ), told AS (
            SELECT a.config_id, true AS by_id, least(1, f.seconds / i.interval) AS workers
            FROM fresh AS f
            JOIN checks_instance AS i ON i.check_id = f.check_id
            JOIN checks_assignment AS a ON a.config_id = i.config_id AND a.node_id = f.node_id
            UNION ALL
            SELECT i.config_id, false, least(1, f.seconds / i.interval)
            FROM fresh AS f
            JOIN single ON single.node_id = f.node_id AND single.name = f.check_id
            JOIN checks_instance AS i ON i.config_id = single.config_id
        ), needed AS (
            SELECT config_id, coalesce(avg(workers) FILTER (WHERE by_id), avg(workers)) * i.number AS workers
            FROM told JOIN (
                SELECT config_id, count(*) AS number FROM checks_instance GROUP BY config_id
            ) AS i USING (config_id)
            GROUP BY config_id, i.number
        )
        INSERT INTO checks_cost AS k (config_id, workers_needed, measured_at)
        SELECT n.config_id, n.workers, statement_timestamp()
        FROM needed AS n LEFT JOIN checks_cost AS old USING (config_id)
        WHERE old.config_id IS NULL OR abs(n.workers - old.workers_needed) > 0.01 * old.workers_needed
        ORDER BY n.config_id
        ON CONFLICT (config_id) DO UPDATE
            SET workers_needed = excluded.workers_needed, measured_at = excluded.measured_at
    """

    def measure(self) -> int:
        """Work out what the last round of stats says of configs, where they are now. Returns how many costs changed.

        Those that changed by a hundredth or less stay as they are. Rows are locked in the order of their keys.
        """
        with sweep() as cursor:
            cursor.execute(self._FRESH + self._MEASURE)
            return int(cursor.rowcount)

    # What just moved away or was edited is in old stats for a moment. So nothing that bears a name of ours counts, and only
    # nodes that fetched all that we have for them. The intervals of such checks are unknown, so they are the usual one.
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
        """Work out what load of nodes is not of our making. Returns of how many it changed.

        None is above the workers that the node has: a runner that tells of any number of checks must not order more nodes
        (clusteragent_wanted_nodes).
        """
        with sweep() as cursor:
            bounds = {"usual": conf.DEFAULT_WORKERS, "most": conf.RUNNER_MAX_WORKERS}
            cursor.execute(self._FRESH + self._OWN_LOAD, bounds)
            return int(cursor.rowcount)

    def prune(self, most: float = batches.MOST) -> int:
        """Forget the costs of configs that are gone. Returns how many."""
        left = self.filter(~models.Exists(Config.objects.filter(pk=models.OuterRef("pk"))))
        return batches.delete(left.order_by("pk"), most=most)

    def _numbers(self, statement: str, values: list[list[int]]) -> dict[int, float]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return dict(cursor.fetchall())


class Cost(models.Model):
    """How many workers a config keeps busy, as last measured. It stays with the config, wherever it goes."""

    # No constraint: who removes configs then never waits for a round of measurements, which sweeps what they leave.
    config = models.OneToOneField(Config, models.DO_NOTHING, primary_key=True, db_constraint=False)
    workers_needed = models.FloatField()
    measured_at = models.DateTimeField(db_default=Now())

    objects = CostQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.workers_needed:g} workers for {self.config_id}"
