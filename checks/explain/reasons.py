"""The wording of the reasons of moves, in one table."""

import enum
from collections.abc import Mapping
from typing import NamedTuple

from checks.models import Move


class Grouping(enum.Enum):
    """Which moves the page of changes groups into one story with those of a reason."""

    OWN = enum.auto()  # other moves of the same reason, by the same person
    NODES = enum.auto()  # the nodes of a pool that come and go
    DRAIN = enum.auto()  # the drain of a node
    SENT = enum.auto()  # what sources sent


class Words(NamedTuple):
    """The wording of a reason. `placed` and `lost` may contain {to}, {source} and {actor}.

    colour: a palette colour that no other reason has. title: of its stories. placed: why a config is on its node. lost: why
    it has no node. dangles: a config that loses its node by this reason should get another. grouping: how its moves are grouped.
    outcome: what happened to the checks, in a story of what sources sent.
    """

    colour: str
    title: str
    placed: str = ""
    lost: str = ""
    dangles: bool = False
    grouping: Grouping = Grouping.OWN
    outcome: str = ""


_REASON = Move.Reason
_OF_REASON: Mapping[str, Words] = {
    _REASON.SCHEDULED: Words("blue", "Placed", "It was placed on {to} when it came", grouping=Grouping.SENT, outcome="new"),
    _REASON.CHANGED: Words("sky", "Changed", "It was placed on {to} when it changed", grouping=Grouping.SENT, outcome="changed"),
    _REASON.UNSCHEDULED: Words("slate", "Removed", grouping=Grouping.SENT, outcome="gone"),
    _REASON.EXPIRED: Words(
        "red", "Expired", "It went back to {to}, since {source} expired before it had taken it over", "{source} expired",
        dangles=True, grouping=Grouping.NODES,
    ),
    _REASON.REDISPATCHED: Words("orange", "Placed after waiting", "It went to {to}, after it had waited for a node"),
    _REASON.OPERATOR: Words("purple", "Reassigned", "{actor} gave it to {to}"),
    _REASON.REBALANCED: Words("green", "Rebalance", "A rebalance moved it from {source} to {to}"),
    _REASON.ISOLATED: Words(
        "teal", "Isolated", "It moved to {to}, since {source} was to run an isolated config alone"
    ),
    _REASON.QUARANTINED: Words(
        "maroon", "Quarantined", "It moved to {to}, since {source} was to run a quarantined config alone"
    ),
    _REASON.DRAINED: Words("lime", "Drained", "It moved to {to}, since {source} was drained", grouping=Grouping.DRAIN),
    _REASON.LEFT: Words("rose", "Left", "It moved to {to}, since {source} said that it leaves", grouping=Grouping.NODES),
    _REASON.INELIGIBLE: Words(
        "ochre", "Moved to where the rules allow them", "It moved to {to}, since {source} was no longer allowed to run it",
        "{source} was no longer allowed to run it", dangles=True,
    ),
    _REASON.PINNED: Words(
        "violet", "Pinned", "It moved to {to} by its pin", "its pin took it away from {source}", dangles=True
    ),
    _REASON.PAUSED: Words("brown", "Paused", lost="{source} ran it before"),
    _REASON.RESUMED: Words("yellow", "Resumed", "It went to {to} when its pause ended"),
    _REASON.NOT_RUNNING: Words("crimson", "Not running", "It moved to {to}, since {source} did not run it"),
    _REASON.UNDONE: Words("pink", "Undone", "{actor} moved it back to {to}"),
    _REASON.ADOPTED: Words("cyan", "Adopted", "{to} ran it for another cluster agent, and {actor} adopted that"),
    _REASON.UNFETCHED: Words("olive", "Handed over unfetched"),
    _REASON.WITHDRAWN: Words(
        "indigo", "Hand-over withdrawn", "It went back to {to}, which had not stopped it when {source} was to get it"
    ),
    _REASON.RETURNED: Words(
        "navy", "Returned", "It went back to {to}, which was lost and reported again before {source} had fetched it",
        grouping=Grouping.NODES,
    ),
}  # fmt: skip
# For reasons of a later release, whose moves stay in the ledger after a rollback.
_UNKNOWN = Words("grey", "", "It went to {to}")


def words(reason: str) -> Words:
    """Return the wording of a reason, also of one that this release does not know."""
    return _OF_REASON.get(reason) or _UNKNOWN._replace(title=reason.capitalize())
