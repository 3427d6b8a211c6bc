"""What the loss of a node would do, simulated by the rules of placement. Read-only."""

import math
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

from checks.balancing import ceiling
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Assignment
from checks.plans.whatif import place
from nodes.models import Node


class Loss(NamedTuple):
    """The effect of losing a node.

    placed: {node's name: how many of its configs that node would get at once}. waiting: how many configs would wait up to a
    minute, so that no node gets too many at once. homeless: how many no node could have. peak: the highest load of the other
    nodes that take work, before and after the placement.
    """

    placed: dict[str, int]
    waiting: int
    homeless: int
    peak: tuple[float, float]


def of(node: Node) -> Loss:
    """Return where the configs of a node would go if it were lost now."""
    owned = Assignment.objects.filter(node=node).order_by("config_id")
    entries = entries_of(list(owned.values_list("config_id", flat=True)))
    now = read_snapshot()
    now.read_origins(entries)
    later = now.with_nodes(without=[node.name])
    most = ceiling(Assignment.objects.count(), len(entries), len(now.nodes))
    at_once = replace(later, ceiling=most)
    before = at_once.peak()
    placed = Counter(to.name if to else "" for _, to in place(at_once, entries))
    waiting = placed.pop("", 0)
    homeless = sum(to is None for _, to in place(later, entries)) if waiting and most < math.inf else waiting
    return Loss(dict(placed.most_common()), waiting - homeless, homeless, (before, at_once.peak()))
