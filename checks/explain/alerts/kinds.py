"""What an alert is: its kind, what that makes of the cluster, and where to look."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self

from django.db.models import Model, QuerySet

from checks.models import Config
from clusteragent.lib.words import grouped, grouped_count, listed, natural
from nodes.models import Node

# The most names that one alert lists.
NAMED = 3
# What began, or happened, within this time is new.
LATELY = timedelta(hours=1)


class Kind(enum.StrEnum):
    """The kinds of alerts, the most severe first."""

    NO_PASS = enum.auto()
    SECRET_DIFFERS = enum.auto()
    BRAKE = enum.auto()
    NONE_ACCEPTS = enum.auto()
    DEAD_OWNER = enum.auto()
    WARMUP = enum.auto()
    UNSCHEDULED = enum.auto()
    DANGLING = enum.auto()
    MANY_FAILING = enum.auto()
    MANY_NOT_RUNNING = enum.auto()
    MANY_NODES_LOST = enum.auto()
    MANY_VERY_SLOW = enum.auto()
    OVERLOADED = enum.auto()
    STARTING = enum.auto()
    FAILING = enum.auto()
    NOT_RUNNING = enum.auto()
    NODES_LOST = enum.auto()
    MANY_REMOVED = enum.auto()
    HELD_REMOVALS = enum.auto()
    VERY_SLOW_NODE = enum.auto()
    QUARANTINED = enum.auto()
    SLOW = enum.auto()
    SLOW_EVERYWHERE = enum.auto()
    SLOW_NODE = enum.auto()
    FLAPPING = enum.auto()
    SILENT = enum.auto()
    UNACKNOWLEDGED = enum.auto()
    WITHDRAWN = enum.auto()
    DRAIN_LATE = enum.auto()
    CONTESTED = enum.auto()
    CLAMPED = enum.auto()
    NO_STATS = enum.auto()
    RUNNER_CERTIFICATE = enum.auto()
    TOKEN_REFUSED = enum.auto()
    SHARED_TOKEN = enum.auto()
    TOKEN_ENDS = enum.auto()
    CERTIFICATE = enum.auto()
    ADOPTED = enum.auto()
    NO_HEADROOM = enum.auto()
    FEW_RUNNERS = enum.auto()
    NAMES_REFUSED = enum.auto()
    LOOKS_ALIKE = enum.auto()
    PIN_ASTRAY = enum.auto()
    PAUSE_OVERDUE = enum.auto()
    SOURCE_AWAY = enum.auto()
    SOURCE_ERROR = enum.auto()
    FROZEN = enum.auto()
    SOURCE_WARNING = enum.auto()


class Word(enum.StrEnum):
    """How the cluster is, in a word: the worst of what its alerts make it, and *healthy* without any."""

    HEALTHY = "Healthy"
    NEEDS_ATTENTION = "Needs attention"
    NOT_HEALTHY = "Not healthy"


# What each kind makes of the cluster. It is not healthy while somebody must get up at night: configs run nowhere or far too
# seldom, would not be placed again, or something broke that many share. docs/operations.md says of each kind why.
WORDS: Mapping[Kind, Word] = dict.fromkeys(Kind, Word.NEEDS_ATTENTION) | dict.fromkeys(
    (
        Kind.NO_PASS,
        Kind.BRAKE,
        Kind.NONE_ACCEPTS,
        Kind.DEAD_OWNER,
        Kind.WARMUP,
        Kind.UNSCHEDULED,
        Kind.DANGLING,
        Kind.MANY_FAILING,
        Kind.MANY_NOT_RUNNING,
        Kind.MANY_NODES_LOST,
        Kind.MANY_VERY_SLOW,
        Kind.OVERLOADED,
    ),
    Word.NOT_HEALTHY,
)


def word(found: Iterable["Alert"]) -> Word:
    """Return the word for a cluster with these alerts."""
    order = list(Word)
    return max((WORDS[alert.kind] for alert in found), key=order.index, default=Word.HEALTHY)


class Target(NamedTuple):
    """What an alert is about: the rows of a model that `query` ({parameter: value} of the admin list) selects, or one row."""

    model: type[Model]
    query: Mapping[str, str]
    pk: Any = None

    @classmethod
    def rows(cls, model: type[Model], **query: str) -> Self:
        """The rows of a model that the query of its list selects."""
        return cls(model, query)

    @classmethod
    def row(cls, row: Model) -> Self:
        """One row."""
        return cls(type(row), {}, row.pk)


@dataclass(frozen=True)
class Alert:
    """Something that needs an operator.

    count: how many rows it is about. since: when it began, if that is known. now: when it was found. Both are times of the
    database's clock. subject: tells apart several alerts of one kind, such as those of two sources. parts: what the cause names,
    each with what shows it.
    """

    kind: Kind
    count: int
    cause: str
    target: Target
    now: datetime
    since: datetime | None = None
    subject: str = ""
    parts: Sequence[tuple[str, Target]] = ()

    @property
    def key(self) -> str:
        """Identifies the alert for as long as it lasts."""
        return f"{self.kind}:{self.subject}" if self.subject else str(self.kind)

    @property
    def age(self) -> timedelta | None:
        """How long the alert has lasted; None when its beginning is not known."""
        return None if self.since is None else max(self.now - self.since, timedelta(0))


def some(names: Iterable[str]) -> str:
    """The first names as text, with `others` when there are more."""
    known = list(names)
    return listed(known if len(known) <= NAMED else [*known[:NAMED], "others"], None)


def configs_of(found: QuerySet[Any], count: int) -> str:
    """The first configs that so many rows are about, and how many more there are."""
    ids = list(found.order_by("config_id").values_list("config_id", flat=True)[:NAMED])
    names = sorted(map(str, Config.objects.only("name", "title", "digest").filter(pk__in=ids)), key=natural)
    more = [f"{grouped(count - len(names))} more"] if count > len(names) else []
    # Without names when they were over by the second question.
    return listed([*names, *more], None) if names else grouped_count(count, "config")


def named(nodes: QuerySet[Node], count: int) -> str:
    """The first names, how many more there are, and `is` or `are`."""
    names = list(nodes.order_by("name").values_list("name", flat=True)[:NAMED])
    if count > len(names):
        names.append(f"{count - len(names)} more")
    return f"{listed(names, None)} {'is' if count == 1 else 'are'}"
