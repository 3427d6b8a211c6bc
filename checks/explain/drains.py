"""How far the drain of a node is: what is left, what can't go and why, and whether the node may be stopped."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Max
from django.db.models.functions import Now

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.transaction import light_entries
from checks.explain.why import refusals
from checks.models import Assignment, Handover, Move
from checks.models.map import WITHDRAWN_RESTS
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.database.numbers import number_of
from clusteragent.lib.words import plain_count, utc
from nodes.models import Node, NodeEvent

# How many reasons are named for what can't go.
MOST_REASONS = 3


class Stuck(NamedTuple):
    """Why no other node can have some of the configs that are left, and how many these are."""

    reason: str
    configs: int


def _handed(number: int) -> str:
    return f"{number} being handed over" if number else ""


class Left(NamedTuple):
    """How many configs a node that is being drained has left at the time `now`, and its deadline, if it has one.

    handing_over: how many of these are being handed over.
    """

    name: str
    configs: int
    handing_over: int
    by: datetime | None
    now: datetime

    @property
    def state(self) -> str:
        """`done` when nothing is left, else `late` when the deadline is over, else `under way`."""
        return "done" if not self.configs else "late" if self.by and self.by <= self.now else "under way"

    def __str__(self) -> str:
        by = f"by {utc(self.by, self.now)}{', which is over' if self.state == 'late' else ''}" if self.by else ""
        to_move = self.configs - self.handing_over
        handed = _handed(self.handing_over)
        left = f"{to_move} left" if to_move or not handed else ""
        return ", ".join(filter(None, (left if self.configs else "nothing left", handed, by)))


class Drain(NamedTuple):
    """How far the drain of a node is, at the time `now`.

    since: its start, None if the node is not being drained. by: its deadline, if it has one. moved and left: numbers of configs;
    what is being handed over is left. is_empty: nothing is left, the node has fetched that, and it gets nothing new: it may be
    stopped. stuck: why the rest can't go, the commonest reasons. is_leaving: it said that it leaves.
    """

    name: str
    state: str
    is_draining: bool
    now: datetime
    since: datetime | None
    by: datetime | None
    moved: int
    left: int
    handing_over: int
    is_empty: bool
    stuck: Sequence[Stuck]
    is_leaving: bool = False

    @property
    def share(self) -> float:
        """The moved share, from 0 to 1."""
        return self.moved / (self.moved + self.left or 1)

    @property
    def is_late(self) -> bool:
        """Whether its deadline is over, and the node is not empty."""
        return not self.is_empty and self.by is not None and self.by <= self.now

    @property
    def is_undone(self) -> bool:
        """Whether the node gets new work: it won't become empty."""
        return not (self.is_empty or self.is_draining or self.is_leaving)

    @property
    def sentence(self) -> str:
        """How far it is, in one line without a stop."""
        if self.is_empty:
            return f"node {self.name} is {'lost' if self.state == 'lost' else 'empty'}: safe to stop"
        if not self.is_draining and self.is_leaving:
            return f"node {self.name} is leaving: {', '.join(filter(None, (f'{self.left} left', _handed(self.handing_over))))}"
        if not self.is_draining:
            return f"node {self.name} is not being drained, and has {plain_count(self.left, 'config')}"
        return f"node {self.name}: {self.progress}"

    @property
    def progress(self) -> str:
        """How far a drain that is under way is, without the node's name: `8 of 15 left to move, by 14:05 UTC`."""
        if self.is_empty:
            return "empty, safe to stop"
        if not self.left:
            left = "nothing left, but not fetched yet"
        else:
            to_move = self.left - self.handing_over
            left = f"{to_move or 'none'} of {self.moved + self.left} left to move"
        by = f"by {utc(self.by, self.now)}{', which is over' if self.is_late else ''}" if self.by else ""
        return ", ".join(filter(None, (left, _handed(self.handing_over), by)))

    @property
    def reasons(self) -> list[str]:
        """Why the rest can't go, a line for each reason."""
        return [
            f"{plain_count(one.configs, 'config')} can't go to another node: {scrub(one.reason)}" for one in self.stuck
        ]

    def document(self) -> dict[str, Any]:
        """What programs get."""
        names = ("name", "since", "by", "moved", "left", "handing_over", "is_empty")
        stuck = [{"reason": scrub(one.reason), "configs": one.configs} for one in self.stuck]
        return {name: getattr(self, name) for name in names} | {"stuck": stuck, "sentence": self.sentence}


def of(name: str) -> Drain:
    """Return how far the drain of the node of this name is. Raises UnknownNode."""
    node = counted(Node.objects.with_state().select_related("heartbeat")).filter(name=name).first()
    if node is None:
        raise Node.objects.unknown(name)
    return of_row(node)


def of_row(node: Any) -> Drain:
    """Return how far the drain of a node is, of its row with its state and heartbeat, as `counted` annotated it."""
    is_lost = node.state == "lost"
    has_fetched = is_lost or node.heartbeat.acknowledged == node.config_version
    is_closed = is_lost or node.leaving or not node.schedulable
    since = _since(node) if node.draining else None
    return Drain(
        name=node.name,
        state=node.state,
        is_draining=node.draining,
        now=node.now,
        since=since,
        by=node.drain_by if node.draining else None,
        moved=_moved(node, since) if since else 0,
        left=node.configs + node.handing,
        handing_over=node.handing,
        is_empty=is_closed and has_fetched and not (node.configs or node.handing),
        stuck=_stuck(node) if node.draining and node.configs else (),
        is_leaving=node.leaving,
    )


def under_way() -> Iterator[Left]:
    """Yield what is left on each node that is being drained, in the order of their names."""
    for node in counted(Node.objects.known().filter(draining=True)).order_by("name"):
        yield left_on(node)


def left_on(node: Any) -> Left:
    """Return what is left on a node that is being drained, as `counted` annotated it."""
    return Left(node.name, node.configs + node.handing, node.handing, node.drain_by, node.now)


def counted(nodes: Any) -> Any:
    """Annotate `now`, and how many `configs` each node has and is `handing` over. In one statement, so a hand-over that is
    withdrawn meanwhile is found, as such or as an assignment.
    """
    numbers = {
        "configs": number_of(Assignment.objects.all(), "node"),
        "handing": number_of(Handover.objects.all(), "source") + number_of(Handover.objects.all(), "between"),
    }
    return nodes.annotate(now=Now(), **numbers)


def _since(node: Node) -> datetime | None:
    """When the drain began. Another deadline does not begin it anew."""
    kinds, events = NodeEvent.Kind, NodeEvent.objects.filter(node_name=node.name)
    ended = events.filter(kind__in=(kinds.CORDONED, kinds.UNCORDONED)).aggregate(last=Max("pk"))["last"]
    began = events.filter(kind=kinds.DRAINING, pk__gt=ended or 0).order_by("pk")
    return began.values_list("time", flat=True).first()


def _moved(node: Node, since: datetime) -> int:
    """How many configs left the node since then and are not there any more, by the ledger."""
    moves = Move.objects.filter(source_node=node.name, reason=Move.Reason.DRAINED, time__gte=since)
    here = Assignment.objects.filter(node=node).values("config_id")
    moves = moves.exclude(config_id__in=here).exclude(config_id__in=Handover.objects.handed_over_by(node).values("pk"))
    return moves.order_by().values("config_id").distinct().count()


def _stuck(node: Node) -> list[Stuck]:
    """Why no other node can have configs of this node, the commonest reasons."""
    snapshot = read_snapshot()
    rows = Assignment.objects.filter(node=node).order_by("config_id")
    numbers: Counter[str] = Counter()
    if rests := dict(rows.withdrawn().values_list("config_id", "since")):
        until = utc(max(rests.values()) + WITHDRAWN_RESTS, clock.now())
        numbers[f"{node.name} did not say that it stopped it, so until {until} only a person takes it from there"] = (
            len(rests)
        )
    entries = light_entries(
        rows.exclude(config_id__in=rests).values_list("config_id", "config__name", "node_id"), snapshot
    )
    # There may be very many configs, but few checks, origins and pins that decide.
    why: dict[object, str] = {}
    for entry in entries:
        pin = entry.pin
        key = entry.name, tuple(entry.sent_as), pin and (pin.kind, pin.aim, pin.waits)
        if key not in why:
            why[key] = "" if snapshot.able(entry) else _refusal(snapshot, entry, node.name)
        numbers[why[key]] += 1
    del numbers[""]
    return [Stuck(*one) for one in numbers.most_common(MOST_REASONS)]


def _refusal(snapshot: Snapshot, entry: Entry, owner: str) -> str:
    """The commonest reason why other nodes can't have a config."""
    refused = refusals(snapshot, entry, owner, "every other node")
    if len(snapshot.nodes) <= 1:
        return "no other node reports"
    if sum(map(len, refused.values())) < len(snapshot.nodes) - 1:
        return "no other node has room"
    reason, *others = refused
    if not others:
        return reason
    return f"{next(iter(refusals(snapshot, entry, owner, refused[reason][0])))}, for one"
