"""Helpers for tests of rules about domains and neighbours: nodes in zones, configs, and passes until nothing moves."""

from collections import Counter
from datetime import timedelta

from django.db.models import F

from checks import dispatcher
from checks.models import Assignment, Move
from checks.tests.cast import hand_over, report, sent
from nodes.models import NodeRule


def zones(**names: list[str]) -> None:
    """Nodes in these zones: `zones(a=["ash", "birch"], b=["cedar"])`."""
    for zone, nodes in names.items():
        report(*nodes)
        for name in nodes:
            NodeRule.objects.create(pattern=name, labels={"zone": zone})
    NodeRule.objects.apply()


def schedule(number: int, kind: str = "one", name: str = "http_check") -> None:
    keys = [f"{kind}-{each}" for each in range(number)]
    dispatcher.schedule([sent(key, name=name, instances=(f"url: http://{key}\n",)) for key in keys])


def by_zone(**of: object) -> dict[str, int]:
    """How many configs each zone has; of: a condition of the configs."""
    rows = Assignment.objects.filter(**of).values_list("node__labels__zone", flat=True)
    return dict(Counter(rows))


def passes(most: int = 40) -> int:
    """Look at all configs again and again, each a minute after the other, until nothing moves. Returns how many moved."""
    moved = 0
    for _ in range(most):
        moves = dispatcher.move_misplaced()
        if not moves:
            return moved
        moved += len(moves)
        hand_over()
        Move.objects.update(time=F("time") - timedelta(minutes=1))
    raise AssertionError(f"{moved} moves, and no end")
