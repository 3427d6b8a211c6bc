"""How long does it take to make a plan from the database, and to apply it?"""

from django.db import connection

from bench import stage
from bench.report import Report, timed
from checks import dispatcher, plans
from checks.models import Plan
from nodes.models import Node

MOVES = 500


def run(report: Report) -> None:
    """Measure making and applying a plan at two sizes."""
    stage.fresh(300)
    dispatcher.schedule([stage.sent(number) for number in range(5000)])
    _skew()
    stage.analyse()
    made: list[Plan] = []
    took = timed(lambda: made.append(plans.make(actor="bench", force=True, budget=MOVES)))
    assert len(made[0].moves) == MOVES
    report.add("make and store a plan of 500 moves, 300 nodes, 5 000 configs", took, "s")
    report.add("apply it", timed(lambda: plans.apply(made[0], actor="bench")), "s", most=0.3)
    stage.fresh(10_000)
    dispatcher.schedule([stage.sent(number) for number in range(100_000)])
    _skew()
    stage.analyse()
    report.add("look for a plan, 10 000 nodes, 100 000 configs", timed(lambda: plans.draft(actor="bench")), "s")


def _skew() -> None:
    """Put all configs on a tenth of the nodes, where they have run for an hour."""
    ids = list(Node.objects.order_by("pk").values_list("pk", flat=True))
    few = ids[: len(ids) // 10]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE checks_assignment SET since = since - interval '1 hour', node_id = (%s::bigint[])[1 + config_id %% %s]",
            (few, len(few)),
        )
        cursor.execute(
            "UPDATE nodes_heartbeat SET acknowledged = (extract(epoch FROM statement_timestamp()) * 1000000000)::bigint"
        )
