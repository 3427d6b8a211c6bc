"""How many heartbeats a second, against the same view without a database, and against the statement alone?"""

import os
import subprocess
import tempfile

from bench import servers, stage, wrk
from bench.report import Report
from clusteragent.lib import conf, postgres
from nodes.heartbeats import HeartbeatQuerySet
from nodes.models import Node


def run(report: Report) -> None:
    stage.fresh(wrk.NODES)
    Node.objects.update(config_version=7)
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
    report.add("the heartbeat's statement alone (pgbench, 16 sessions)", statement_alone(), "1/s")


def statement_alone() -> float:
    """The same statement a second, by pgbench, with the web server's settings of its sessions."""
    statement = HeartbeatQuerySet._BEAT
    values = {"version": ":version", "node_type": "0", "client_ip": "NULL", "name": "'node-' || lpad(:n::text, 5, '0')"}
    script = f"\\set n random(0, {wrk.NODES - 1})\n\\set version 7\n{' '.join((statement % values).split())};\n"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        words = (postgres.BIN / "pgbench", "-n", "-M", "prepared", "-c16", "-j2", f"-T{wrk.SECONDS}", "-f", file.name)
        environment = os.environ | {"PGOPTIONS": "-c synchronous_commit=off"}
        done = subprocess.run([*words, conf.DATABASE_URL], env=environment, capture_output=True, text=True, check=True)
    return next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps"))
