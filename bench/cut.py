"""How soon is a cluster of 10 000 nodes whole again that was cut off for 90 s?"""

import time
from datetime import timedelta

from django.db.models import F

from bench import fleet
from bench.report import Report
from clusteragent.lib.clock import ago
from nodes.models import Heartbeat

NODES, CONFIGS, CUT = 10_000, 5_000, 90


def run(report: Report) -> None:
    """Cut the network of all nodes, and measure the time until all are up to date again."""
    begins = fleet.SETTLED + 35
    watch = Watch()
    plan = f"--pause={begins}:{NODES}:{CUT}"
    outcome = fleet.simulate(NODES, CONFIGS, begins + CUT + 45, plan, probe=False, look=watch.look)
    report.add("10 000 nodes cut off for 90 s: whole again after", watch.seconds, "s", most=20)
    report.add("  configs that moved", fleet.moved(), "configs", most=0)
    report.add("  the simulator's own delay, p99", outcome.account["own_delay"]["p99"], "s")


class Watch:
    """Measures `seconds` from the first report after the cut until every node has reported and has its current configs."""

    def __init__(self) -> None:
        self._is_cut, self._mended_at = False, 0.0
        self.seconds = float("inf")

    def look(self) -> None:
        """Look at the database once. Called all the time."""
        nodes = Heartbeat.objects.count()
        silent = Heartbeat.objects.filter(seen_at__lt=ago(timedelta(seconds=CUT / 3))).count()
        if nodes == silent == NODES:
            self._is_cut = True
        elif self._is_cut:
            self._mended_at = self._mended_at or time.monotonic()
            outdated = Heartbeat.objects.exclude(acknowledged=F("node__config_version")).count()
            if nodes == NODES and not silent and not outdated and self.seconds == float("inf"):
                self.seconds = time.monotonic() - self._mended_at
