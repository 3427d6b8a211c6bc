"""Records what people do. An entrance says who acts, how and from where; the verbs say what is done.

Nothing is recorded outside of an entrance: what the leader does by itself is in the ledger and in the events of nodes.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from django.db import DatabaseError, transaction

from acts.models import Act
from clusteragent.lib.logs import RateLimit
from clusteragent.lib.scrub import scrub_value
from clusteragent.lib.words import escape_controls

log = structlog.get_logger()

# The longest text of an act: a reason or an object.
MOST = 10_000
# So many characters of what was foreseen are kept, and so many of its configs have the act on their pages.
MOST_FORESEEN, MOST_ABOUT = 20_000, 100
# So many refusals of a person each process puts on record in an hour: who goes on asking must not fill the table.
MOST_REFUSED = 300
_refused: defaultdict[str, RateLimit] = defaultdict(lambda: RateLimit(MOST_REFUSED, seconds=3600))


def _nothing() -> str:
    return ""


@dataclass
class Foreseen:
    """What was foreseen of what is done now. told: JSON data. configs, nodes: ids and names of those that it changes."""

    told: dict[str, Any] | None = None
    configs: Sequence[int] = ()
    nodes: Sequence[str] = ()


@dataclass(frozen=True)
class Entrance:
    """Who acts: person() is asked when something is recorded, since a call may name its user later than it begins.

    credential(): by what the person was known, without secrets.
    """

    how: str
    address: str
    person: Callable[[], str]
    credential: Callable[[], str] = _nothing
    foreseen: Foreseen = field(default_factory=Foreseen)


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


def foresee(
    sentences: Iterable[str],
    *,
    worse: Iterable[str] = (),
    tables: Mapping[str, Sequence[Sequence[str]]] = {},
    configs: Sequence[int] = (),
    nodes: Sequence[str] = (),
) -> None:
    """Let all that is recorded through this entrance from now on say that this was foreseen when it was done.

    worse: what is bad about it. tables: {title: rows of words}; of long ones the first rows. configs, nodes: the ids and names of
    those that it changes. On their pages, of many on the first ones', the acts are shown.
    """
    if entrance := _entrance.get():
        # A title is no key: it may name a user or a config, `api-key`, and what stands below it is no secret for that.
        rows = {hidden(title): hidden(cells) for title, cells in tables.items()}
        told = {"worse": hidden(list(worse)), "sentences": hidden(list(sentences)), "tables": rows}
        entrance.foreseen.told = _bounded({name: said for name, said in told.items() if said}) or None
        concern(configs, nodes)


def concern(configs: Sequence[int], nodes: Sequence[str]) -> None:
    """Let all that is recorded through this entrance from now on be shown on the pages of these, too: of the first of many."""
    if entrance := _entrance.get():
        entrance.foreseen.configs, entrance.foreseen.nodes = configs[:MOST_ABOUT], nodes[:MOST_ABOUT]


def _bounded(told: Any) -> Any:
    """What was foreseen, as far as MOST_FORESEEN characters reach."""
    left = MOST_FORESEEN

    def kept(value: Any) -> Any:
        nonlocal left
        if isinstance(value, dict):
            return {name: kept(inner) for name, inner in value.items() if left > 0}
        if isinstance(value, list | tuple):
            return [kept(inner) for inner in value if left > 0]
        text = escape_controls(value)[: max(left, 0)]
        left -= len(text)
        return text

    return kept(told)


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
    foreseen = entrance.foreseen
    about = {"configs": sorted({*configs, *foreseen.configs}), "nodes": sorted({*nodes, *foreseen.nodes})}
    told = {
        "person": escape_controls(entrance.person())[:253],
        "how": entrance.how,
        "address": entrance.address[:253],
        "credential": escape_controls(hidden(entrance.credential()))[:253],
        "verb": verb,
        "object": escape_controls(hidden(what))[:MOST],
        "before": hidden(before),
        "after": hidden(after),
        "foreseen": foreseen.told,
        "plan": plan,
        "reason": escape_controls(hidden(reason))[:MOST],
    }
    act = Act.objects.create(**told, about={name: listed for name, listed in about.items() if listed})
    transaction.on_commit(lambda: log.info("act", id=act.pk, **told))


@dataclass
class Outcome:
    """What a deed has done so far: `told` as JSON data, and on whose pages it is shown."""

    told: dict[str, Any] = field(default_factory=dict)
    configs: set[int] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)


@contextmanager
def deed(verb: str, what: str, *, before: Any = None, after: Any = None, is_begun: bool = False) -> Iterator[Outcome]:
    """Record what takes several transactions by two acts: one before the first, one that says what came of it, or why it failed.

    There is no second one if nothing came of it. is_begun: the first one is recorded already. Call it outside of transactions.
    """
    if not is_begun:
        record(verb, what, before=before, after=after)
    outcome = Outcome()
    try:
        yield outcome
    except Exception as error:
        _record_outcome(verb, f"{what}: failed", outcome, reason=f"{error}" or type(error).__name__)
        raise
    if outcome.told:
        _record_outcome(verb, f"{what}: done", outcome)


def _record_outcome(verb: str, what: str, outcome: Outcome, reason: str = "") -> None:
    try:
        record(verb, what, after=outcome.told, reason=reason, configs=outcome.configs, nodes=outcome.nodes)
    except DatabaseError:
        # What failed may have been the database. That it was begun is on record.
        log.exception("outcome_without_act", verb=verb)


def hidden(value: Any, key: str = "") -> Any:
    """Return JSON data, or a text, without secrets."""
    if isinstance(value, dict):
        return {str(name): hidden(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(inner, key) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return scrub_value(key, str(value))
