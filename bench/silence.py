"""How long after a node's last report do its checks run elsewhere?"""

from bench import fleet
from bench.report import Report

NODES, CONFIGS, DYING = 200, 4000, 20
# Seconds after which a silent node is lost, and between two polls: each check waits for its new owner's next poll.
TIMEOUT, POLL = 30.0, 10.0


def run(report: Report) -> None:
    """Simulate the death of nodes, and report when their checks run elsewhere."""
    outcome = fleet.simulate(NODES, CONFIGS, 100, f"--kill-after={fleet.SETTLED + 5}:{DYING}")
    taken = outcome.account["takeovers"]
    report.add("checks of dead nodes that run elsewhere", taken["number"], "checks")
    # On average a new owner polls after half of its period, at worst after all of it.
    report.add("node silent, its checks run elsewhere: median", taken["p50"], "s")
    report.add("  above 30 s and half a poll", taken["p50"] - TIMEOUT - POLL / 2, "s", most=1)
    report.add("node silent, its checks run elsewhere: worst", taken["longest"], "s")
    report.add("  above 30 s and a whole poll", taken["longest"] - TIMEOUT - POLL, "s", most=1.5)
    report.add("checks with two runners at once", outcome.account["two_runners"]["number"], "checks", most=0)
