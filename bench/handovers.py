"""What do planned moves cost the checks, by what is promised of them? Nodes are drained while their node agents report."""

import os
import time

from bench import fleet
from bench.report import Report
from checks.models.handovers import Promise
from nodes.models import Node

NODES, CONFIGS, DRAINED = 300, 5000, 30
POLL, PASS = 10.0, 1.0
# Seconds until the drain, and for its moves: the pace is 5 % of all configs a minute, and half of the last ones wait for it.
AFTER, MOVING = fleet.SETTLED + 5, 130


def run(report: Report) -> None:
    """Drain a tenth of the nodes by each promise, and report what became of the checks that moved."""
    for promise in (Promise.AT_ONCE, Promise.OVERLAP, Promise.STRICT):
        os.environ["CLUSTERAGENT_HANDOVER"] = promise
        drain = _Drain()
        account = fleet.simulate(NODES, CONFIGS, AFTER + MOVING, look=drain.look).account
        gaps, doubles = account["without_runner"], account["two_runners"]
        report.add(f"drain of 30 of 300 nodes, {promise}: checks that moved", account["restarts"]["moved"], "checks")
        most = {Promise.OVERLAP: (0, 2 * POLL + 2 * PASS), Promise.STRICT: (None, 0)}.get(promise, (None, None))
        report.add("  longest without a runner", gaps["longest"], "s", most=most[0])
        report.add("  without a runner, mean of those that were", gaps["mean"], "s")
        report.add("  longest with two runners", doubles["longest"], "s", most=most[1])
        report.add("  with two runners, mean of those that had them", doubles["mean"], "s")
    del os.environ["CLUSTERAGENT_HANDOVER"]


class _Drain:
    """Drains nodes once it is time."""

    def __init__(self) -> None:
        self._begins = time.monotonic() + AFTER
        self._has_begun = False

    def look(self) -> None:
        if not self._has_begun and time.monotonic() > self._begins:
            self._has_begun = True
            names = Node.objects.order_by("pk").values_list("name", flat=True)[:DRAINED]
            Node.objects.filter(name__in=list(names)).cordon(draining=True)
