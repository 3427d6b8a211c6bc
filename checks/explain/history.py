"""History: noted by the leader with each round of stats, and read for pages and the operators' API."""

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Max

from checks.dispatcher import costs
from checks.models import ClusterHistory, Config, ConfigHistory, Cost, Move, NodeHistory
from checks.models.history import HOURS_KEPT, ClusterPoint, ConfigPoint, NodePoint, Step
from clusteragent.lib import clock
from nodes.models import Node, Runner

MINUTE = timedelta(minutes=1)
# The most moves that are told with the history of a config: the last ones.
MOST_MOVES = 200


class Span(enum.StrEnum):
    """How far a history goes back. Those of more than an hour are of hours."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    @property
    def length(self) -> timedelta:
        """The time that it covers."""
        return {Span.HOUR: timedelta(hours=1), Span.DAY: timedelta(days=1), Span.WEEK: HOURS_KEPT}[self]

    @property
    def step(self) -> Step:
        """What its points are of."""
        return Step.MINUTE if self is Span.HOUR else Step.HOUR

    def times(self, now: datetime) -> list[datetime]:
        """When its points begin: minutes that are over, or hours up to the one that runs. All are in UTC."""
        each = timedelta(minutes=self.step)
        end = now.astimezone(UTC).replace(second=0, microsecond=0)
        last = end - each if self is Span.HOUR else end.replace(minute=0)
        return [last - number * each for number in reversed(range(self.length // each))]

    def since(self, now: datetime) -> datetime:
        """Its beginning."""
        return self.times(now)[0]


# How many minutes' part of the rolling up is made up for at once.
MOST_ROLLED_UP = 5


def note(now: datetime | None = None) -> None:
    """Note how all is as that of the last whole minute, roll hours up, and delete what is kept no longer.

    A minute is noted once, whoever leads, and one that nobody noted stays empty: nothing is made up for it.
    """
    now = now or clock.now()
    # The last minute that is over: all moves in it are in the ledger.
    minute = now.replace(second=0, microsecond=0) - MINUTE
    # Rounds of stats may be more frequent.
    if ClusterHistory.objects.filter(step=Step.MINUTE, time=minute).exists():
        return
    last = ClusterHistory.objects.filter(step=Step.MINUTE).aggregate(last=Max("time"))["last"] or minute
    held, able = Cost.objects.held(), Runner.objects.capacity()
    NodeHistory.objects.note(minute, *costs.told(held, able))
    ConfigHistory.objects.note(minute)
    # Last: so a minute of the cluster means that the rest is there.
    ClusterHistory.objects.note(minute, held, able)
    with transaction.atomic():
        # What is rolled up for the cluster is rolled up for the nodes.
        NodeHistory.objects.roll_up(now)
        ClusterHistory.objects.roll_up(now)
    # As much as is due of each minute, also of those that nobody noted.
    for _ in range(min(max((minute - last) // MINUTE, 1), MOST_ROLLED_UP)):
        ConfigHistory.objects.roll_up(now)
    for kind in (ClusterHistory, NodeHistory, ConfigHistory):
        kind.objects.prune(now)


def of_cluster(span: Span, now: datetime) -> list[ClusterPoint]:
    """The history of the cluster, in order. Minutes and hours that nobody noted are left out."""
    return ClusterHistory.objects.points(span.step, span.since(now))


def of_node(node: Node, span: Span, now: datetime) -> list[NodePoint]:
    """The history of a node, in order. Minutes and hours in which it was not known are left out."""
    return NodeHistory.objects.points(node.pk, span.step, span.since(now), now)


class OfConfig(NamedTuple):
    """The history of a config. nodes: the names of nodes that are in it and still known. moves: the last MOST_MOVES, in order."""

    points: Sequence[ConfigPoint]
    nodes: Mapping[int, str]
    moves: Sequence[Move]


def of_config(config: Config, span: Span, now: datetime) -> OfConfig:
    """The history of a config. Minutes and hours that nobody noted are left out."""
    since = span.since(now)
    points = ConfigHistory.objects.points(config.pk, span.step, since)
    nodes = Node.objects.filter(pk__in={point.node_id for point in points}).values_list("pk", "name")
    moves = Move.objects.filter(config_id=config.pk, time__gte=since, time__lte=now).exclude(source_node=F("to_node"))
    return OfConfig(points, dict(nodes), list(moves.order_by("-id")[:MOST_MOVES])[::-1])
