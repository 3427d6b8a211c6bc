"""What needs somebody: how many, why, since when, and where to look. Pure queries; nothing is kept."""

import enum
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Count, F, Min, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Extract, Now

from checks import dispatcher
from checks.dispatcher.turns import entries_of
from checks.eligibility import Eligibility, candidates
from checks.models import ClusterStore, Config, Instance, Source
from checks.orders import Isolation, Pause, Pin
from checks.querysets import ConfigQuerySet
from checks.scrub import scrub
from checks.troubles import MOST_CHARACTERS, Trouble, error_line
from clusteragent.lib import conf
from clusteragent.lib.admin import duration, list_url, numbered, row_url
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Node, RunnerStats

# Passes run each second.
STALE_PASS = timedelta(seconds=10)
# A node agent polls every ten seconds.
LATE_ACKNOWLEDGEMENT = timedelta(seconds=30)
# Runners are asked each minute.
TWO_ROUNDS = timedelta(seconds=90)
# Of how many things a line says the names.
NAMED = 3


class Kind(enum.StrEnum):
    """What can need somebody, the gravest first."""

    NO_PASS = enum.auto()
    SECRET_DIFFERS = enum.auto()
    BRAKE = enum.auto()
    WARMUP = enum.auto()
    UNSCHEDULED = enum.auto()
    DANGLING = enum.auto()
    FAILING = enum.auto()
    NOT_RUNNING = enum.auto()
    QUARANTINED = enum.auto()
    SLOW = enum.auto()
    SILENT = enum.auto()
    UNACKNOWLEDGED = enum.auto()
    PIN_ASTRAY = enum.auto()
    PAUSE_OVERDUE = enum.auto()
    SOURCE_ERROR = enum.auto()
    HELD_REMOVALS = enum.auto()


_TROUBLES = {
    Kind.FAILING: "The last run of {} failed.",
    Kind.NOT_RUNNING: "{}: not among the checks that its node runs.",
    Kind.SLOW: "{}: a run takes longer than the time between two, so it runs less often than it should.",
}


@dataclass(frozen=True)
class Need:
    """One line. subject: which of its kind it is, where a kind has several. now: when it was found, by the database's clock."""

    kind: Kind
    count: int
    cause: str
    link: str
    now: datetime
    since: datetime | None = None
    subject: str = ""

    @property
    def key(self) -> str:
        """The same for as long as the same thing needs somebody."""
        return f"{self.kind}:{self.subject}" if self.subject else str(self.kind)

    @property
    def age(self) -> timedelta | None:
        """For how long it has needed somebody; None when that is not known."""
        return None if self.since is None else max(self.now - self.since, timedelta(0))


def lines(differing: Sequence[str] = ()) -> list[Need]:
    """All that needs somebody now, the gravest first. differing: the secrets of this replica that are not the leader's."""
    hearing: Any = Hearing.objects.annotate(now=Now()).get()
    found = [
        *_of_passes(hearing),
        *_of_secrets(differing, hearing.now),
        *_of_configs(hearing),
        *_of_checks(hearing.now),
        *_of_nodes(hearing.now),
        *_of_orders(hearing.now),
        *_of_sources(hearing.now),
    ]
    order = list(Kind)
    return sorted(found, key=lambda need: order.index(need.kind))


def unacknowledged() -> QuerySet[Node]:
    """Nodes that are heard, but for 30 s have not fetched the last change of their configs.

    A version is the time of its change in nanoseconds, so it tells its own age.
    """
    heard = Node.objects.expected().exclude(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    outdated = heard.exclude(heartbeat__acknowledged=F("config_version"))
    return outdated.filter(config_version__gt=0, config_version__lt=Extract(ago(LATE_ACKNOWLEDGEMENT), "epoch") * 10**9)


def _of_passes(hearing: Any) -> Iterator[Need]:
    url, now = list_url(ClusterStore), hearing.now
    if _is_stale(hearing):
        cause = "No background pass runs: no node expires, nothing is re-dispatched."
        yield Need(Kind.NO_PASS, 1, cause, url, now, hearing.last_pass)
    if hearing.braked_since:
        cause = "Too many nodes fell silent at once to believe it: none expires."
        yield Need(Kind.BRAKE, 1, cause, url, now, hearing.braked_since)
    if hearing.warmup:
        yield Need(Kind.WARMUP, 1, f"Warm-up: nothing is placed yet. {_warmup(hearing)}", url, now)


def _warmup(hearing: Any) -> str:
    if hearing.warm_until is None:
        return "It waits for the first node to report and for each source to be read."
    return f"{duration(max(hearing.warm_until - hearing.now, timedelta(0)))} left."


def _is_stale(hearing: Any) -> bool:
    return hearing.last_pass is None or hearing.now - hearing.last_pass > STALE_PASS


def _of_secrets(differing: Sequence[str], now: datetime) -> Iterator[Need]:
    for secret in differing:
        cause = f"On this replica {secret} is not the leader's."
        yield Need(Kind.SECRET_DIFFERS, 1, cause, list_url(ClusterStore), now, subject=secret)


def _of_configs(hearing: Any) -> Iterator[Need]:
    groups = Config.objects.dangling().order_by().values_list("unscheduled")
    for unscheduled, count, since in groups.annotate(Count("pk"), Min("dangling_since")):
        kind = Kind.UNSCHEDULED if unscheduled else Kind.DANGLING
        group = Config.objects.filter(unscheduled=unscheduled)
        yield Need(kind, count, _why_dangling(hearing, group), list_url(Config, owner="dangling"), hearing.now, since)


def _why_dangling(hearing: Any, group: ConfigQuerySet) -> str:
    if hearing.warmup:
        return "Nothing is placed before the warm-up is over."
    if _is_stale(hearing):
        return "No background pass runs that could place them."
    if not Node.objects.accepting().exists():
        return _why_none_accepts()
    if group.lost_since(ago(dispatcher.NO_PILE_UP)).exists():
        return "Their node is gone and the others are as full as they may get at once: they follow within a minute."
    return _why_refused(group)


def _why_refused(group: ConfigQuerySet) -> str:
    """Why no node takes that of a group which has dangled for longest. It may have been placed by now."""
    oldest = group.dangling().order_by("dangling_since", "pk").values_list("pk", flat=True)
    eligibility = Eligibility(candidates(Node.objects.accepting()))
    for entry in entries_of(list(oldest[:1])):
        refusals = Counter(eligibility.refusals(entry).values())
        if refusals and refusals.total() == len(eligibility.nodes):
            [(why, _)] = refusals.most_common(1)
            return f"No node may run {entry.name}: {why}."
        return f"The nodes that may run {entry.name} have no room."
    return "They are about to be placed."


def _why_none_accepts() -> str:
    known = Node.objects.known()
    silent = known.silent()
    counts = (
        (silent.count(), "silent"),
        (known.filter(schedulable=False).exclude(pk__in=silent.values("pk")).count(), "cordoned"),
    )
    found = " and ".join(f"{number} {state}" for number, state in counts if number)
    return f"No node can take work: {found or 'none reports'}."


def _of_checks(now: datetime) -> Iterator[Need]:
    """What runners told in the last round of stats."""
    for kind, cause in _TROUBLES.items():
        troubles = Trouble.objects.current().filter(kind=kind)
        if kind == Kind.NOT_RUNNING:
            # An agent that has just restarted tells nothing of checks that it is about to run.
            troubles = troubles.filter(since__lt=ago(TWO_ROUNDS))
        count, since = troubles.aggregate(count=Count("pk"), since=Min("since")).values()
        if count:
            text = cause.format(_checks(troubles))
            error = _last_error(troubles) if kind == Kind.FAILING else ""
            yield Need(kind, count, f"{text} {error}".strip(), list_url(Config, trouble=str(kind)), now, since)


def _checks(found: QuerySet[Any]) -> str:
    """The first names of the checks that these rows are about."""
    names = found.order_by("config__name").values_list("config__name", flat=True).distinct()
    return _listed(_some(list(map(scrub, names[: NAMED + 1]))))


def _some(names: list[str]) -> list[str]:
    """The first names, and that there are others."""
    return names if len(names) <= NAMED else [*names[:NAMED], "others"]


def _last_error(troubles: QuerySet[Trouble]) -> str:
    """What the runner told of the check that has failed for longest."""
    longest = troubles.order_by("since", "pk").values("config")[:1]
    check_ids = Instance.objects.filter(config=longest).values("check_id")
    stats = RunnerStats.objects.filter(check_id__in=check_ids, failed=True).exclude(last_error="")
    return error_line(stats.values_list("last_error", flat=True).first() or "")


def _of_nodes(now: datetime) -> Iterator[Need]:
    nodes = Node.objects.expected().silent()
    count, since = nodes.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        cause = f"{_named(nodes, count)} not heard."
        yield Need(Kind.SILENT, count, cause, list_url(Node, state="silent"), now, since)
    late = unacknowledged()
    count, version = late.aggregate(count=Count("pk"), version=Min("config_version")).values()
    if count:
        cause = f"{_named(late, count)} heard, but did not fetch the last change of the configs."
        since = datetime.fromtimestamp(version / 10**9, UTC)
        yield Need(Kind.UNACKNOWLEDGED, count, cause, list_url(Node, acknowledged="late"), now, since)


def _of_orders(now: datetime) -> Iterator[Need]:
    alone = Isolation.objects.filter(reason=Isolation.Reason.QUARANTINED, config__isnull=False)
    count, since = alone.aggregate(count=Count("pk"), since=Min("time")).values()
    if count:
        cause = f"{_checks(alone)}: alone on a node, since the nodes that ran it died."
        yield Need(Kind.QUARANTINED, count, cause, list_url(Config, order="isolated"), now, since)
    if astray := _astray():
        aims = _listed(_some([str(pin) for pin, _ in astray]))
        cause = f"Pinned to {aims}: there is no such node now, so they run elsewhere, or wait."
        count = sum(number for _, number in astray)
        yield Need(Kind.PIN_ASTRAY, count, cause, list_url(Config, order="astray"), now)
    overdue = Pause.objects.filter(until__lt=ago(STALE_PASS), config__isnull=False)
    count, since = overdue.aggregate(count=Count("pk"), since=Min("until")).values()
    if count:
        cause = f"{_checks(overdue)}: the pause is over, and nobody resumed it."
        yield Need(Kind.PAUSE_OVERDUE, count, cause, list_url(Config, order="paused"), now, since)


def pins_astray() -> QuerySet[Pin]:
    """Pins of configs that aim where no known node is."""
    aims = Q(pk__in=[])
    for pin, _ in _astray():
        aims |= Q(kind=pin.kind, aim=pin.aim)
    found: QuerySet[Pin] = Pin.objects.in_force().filter(aims, config__isnull=False)
    return found


def _astray() -> list[tuple[Pin, int]]:
    """Where no known node is and pins aim at, and how many do."""
    pins = Pin.objects.in_force().filter(config__isnull=False).order_by("aim").values_list("kind", "aim")
    aims = [(Pin(kind=kind, aim=aim), number) for kind, aim, number in pins.annotate(Count("pk"))]
    nodes = dict(Node.objects.known().values_list("name", "labels")) if aims else {}
    return [
        (pin, number)
        for pin, number in aims
        if pin.aim not in nodes and not any(pin.matches(name, labels) for name, labels in nodes.items())
    ]


def _named(nodes: QuerySet[Node], count: int) -> str:
    """The first names, how many more there are, and the verb that follows."""
    names = list(nodes.order_by("name").values_list("name", flat=True)[:NAMED])
    if count > len(names):
        names.append(f"{count - len(names)} more")
    return f"{_listed(names)} {'is' if count == 1 else 'are'}"


def _listed(names: Sequence[str]) -> str:
    """`ash`, `ash and birch`, `ash, birch and cedar`; nothing of nothing, which there may be by now."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _of_sources(now: datetime) -> Iterator[Need]:
    troubled: Any = Source.objects.with_counts().filter(Q(errors_number__gt=0) | Q(held_removals_number__gt=0))
    first = {field: KT(f"errors__0__{field}") for field in ("where", "line", "error")}
    for source in troubled.annotate(**first).order_by("name"):
        if source.errors_number:
            place = f"{source.where}:{source.line}" if source.line else source.where
            cause = f"Source {source.name}, {place}: {source.error[:MOST_CHARACTERS]}"
            yield Need(Kind.SOURCE_ERROR, source.errors_number, cause, row_url(source), now, subject=source.name)
        if source.held_removals_number:
            held = numbered(source.held_removals_number, "removal")
            cause = f"Source {source.name}: {held} held until the files are back or someone accepts that."
            yield Need(
                Kind.HELD_REMOVALS, source.held_removals_number, cause, row_url(source), now, subject=source.name
            )
