"""What needs somebody: how many, why, since when, and where to look. Pure queries; nothing is kept."""

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Exists, F, Min, Model, OuterRef, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Extract, Now

from checks import dispatcher
from checks.dispatcher.eligibility import Reason, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.models import Assignment, ClusterStore, Config, Instance, Source
from checks.models.configs import ConfigQuerySet
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin
from checks.models.troubles import MOST_CHARACTERS, Trouble, error_line
from checks.wire import lint
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import duration, numbered
from nodes.models import Hearing, Node, NodeEvent, Runner, RunnerStats
from nodes.models.events import SAID_AGAIN_AFTER
from nodes.models.hearing import is_stale
from nodes.models.nodes import BRAKE_HOLDS
from nodes.newcomers import AN_HOUR

# A pass resumes what is due, and one runs each second.
LATE_RESUMING = timedelta(seconds=10)
# A node agent polls every ten seconds.
LATE_ACKNOWLEDGEMENT = timedelta(seconds=30)
# Runners are asked each minute.
TWO_ROUNDS = timedelta(seconds=90)
# More node agents for each runner than these, and it is odd that runners get everything: anybody can say that it is one.
AGENTS_PER_RUNNER = 4
# Refusals go on until so long after the last one: they are written down each ten seconds.
REFUSED_LATELY = timedelta(minutes=2)
# A node that declares something else so often in ten minutes is two, or somebody speaks in its name.
MOST_DECLARATIONS = 4
# Of how many things a line says the names.
NAMED = 3


class Kind(enum.StrEnum):
    """What can need somebody, the gravest first."""

    NO_PASS = enum.auto()
    SECRET_DIFFERS = enum.auto()
    BRAKE = enum.auto()
    NONE_ACCEPTS = enum.auto()
    DEAD_OWNER = enum.auto()
    WARMUP = enum.auto()
    UNSCHEDULED = enum.auto()
    DANGLING = enum.auto()
    FAILING = enum.auto()
    NOT_RUNNING = enum.auto()
    QUARANTINED = enum.auto()
    SLOW = enum.auto()
    SILENT = enum.auto()
    UNACKNOWLEDGED = enum.auto()
    CONTESTED = enum.auto()
    CLAMPED = enum.auto()
    FEW_RUNNERS = enum.auto()
    NAMES_REFUSED = enum.auto()
    LOOKS_ALIKE = enum.auto()
    PIN_ASTRAY = enum.auto()
    PAUSE_OVERDUE = enum.auto()
    SOURCE_ERROR = enum.auto()
    HELD_REMOVALS = enum.auto()
    FROZEN = enum.auto()
    SOURCE_WARNING = enum.auto()


_TROUBLES = {
    Kind.FAILING: "The last run of {} failed.",
    Kind.NOT_RUNNING: "{}: not among the checks that its node runs.",
    Kind.SLOW: "{}: a run takes longer than the time between two, so it runs less often than it should.",
}


class Target(NamedTuple):
    """What a line is about: rows of a model, filtered as its list in the admin is ({parameter: value}), or one row by its key."""

    model: type[Model]
    query: Mapping[str, str]
    pk: Any = None


@dataclass(frozen=True)
class Need:
    """One line. subject: which of its kind it is, where a kind has several. now: when it was found, by the database's clock."""

    kind: Kind
    count: int
    cause: str
    target: Target
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


def _rows(model: type[Model], **query: str) -> Target:
    return Target(model, query)


def _row(row: Model) -> Target:
    return Target(type(row), {}, row.pk)


def lines(differing: Sequence[str] = ()) -> list[Need]:
    """All that needs somebody now, the gravest first. differing: the secrets of this replica that are not the leader's."""
    hearing = _hearing()
    return _by_gravity(
        *_of_the_whole(hearing, differing),
        *_of_configs(hearing),
        *_of_checks(hearing.now),
        *_of_nodes(hearing.now),
        *_of_names(hearing),
        *_of_orders(hearing.now),
        *_of_freezes(hearing.now),
    )


def gravest(differing: Sequence[str] = ()) -> list[Need]:
    """Of `lines`, what stops the cluster as a whole or what its sources send: few queries, for the top of every page."""
    found = _of_the_whole(_hearing(), differing)
    return _by_gravity(*(need for need in found if need.kind != Kind.SOURCE_WARNING))


def _hearing() -> Any:
    return Hearing.objects.annotate(now=Now()).get()


def _by_gravity(*found: Need) -> list[Need]:
    order = list(Kind)
    return sorted(found, key=lambda need: order.index(need.kind))


def _of_the_whole(hearing: Any, differing: Sequence[str]) -> Iterator[Need]:
    yield from _of_passes(hearing)
    yield from _of_the_pool(hearing.now)
    yield from _of_secrets(differing, hearing.now)
    yield from _of_sources(hearing.now)


def unacknowledged() -> QuerySet[Node]:
    """Nodes that are heard, but for 30 s have not fetched the last change of their configs.

    A version is the time of its change in nanoseconds, so it tells its own age.
    """
    heard = Node.objects.expected().exclude(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    outdated = heard.exclude(heartbeat__acknowledged=F("config_version"))
    return outdated.filter(config_version__gt=0, config_version__lt=Extract(ago(LATE_ACKNOWLEDGEMENT), "epoch") * 10**9)


def _of_passes(hearing: Any) -> Iterator[Need]:
    cluster, now = _rows(ClusterStore), hearing.now
    if is_stale(hearing):
        cause = "No background pass runs: no node expires, nothing is re-dispatched."
        yield Need(Kind.NO_PASS, 1, cause, cluster, now, hearing.last_pass)
    if hearing.braked_since:
        cause = "Too many nodes fell silent, or said goodbye, at once to believe it: none expires."
        yield Need(Kind.BRAKE, 1, cause, cluster, now, hearing.braked_since)
    if hearing.warmup:
        yield Need(Kind.WARMUP, 1, f"Warm-up: nothing is placed yet. {warmup(hearing)}", cluster, now)


def warmup(hearing: Any) -> str:
    """What a warm-up waits for, as a sentence. hearing: with `now`."""
    if hearing.warm_until is None:
        return "It waits for the first node to report and for each source to be read."
    return f"{duration(max(hearing.warm_until - hearing.now, timedelta(0)))} left."


def _of_secrets(differing: Sequence[str], now: datetime) -> Iterator[Need]:
    for secret in differing:
        cause = f"On this replica {secret} is not the leader's."
        yield Need(Kind.SECRET_DIFFERS, 1, cause, _rows(ClusterStore), now, subject=secret)


def _of_configs(hearing: Any) -> Iterator[Need]:
    groups = Config.objects.dangling().order_by().values_list("unscheduled")
    for unscheduled, count, since in groups.annotate(Count("pk"), Min("dangling_since")):
        kind = Kind.UNSCHEDULED if unscheduled else Kind.DANGLING
        group = Config.objects.filter(unscheduled=unscheduled)
        yield Need(kind, count, _why_dangling(hearing, group), _rows(Config, owner="dangling"), hearing.now, since)


def _why_dangling(hearing: Any, group: ConfigQuerySet) -> str:
    if hearing.warmup:
        return "Nothing is placed before the warm-up is over."
    if is_stale(hearing):
        return "No background pass runs that could place them."
    if not Node.objects.accepting().exists():
        return _why_none_accepts()
    if group.lost_since(ago(dispatcher.NO_PILE_UP)).exists():
        return "Their node is gone and the others are as full as they may get at once: they follow within a minute."
    return _why_refused(group)


def _why_refused(group: ConfigQuerySet) -> str:
    """Why no node takes that of a group which has dangled for longest. It may have been placed by now."""
    oldest = group.dangling().order_by("dangling_since", "pk").values_list("pk", flat=True)
    snapshot = read_snapshot()
    for entry in entries_of(list(oldest[:1])):
        snapshot.read_origins([entry])
        refusals = [snapshot.refusal(entry, node) for node in snapshot.nodes if not snapshot.node_refusal(node)]
        reasons = Counter(str(why) for why in refusals if why and why.reason != Reason.FULL)
        if refusals and reasons.total() == len(refusals):
            [(why, _)] = reasons.most_common(1)
            return f"No node may run {entry.name}: {why}."
        return f"The nodes that may run {entry.name} have no room."
    return "They are about to be placed."


def _why_none_accepts() -> str:
    counts: Counter[str] = Counter()
    states = Node.objects.with_signal().order_by().values_list("signal", "intake").annotate(Count("pk"))
    for signal, intake, number in states:
        counts["silent" if signal in ("silent", "overdue") else "cordoned" if intake == "draining" else intake] += (
            number
        )
    words = ("silent", "cordoned", "leaving", "restarting")
    found = _listed([f"{counts[word]} {word}" for word in words if counts[word]])
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
            yield Need(kind, count, f"{text} {error}".strip(), _rows(Config, trouble=str(kind)), now, since)


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


def dead_owners() -> QuerySet[Node]:
    """Nodes with checks that have been silent for longer than the timeout, the brake and another timeout take together."""
    dead = Node.objects.known().filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT * (2 + BRAKE_HOLDS)))
    found: QuerySet[Node] = dead.filter(Exists(Assignment.objects.filter(node=OuterRef("pk"))))
    return found


def contested() -> QuerySet[Node]:
    """Known nodes in whose names more than one seems to report: from two addresses in turn, or with other declarations."""
    lately = NodeEvent.objects.filter(node_name=OuterRef("name"), time__gte=ago(SAID_AGAIN_AFTER))
    at_two = lately.filter(kind=NodeEvent.Kind.TWO_ADDRESSES)
    declared = lately.filter(kind=NodeEvent.Kind.DECLARED).order_by("-id").values("pk")
    torn = Exists(declared[MOST_DECLARATIONS : MOST_DECLARATIONS + 1])
    # The names first: there are few such events, and very many nodes.
    kinds = (NodeEvent.Kind.TWO_ADDRESSES, NodeEvent.Kind.DECLARED)
    names = NodeEvent.objects.filter(kind__in=kinds, time__gte=ago(SAID_AGAIN_AFTER)).order_by().values("node_name")
    found: QuerySet[Node] = Node.objects.known().filter(Exists(at_two) | torn, name__in=names)
    return found


def _of_the_pool(now: datetime) -> Iterator[Need]:
    """Nobody who takes work, and who has work but is dead: nothing dangles then, and yet checks run nowhere."""
    if not Node.objects.accepting().exists() and Node.objects.known().exists():
        cause = f"{_why_none_accepts()} No check can be placed, and no node expires."
        yield Need(Kind.NONE_ACCEPTS, 1, cause, _rows(Node), now)
    dead = dead_owners()
    count, since = dead.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        stuck = Assignment.objects.filter(node__in=dead).count()
        cause = (
            f"{_named(dead, count)} dead for long, and still the owner of {numbered(stuck, 'check')}: nobody runs them."
        )
        yield Need(Kind.DEAD_OWNER, count, cause, _rows(Node, state="silent"), now, since)


def _of_nodes(now: datetime) -> Iterator[Need]:
    nodes = Node.objects.expected().silent()
    count, since = nodes.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        cause = f"{_named(nodes, count)} not heard."
        yield Need(Kind.SILENT, count, cause, _rows(Node, state="silent"), now, since)
    late = unacknowledged()
    count, version = late.aggregate(count=Count("pk"), version=Min("config_version")).values()
    if count:
        cause = f"{_named(late, count)} heard, but did not fetch the last change of the configs."
        since = datetime.fromtimestamp(version / 10**9, UTC)
        yield Need(Kind.UNACKNOWLEDGED, count, cause, _rows(Node, acknowledged="late"), now, since)
    torn = contested()
    if count := torn.count():
        names = _listed(_some(list(torn.order_by("name").values_list("name", flat=True)[: NAMED + 1])))
        cause = f"{names}: more than one seems to report in that name, from two addresses or with other declarations."
        yield Need(Kind.CONTESTED, count, cause, _rows(NodeEvent), now)
    if conf.PLACEMENT_PREFER == "runners":
        few = Node.objects.runners()
        count, agents = few.count(), Node.objects.known().count() - few.count()
        if 0 < count * AGENTS_PER_RUNNER < agents:
            cause = (
                f"{_named(few, count)} the only cluster check {'runner' if count == 1 else 'runners'}, so {agents} node agents"
                " get nothing new, and what they have moves away bit by bit. See CLUSTERAGENT_PLACEMENT_PREFER."
            )
            yield Need(Kind.FEW_RUNNERS, count, cause, _rows(Node, type="runner"), now)
    runners = Runner.objects.clamped().order_by("node__name")
    if count := runners.count():
        told = "; ".join(f"{name}: {what}" for name, what in runners.values_list("node__name", "clamped")[:NAMED])
        cause = f"Runners tell what can't be, so it counts otherwise. {told}{'; others' if count > NAMED else ''}."
        yield Need(Kind.CLAMPED, count, cause, _rows(NodeEvent, kind__exact="clamped"), now)


def _of_names(hearing: Any) -> Iterator[Need]:
    """What is odd about how nodes are called, and about how many new names there are."""
    if hearing.names_refused_at and hearing.now - hearing.names_refused_at < REFUSED_LATELY:
        cause = (
            f"New names of nodes are refused: more than {conf.NEW_NODES_A_MINUTE} came within a minute, or"
            f" {AN_HOUR} times as many within an hour. If they are yours, raise CLUSTERAGENT_NEW_NODES_A_MINUTE."
        )
        yield Need(Kind.NAMES_REFUSED, 1, cause, _rows(Node), hearing.now, hearing.names_refused_at)
    alike = Node.objects.lookalikes()
    if count := alike.count():
        names = _listed(_some(list(alike.order_by("likeness", "name").values_list("name", flat=True)[: NAMED + 1])))
        cause = f"{names} look alike, and are different nodes: agents of one host, or somebody who wants to be taken for another."
        yield Need(Kind.LOOKS_ALIKE, count, cause, _rows(Node, alike="yes"), hearing.now)


def _of_orders(now: datetime) -> Iterator[Need]:
    alone = Isolation.objects.filter(reason=Isolation.Reason.QUARANTINED, config__isnull=False)
    count, since = alone.aggregate(count=Count("pk"), since=Min("time")).values()
    if count:
        cause = f"{_checks(alone)}: alone on a node, since the nodes that ran it died."
        yield Need(Kind.QUARANTINED, count, cause, _rows(Config, order="isolated"), now, since)
    if astray := _astray():
        aims = _listed(_some([str(pin) for pin, _ in astray]))
        cause = f"Pinned to {aims}: there is no such node now, so they run elsewhere, or wait."
        count = sum(number for _, number in astray)
        yield Need(Kind.PIN_ASTRAY, count, cause, _rows(Config, order="astray"), now)
    overdue = Pause.objects.filter(until__lt=ago(LATE_RESUMING), config__isnull=False)
    count, since = overdue.aggregate(count=Count("pk"), since=Min("until")).values()
    if count:
        cause = f"{_checks(overdue)}: the pause is over, and nobody resumed it."
        yield Need(Kind.PAUSE_OVERDUE, count, cause, _rows(Config, order="paused"), now, since)


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
    is_troubled = Q(errors_number__gt=0) | Q(held_removals_number__gt=0) | Q(warnings_number__gt=0)
    troubled: Any = Source.objects.with_counts().filter(is_troubled)
    first = {f"error_{field}": KT(f"errors__0__{field}") for field in ("where", "line", "error")}
    first |= {f"warning_{field}": KT(f"warnings__0__{field}") for field in ("where", "line", "warning")}
    for source in troubled.annotate(**first).order_by("name"):
        if source.errors_number:
            cause = _told(source, source.error_where, source.error_line, source.error_error)
            yield Need(Kind.SOURCE_ERROR, source.errors_number, cause, _row(source), now, subject=source.name)
        if source.held_removals_number:
            held = numbered(source.held_removals_number, "removal")
            cause = f"Source {source.name}: {held} held until the files are back or someone accepts that."
            yield Need(Kind.HELD_REMOVALS, source.held_removals_number, cause, _row(source), now, subject=source.name)
        if source.warnings_number:
            cause = _told(source, source.warning_where, source.warning_line, source.warning_warning)
            yield Need(Kind.SOURCE_WARNING, source.warnings_number, cause, _row(source), now, subject=source.name)


def _told(source: Source, where: str, line: str | None, what: str) -> str:
    """The first problem of a source."""
    return f"Source {source.name}, {lint.place(where, line)}: {what[:MOST_CHARACTERS]}"


def _of_freezes(now: datetime) -> Iterator[Need]:
    for freeze in Freeze.objects.in_force():
        note = f" ({scrub(freeze.note)[:MOST_CHARACTERS]})" if freeze.note else ""
        yield Need(
            Kind.FROZEN, 1, f"Nothing is balanced automatically: {freeze}{note}.", _row(freeze), now, freeze.time
        )
