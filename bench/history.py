"""How long does it take to note a minute of history, how much room does a full history take, and how fast is it read?"""

import statistics
from datetime import UTC, datetime, timedelta

from django.db import connection

from bench import stage
from bench.report import Report, timed
from checks import dispatcher
from checks.explain import history
from checks.explain.history import Span
from checks.models import Assignment, ClusterHistory, Config, ConfigHistory, Cost, NodeHistory
from checks.models.history import BUCKETS, MOST_BUCKETS
from nodes.models import Node

NODES, CONFIGS = 10_000, 100_000
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
# History is noted by given times.
BEGIN = datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
TABLES = ("checks_clusterhistory", "checks_nodehistory", "checks_confighistory")


def run(report: Report) -> None:
    """Note three hours, fill the week before, and measure."""
    stage.fresh(NODES)
    dispatcher.schedule([stage.sent(number) for number in range(CONFIGS)])
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)}")
        cursor.execute("INSERT INTO nodes_runner (node_id, failures) SELECT id, 0 FROM nodes_node")
        cursor.execute(
            "INSERT INTO nodes_runnerstats"
            " (node_id, check_id, execution_ms, total_runs, total_errors, failed, last_error)"
            " SELECT a.node_id, i.check_id, floor(5000 * random()), 1, 0, random() < 0.05, ''"
            " FROM checks_assignment AS a JOIN checks_instance AS i USING (config_id)"
        )
    stage.analyse()
    Cost.objects.measure()
    stage.analyse()
    size = f"{NODES} nodes, {CONFIGS} configs"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        session = cursor.fetchone()[0]
    worked = stage.worked(session)
    minutes = [timed(lambda at=BEGIN + one * MINUTE: history.note(at)) for one in range(59)]
    worked = stage.worked(session) - worked
    report.add(f"a minute noted, {size}", statistics.median(minutes), "s", most=2)
    report.add("  processor time of PostgreSQL for it", worked / len(minutes), "s")
    over = [
        timed(lambda at=BEGIN + 59 * MINUTE + one * MINUTE: history.note(at)) for one in range(BUCKETS // MOST_BUCKETS)
    ]
    report.add("  the first of an hour, which rolls all nodes up", over[0], "s", most=2)
    report.add("  one that rolls configs up", statistics.median(over[1:]), "s", most=2)
    _fill_week()
    stage.analyse()
    after = []
    for one in range(BUCKETS // MOST_BUCKETS, 2 * 60 + BUCKETS // MOST_BUCKETS):
        after.append(timed(lambda at=BEGIN + HOUR + one * MINUTE: history.note(at)))
        if one % 6 == 0:
            _vacuum()
    report.add("  one of two more hours, with all that is kept", statistics.median(after), "s", most=2)
    report.add("  the longest of them", max(after), "s", most=2)
    for table in TABLES:
        report.add(f"room of {table}", _size(table), "GB")
    report.add("room of all history, with its indexes", sum(map(_size, TABLES)), "GB", most=2)
    now = BEGIN + 3 * HOUR + MINUTE * (BUCKETS // MOST_BUCKETS)
    config = Config.objects.get(pk=Assignment.objects.order_by("pk").values_list("pk", flat=True)[CONFIGS // 2])
    node = Node.objects.get(name="node-05000")
    for span in Span:
        report.add(f"a config's {span}", _median(lambda span=span: history.of_config(config, span, now)), "s", most=0.1)
        report.add(f"a node's {span}", _median(lambda span=span: history.of_node(node, span, now)), "s", most=0.1)
        report.add(f"the cluster's {span}", _median(lambda span=span: history.of_cluster(span, now)), "s", most=0.1)
    assert len(history.of_config(config, Span.WEEK, now).points) == 168
    assert len(history.of_node(node, Span.WEEK, now)) == len(history.of_cluster(Span.WEEK, now)) == 168


def _fill_week() -> None:
    """Copy the hour that is rolled up to those of the week before it."""
    for kind in (ClusterHistory, NodeHistory, ConfigHistory):
        columns = ", ".join(
            str(field.column) for field in kind._meta.concrete_fields if field.name not in ("pk", "time")
        )
        table = kind._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} (time, {columns}) SELECT time - n * interval '1 hour', {columns}"
                f" FROM {table}, generate_series(1, 164) AS n WHERE step = 60"
            )


def _vacuum() -> None:
    """What autovacuum does each six minutes, once so much was deleted."""
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM {', '.join(TABLES)}")


def _size(table: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size(%s::text::regclass)", (table,))
        return cursor.fetchone()[0] / 1e9  # type: ignore[no-any-return]


def _median(work: object) -> float:
    return statistics.median(timed(work) for _ in range(9))  # type: ignore[arg-type]
