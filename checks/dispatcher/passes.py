"""The background pass of the leader, and what it moves by itself: from leaving nodes, after pauses, and misplaced configs."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import structlog
from django.db import models
from django.db.models import Exists, F, OuterRef, Value
from django.db.models.functions import Least, Now

from checks.dispatcher import transaction
from checks.dispatcher.committing import StalePlan
from checks.dispatcher.deciding import NotTheirs
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.misplaced import Judge, JudgedSnapshots, relocate_misplaced
from checks.dispatcher.orders import restore_isolation, resume
from checks.dispatcher.placing import NO_PILE_UP, expire_nodes, pile_up_ceiling, redispatch
from checks.dispatcher.settling import settle
from checks.dispatcher.transaction import SnapshotCache, light_entries, move_in_chunks, relocate
from checks.models import Assignment, ClusterStore, Config, Handover, Move, TaskRun
from checks.models.map import AssignmentQuerySet, Call, MoveQuerySet, NotLeader
from checks.models.orders import Isolation, Pause, Rule
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.traces import counting
from nodes import proofs, slowness
from nodes.goodbyes import void_goodbyes
from nodes.hearing import listen, note_silent, too_many_leave
from nodes.models import Hearing, Node, NodeEvent, NodeRule

# A pass also reads events from so long before the last pass: their transactions may have been committed after it.
OVERLAP = timedelta(seconds=5)
A_MINUTE, A_SECOND = timedelta(minutes=1), timedelta(seconds=1)
RECONCILE = "reconcile"
Step = TypeVar("Step")

log = structlog.get_logger()


class Pass(NamedTuple):
    """How many configs a background pass took from expired nodes, and how many it gave to nodes."""

    expired: int
    placed: int


def run_pass(term: int) -> Pass:
    """Run one background pass of the leader. Raises NotLeader when `term` is over.

    It notes who is heard, expires nodes, calls for the ports of nodes that may be dead, moves what lost nodes left and what
    leaving nodes have, ends pauses, moves misplaced configs, flags configs that wait for long, and notes its time.
    """
    ClusterStore.objects.require(term)
    silence = listen()
    _aside("void_goodbyes", void_goodbyes, term)
    for name in (_aside("note_silent", note_silent, term) or ()) if silence.silent else ():
        log.warning("node_silent", node=name, term=term)
    expired = expire_nodes(term=term)
    if proofs.wanted():
        ClusterStore.objects.wake(Call.PORTS)
    handed = settle(term=term)
    placed = [*empty_leaving_nodes(term=term), *resume_due(term=term), *redispatch(term=term)]
    # What is misplaced runs where it is.
    misplaced = _aside("reconcile", lambda: reconcile(term=term), term) or []
    if misplaced:
        log.info("misplaced_moved", moves=len(misplaced), term=term)
    for name in _aside("flag_unscheduled", Config.objects.flag_unscheduled, term) or ():
        log.warning("config_unscheduled", check=name, term=term)
    _aside("note_missed", slowness.note_missed, term)
    Hearing.objects.note_pass()
    return Pass(len(expired), len(handed) + len(placed) + len(misplaced))


def _aside(name: str, step: Callable[[], Step], term: int) -> Step | None:
    """Return what a step of the pass does that may fail alone; None if it failed.

    If passes were not complete, no node would expire. Steps that expire nodes and place configs may not fail alone: their failure
    is that of the pass, which is shown.
    """
    try:
        return step()
    except NotLeader:
        raise
    except Exception:
        log.exception(f"{name}_failed", term=term)
        return None


@counting("moves")
def empty_leaving_nodes(*, term: int | None = None) -> list[Move]:
    """Move configs from nodes that said that they leave, and return the moves. More than CHUNK configs are not atomic.

    In the first minute, no node gets more than `pile_up_ceiling`. If implausibly many nodes leave, only those that are
    silent, too, are emptied.
    """
    if not Node.objects.filter(leaving=True).exists():
        return []
    left = Assignment.objects.filter(node__leaving=True).exclude(pk__in=Assignment.objects.withdrawn())
    rows = list(left.order_by("config_id").values_list("config_id", "config__name", "node_id"))
    if rows and too_many_leave():
        silent = set(Node.objects.silent().values_list("pk", flat=True))
        rows = [row for row in rows if row[2] in silent]
    if not rows:
        return []
    latest = NodeEvent.objects.filter(kind=NodeEvent.Kind.LEAVING, time__gte=ago(NO_PILE_UP))
    most = pile_up_ceiling(len(rows)) if latest.exists() else math.inf
    cache = SnapshotCache(most)
    snapshot = cache.read()
    ids = [entry.id for entry in light_entries(rows, snapshot) if snapshot.has_place(entry)]
    return move_in_chunks(ids, lambda entries, now: relocate(entries, now, Move.Reason.LEFT), cache, term)


@counting("moves")
def resume_due(*, term: int | None = None) -> list[Move]:
    """Resume configs whose pause is over, and return the moves."""
    due = list(Pause.objects.over().filter(config__isnull=False).values_list("config_id", flat=True))
    return _unless_stale(resume, due, term=term, actor="end of the pause") if due else []


@counting("moves")
def reconcile(*, term: int | None = None) -> list[Move]:
    """Move misplaced configs if something that decides places has changed, and return the moves. Call it in each pass.

    It looks at all configs after a change of rules, options or drains, and each minute, since room and other nodes come
    unannounced, or more often while the deadline of a drain comes near; else only at nodes whose declarations have changed since
    the last pass. A call moves little more than CHUNK configs, so that the pass stays short, and the next one goes on.
    """
    # What the last look saw is in the database: whoever leads next neither looks for nothing nor misses a change.
    seen, began = Rule.objects.fingerprint(), time.monotonic()
    # A time beyond the next minute is from before the database's clock was set back.
    waiting = TaskRun.objects.filter(name=RECONCILE, due_at__gt=Now(), due_at__lte=Now() + A_MINUTE)
    is_settled = waiting.filter(state=seen).exists()
    if is_settled:
        since = Hearing.objects.values(since=F("last_pass") - OVERLAP)
        events = NodeEvent.objects.filter(kind=NodeEvent.Kind.DECLARED, time__gte=since)
        names = set(events.values_list("node_name", flat=True))
        ids = _misplaced(Assignment.objects.filter(node__name__in=names)).must if names else []
        moves, wait = _move_chunks(ids[: transaction.CHUNK], term), A_MINUTE
    else:
        # The process that changed a rule about nodes may have ended before it applied it.
        NodeRule.objects.apply()
        alone, (ids, wait) = _restore_isolations(term), _movable()
        moves = alone + _move_chunks(ids[: transaction.CHUNK], term)
    # If nothing moves, the next pass could not move it either.
    goes_on = bool(moves) and len(ids) > transaction.CHUNK
    if not is_settled or goes_on:
        due_at = Now() if goes_on else _next_look(wait)
        TaskRun.objects.note(RECONCILE, time.monotonic() - began, state=seen, due_at=due_at)
    return moves


def move_misplaced(*, term: int | None = None) -> list[Move]:
    """Move misplaced configs, and return the moves. More than CHUNK configs are not atomic.

    Configs that may not run where they are move at once; those that only should not move within `budget_left`, from draining
    nodes first, and as many more as the deadlines of drains need. What isolated configs need moves besides.
    """
    return _restore_isolations(term) + _move_chunks(_movable()[0], term)


def budget() -> int:
    """How many configs may move in one period without need: a share (REBALANCE_BUDGET) of all, but at least 5."""
    return max(5, int(Config.objects.dispatchable().count() * conf.REBALANCE_BUDGET))


def budget_left() -> int:
    """What misplaced configs that moved in the last minute leave of `budget()`. Moves of balancing don't count: it comes last."""
    return max(0, budget() - _moved_in_budget().count())


def _moved_in_budget() -> MoveQuerySet:
    """The moves of the last minute that count against the budget. Only balancing moves configs without a `why`."""
    reasons = (Move.Reason.DRAINED, Move.Reason.PINNED, Move.Reason.REBALANCED)
    lately = Move.objects.filter(time__gt=ago(A_MINUTE), time__lte=Now())
    return lately.filter(reason__in=reasons, actor="", why__isnull=False)


def _next_look(wait: timedelta) -> Any:
    """When all configs are looked at again: when the budget has room, but after this time at the latest."""
    used_since = _moved_in_budget().order_by("time").values_list("time", flat=True).first()
    latest = Now() + wait
    return Least(latest, Value(used_since + A_MINUTE)) if used_since and not budget_left() else latest


def _restore_isolations(term: int | None) -> list[Move]:
    moves: list[Move] = []
    for reason, ids in _in_company().items():
        moves += _unless_stale(restore_isolation, ids, reason, term=term)
    return moves


def _movable() -> tuple[list[int], timedelta]:
    """Ids of the misplaced configs that may move now, and after which time others may.

    All that may not run where they are, then what the deadlines of drains need, then others within the budget.
    """
    must, drained, others = _misplaced(Assignment.objects.all())
    urgent: list[int] = []
    later: list[int] = []
    wait = A_MINUTE
    for deadline in _deadlines(drained):
        ids = drained.pop(deadline.node, [])
        urgent += ids[: deadline.due]
        later += ids[deadline.due :]
        # What is being handed over may stay, or come back.
        if ids or deadline.is_handing_over:
            wait = min(wait, max(deadline.left / 10, A_SECOND))
    room = max(0, budget_left() - len(urgent))
    should = [*later, *sorted(chain.from_iterable(drained.values())), *others]
    return [*must, *urgent, *should[:room]], wait


class _Deadline(NamedTuple):
    """The deadline of a drain. due: how many of the node's configs must move now. left: the time in which the rest can.

    is_handing_over: whether configs are being handed over from the node, or to it.
    """

    node: int
    due: int
    left: timedelta
    is_handing_over: bool


def _deadlines(drained: Mapping[int, Sequence[int]]) -> list[_Deadline]:
    """The deadlines of drains, the earliest first. drained: {node's id: ids of its configs that others can have}.

    These are spread evenly over the time that is left, by the minute, as the budget is; the last two polls are for the hand-over.
    """
    left = models.ExpressionWrapper(F("drain_by") - Now(), models.DurationField())
    given = Handover.objects.handed_over_by(OuterRef("pk"))
    taken = Handover.objects.filter(config__assignment__node=OuterRef("pk"))
    nodes = Node.objects.filter(draining=True, drain_by__isnull=False).order_by("drain_by", "pk")
    nodes = nodes.annotate(handing_over=Exists(given) | Exists(taken))
    rows = list(nodes.values_list("pk", "name", left, "handing_over"))
    if not rows:
        return []
    moved = _moved_in_budget().filter(source_node__in=[name for _, name, _, _ in rows])
    lately = Counter(moved.values_list("source_node", flat=True))
    found = []
    for node, name, until, is_handing_over in rows:
        time_left = max(until - conf.NODE_EXPIRATION_TIMEOUT * 2 / 3, timedelta(0))
        of_minute = (len(drained.get(node, ())) + lately[name]) * (A_MINUTE / (A_MINUTE + time_left))
        found.append(_Deadline(node, max(0, math.ceil(of_minute) - lately[name]), time_left, is_handing_over))
    return found


class _Misplaced(NamedTuple):
    """Ids of misplaced configs. must: may not run where they are; others only should not. drained: by the draining node's id."""

    must: list[int]
    drained: dict[int, list[int]]
    others: list[int]


def _misplaced(assignments: AssignmentQuerySet) -> _Misplaced:
    """Those of the configs with these assignments that may or should not run where they are."""
    judge = Judge(read_snapshot())
    found = _Misplaced([], {}, [])
    resting = Assignment.objects.untold() | Assignment.objects.withdrawn()
    suspects = judge.suspects(assignments).exclude(pk__in=resting)
    unsettled = set(Assignment.objects.unsettled().values_list("pk", flat=True))
    rows = suspects.order_by("config_id").values_list("config_id", "config__name", "node_id")
    for entry in light_entries(rows, judge.snapshot):
        if judge.must_go(entry):
            found.must.append(entry.id)
        elif entry.id not in unsettled and (judge.should_go(entry) or judge.is_out_of_place(entry)):
            is_drained = judge.is_draining(entry)
            (found.drained.setdefault(entry.owner or 0, []) if is_drained else found.others).append(entry.id)
    return found


def _move_chunks(ids: Sequence[int], term: int | None) -> list[Move]:
    cache = JudgedSnapshots()
    return move_in_chunks(ids, lambda entries, _: relocate_misplaced(entries, cache.judge), cache, term)


def _unless_stale(verb: Callable[..., list[Move]], *about: Any, **how: Any) -> list[Move]:
    """Return the moves of a verb; none if its decision goes stale, as the next pass decides again."""
    try:
        return verb(*about, **how)
    except (StalePlan, NotTheirs) as reason:
        log.info("left_to_the_next_pass", reason=str(reason))
        return []


def _in_company() -> dict[str, list[int]]:
    """Isolated configs that are not alone on their nodes: {Isolation.Reason: their ids}.

    Not those that somebody isolated who is bound to some checks: others leave no node for them.
    """
    owned = Isolation.objects.filter(config__assignment__node__isnull=False, bounded=False)
    owned = owned.select_related("config__assignment")
    owned = owned.exclude(config__assignment__node__in=Assignment.objects.unsettled().values("node"))
    nodes = {one.pk: one.config.assignment.node_id for one in owned if one.config}
    counts = Assignment.objects.filter(node__in=nodes.values()).counts()
    found: dict[str, list[int]] = {}
    for one in owned:
        if one.config_id and counts.get(nodes.get(one.pk, 0), 0) > 1:
            found.setdefault(one.reason, []).append(one.config_id)
    return found
