"""Do 10 000 nodes get their answers in time while 5 000 configs are scheduled and 300 nodes die?"""

from bench import fleet
from bench.report import Report, quantile

NODES, CONFIGS, DYING = 10_000, 5_000, 300


def run(report: Report) -> None:
    """Simulate 10 000 nodes, of which 300 die, and report latencies, failures and moves."""
    # The nodes die after all have reported; they expire 30 s later, and their configs move within a minute.
    outcome = fleet.simulate(NODES, CONFIGS, 150, f"--kill-after={fleet.SETTLED + 35}:{DYING}")
    account = outcome.account
    for name in ("heartbeats", "fetches"):
        calls = account[name]
        report.add(f"10 000 nodes each 10 s: {name}", calls["sent"], "calls")
        report.add("  failed", calls["failed"], "calls", most=0)
        report.add("  p99, as the busy simulator sees it", calls["answered"]["p99"], "s")
    report.add("  the simulator's own delay, p99", account["own_delay"]["p99"], "s")
    report.add("  a heartbeat beside theirs, p50", quantile(outcome.waits, 0.5), "s")
    report.add("  a heartbeat beside theirs, p99", quantile(outcome.waits, 0.99), "s", most=0.1)
    report.add("  heartbeats beside theirs that failed", outcome.failed, "calls", most=0)
    report.add("  configs of living nodes that moved", account["restarts"]["moved_undisturbed"], "configs", most=0)
    report.add("  configs of dead nodes that moved", fleet.moved(), "configs")
