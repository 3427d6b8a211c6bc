"""What does a pass with nothing to do cost?"""

import statistics

from bench import stage
from bench.report import Report, timed
from checks import dispatcher
from checks.models import ClusterStore


def run(report: Report) -> None:
    """Measure 30 passes."""
    stage.fresh(10_000)
    dispatcher.schedule([stage.sent(number) for number in range(100_000)])
    stage.analyse()
    term = ClusterStore.objects.get().term
    times = [timed(lambda: dispatcher.run_pass(term)) for _ in range(30)]
    report.add(
        "a pass with nothing to do, 10 000 nodes, 100 000 configs (median)", statistics.median(times), "s", most=0.015
    )
