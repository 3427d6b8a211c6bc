"""What the loss of a node would do, worked out by the rules of placement. Nothing is written."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from checks.balancing import ceiling
from checks.dispatcher.changes import Entry
from checks.dispatcher.transaction import Placement, entries_of
from checks.eligibility import name_origins
from checks.models import Assignment
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
    most = ceiling(Assignment.objects.count(), len(entries), Node.objects.known().count())
    placement = Placement(ceiling=most)
    if placement.eligibility.needs_origins():
        name_origins(entries)
    before = placement.peak(without=node.pk)
    chosen = Counter(placement.choose(entry, elsewhere=True) for entry in entries)
    names = {one.id: one.name for one in placement.eligibility.nodes}
    placed = {names[id_]: number for id_, number in chosen.most_common() if id_ is not None}
    homeless = _homeless(entries) if chosen[None] and most < math.inf else chosen[None]
    return Loss(placed, chosen[None] - homeless, homeless, (before, placement.peak(without=node.pk)))


def _homeless(entries: Sequence[Entry]) -> int:
    """How many configs find no other node even when nothing limits what a node gets at once."""
    placement = Placement()
    return sum(placement.choose(entry, elsewhere=True) is None for entry in entries)
