"""What do rules about failure domains cost where they hold, and how long do a look at all configs and the headroom take?"""

import statistics

from django.db import connection

from bench import stage
from bench.dispatching import both
from bench.report import Report, timed
from checks import dispatcher
from checks.explain import headroom
from checks.models.orders import Rule

CONFIGS, NODES, PAIRS = 10_000, 1000, 5


def run(report: Report) -> None:
    """Measure placing with and without each kind of rule, and the headroom of a large cluster."""
    for name, domains, rule in (
        ("a rule that binds nothing", 3, {"required": {}}),
        ("a rule that spreads over 3 domains", 3, {"spread": True}),
        ("a rule that spreads over 100 domains", 100, {"spread": True}),
        ("a rule that keeps other checks apart", 3, {"apart_from": "dns"}),
        ("a rule that places them together", 3, {"together_with": "http*"}),
    ):
        # In turns, since the machine is not always as fast.
        pairs = [(place(domains), place(domains, **rule)) for _ in range(PAIRS)]
        ratio = statistics.median(took / plain for plain, took in pairs)
        report.add(f"schedule 10 000 configs on 1 000 nodes: {name}, to none", ratio, "", most=1.5)
        report.add("  a look that moves nothing", timed(dispatcher.move_misplaced), "s", most=1)
    headroom_of_many(report)


def place(domains: int, **rule: object) -> float:
    """Return the seconds that placing takes on nodes in so many domains, with this rule if one is given."""
    stage.fresh(NODES)
    _label(domains)
    Rule.objects.all().delete()
    if rule:
        Rule.objects.create(name="one", **rule)
    return both(range(CONFIGS))


def headroom_of_many(report: Report) -> None:
    """Measure what the leader computes with each round of stats, each minute."""
    stage.fresh(10_000)
    _label(3)
    both(range(100_000))
    stage.analyse()
    report.add("headroom, 100 000 configs on 10 000 nodes", min(timed(headroom.read) for _ in range(3)), "s", most=0.5)
    Rule.objects.create(name="near", required={"zone": "z1"})
    report.add("  with a rule about labels", min(timed(headroom.read) for _ in range(3)), "s", most=0.8)


def _label(domains: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE nodes_node SET labels = jsonb_build_object('zone', 'z' || id %% %s)", (domains,))
