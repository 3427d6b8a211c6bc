"""How long do a scrape of the metrics, and the alerts of the first page and the webhook, take at 100 000 configs?"""

import statistics
from collections.abc import Callable
from unittest import mock

from django.db import connection

from bench import stage
from bench.report import Report, timed
from checks import dispatcher
from checks.explain import alerts, headroom
from checks.models.troubles import Trouble
from clusteragent import metrics
from clusteragent.lib import conf

NODES, CONFIGS = 10_000, 100_000


def run(report: Report) -> None:
    """Measure troubles, alerts and metrics."""
    _furnish()
    size = "10 000 nodes, 100 000 configs"
    report.add(f"what is wrong with checks, out of stats, {size}", _median(Trouble.objects.note), "s")
    report.add(f"what needs somebody, {size}", _median(alerts.current), "s", most=0.1)
    report.add(f"headroom, which the leader stores each minute, {size}", _median(headroom.note), "s")
    report.add(f"metrics, {size}", _median(metrics.exposition), "s", most=1)
    with mock.patch.object(conf, "METRICS_CONFIGS_INFO", new=False):
        report.add("  without a series for each check ID", _median(metrics.exposition), "s")


def _furnish() -> None:
    """Make nodes with stats of their checks. One check in a thousand fails, and one in a thousand does not run."""
    stage.fresh(NODES)
    dispatcher.schedule([stage.sent(number) for number in range(CONFIGS)])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE checks_assignment SET since = now() - interval '1 hour'")
        cursor.execute("UPDATE checks_config SET changed = now() - interval '1 hour'")
        cursor.execute("INSERT INTO nodes_runner (node_id, stats_at) SELECT id, now() FROM nodes_node")
        cursor.execute(
            "INSERT INTO nodes_runnerstats (node_id, check_id, execution_ms, total_runs, total_errors, failed, last_error)"
            " SELECT a.node_id, i.check_id, 500 * random(), 1, 0, random() < 0.001, 'refused'"
            " FROM checks_assignment AS a JOIN checks_instance AS i USING (config_id) WHERE random() < 0.999"
        )
        cursor.execute(
            "UPDATE nodes_heartbeat AS h SET acknowledged = n.config_version FROM nodes_node AS n WHERE n.id = h.node_id"
        )
    stage.analyse()
    headroom.note()


def _median(work: Callable[[], object]) -> float:
    return statistics.median(timed(work) for _ in range(5))
