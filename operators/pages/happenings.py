"""What is told in stories: moves, node events and acts, as they are read."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from clusteragent.lib import conf


class LedgerLine(NamedTuple):
    """A line of the ledger. promise: of its hand-over; handed_at: when that was done. rule: which the former node breaks.

    is_chosen: whether a node was chosen for it alone, and not with others to even out loads.
    """

    time: datetime
    id: int
    config: int
    source: str
    to: str
    reason: str
    actor: str
    promise: str = ""
    handed_at: datetime | None = None
    rule: str | None = None
    is_chosen: bool = False


class Older(NamedTuple):
    """Moves of one minute, counted and not read, that are alike in reason, actor, former node and rule. id: the first one's."""

    source: str
    reason: str
    actor: str
    id: int
    number: int
    time: datetime
    last: datetime
    rule: str | None = None
    is_chosen: bool = False


class Deed(NamedTuple):
    """An act by which somebody steers. object: what it was done to, in words.

    held: of accepted removals, {source: how many}.
    """

    id: int
    person: str
    verb: str
    object: str
    time: datetime
    held: Mapping[str, int] | None = None


class Event(NamedTuple):
    """A node event. heard_at: of an expiry, when the node was last heard, if that was noted."""

    id: int
    node: str
    kind: str
    cause: str
    time: datetime
    heard_at: datetime | None = None

    @property
    def silent_since(self) -> datetime:
        """Of an expiry: since when the node is silent, as far as is known. Older versions did not note it."""
        return self.heard_at or self.time - conf.NODE_EXPIRATION_TIMEOUT


class Cause(NamedTuple):
    """Why something happened. about: the pool, the node or the person."""

    kind: str
    about: str
