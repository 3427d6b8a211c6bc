"""What configs cost, and the SQL that works it out of runners' stats for all of them at once."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection, models

from checks import models as clusterstore  # noqa: F401 - named in a type; its classes take their managers from here


class CostQuerySet(models.QuerySet["clusterstore.Cost"]):
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

    def _numbers(self, statement: str, values: list[list[int]]) -> dict[int, float]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return dict(cursor.fetchall())
