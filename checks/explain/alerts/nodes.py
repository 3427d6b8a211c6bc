"""Alerts about nodes: lost, silent, slow, coming and going."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Extract

from checks.explain import drains
from checks.explain.alerts.kinds import LATELY, NAMED, Alert, Kind, Target, named, some
from checks.explain.headroom import Headroom
from checks.models import Assignment, Move
from checks.models.handovers import Handover, deadline
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import agreeing, listed, plain_count
from nodes.models import Node, NodeEvent, Runner, Slowness
from nodes.models.events import SAID_AGAIN_AFTER
from nodes.pools import pool_of
from nodes.registration import FLAPPING_SPAN
from nodes.slowness import are_too_many

# A node agent polls every ten seconds.
LATE_ACKNOWLEDGEMENT = timedelta(seconds=30)

# Alert when there are more node agents for each runner than this. Runners get all work, and any node may claim to be one.
AGENTS_PER_RUNNER = 4

# A node whose declaration changes more often than this in ten minutes is probably two nodes with one name.
MOST_DECLARATIONS = 4

# When more of the nodes than this, but at least two, come and go, it is not each for itself.
MANY_FLAPPING = 0.1

# Nodes that are lost and not replaced: from so many on; and from so many, when they are more than this share of all.
NODES_LOST, MANY_NODES_LOST, SHARE_LOST = 2, 3, 0.2
# A rollout brings a node's replacement so long before the node is lost. What joins so soon after the first of a pool begins it.
AHEAD, BEGINS = timedelta(minutes=3), timedelta(minutes=1)


def of_nodes(now: datetime) -> Iterator[Alert]:
    """Nodes that are silent, late, contested, or of which something else is to be known."""
    nodes = Node.objects.expected().silent()
    count, since = nodes.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        cause = f"{named(nodes, count)} not heard."
        yield Alert(Kind.SILENT, count, cause, Target.rows(Node, state="silent"), now, since)
    late = unacknowledged()
    count, version = late.aggregate(count=Count("pk"), version=Min("config_version")).values()
    if count:
        cause = f"{named(late, count)} heard, but did not fetch the last change of the configs."
        since = datetime.fromtimestamp(version / 10**9, UTC)
        yield Alert(Kind.UNACKNOWLEDGED, count, cause, Target.rows(Node, acknowledged="late"), now, since)
    yield from _of_late_drains(now)
    torn = contested()
    if count := torn.count():
        names = some(torn.order_by("name").values_list("name", flat=True)[: NAMED + 1])
        cause = f"{names}: more than one agent seems to report in that name, from two addresses or with changing declarations."
        kinds = (NodeEvent.Kind.TWO_ADDRESSES, NodeEvent.Kind.DECLARED)
        said = NodeEvent.objects.filter(
            node_name__in=torn.values("name"), kind__in=kinds, time__gte=ago(SAID_AGAIN_AFTER)
        )
        yield Alert(
            Kind.CONTESTED, count, cause, Target.rows(NodeEvent), now, said.aggregate(since=Min("time"))["since"]
        )
    if conf.PLACEMENT_PREFER == "runners":
        few = Node.objects.runners()
        count, agents = few.count(), Node.objects.known().count() - few.count()
        if 0 < count * AGENTS_PER_RUNNER < agents:
            cause = (
                f"{named(few, count)} the only cluster check {'runner' if count == 1 else 'runners'}, so {agents} node agents"
                " get nothing new, and what they have moves away bit by bit. See CLUSTERAGENT_PLACEMENT_PREFER."
            )
            yield Alert(Kind.FEW_RUNNERS, count, cause, Target.rows(Node, type="runner"), now)
    runners = Runner.objects.clamped().order_by("node__name")
    if count := runners.count():
        examples = "; ".join(f"{name}: {what}" for name, what in runners.values_list("node__name", "clamped")[:NAMED])
        cause = f"Runners report impossible values, which are limited. {examples}{'; others' if count > NAMED else ''}."
        yield Alert(Kind.CLAMPED, count, cause, Target.rows(NodeEvent, kind__exact="clamped"), now)


def of_unread_runners(now: datetime) -> Iterator[Alert]:
    """Runners whose stats can't be read, and why that of the one which has failed longest can't."""
    unread = Runner.objects.unread()
    first = unread.select_related("node").order_by("failing_since", "node__name").first()
    if first is None:
        return
    count = unread.count()
    tells, their = agreeing(count, "tells", "tell"), agreeing(count, "its", "their")
    cause = (
        f"{count} of {plain_count(Node.objects.runners().count(), 'runner')} {tells} no stats, so {their} load is a guess"
        f" and failing checks are not noticed there. {first.node.name}: {scrub(first.error)}."
    )
    target = Target.row(first.node) if count == 1 else Target.rows(Node, stats="none")
    yield Alert(Kind.NO_STATS, count, cause, target, now, first.failing_since)


def unacknowledged() -> QuerySet[Node]:
    """Return nodes that report but have not fetched the last change of their configs for 30 s.

    A config version is the time of its change in nanoseconds since 1970, so it also gives the age of the change.
    """
    heard = Node.objects.expected().exclude(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT / 2))
    outdated = heard.exclude(heartbeat__acknowledged=F("config_version"))
    return outdated.filter(config_version__gt=0, config_version__lt=Extract(ago(LATE_ACKNOWLEDGEMENT), "epoch") * 10**9)


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
        target = Target.row(nodes[0]) if len(nodes) == 1 else Target.rows(Node, schedulable="draining")
        yield Alert(Kind.DRAIN_LATE, len(nodes), cause[0].upper() + cause[1:], target, now, nodes[0].drain_by)


class Losses(NamedTuple):
    """The nodes that were lost within an hour in pools that are smaller since: they neither came back nor were replaced.

    names: of the lost nodes of these pools. missing: by how many nodes the pools are smaller. before: how many they had; of_all:
    how many all pools had, without those that joined later. pools: their names. since: the first of these losses.
    """

    names: Sequence[str] = ()
    missing: int = 0
    before: int = 0
    of_all: int = 0
    pools: Sequence[str] = ()
    since: datetime | None = None


def not_replaced() -> Losses:
    """Return which nodes were lost within an hour without a goodbye or a cordon, did not come back and were not replaced.

    One that was drained counts if it still had configs.
    That is by how many each pool is smaller than before its first loss. Names without a generated suffix are one pool.
    """
    lost: dict[str, list[tuple[str, datetime, datetime]]] = {}
    rows: Any = _lost_lately().order_by("name").values_list("name", "first_seen", "lost_at")
    for row in rows:
        lost.setdefault(_pool(row[0]), []).append(row)
    if not lost:
        return Losses()
    known: dict[str, list[datetime]] = {pool: [] for pool in lost}
    for name, joined in Node.objects.known().order_by().values_list("name", "first_seen"):
        known.setdefault(_pool(name), []).append(joined)
    left: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    said_goodbye: Any = Node.objects.lost().filter(lost_at__gte=ago(LATELY), leaving=True).order_by()
    for name, joined, gone in said_goodbye.values_list("name", "first_seen", "lost_at"):
        left[_pool(name)].append((joined, gone))
    before = {pool: _size_before(gone, left[pool], known[pool]) for pool, gone in lost.items()}
    # What said goodbye is not missing, also where nothing came in its place.
    fewer = {
        pool: min(size - len(known[pool]), len(lost[pool])) for pool, size in before.items() if size > len(known[pool])
    }
    if not fewer:
        return Losses()
    first = min(lost_at for gone in lost.values() for _, _, lost_at in gone)
    others = sum(one < first for pool, joined in known.items() if pool not in lost for one in joined)
    concerned = [row for pool in fewer for row in lost[pool]]
    return Losses(
        [name for name, _, _ in concerned],
        sum(fewer.values()),
        sum(before[pool] for pool in fewer),
        sum(before.values()) + others,
        sorted(fewer),
        min(lost_at for _, _, lost_at in concerned),
    )


def _lost_lately() -> QuerySet[Node]:
    """The nodes whose loss nobody planned. A drained one was to go, but not before its drain was over."""
    lost = Node.objects.lost().filter(lost_at__gte=ago(LATELY), leaving=False)
    taken = Move.objects.filter(reason=Move.Reason.EXPIRED, source_node=OuterRef("name"), time__gte=OuterRef("lost_at"))
    # By the time alone the ledger has an index.
    cut_short = lost.filter(Exists(taken.filter(time__gte=ago(LATELY))), draining=True)
    return lost.filter(Q(schedulable=True) | Q(pk__in=cut_short.order_by().values("pk")))


def _pool(name: str) -> str:
    pool = pool_of(name)
    return "" if pool == name else pool


def _size_before(
    lost: Sequence[tuple[str, datetime, datetime]], left: Iterable[tuple[datetime, datetime]], known: Sequence[datetime]
) -> int:
    """A pool's size before its first loss, and before a rollout that was under way then.

    lost: each one's name, when it joined and was lost. left: when each joined and was gone that said goodbye. known: when each
    joined.
    """
    first = min(lost_at for _, _, lost_at in lost)
    began = first - AHEAD
    joined = [*known, *(one for _, one, _ in lost)]
    # A rollout first makes the pool larger: of those that had just joined, as many count as have said goodbye for them.
    new = sum(began <= one < first for one in joined)
    went = sum(one < began <= gone for one, gone in left)
    # A young pool had no size before it.
    return sum(one < began for one in joined) + min(new, went) or sum(one < min(joined) + BEGINS for one in joined)


def of_lost_nodes(now: datetime, losses: Losses) -> Iterator[Alert]:
    """Nodes that were lost lately without a goodbye, a cordon or a replacement."""
    if losses.missing < NODES_LOST:
        return
    lost, count = Node.objects.lost().filter(name__in=losses.names), len(losses.names)
    pools = listed([f"of {pool}" if pool else "with names of their own" for pool in losses.pools])
    cause = (
        f"{named(lost, count)} lost within an hour, so {losses.missing} of {losses.before} nodes {pools} are missing."
        " Look for what they share; forget those that are to stay away."
    )
    is_many = losses.missing >= MANY_NODES_LOST and losses.missing > losses.of_all * SHARE_LOST
    kind = Kind.MANY_NODES_LOST if is_many else Kind.NODES_LOST
    yield Alert(kind, count, cause, Target.rows(Node, state="lost"), now, losses.since)


def of_slow_nodes(now: datetime) -> Iterator[Alert]:
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
            is_grave = are_too_many(len(found))
            cause = f"{cause} {many if is_grave else less}."
            kind = Kind.MANY_VERY_SLOW if is_grave else kind
        since = min((row.since for row in found if row.since), default=None)
        yield Alert(kind, len(found), cause, Target.rows(Node, pace=found[0].state), now, since)


def of_flapping_nodes(now: datetime) -> Iterator[Alert]:
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
    yield Alert(Kind.FLAPPING, count, cause, Target.rows(NodeEvent, kind__exact="flapping"), now)


def of_headroom(now: datetime, worst: Headroom | None) -> Iterator[Alert]:
    """What the worst loss would mean, if the others have no room for it."""
    if worst is not None and worst.is_short:
        target = Target.rows(Node, q=worst.node) if worst.node else Target.rows(Node, domain=worst.domain)
        yield Alert(Kind.NO_HEADROOM, 1, worst.dated(now), target, now)
