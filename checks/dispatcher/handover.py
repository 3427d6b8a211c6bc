"""What a move promises of the check that it moves, and what is left to wait for after it."""

from collections.abc import Collection

from checks.dispatcher import changes
from checks.dispatcher.changes import Entry
from checks.models import Move
from checks.models.handovers import Handing, Promise
from checks.models.orders import Rule
from clusteragent.lib import conf

# The moves that can wait: the node that has the config is well, and the config runs well on it.
PLANNED = frozenset({
    Move.Reason.OPERATOR, Move.Reason.REBALANCED, Move.Reason.ISOLATED, Move.Reason.DRAINED, Move.Reason.LEFT,
    Move.Reason.INELIGIBLE, Move.Reason.PINNED, Move.Reason.PAUSED, Move.Reason.UNDONE, Move.Reason.RETURNED,
})  # fmt: skip

# Of several rules about one config, the strictest holds.
_BINDING = (Promise.STRICT, Promise.OVERLAP, Promise.AT_ONCE)


def promises(entries: Collection[Entry]) -> dict[int, str]:
    """Return what planned moves of these configs promise: {config's id: a Promise}."""
    rules = list(Rule.objects.exclude(handover="")) if entries else []
    if any(rule.source_pattern != "*" for rule in rules):
        changes.read_origins(entries)
    found = {}
    for entry in entries:
        said = {rule.handover for rule in rules if rule.covers(entry.name, entry.sent_as)}
        found[entry.id] = next((str(one) for one in _BINDING if one in said), conf.HANDOVER)
    return found


def after(entry: Entry, to: int | None, promise: str, reason: str) -> Handing | None:
    """Return what is left to wait for when a config moves from its owner to the node `to`; None for no node.

    A former node that must stop the config first must do so whatever is ordered meanwhile. One that runs it for the new owner
    does so for the next owner, too, and so does the one between: it may run it by now, and the former node may end. When the one
    between has acknowledged it, it surely runs it, and does so alone. It never begins to run what it may not have.
    """
    handing, goes_on = entry.handing, to is not None and promise != Promise.AT_ONCE
    if handing is not None and (handing.is_strict or (goes_on and not entry.is_acknowledged)):
        if to == handing.source:
            return None
        if handing.is_strict:
            return handing
        between = handing.between if reason == Move.Reason.INELIGIBLE else entry.owner
        return handing._replace(between=between if between != to else None)
    if entry.owner is None or entry.owner == to:
        return handing if to is not None else None
    if promise == Promise.STRICT or (promise == Promise.OVERLAP and to is not None):
        return Handing(entry.owner, promise)
    return None
