"""What do planned moves cost the checks, by what is promised of them? Nodes are drained and replaced while node agents report."""

import time
from collections.abc import Mapping
from typing import Any

from bench import fleet, servers
from bench.report import Report
from checks.models.handovers import Promise
from nodes.models import Node

POLL, PASS = 10.0, 1.0
# Seconds until nodes are drained or replaced.
AFTER = fleet.SETTLED + 5
NODES, CONFIGS, DRAINED = 300, 5000, 30
# Seconds for the moves: the pace is 5 % of all configs a minute.
MOVING = 130
# Pods of a rollout are replaced one by one. Each says goodbye and goes when it runs nothing any more, after 15 s at most.
PODS, CHECKS, OVER = 100, 1500, 100


def run(report: Report) -> None:
    """Drain a tenth of the nodes, and roll out others, by each promise; report what became of the checks that moved."""
    for promise in (Promise.AT_ONCE, Promise.OVERLAP, Promise.STRICT):
        with servers.options(CLUSTERAGENT_HANDOVER=promise):
            drain = _Drain()
            account = fleet.simulate(NODES, CONFIGS, AFTER + MOVING, look=drain.look).account
        most = {Promise.OVERLAP: (0, 2 * POLL + 2 * PASS), Promise.STRICT: (None, 0)}.get(promise, (None, None))
        _add(report, f"drain of {DRAINED} of {NODES} nodes, {promise}", account, *most)
    for promise in (Promise.AT_ONCE, Promise.OVERLAP):
        plan = (
            "--rollout=rolling",
            f"--rollout-after={AFTER}",
            f"--over={OVER}",
            "--start-delay=0..0",
            "--goodbye=leaving",
        )
        with servers.options(CLUSTERAGENT_HANDOVER=promise):
            account = fleet.simulate(PODS, CHECKS, AFTER + OVER + 40, *plan).account
        _add(report, f"rollout of {PODS} nodes that say goodbye, {promise}", account)


def _add(
    report: Report, what: str, account: Mapping[str, Any], gap: float | None = None, double: float | None = None
) -> None:
    """Report what became of checks. gap, double: the most seconds that the promise allows."""
    gaps, doubles = account["without_runner"], account["two_runners"]
    report.add(f"{what}: moves that a node noticed", account["restarts"]["moved"], "moves")
    report.add("  longest without a runner", gaps["longest"], "s", most=gap)
    report.add("  without a runner, mean of those that were", gaps["mean"], "s")
    report.add("  longest with two runners", doubles["longest"], "s", most=double)
    report.add("  with two runners, mean of those that had them", doubles["mean"], "s")


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
