"""Helpers for tests of plans: nodes that run their configs, and configs of known cost."""

from datetime import timedelta

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher
from checks.models import Assignment, Config, Cost, Move, Origin, Plan
from checks.tests.cast import report, sent
from nodes.models import Heartbeat, Node, NodeEvent

LONG_AGO = timedelta(hours=1)


def furnish(**loads: list[float]) -> None:
    """Nodes that have run configs of these costs for long: `ash-0`, `ash-1`, …"""
    report(*loads)
    keys = {f"{node}-{number}": cost for node, costs in loads.items() for number, cost in enumerate(costs)}
    dispatcher.schedule([sent(key) for key in keys])
    ids = dict(Origin.objects.values_list("key", "config_id"))
    nodes = dict(Node.objects.values_list("name", "pk"))
    Cost.objects.bulk_create([Cost(config_id=ids[key], workers_needed=cost) for key, cost in keys.items()])
    Assignment.objects.transfer([(ids[key], nodes[key.rpartition("-")[0]]) for key in keys], "scheduled")
    settle()


def settle() -> None:
    """Let every config have been on its node for long, and every node have fetched its configs."""
    fetch()
    Assignment.objects.update(since=Now() - LONG_AGO)
    Move.objects.update(time=F("time") - LONG_AGO)
    NodeEvent.objects.update(time=F("time") - LONG_AGO)


def fetch() -> None:
    """Every node fetches its present configs."""
    Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE nodes_heartbeat AS h SET acknowledged = n.config_version FROM nodes_node AS n WHERE n.id = h.node_id"
        )


def join(name: str) -> None:
    """A node that registered long ago and has no configs."""
    report(name)
    NodeEvent.objects.update(time=F("time") - LONG_AGO)


def hear() -> None:
    """Every known node was heard just now."""
    Heartbeat.objects.update(seen_at=Now())


def routes(plan: Plan) -> dict[str, str]:
    """The moves of a plan: {origin's key: new node's name}."""
    keys = dict(Config.objects.values_list("pk", "origins__key"))
    return {keys[move["config"]]: move["to_node"] for move in plan.moves}
