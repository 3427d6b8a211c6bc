"""What the loss of a node would do, worked out by the rules of placement. Nothing is written."""

from collections import Counter
from typing import NamedTuple

from checks.balancing import ceiling
from checks.dispatcher.turns import Placement, entries_of
from checks.eligibility import name_origins
from checks.models import Assignment
from nodes.models import Node


class Loss(NamedTuple):
    """placed: how many configs each other node would get: {name: number}. homeless: those that no node could have.

    peak: the highest load of the other nodes that take work, before and after.
    """

    placed: dict[str, int]
    homeless: int
    peak: tuple[float, float]


def of(node: Node) -> Loss:
    """Where the configs of a node would go, if it were lost now."""
    owned = Assignment.objects.filter(node=node).order_by("config_id")
    entries = entries_of(list(owned.values_list("config_id", flat=True)))
    most = ceiling(Assignment.objects.count(), len(entries), Node.objects.known().count())
    placement = Placement(ceiling=most)
    if placement.eligibility.needs_origins():
        name_origins(entries)
    before = placement.peak(without=node.pk)
    chosen = Counter(placement.choose(entry, elsewhere=True) for entry in entries)
    names = {one.id: one.name for one in placement.eligibility.nodes}
    placed = {names[id_]: number for id_, number in chosen.most_common() if id_ is not None}
    return Loss(placed, chosen[None], (before, placement.peak(without=node.pk)))
