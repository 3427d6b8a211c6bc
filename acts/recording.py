"""Records what people do. An entrance says who acts, how and from where; the verbs say what is done.

Nothing is recorded outside of an entrance: what the leader does by itself is in the ledger and in the events of nodes.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import structlog
from django.db import transaction

from acts.models import Act
from clusteragent.lib.logs import RateLimit
from clusteragent.lib.scrub import scrub_value
from clusteragent.lib.words import escape_controls

log = structlog.get_logger()

# The longest text of an act: a reason or an object.
MOST = 10_000
# So many refusals of a person each process puts on record in an hour: who goes on asking must not fill the table.
MOST_REFUSED = 300
_refused: defaultdict[str, RateLimit] = defaultdict(lambda: RateLimit(MOST_REFUSED, seconds=3600))


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Entrance:
    """Who acts: person() is asked when something is recorded, since a call may name its user later than it begins.

    credential(): by what the person was known, without secrets.
    """

    how: str
    address: str
    person: Callable[[], str]
    credential: Callable[[], str] = _nothing


_entrance: ContextVar[Entrance | None] = ContextVar("entrance", default=None)
_is_dry: ContextVar[bool] = ContextVar("is_dry", default=False)


@contextmanager
def entered(
    how: str, address: str, person: Callable[[], str], credential: Callable[[], str] = _nothing
) -> Iterator[None]:
    """Within it, what is recorded is recorded of this person, who was known by this credential."""
    before = _entrance.set(Entrance(how, address, person, credential))
    try:
        yield
    finally:
        _entrance.reset(before)


@contextmanager
def known_as(name: str) -> Iterator[None]:
    """Within it, what is recorded is recorded of this name: who it is was just found out."""
    entrance = _entrance.get()
    before = _entrance.set(entrance and replace(entrance, person=lambda: name))
    try:
        yield
    finally:
        _entrance.reset(before)


@contextmanager
def dry_run() -> Iterator[None]:
    """Within it nothing is recorded: a dry run is no act, also one that is refused.

    Whoever lacks the permission to act at all is told so, on record, before it is known whether it was one.
    """
    before = _is_dry.set(True)
    try:
        yield
    finally:
        _is_dry.reset(before)


def someone_acts() -> bool:
    """Whether a person is behind what is done now, and does it. Ask before reading what only an act tells."""
    return _entrance.get() is not None and not _is_dry.get()


def person() -> str:
    """The name of who acts now; empty for a stranger and outside of an entrance."""
    entrance = _entrance.get()
    return entrance.person() if entrance else ""


def record(
    verb: str,
    what: str,
    *,
    before: Any = None,
    after: Any = None,
    plan: int | None = None,
    reason: str = "",
    configs: Collection[int] = (),
    nodes: Collection[str] = (),
) -> None:
    """Record an act in the present transaction, without secrets, and log it once that is committed.

    Outside of an entrance and in a dry run nothing is recorded, and of refusals so many of a person. what: the object, in
    words. configs, nodes: on whose pages the act is shown.
    """
    entrance = _entrance.get()
    if entrance is None or _is_dry.get():
        return
    if verb == Act.Verb.REFUSE:
        more = _refused[entrance.person()].take()
        if more is None:
            return
        after = {"more": more} if more and after is None else after
    about = {"configs": sorted(configs), "nodes": sorted(nodes)}
    told = {
        "person": escape_controls(entrance.person())[:253],
        "how": entrance.how,
        "address": entrance.address[:253],
        "credential": escape_controls(hidden(entrance.credential()))[:253],
        "verb": verb,
        "object": escape_controls(hidden(what))[:MOST],
        "before": hidden(before),
        "after": hidden(after),
        "plan": plan,
        "reason": escape_controls(hidden(reason))[:MOST],
    }
    act = Act.objects.create(**told, about={name: listed for name, listed in about.items() if listed})
    transaction.on_commit(lambda: log.info("act", id=act.pk, **told))


def hidden(value: Any, key: str = "") -> Any:
    """Return JSON data, or a text, without secrets."""
    if isinstance(value, dict):
        return {str(name): hidden(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(inner, key) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub_value(key, str(value))
