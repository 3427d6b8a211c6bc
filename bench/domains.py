"""What do rules about failure domains cost where they hold, and how long do a look at all configs and the headroom take?"""

from django.db import connection

from bench import stage
from bench.dispatching import both
from bench.report import Report, timed
from checks import dispatcher
from checks.explain import headroom
from checks.models.orders import Rule

CONFIGS, NODES = 10_000, 1000


def run(report: Report) -> None:
    """Measure placing with and without each kind of rule, and the headroom of a large cluster."""
    plain = 0.0
    for name, domains, rules in (
        ("no rule", 3, {}),
        ("a rule that binds nothing", 3, {"required": {}}),
        ("a rule that spreads over 3 domains", 3, {"spread": True}),
        ("a rule that spreads over 100 domains", 100, {"spread": True}),
        ("a rule that keeps other checks apart", 3, {"apart_from": "dns"}),
    ):
        stage.fresh(NODES)
        _label(domains)
        Rule.objects.all().delete()
        if rules:
            Rule.objects.create(name="one", **rules)
        took = both(range(CONFIGS))
        plain = plain or took
        report.add(f"schedule 10 000 configs on 1 000 nodes: {name}", took, "s", most=1.5 * plain)
        report.add("  a look that moves nothing", timed(dispatcher.move_misplaced), "s", most=1)
    headroom_of_many(report)


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
