"""How many heartbeats a second, against the same view without a database, and against the statement alone?"""

import os
import subprocess
import tempfile
import time

from django.db import connection
from django.db.models.functions import Now

from bench import servers, stage, wrk
from bench.report import Report
from clusteragent.lib import conf, postgres
from nodes.models import Heartbeat, Node
from nodes.models.heartbeats import HeartbeatQuerySet

# At about 1 000 a second.
SECONDS_PACED = 15


def run(report: Report) -> None:
    """Measure heartbeats over HTTP, the same view without a database, PostgreSQL's part, and the statement alone."""
    stage.fresh(wrk.NODES)
    Node.objects.update(config_version=7)
    # They reported before: as a cluster does, all day.
    Heartbeat.objects.update(peer="127.0.0.1", peer_since=Now())
    stage.analyse()
    with servers.web(DJANGO_SETTINGS_MODULE="bench.floor_settings") as url:
        floors = {connections: wrk.load(url, wrk.HEARTBEAT, connections).rate for connections in (16, 128)}
    with servers.web() as url:
        for connections, floor in floors.items():
            outcome = wrk.load(url, wrk.HEARTBEAT, connections)
            name = f"heartbeats, {connections} connections, 10 000 nodes"
            report.add(name, outcome.rate, "1/s", floor=floor, least=0.65)
            report.add("  p50", outcome.p50, "s")
            report.add("  p99", outcome.p99, "s", most=0.05 if connections == 16 else None)
            report.add("  errors", outcome.errors, "answers", most=0)
        began, worked = time.perf_counter(), database_time()
        outcome = wrk.load(url, wrk.HEARTBEAT, 64, seconds=SECONDS_PACED, pause=62)
        cores = (database_time() - worked) / (time.perf_counter() - began)
    report.add("heartbeats of 64 connections that pause", outcome.rate, "1/s")
    report.add("  PostgreSQL, of that", cores * 1000 / outcome.rate, "cores at 1 000/s")
    report.add("the heartbeat's statement alone (pgbench, 16 sessions)", statement_alone(), "1/s")


def database_time() -> float:
    """Return the processor seconds of all PostgreSQL processes until now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity")
        return sum(stage.worked(pid) for (pid,) in cursor.fetchall())


def statement_alone() -> float:
    """Return how often a second pgbench runs the heartbeat's statement, with the web server's session settings."""
    statement = HeartbeatQuerySet._BEAT
    values = {
        "version": ":version",
        "node_type": "0",
        "client_ip": "NULL",
        "peer": "NULL",
        "name": "'node-' || lpad(:n::text, 5, '0')",
    }
    script = f"\\set n random(0, {wrk.NODES - 1})\n\\set version 7\n{' '.join((statement % values).split())};\n"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        words = (
            postgres.programs() / "pgbench",
            "-n",
            "-M",
            "prepared",
            "-c16",
            "-j2",
            f"-T{wrk.SECONDS}",
            "-f",
            file.name,
        )
        environment = os.environ | {"PGOPTIONS": "-c synchronous_commit=off"}
        done = subprocess.run([*words, conf.DATABASE_URL], env=environment, capture_output=True, text=True, check=True)
    return next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps"))
