"""What the loss of nodes would do, simulated by the rules of placement. Read-only."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from checks.balancing import ceiling
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain.why import refusals, why_dangling
from checks.models import Assignment
from checks.plans.whatif import place


class Loss(NamedTuple):
    """The effect of losing a node, or several at once.

    placed: {node's name: how many of their configs that node would get at once}. waiting: how many configs would wait up to a
    minute, so that no node gets too many at once. homeless: how many no node could have. peak: of the fullest node that gets
    some, its load before and after; zeros if none does. reasons: why no node could have the homeless ones, the commonest first.
    """

    placed: dict[str, int]
    waiting: int
    homeless: int
    peak: tuple[float, float]
    reasons: Mapping[str, int]


def of(nodes: Collection[str]) -> Loss:
    """Return where the configs of the nodes of these names would go if they were lost now, all at once."""
    owned = Assignment.objects.filter(node__name__in=nodes).order_by("config_id")
    entries = entries_of(list(owned.values_list("config_id", flat=True)))
    now = read_snapshot()
    now.read_origins(entries)
    later = now.with_nodes(without=nodes)
    for entry in entries:
        entry.owner = None
    most = ceiling(Assignment.objects.count(), len(entries), len(now.nodes))
    at_once = replace(later, ceiling=most)
    before = at_once.loads()
    chosen = place(at_once, entries)
    placed = Counter(to.name for _, to in chosen if to)
    after = at_once.loads()
    fullest = max({to.id for _, to in chosen if to}, key=after.__getitem__, default=None)
    peak = (before[fullest], after[fullest]) if fullest is not None else (0.0, 0.0)
    without = [entry for entry, to in chosen if to is None]
    waiting = len(without)
    reasons: Counter[str] = Counter()
    if waiting:
        # Without the ceiling: what finds no node then waits for no minute.
        filled = later if most < math.inf else at_once
        left = place(later, entries) if most < math.inf else [(entry, None) for entry in without]
        reasons = homeless_reasons(filled, [entry for entry, to in left if to is None])
    homeless = reasons.total()
    return Loss(dict(placed.most_common()), waiting - homeless, homeless, peak, dict(reasons.most_common()))


def homeless_reasons(snapshot: Snapshot, entries: Iterable[Entry]) -> Counter[str]:
    """Return why no node can have these configs: {the commonest reason of each: how many}."""
    # There may be very many configs, but few checks, origins and pins that decide.
    why: dict[object, str] = {}
    found: Counter[str] = Counter()
    known = len(snapshot.nodes)
    for entry in entries:
        key = entry.name, tuple(entry.sent_as), entry.pin and (entry.pin.kind, entry.pin.aim, entry.pin.waits)
        if key not in why:
            why[key] = why_dangling(refusals(snapshot, entry), known)
        found[why[key]] += 1
    return found
