"""How long after a leader's end does the next pass end elsewhere?"""

import signal
import statistics
import tempfile
from pathlib import Path

from bench import stage
from bench.report import Report
from clusteragent.lib import conf
from tests.replicas import Cluster, descendants, wait_for

ROUNDS = 20


def run(report: Report) -> None:
    """Kill, end and stop leaders, and measure the time until the next leader's first pass ends."""
    stage.fresh(0)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(conf.DATABASE_URL, Path(folder))
        try:
            cluster.store.furnish()
            cluster.start(2)
            killed = [_follow(cluster, signal.SIGKILL) for _ in range(ROUNDS)]
            report.add(
                f"leader SIGKILLed, next pass elsewhere (median of {ROUNDS})", statistics.median(killed), "s", most=0.5
            )
            report.add("  worst", max(killed), "s", most=1)
            report.add("leader SIGTERMed, next pass elsewhere", _follow(cluster, signal.SIGTERM), "s", most=0.5)
            report.add("leader SIGSTOPped, next pass elsewhere", _follow(cluster, signal.SIGSTOP), "s", most=10)
        finally:
            cluster.end()


def _follow(cluster: Cluster, number: int) -> float:
    """Send the signal to the leader; return the seconds until the next leader's first pass ends. Then replace the replica."""
    leader = cluster.led()
    below = descendants(leader.pid)
    term = cluster.store.term()
    leader.signal(number)
    took = cluster.succession(term)
    leader.signal(signal.SIGKILL)
    leader.ended()
    wait_for("its worker ended with it", lambda: not set(below) & set(cluster.marked()))
    cluster.replicas.remove(leader)
    cluster.start()
    return took
