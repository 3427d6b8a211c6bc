"""What moves configs without anybody's word: nodes that leave or are drained, pauses that end, places that became wrong."""

import math
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from checks.dispatcher import transaction
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.misplaced import Judge, JudgedSnapshots, relocate_misplaced
from checks.dispatcher.orders import restore_isolation, resume
from checks.dispatcher.placing import NO_PILE_UP, pile_up_ceiling
from checks.dispatcher.staleness import StalePlan
from checks.dispatcher.transaction import (
    MapWriter,
    SnapshotCache,
    entries_of,
    in_chunks,
    light_entries,
    own_transaction,
    relocate,
)
from checks.models import Assignment, Config, Move
from checks.models.map import AssignmentQuerySet
from checks.models.orders import Isolation, Pause
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.hearing import too_many_leave
from nodes.models import Hearing, Node, NodeEvent

# What a node said is looked at again for so long, since it may have been saying it while a pass ended.
OVERLAP = timedelta(seconds=5)
A_MINUTE = timedelta(minutes=1)

log = structlog.get_logger()


def empty_leaving_nodes(*, term: int | None = None) -> list[Move]:
    """Give away what nodes have that said that they leave; for a minute, as fast as no pile-up allows.

    When too many say so to believe it, only of those that fell silent as well.
    """
    if not Node.objects.filter(leaving=True).exists():
        return []
    left = Assignment.objects.filter(node__leaving=True)
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
    return in_chunks(ids, lambda chunk: _empty(chunk, cache, term), cache)


def apply_declarations(*, term: int | None = None) -> list[Move]:
    """Take away from nodes what they no longer admit, if they said so since the last pass."""
    said = NodeEvent.objects.filter(kind=NodeEvent.Kind.DECLARED)
    if last_pass := Hearing.objects.get().last_pass:
        said = said.filter(time__gte=last_pass - OVERLAP)
    names = set(said.values_list("node_name", flat=True))
    must, _ = _misplaced(Assignment.objects.filter(node__name__in=names)) if names else ([], [])
    return _move_chunks(must, term)


def resume_due(*, term: int | None = None) -> list[Move]:
    """Resume what was paused until now."""
    due = list(Pause.objects.over().filter(config__isnull=False).values_list("config_id", flat=True))
    return _unless_stale(lambda: resume(due, term=term, actor="end of the pause")) if due else []


def move_misplaced(*, term: int | None = None) -> list[Move]:
    """Move what must not stay where it is: at once where it may not run, at the budget's pace where it only should not.

    What draining nodes have moves by `drain`.
    """
    moves: list[Move] = []
    for reason, ids in _in_company().items():
        moves += _unless_stale(lambda ids=ids, reason=reason: restore_isolation(ids, reason, term=term))  # type: ignore[misc]
    must, should = _misplaced(Assignment.objects.all())
    drained = set(Assignment.objects.filter(node__draining=True).values_list("pk", flat=True))
    rest = [config for config in should if config not in drained]
    return moves + _move_chunks([*must, *rest[: budget_left()]], term)


def drain(*, term: int | None = None) -> list[Move]:
    """Move configs of draining nodes to others: at most `budget()` in any minute, and CHUNK in one call."""
    held = Assignment.objects.filter(node__draining=True)
    most = min(budget_left(), transaction.CHUNK) if held.exists() else 0
    if not most:
        return []
    _, should = _misplaced(held)
    return _move_chunks(should[:most], term)


def budget() -> int:
    """How many configs may move in one period for no better reason than order."""
    return max(5, int(Config.objects.dispatchable().count() * conf.REBALANCE_BUDGET))


def budget_left() -> int:
    """What is left of `budget()` after the drains of the last minute. They come first: nothing else counts."""
    draining = Node.objects.filter(draining=True).values("name")
    reasons = (Move.Reason.DRAINED, Move.Reason.PINNED)
    drained = Move.objects.filter(time__gt=ago(A_MINUTE), source_node__in=draining, reason__in=reasons, actor="")
    return max(0, budget() - drained.count())


def _misplaced(assignments: AssignmentQuerySet) -> tuple[list[int], list[int]]:
    """Of these, the configs that may not run where they are, and those that should not."""
    judge = Judge(read_snapshot())
    if judge.is_all_right():
        return [], []
    must, should = [], []
    rows = assignments.order_by("config_id").values_list("config_id", "config__name", "node_id")
    for entry in light_entries(rows, judge.snapshot):
        if judge.must_go(entry):
            must.append(entry.id)
        elif judge.should_go(entry):
            should.append(entry.id)
    return must, should


def _move_chunks(ids: Sequence[int], term: int | None) -> list[Move]:
    cache = JudgedSnapshots()
    return in_chunks(ids, lambda chunk: _move_chunk(chunk, cache, term), cache)


def _unless_stale(verb: Callable[[], list[Move]]) -> list[Move]:
    """What a verb moves. What changes meanwhile is decided anew by the next pass."""
    try:
        return verb()
    except StalePlan as reason:
        log.info("left_to_the_next_pass", reason=str(reason))
        return []


@own_transaction
def _move_chunk(ids: Sequence[int], cache: JudgedSnapshots, term: int | None) -> list[Move]:
    writer = MapWriter(term, "")
    cache.at(writer.store.revision)
    writer.apply(relocate_misplaced(entries_of(ids), cache.judge))
    return _finish(writer, cache)


@own_transaction
def _empty(ids: Sequence[int], cache: SnapshotCache, term: int | None) -> list[Move]:
    writer = MapWriter(term, "")
    writer.apply(relocate(entries_of(ids), cache.at(writer.store.revision), Move.Reason.LEFT))
    return _finish(writer, cache)


def _finish(writer: MapWriter, cache: SnapshotCache) -> list[Move]:
    """What nobody may take yet is tried again and again, and must not make plans stale each time."""
    if writer.moves:
        return writer.finish()
    cache.keep()
    return []


def _in_company() -> dict[str, list[int]]:
    """Isolated configs that are not alone on their nodes, by the reason why they should be."""
    owned = Isolation.objects.filter(config__assignment__node__isnull=False).select_related("config__assignment")
    nodes = {one.pk: one.config.assignment.node_id for one in owned if one.config}
    counts = Assignment.objects.filter(node__in=nodes.values()).counts()
    found: dict[str, list[int]] = {}
    for one in owned:
        if one.config_id and counts.get(nodes.get(one.pk, 0), 0) > 1:
            found.setdefault(one.reason, []).append(one.config_id)
    return found
