"""What the loss of a node would do, worked out by the rules of placement. Nothing is written."""

import math
from collections import Counter
from typing import NamedTuple

from checks.balancing import ceiling
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Assignment
from checks.plans.whatif import place
from nodes.models import Node


class Loss(NamedTuple):
    """placed: how many configs each other node would get at once: {name: number}. waiting: those that would wait for up to
    a minute, so that nobody gets too many at once. homeless: those that no node could have.

    peak: the highest load of the other nodes that take work, before and after what is placed at once.
    """

    placed: dict[str, int]
    waiting: int
    homeless: int
    peak: tuple[float, float]


def of(node: Node) -> Loss:
    """Where the configs of a node would go, if it were lost now."""
    owned = Assignment.objects.filter(node=node).order_by("config_id")
    entries = entries_of(list(owned.values_list("config_id", flat=True)))
    now = read_snapshot()
    now.read_origins(entries)
    later = now.with_nodes(without=[node.name])
    most = ceiling(Assignment.objects.count(), len(entries), len(now.nodes))
    at_once = later.with_ceiling(most)
    before = at_once.peak()
    placed = Counter(to.name if to else "" for _, to in place(at_once, entries))
    waiting = placed.pop("", 0)
    homeless = sum(to is None for _, to in place(later, entries)) if waiting and most < math.inf else waiting
    return Loss(dict(placed.most_common()), waiting - homeless, homeless, (before, at_once.peak()))
