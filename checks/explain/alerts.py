"""Alerts: what needs an operator now, how many, why, since when, and where to look.

They are computed by queries each time; nothing is stored.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Exists, F, Min, Model, OuterRef, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Extract, Now

from checks import dispatcher
from checks.dispatcher import costs
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain import drains, headroom
from checks.explain.headroom import Headroom
from checks.models import Assignment, ClusterStore, Config, Cost, Origin, Source
from checks.models.configs import ConfigQuerySet
from checks.models.freezes import Freeze
from checks.models.handovers import Handover, deadline
from checks.models.orders import Isolation, Pause, Pin
from checks.models.titles import called
from checks.models.troubles import MOST_CHARACTERS, Trouble, error_line, put_handles_back
from checks.wire import lint
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import cut, duration, listed, milliseconds, percent, plain_count
from nodes.models import Hearing, Node, NodeEvent, Runner, Slowness
from nodes.models.events import SAID_AGAIN_AFTER
from nodes.models.hearing import is_stale
from nodes.models.nodes import BRAKE_HOLDS
from nodes.newcomers import AN_HOUR
from nodes.registration import FLAPPING_SPAN
from nodes.slowness import are_too_many

# A pass runs each second and resumes the pauses that are over.
LATE_RESUMING = timedelta(seconds=10)
# A node agent polls every ten seconds.
LATE_ACKNOWLEDGEMENT = timedelta(seconds=30)
# Runners are asked for stats each minute, so this is more than one round.
TWO_ROUNDS = timedelta(seconds=90)
# Alert when there are more node agents for each runner than this. Runners get all work, and any node may claim to be one.
AGENTS_PER_RUNNER = 4
# A refusal counts for so long after it was noted. Refusals are noted each ten seconds.
REFUSED_LATELY = timedelta(minutes=2)
# A node whose declaration changes more often than this in ten minutes is probably two nodes with one name.
MOST_DECLARATIONS = 4
# When more of the nodes than this, but at least two, come and go, it is not each for itself.
MANY_FLAPPING = 0.1
# A source that is watched counts as away when it was not read for so long.
AWAY = timedelta(minutes=1)
# The most names that one alert lists.
NAMED = 3


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
    VERY_SLOW_NODE = enum.auto()
    OVERLOADED = enum.auto()
    FAILING = enum.auto()
    NOT_RUNNING = enum.auto()
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
    ADOPTED = enum.auto()
    NO_HEADROOM = enum.auto()
    FEW_RUNNERS = enum.auto()
    NAMES_REFUSED = enum.auto()
    LOOKS_ALIKE = enum.auto()
    PIN_ASTRAY = enum.auto()
    PAUSE_OVERDUE = enum.auto()
    SOURCE_AWAY = enum.auto()
    SOURCE_ERROR = enum.auto()
    HELD_REMOVALS = enum.auto()
    FROZEN = enum.auto()
    SOURCE_WARNING = enum.auto()


class Word(enum.StrEnum):
    """How the cluster is, in a word: the worst of what its alerts make it, and *healthy* without any."""

    HEALTHY = "Healthy"
    NEEDS_ATTENTION = "Needs attention"
    NOT_HEALTHY = "Not healthy"


# What each kind makes of the cluster. It is not healthy while configs run nowhere or far too seldom, or would not be placed
# again.
WORDS: Mapping[Kind, Word] = dict.fromkeys(Kind, Word.NEEDS_ATTENTION) | dict.fromkeys(
    (
        Kind.NO_PASS,
        Kind.BRAKE,
        Kind.NONE_ACCEPTS,
        Kind.DEAD_OWNER,
        Kind.WARMUP,
        Kind.UNSCHEDULED,
        Kind.DANGLING,
        Kind.VERY_SLOW_NODE,
        Kind.OVERLOADED,
    ),
    Word.NOT_HEALTHY,
)


def word(found: Iterable["Alert"]) -> Word:
    """Return the word for a cluster with these alerts."""
    order = list(Word)
    return max((WORDS[alert.kind] for alert in found), key=order.index, default=Word.HEALTHY)


_TROUBLES = {
    Kind.FAILING: "The last run of {} failed.",
    Kind.NOT_RUNNING: "{}: not among the checks that its node runs.",
    Kind.SLOW: "{}: a run takes longer than the time between two, so it runs less often than it should.",
}


# What is so while adopted nodes do not know our address yet.
_BEFORE_THE_SWITCH = frozenset(
    {
        Kind.BRAKE,
        Kind.NONE_ACCEPTS,
        Kind.DEAD_OWNER,
        Kind.WARMUP,
        Kind.UNSCHEDULED,
        Kind.DANGLING,
        Kind.SILENT,
        Kind.NO_HEADROOM,
    }
)


class Target(NamedTuple):
    """What an alert is about: the rows of a model that `query` ({parameter: value} of the admin list) selects, or one row."""

    model: type[Model]
    query: Mapping[str, str]
    pk: Any = None


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


def _rows(model: type[Model], **query: str) -> Target:
    return Target(model, query)


def _row(row: Model) -> Target:
    return Target(type(row), {}, row.pk)


def current(differing: Sequence[str] = ()) -> list[Alert]:
    """Return all alerts, the most severe first. differing: names of this replica's secrets that differ from the leader's."""
    hearing = _hearing()
    return _by_gravity(
        *_of_the_cluster(hearing, differing),
        *_of_configs(hearing),
        *_of_checks(hearing.now),
        *_of_slow_checks(hearing.now),
        *_of_nodes(hearing.now),
        *_of_slow_nodes(hearing.now),
        *_of_flapping_nodes(hearing.now),
        *_of_overload(hearing.now),
        *_of_headroom(hearing.now, headroom.worst()),
        *_of_names(hearing),
        *_of_orders(hearing.now),
    )


def cluster_wide(differing: Sequence[str] = ()) -> list[Alert]:
    """Return the alerts about the whole cluster or a source, the most severe first. Few queries: every page shows these."""
    found = _of_the_cluster(_hearing(), differing)
    return _by_gravity(*(alert for alert in found if alert.kind != Kind.SOURCE_WARNING))


def _hearing() -> Any:
    return Hearing.objects.annotate(now=Now()).get()


def _by_gravity(*found: Alert) -> list[Alert]:
    order = list(Kind)
    left_out = _BEFORE_THE_SWITCH if any(alert.kind == Kind.ADOPTED for alert in found) else ()
    return sorted((one for one in found if one.kind not in left_out), key=lambda alert: order.index(alert.kind))


def _of_the_cluster(hearing: Any, differing: Sequence[str]) -> Iterator[Alert]:
    cluster, now = _rows(ClusterStore), hearing.now
    if is_stale(hearing):
        cause = "No background pass runs: no node expires, nothing is re-dispatched."
        yield Alert(Kind.NO_PASS, 1, cause, cluster, now, hearing.last_pass)
    if hearing.braked_since:
        cause = "Too many nodes fell silent or said goodbye at once, which looks like an error: none expires."
        yield Alert(Kind.BRAKE, 1, cause, cluster, now, hearing.braked_since)
    if hearing.warmup:
        yield Alert(Kind.WARMUP, 1, f"Warm-up: nothing is placed yet. {warmup(hearing)}", cluster, now)
    for secret in differing:
        yield Alert(
            Kind.SECRET_DIFFERS, 1, f"On this replica {secret} is not the leader's.", cluster, now, subject=secret
        )
    yield from _of_the_pool(now)
    yield from _of_adopted_nodes(now)
    yield from _of_sources(now)


def unacknowledged() -> QuerySet[Node]:
    """Return nodes that report but have not fetched the last change of their configs for 30 s.

    A config version is the time of its change in nanoseconds since 1970, so it also gives the age of the change.
    """
    heard = Node.objects.expected().exclude(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    outdated = heard.exclude(heartbeat__acknowledged=F("config_version"))
    return outdated.filter(config_version__gt=0, config_version__lt=Extract(ago(LATE_ACKNOWLEDGEMENT), "epoch") * 10**9)


def warmup(hearing: Any) -> str:
    """Return what the warm-up waits for, as a sentence. hearing: the row, annotated with `now`."""
    if hearing.warm_until is None:
        return "It waits for the first node to report and for each source to be read."
    return f"{duration(max(hearing.warm_until - hearing.now, timedelta(0)))} left."


def _of_configs(hearing: Any) -> Iterator[Alert]:
    groups = Config.objects.dangling().order_by().values_list("unscheduled")
    for unscheduled, count, since in groups.annotate(Count("pk"), Min("dangling_since")):
        kind = Kind.UNSCHEDULED if unscheduled else Kind.DANGLING
        group = Config.objects.filter(unscheduled=unscheduled)
        yield Alert(kind, count, _why_dangling(hearing, group), _rows(Config, owner="dangling"), hearing.now, since)


def _why_dangling(hearing: Any, group: ConfigQuerySet) -> str:
    if hearing.warmup:
        return "Nothing is placed before the warm-up is over."
    if is_stale(hearing):
        return "No background pass runs that could place them."
    if not Node.objects.accepting().exists():
        return _why_none_accepts()
    oldest = group.dangling().order_by("dangling_since", "pk").values_list("pk", flat=True)
    snapshot = read_snapshot()
    entries = entries_of(list(oldest[:1]))
    snapshot.read_origins(entries)
    # None when it was placed meanwhile.
    for entry in entries:
        refusals = [snapshot.refusal(entry, node) for node in snapshot.nodes if not snapshot.node_refusal(node)]
        reasons = Counter(str(why) for why in refusals if why)
        if refusals and reasons.total() == len(refusals):
            return f"No node may run {entry.name}: {reasons.most_common(1)[0][0]}."
    if group.lost_since(ago(dispatcher.NO_PILE_UP)).exists():
        return "Their node is gone and the others are as full as they may get at once: they follow within a minute."
    return f"The nodes that may run {entries[0].name} have no room." if entries else "They are about to be placed."


def _why_none_accepts() -> str:
    counts: Counter[str] = Counter()
    states = Node.objects.with_signal().order_by().values_list("signal", "intake").annotate(Count("pk"))
    for signal, intake, number in states:
        counts["silent" if signal in ("silent", "overdue") else "cordoned" if intake == "draining" else intake] += (
            number
        )
    words = ("silent", "cordoned", "leaving", "restarting")
    found = listed([f"{counts[word]} {word}" for word in words if counts[word]], None)
    return f"No node can take work: {found or 'none reports'}."


def _of_checks(now: datetime) -> Iterator[Alert]:
    """Alerts from the stats that runners returned in the last round."""
    for kind, cause in _TROUBLES.items():
        troubles = Trouble.objects.current().filter(kind=kind)
        if kind == Kind.NOT_RUNNING:
            # An agent that has just restarted has no stats yet of checks that it will run.
            troubles = troubles.filter(since__lt=ago(TWO_ROUNDS))
        count, since = troubles.aggregate(count=Count("pk"), since=Min("since")).values()
        if count:
            text = cause.format(_checks(troubles))
            if kind == Kind.FAILING:
                # None of them may be left by now.
                longest = list(troubles.order_by("since", "pk")[:1])
                put_handles_back(longest)
                text = " ".join(filter(None, (text, *(error_line(one.last_error) for one in longest))))
            yield Alert(kind, count, text, _rows(Config, trouble=str(kind)), now, since)


def _of_slow_checks(now: datetime) -> Iterator[Alert]:
    """Checks whose runs take nearly the interval, or longer, wherever they run: another node would not help."""
    troubles = Trouble.objects.current().filter(kind=Trouble.Kind.SLOW_EVERYWHERE)
    count, since = troubles.aggregate(count=Count("pk"), since=Min("since")).values()
    if not count:
        return
    found = Trouble.objects.everywhere()
    figures = "; ".join(
        f"{scrub(one.name)} takes {milliseconds(one.milliseconds)} of {one.interval:g} s, on {plain_count(one.nodes, 'node')}"
        f" (from {listed([scrub(source) for source in one.sources])})"
        for one in found[:NAMED]
    )
    others = "; others" if len(found) > NAMED else ""
    cause = f"Slow wherever they run, so no node is to blame and nothing moves: {figures}{others}."
    yield Alert(Kind.SLOW_EVERYWHERE, count, cause, _rows(Config, trouble=str(Kind.SLOW_EVERYWHERE)), now, since)


def _checks(found: QuerySet[Any]) -> str:
    """The first names of the checks that the rows are about."""
    names = found.order_by("config__name").values_list("config__name", flat=True).distinct()
    return _some(map(scrub, names[: NAMED + 1]))


def _some(names: Iterable[str]) -> str:
    """The first names as text, with `others` when there are more."""
    known = list(names)
    return listed(known if len(known) <= NAMED else [*known[:NAMED], "others"], None)


def dead_owners() -> QuerySet[Node]:
    """Return nodes that still own configs although they have been silent longer than the timeout, the brake and a second
    timeout together.
    """
    dead = Node.objects.known().filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT * (2 + BRAKE_HOLDS)))
    found: QuerySet[Node] = dead.filter(Exists(Assignment.objects.filter(node=OuterRef("pk"))))
    return found


def contested() -> QuerySet[Node]:
    """Return known nodes whose name more than one agent seems to use: two addresses in turn, or changing declarations."""
    lately = NodeEvent.objects.filter(node_name=OuterRef("name"), time__gte=ago(SAID_AGAIN_AFTER))
    at_two = lately.filter(kind=NodeEvent.Kind.TWO_ADDRESSES)
    declared = lately.filter(kind=NodeEvent.Kind.DECLARED).order_by("-id").values("pk")
    torn = Exists(declared[MOST_DECLARATIONS : MOST_DECLARATIONS + 1])
    # Select the names first: such events are few, and nodes are very many.
    kinds = (NodeEvent.Kind.TWO_ADDRESSES, NodeEvent.Kind.DECLARED)
    names = NodeEvent.objects.filter(kind__in=kinds, time__gte=ago(SAID_AGAIN_AFTER)).order_by().values("node_name")
    found: QuerySet[Node] = Node.objects.known().filter(Exists(at_two) | torn, name__in=names)
    return found


def _of_the_pool(now: datetime) -> Iterator[Alert]:
    """No node takes work, or a dead node still owns configs. In both cases checks run nowhere although no config dangles."""
    if not Node.objects.accepting().exists() and Node.objects.known().exists():
        cause = f"{_why_none_accepts()} No config can be placed, and no node expires."
        yield Alert(Kind.NONE_ACCEPTS, 1, cause, _rows(Node), now)
    dead = dead_owners()
    count, since = dead.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        stuck = Assignment.objects.filter(node__in=dead).count()
        cause = f"{_named(dead, count)} dead for long, and still the owner of {plain_count(stuck, 'config')}: no node runs them."
        yield Alert(Kind.DEAD_OWNER, count, cause, _rows(Node, state="silent"), now, since)


def _of_adopted_nodes(now: datetime) -> Iterator[Alert]:
    """No adopted node has reported. Once the first did, the usual alerts tell of those that do not."""
    adopted = Assignment.objects.untold()
    if adopted.exists() and Node.objects.none_reported():
        nodes, (checks, since) = (
            Node.objects.known().count(),
            adopted.aggregate(count=Count("pk"), since=Min("since")).values(),
        )
        cause = (
            f"Adopted {plain_count(nodes, 'node')} with {plain_count(checks, 'config')}, none has reported yet: switch the"
            " address that node agents call. What has no node is placed then."
        )
        yield Alert(Kind.ADOPTED, nodes, cause, _rows(Node), now, since)


def _of_late_drains(now: datetime) -> Iterator[Alert]:
    """Drains that should be over, with time for the last hand-overs, and have something left. The first few say why."""
    late = Node.objects.known().filter(draining=True, drain_by__lt=ago(deadline()))
    handed = Handover.objects.handed_over_by(OuterRef("pk"))
    has_left = Exists(Assignment.objects.filter(node=OuterRef("pk"))) | Exists(handed)
    nodes = list(late.filter(has_left).order_by("drain_by", "name"))
    if nodes:
        found = [drains.of(node.name) for node in nodes[:NAMED]]
        parts = [f"the drain of {one.name} is late: {'; '.join(one.reasons) or f'{one.left} left'}" for one in found]
        more = f"; and {plain_count(len(nodes) - NAMED, 'other drain')}" if len(nodes) > NAMED else ""
        cause = f"{'; '.join(parts)}{more}."
        target = _row(nodes[0]) if len(nodes) == 1 else _rows(Node, schedulable="draining")
        yield Alert(Kind.DRAIN_LATE, len(nodes), cause[0].upper() + cause[1:], target, now, nodes[0].drain_by)


def _of_nodes(now: datetime) -> Iterator[Alert]:
    nodes = Node.objects.expected().silent()
    count, since = nodes.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        cause = f"{_named(nodes, count)} not heard."
        yield Alert(Kind.SILENT, count, cause, _rows(Node, state="silent"), now, since)
    late = unacknowledged()
    count, version = late.aggregate(count=Count("pk"), version=Min("config_version")).values()
    if count:
        cause = f"{_named(late, count)} heard, but did not fetch the last change of the configs."
        since = datetime.fromtimestamp(version / 10**9, UTC)
        yield Alert(Kind.UNACKNOWLEDGED, count, cause, _rows(Node, acknowledged="late"), now, since)
    yield from _of_late_drains(now)
    torn = contested()
    if count := torn.count():
        names = _some(torn.order_by("name").values_list("name", flat=True)[: NAMED + 1])
        cause = f"{names}: more than one agent seems to report in that name, from two addresses or with changing declarations."
        kinds = (NodeEvent.Kind.TWO_ADDRESSES, NodeEvent.Kind.DECLARED)
        said = NodeEvent.objects.filter(
            node_name__in=torn.values("name"), kind__in=kinds, time__gte=ago(SAID_AGAIN_AFTER)
        )
        yield Alert(Kind.CONTESTED, count, cause, _rows(NodeEvent), now, said.aggregate(since=Min("time"))["since"])
    if conf.PLACEMENT_PREFER == "runners":
        few = Node.objects.runners()
        count, agents = few.count(), Node.objects.known().count() - few.count()
        if 0 < count * AGENTS_PER_RUNNER < agents:
            cause = (
                f"{_named(few, count)} the only cluster check {'runner' if count == 1 else 'runners'}, so {agents} node agents"
                " get nothing new, and what they have moves away bit by bit. See CLUSTERAGENT_PLACEMENT_PREFER."
            )
            yield Alert(Kind.FEW_RUNNERS, count, cause, _rows(Node, type="runner"), now)
    runners = Runner.objects.clamped().order_by("node__name")
    if count := runners.count():
        examples = "; ".join(f"{name}: {what}" for name, what in runners.values_list("node__name", "clamped")[:NAMED])
        cause = f"Runners report impossible values, which are limited. {examples}{'; others' if count > NAMED else ''}."
        yield Alert(Kind.CLAMPED, count, cause, _rows(NodeEvent, kind__exact="clamped"), now)


def _of_slow_nodes(now: datetime) -> Iterator[Alert]:
    """Nodes that are slow, and those that are very slow."""
    rows = list(Slowness.objects.slow().select_related("node").order_by("node__name"))
    for level, kind in ((Slowness.VERY, Kind.VERY_SLOW_NODE), (Slowness.SLOW, Kind.SLOW_NODE)):
        found = [row for row in rows if row.level == level]
        if not found:
            continue
        examples = "; ".join(f"{row.node.name}: {row.sentence}" for row in found[:NAMED])
        cause = f"{examples}{'; others' if len(found) > NAMED else ''}."
        if level == Slowness.VERY:
            less = "It is given less" if len(found) == 1 else "They are given less"
            many = "So many at once are no matter of nodes: none is given less"
            cause = f"{cause} {many if are_too_many(len(found)) else less}."
        since = min((row.since for row in found if row.since), default=None)
        yield Alert(kind, len(found), cause, _rows(Node, pace=found[0].state), now, since)


def _of_flapping_nodes(now: datetime) -> Iterator[Alert]:
    """Very many nodes that come and go. A node is flapping for a timeout only, so what counts is that it was lately."""
    events = NodeEvent.objects.filter(kind=NodeEvent.Kind.FLAPPING, time__gte=ago(FLAPPING_SPAN)).order_by()
    nodes = Node.objects.known().filter(name__in=events.values("node_name"))
    count = nodes.count()
    if count < 2 or count <= (known := Node.objects.known().count()) * MANY_FLAPPING:
        return
    outages = NodeEvent.objects.outages(FLAPPING_SPAN).filter(node_name__in=nodes.values("name")).order_by()
    kinds = dict(outages.values_list("kind").annotate(Count("pk")))
    if kinds.get(NodeEvent.Kind.RESTARTED, 0) >= kinds.get(NodeEvent.Kind.EXPIRED, 0):
        why = (
            "Mostly they started again without a word: their agents crash in a loop (a release, a limit of memory), or somebody"
            " who has the node agents' token reports in their names."
        )
    else:
        why = "Mostly they fell silent and came back: look for what they share, such as a network, a proxy or a host."
    cause = f"{count} of {known} nodes came and went again and again within ten minutes, so they get nothing new. {why}"
    yield Alert(Kind.FLAPPING, count, cause, _rows(NodeEvent, kind__exact="flapping"), now)


def _of_overload(now: datetime) -> Iterator[Alert]:
    """Nodes whose configs need more than their capacity, which they did in two rounds of stats, too."""
    rows = list(Runner.objects.overloaded().select_related("node"))
    if not rows:
        return
    needed, able = Cost.objects.by_node(), Runner.objects.capacity()
    loads = costs.loads(needed, able)
    full = sorted((row for row in rows if loads.get(row.pk, 0) > 1), key=lambda row: -loads[row.pk])
    if not full:
        return
    said, parts = [], []
    slow = set(Slowness.objects.filter(share__lt=1).values_list("pk", flat=True))
    for row in full[:NAMED]:
        name, on_it = row.node.name, Assignment.objects.filter(node=row.pk, config__cost__isnull=False)
        costly = on_it.order_by("-config__cost__workers_needed", "config")[:NAMED]
        columns = ("config__title", "config__name", "config__digest", "config__cost__workers_needed", "config_id")
        dear = [(called(*words), cost, config) for *words, cost, config in costly.values_list(*columns)]
        most = listed([f"{config} ({cost:.2g})" for config, cost, _ in dear], None)
        number = f"{able[row.pk]:.2g} workers"
        workers = f"the {number} that it is given while it is slow" if row.pk in slow else f"its {number}"
        by = f", most by {most} of {workers}" if most else ""
        pinned = on_it.filter(config__pin__isnull=False).count()
        stay = f"; {plain_count(pinned, 'config')} of it pinned" if pinned else ""
        said.append(f"{name} is at {percent(loads[row.pk])}{by}{stay}")
        parts.append((name, _row(row.node)))
        parts += [(f"{words} on {name}", Target(Config, {}, config)) for words, _, config in dear]
    held = held_by_pins()
    stuck = [row.node.name for row in full if row.pk in held]
    parts += [(f"pins on {name}", _rows(Config, node=name, order="pinned")) for name in stuck[:NAMED]]
    others = "; others" if len(full) > NAMED else ""
    excess = sum(needed[row.pk] - able[row.pk] for row in full)
    takers = Node.objects.accepting().values_list("pk", flat=True)
    room = sum(max(able[node] - needed.get(node, 0.0), 0.0) for node in takers if node in able)
    pins = (
        f" What is pinned to {_some(stuck)} needs more than all of its workers: no move helps before some of it is unpinned."
        if stuck
        else ""
    )
    cause = f"{'; '.join(said)}{others}. {_room(excess, room)}{pins}"
    since = min(row.overloaded_since for row in full if row.overloaded_since)
    target = _row(full[0].node) if len(full) == 1 else _rows(Node)
    yield Alert(Kind.OVERLOADED, len(full), cause, target, now, since, parts=parts)


def held_by_pins() -> dict[int, list[int]]:
    """Return the overloaded nodes whose pinned configs alone need more than their capacity, each with the costliest of these
    configs, until the others fit: {node's id: ids of configs}.
    """
    pins = Pin.objects.in_force().filter(
        kind=Pin.Kind.NODE, aim=F("config__assignment__node__name"), config__cost__isnull=False,
        config__assignment__node__in=Runner.objects.overloaded().values("pk"),
    )  # fmt: skip
    columns = ("config__assignment__node", "config", "config__cost__workers_needed")
    found: dict[int, list[tuple[int, float]]] = {}
    for node, config, cost in pins.order_by("-config__cost__workers_needed", "config").values_list(*columns):
        found.setdefault(node, []).append((config, cost))
    able = Runner.objects.capacity() if found else {}
    held = {}
    for node, costly in found.items():
        excess, chosen = sum(cost for _, cost in costly) - able[node], []
        for config, cost in costly:
            if excess > 0:
                chosen.append(config)
                excess -= cost
        if chosen:
            held[node] = chosen
    return held


def _room(excess: float, room: float) -> str:
    """Whether other nodes have room for what is too much, both in workers."""
    if room <= 0:
        return "No other node has room: add nodes."
    if room < excess:
        return f"Others have room for {room:.2g} of the {excess:.2g} workers that are too many: add nodes."
    return "Others have room for what is too much."


def _of_headroom(now: datetime, worst: Headroom | None) -> Iterator[Alert]:
    if worst is not None and worst.is_short:
        target = _rows(Node, q=worst.node) if worst.node else _rows(Node, domain=worst.domain)
        yield Alert(Kind.NO_HEADROOM, 1, worst.dated(now), target, now)


def _of_names(hearing: Any) -> Iterator[Alert]:
    """Alerts about names of nodes: names that look alike, and new names that are refused."""
    if hearing.names_refused_at and hearing.now - hearing.names_refused_at < REFUSED_LATELY:
        cause = (
            f"New nodes are refused: more than {conf.NEW_NODES_A_MINUTE} new names came within a minute, or"
            f" {AN_HOUR} times as many within an hour. If they are your nodes, raise CLUSTERAGENT_NEW_NODES_A_MINUTE."
        )
        yield Alert(Kind.NAMES_REFUSED, 1, cause, _rows(Node), hearing.now, hearing.names_refused_at)
    alike = Node.objects.lookalikes()
    if count := alike.count():
        names = _some(alike.order_by("likeness", "name").values_list("name", flat=True)[: NAMED + 1])
        cause = (
            f"{names} look alike but are different nodes: two agents of one host, or an agent that imitates another."
        )
        yield Alert(Kind.LOOKS_ALIKE, count, cause, _rows(Node, alike="yes"), hearing.now)


def _of_orders(now: datetime) -> Iterator[Alert]:
    back = Assignment.objects.withdrawn()
    count, since = back.aggregate(count=Count("pk"), since=Min("since")).values()
    if count:
        nodes = _some(back.order_by("node__name").values_list("node__name", flat=True).distinct()[: NAMED + 1])
        titles = _some(map(str, Config.objects.filter(assignment__in=back).order_by("pk")[: NAMED + 1]))
        cause = (
            f"{titles}: could not be moved, since {nodes} reports, but does not say that it stopped what no two nodes may"
            " run. Maybe it runs it, maybe nobody does."
        )
        target = _rows(Config, node=str(back.values_list("node", flat=True)[0]))
        yield Alert(Kind.WITHDRAWN, count, cause, target, now, since)
    alone = Isolation.objects.filter(reason=Isolation.Reason.QUARANTINED, config__isnull=False)
    count, since = alone.aggregate(count=Count("pk"), since=Min("time")).values()
    if count:
        cause = f"{_checks(alone)}: alone on a node, because the nodes that ran it died."
        yield Alert(Kind.QUARANTINED, count, cause, _rows(Config, order="isolated"), now, since)
    if astray := _astray():
        aims = _some(str(pin) for pin, _ in astray)
        cause = f"Pinned to {aims}: there is no such node now, so these configs run elsewhere or wait."
        count = sum(number for _, number in astray)
        yield Alert(Kind.PIN_ASTRAY, count, cause, _rows(Config, order="astray"), now)
    overdue = Pause.objects.filter(until__lt=ago(LATE_RESUMING), config__isnull=False)
    count, since = overdue.aggregate(count=Count("pk"), since=Min("until")).values()
    if count:
        cause = f"{_checks(overdue)}: the pause is over, but it was not resumed."
        yield Alert(Kind.PAUSE_OVERDUE, count, cause, _rows(Config, order="paused"), now, since)
    for freeze in Freeze.objects.in_force():
        note = f" ({scrub(freeze.note)[:MOST_CHARACTERS]})" if freeze.note else ""
        cause = f"Nothing is balanced automatically: {freeze}{note}."
        yield Alert(Kind.FROZEN, 1, cause, _row(freeze), now, freeze.time)


def pins_astray() -> QuerySet[Pin]:
    """Return the pins in force that match no known node."""
    aims = Q(pk__in=[])
    for pin, _ in _astray():
        aims |= Q(kind=pin.kind, aim=pin.aim)
    found: QuerySet[Pin] = Pin.objects.in_force().filter(aims, config__isnull=False)
    return found


def _astray() -> list[tuple[Pin, int]]:
    """The aims of pins that match no known node, each as an unsaved Pin, with the number of pins that have it."""
    pins = Pin.objects.in_force().filter(config__isnull=False).order_by("aim").values_list("kind", "aim")
    aims = [(Pin(kind=kind, aim=aim), number) for kind, aim, number in pins.annotate(Count("pk"))]
    nodes = dict(Node.objects.known().values_list("name", "labels")) if aims else {}
    return [
        (pin, number)
        for pin, number in aims
        if pin.aim not in nodes and not any(pin.matches(name, labels) for name, labels in nodes.items())
    ]


def _named(nodes: QuerySet[Node], count: int) -> str:
    """The first names, how many more there are, and `is` or `are`."""
    names = list(nodes.order_by("name").values_list("name", flat=True)[:NAMED])
    if count > len(names):
        names.append(f"{count - len(names)} more")
    return f"{listed(names, None)} {'is' if count == 1 else 'are'}"


def _of_sources(now: datetime) -> Iterator[Alert]:
    is_troubled = Q(errors_number__gt=0) | Q(held_removals_number__gt=0) | Q(warnings_number__gt=0)
    troubled: Any = Source.objects.with_counts().filter(is_troubled | ~Q(state={}))
    first = {f"error_{field}": KT(f"errors__0__{field}") for field in ("where", "line", "error")}
    first |= {f"warning_{field}": KT(f"warnings__0__{field}") for field in ("where", "line", "warning")}
    for source in troubled.annotate(**first).order_by("name"):
        if _is_away(source):
            yield Alert(Kind.SOURCE_AWAY, 1, _why_away(source), _row(source), now, source.read_at, subject=source.name)
        if source.errors_number:
            cause = _first_problem(source, source.error_where, source.error_line, source.error_error)
            yield Alert(Kind.SOURCE_ERROR, source.errors_number, cause, _row(source), now, subject=source.name)
        if source.held_removals_number:
            held = plain_count(source.held_removals_number, "removal")
            cause = (
                f"Source {source.name}: {held} held until what sent them is back or an operator accepts the removal."
            )
            yield Alert(Kind.HELD_REMOVALS, source.held_removals_number, cause, _row(source), now, subject=source.name)
        if source.warnings_number:
            cause = _first_problem(source, source.warning_where, source.warning_line, source.warning_warning)
            yield Alert(Kind.SOURCE_WARNING, source.warnings_number, cause, _row(source), now, subject=source.name)


def _is_away(source: Any) -> bool:
    """Whether a source that is watched was not read lately. A refusal is an error of the source already."""
    phase = source.state.get("phase", "refused")
    never = source.read_at is None and phase != "listing"
    if phase == "off" and not Origin.objects.filter(source=source.name).exists():
        return False
    return phase != "refused" and (never or (source.read_at is not None and source.read_age > AWAY))


def _why_away(source: Any) -> str:
    age = f"for {duration(source.read_age)}" if source.read_at else "yet"
    why = source.state.get("why") or "the leader's process that watches it gives no sign of life"
    return f"{source.name.capitalize()} has not been read {age}: {cut(why, MOST_CHARACTERS)}. What it has sent stays."


def _first_problem(source: Source, where: str, line: str | None, what: str) -> str:
    """The place and the text of a source's first problem."""
    return f"Source {source.name}, {lint.place(where, line)}: {cut(what, MOST_CHARACTERS)}"
