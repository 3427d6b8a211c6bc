"""Alerts about the cluster as a whole: passes, brake, warm-up, secrets, nodes that take work, names."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Exists, Min, OuterRef, QuerySet

from checks.explain.alerts import starting
from checks.explain.alerts.kinds import NAMED, Alert, Kind, Target, named, some
from checks.explain.alerts.sources import of_sources
from checks.models import Assignment, ClusterStore, Config
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import agreeing, duration, listed, plain_count
from nodes.models import Node
from nodes.models.hearing import is_stale
from nodes.models.nodes import BRAKE_HOLDS
from nodes.newcomers import AN_HOUR

# A refusal counts for so long after it was noted. Refusals are noted each ten seconds.
REFUSED_LATELY = timedelta(minutes=2)


def of_the_cluster(hearing: Any, differing: Sequence[str]) -> Iterator[Alert]:
    """The alerts about the whole cluster and its sources."""
    cluster, now = Target.rows(ClusterStore), hearing.now
    if began := starting.since(hearing):
        cause = "Starting: passes have just begun, and nodes have a poll's time to report before their silence says anything."
        yield Alert(Kind.STARTING, 1, cause, cluster, now, began)
    if is_stale(hearing):
        cause = "No background pass runs: no node expires, nothing is re-dispatched."
        yield Alert(Kind.NO_PASS, 1, cause, cluster, now, hearing.last_pass)
    if hearing.braked_since:
        yield Alert(Kind.BRAKE, 1, _why_braked(hearing), cluster, now, hearing.braked_since)
    if hearing.warmup:
        waiting = Config.objects.dangling().count()
        wait = f": {plain_count(waiting, 'config')} {agreeing(waiting, 'waits', 'wait')}" if waiting else ""
        cause = f"Nothing is placed before the warm-up is over{wait}. {warmup(hearing)}"
        yield Alert(Kind.WARMUP, 1, cause, cluster, now)
    for secret in differing:
        yield Alert(
            Kind.SECRET_DIFFERS, 1, f"On this replica {secret} is not the leader's.", cluster, now, subject=secret
        )
    yield from _of_the_pool(now)
    yield from _of_adopted_nodes(now)
    yield from of_sources(now)


def _why_braked(hearing: Any) -> str:
    if not starting.is_deaf(hearing):
        return "Too many nodes fell silent or said goodbye at once, which looks like an error: none expires."
    if Node.objects.expected().exclude(pk__in=Node.objects.silent()).exists():
        return "Nodes could not be heard for a while, by no fault of theirs: each has a full timeout again before it expires."
    return "All nodes fell silent at once, which looks like an error: none expires."


def warmup(hearing: Any) -> str:
    """Return what the warm-up waits for, as a sentence. hearing: the row, annotated with `now`."""
    if hearing.warm_until is None:
        return "It waits for the first node to report and for each source to be read."
    return f"{duration(max(hearing.warm_until - hearing.now, timedelta(0)))} left."


def dead_owners() -> QuerySet[Node]:
    """Return nodes that still own configs although they have been silent longer than the timeout, the brake and a second
    timeout together.
    """
    dead = Node.objects.known().filter(heartbeat__seen_at__lt=ago(conf.NODE_EXPIRATION_TIMEOUT * (2 + BRAKE_HOLDS)))
    found: QuerySet[Node] = dead.filter(Exists(Assignment.objects.filter(node=OuterRef("pk"))))
    return found


def _of_the_pool(now: datetime) -> Iterator[Alert]:
    """No node takes work, or a dead node still owns configs. In both cases checks run nowhere although no config dangles."""
    if not Node.objects.accepting().exists() and Node.objects.known().exists():
        cause = f"{why_none_accepts()} No config can be placed, and no node expires."
        yield Alert(Kind.NONE_ACCEPTS, 1, cause, Target.rows(Node), now)
    dead = dead_owners()
    count, since = dead.aggregate(count=Count("pk"), since=Min("heartbeat__seen_at")).values()
    if count:
        stuck = Assignment.objects.filter(node__in=dead).count()
        cause = f"{named(dead, count)} dead for long, and still the owner of {plain_count(stuck, 'config')}: no node runs them."
        yield Alert(Kind.DEAD_OWNER, count, cause, Target.rows(Node, state="silent"), now, since)


def why_none_accepts() -> str:
    """A sentence that says why no node can take work."""
    counts: Counter[str] = Counter()
    states = Node.objects.with_signal().order_by().values_list("signal", "intake").annotate(Count("pk"))
    for signal, intake, number in states:
        counts["silent" if signal in ("silent", "overdue") else "cordoned" if intake == "draining" else intake] += (
            number
        )
    words = ("silent", "cordoned", "leaving", "restarting")
    found = listed([f"{counts[word]} {word}" for word in words if counts[word]], None)
    return f"No node can take work: {found or 'none reports'}."


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
        yield Alert(Kind.ADOPTED, nodes, cause, Target.rows(Node), now, since)


def of_names(hearing: Any) -> Iterator[Alert]:
    """Alerts about names of nodes: names that look alike, and new names that are refused."""
    if hearing.names_refused_at and hearing.now - hearing.names_refused_at < REFUSED_LATELY:
        cause = (
            f"New nodes are refused: more than {conf.NEW_NODES_A_MINUTE} new names came within a minute, or"
            f" {AN_HOUR} times as many within an hour. If they are your nodes, raise CLUSTERAGENT_NEW_NODES_A_MINUTE."
        )
        yield Alert(Kind.NAMES_REFUSED, 1, cause, Target.rows(Node), hearing.now, hearing.names_refused_at)
    alike = Node.objects.lookalikes()
    if count := alike.count():
        names = some(alike.order_by("likeness", "name").values_list("name", flat=True)[: NAMED + 1])
        cause = (
            f"{names} look alike but are different nodes: two agents of one host, or an agent that imitates another."
        )
        yield Alert(Kind.LOOKS_ALIKE, count, cause, Target.rows(Node, alike="yes"), hearing.now)
