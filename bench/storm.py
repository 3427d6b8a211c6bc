"""How fast are very many new or lost nodes registered, compared with heartbeats of the same nodes by the same client?"""

import time

from django.db import connection

from bench import servers, stage, wrk
from bench.report import Report
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeats
from nodes.models import Node
from nodes.models.heartbeats import Beat
from nodes.models.heartbeats import Report as Heartbeat

# A limit of new nodes that no machine reaches in the time.
MOST = 1_000_000
NUMBER = 10_000


def run(report: Report) -> None:
    """Measure registrations by the statements alone, and over HTTP."""
    conf.NEW_NODES_A_MINUTE = MOST
    connection.ensure_connection()
    with connection.cursor() as cursor:
        # As in the sessions of the agents' web server.
        cursor.execute("SET synchronous_commit = off")
    for size in (8, 16, 64, 256):
        _within_python(report, size)
    stage.fresh(0)
    with servers.web(CLUSTERAGENT_NEW_NODES_A_MINUTE=str(MOST)) as url:
        for connections in (16, 128):
            _over_http(report, url, connections)


def _within_python(report: Report, size: int) -> None:
    """Measure the statements alone: without HTTP, in one thread."""
    stage.fresh(0)
    batches = [
        [Heartbeat(f"node-{number:05}", 0) for number in range(start, min(NUMBER, start + size))]
        for start in range(0, NUMBER, size)
    ]

    def tell() -> float:
        began = time.perf_counter()
        for batch in batches:
            assert all(isinstance(beat, Beat) for beat in note_heartbeats(batch))
        return NUMBER / (time.perf_counter() - began)

    new = tell()
    stage.analyse()
    floor = tell()
    report.add(f"registrations in batches of {size}, statements alone", new, "1/s", floor=floor)
    _lose()
    Node.objects.update(config_version=0)
    report.add("  of lost nodes", tell(), "1/s", floor=floor)


def _over_http(report: Report, url: str, connections: int) -> None:
    prefix = f"storm-{connections}-"

    def tell() -> wrk.Load:
        return wrk.storm(url, prefix, connections)

    wrk.storm(url, f"warm-{connections}-", connections, seconds=1)
    new, beats = tell(), tell()
    _lose()
    back = tell()
    for name, load in (("new", new), ("lost", back)):
        report.add(f"{name} nodes, {connections} connections", load.rate, "1/s", floor=beats.rate, least=0.5)
        report.add("  p99", load.p99, "s")
        report.add("  errors", load.errors, "answers", most=0)


def _lose() -> None:
    """Make all nodes lost."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE nodes_node SET lost_at = now()")
        cursor.execute("DELETE FROM nodes_heartbeat")
    stage.analyse()
