"""What moves configs without anybody's word: nodes that leave or are drained, pauses that end, places that became wrong."""

import math
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction

from checks.changes import Entry
from checks.dispatcher.misplaced import Judge
from checks.dispatcher.placing import NO_PILE_UP, no_pile_up
from checks.dispatcher.steering import move_astray, move_company, resume
from checks.dispatcher.turns import Placement, Turn, entries_of, in_chunks
from checks.eligibility import name_origins
from checks.models import Assignment, Config, Move
from checks.orders import Isolation, Pause, Pin
from checks.querysets import AssignmentQuerySet
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.models import Hearing, NodeEvent

# What a node said is looked at again for so long, since it may have been saying it while a pass ended.
OVERLAP = timedelta(seconds=5)


def give_away(*, term: int | None = None) -> list[Move]:
    """Give away what nodes have that said that they leave; for a minute, as fast as no pile-up allows."""
    left = Assignment.objects.filter(node__leaving=True)
    ids = list(left.order_by("config_id").values_list("config_id", flat=True))
    if not ids:
        return []
    latest = NodeEvent.objects.filter(kind=NodeEvent.Kind.LEAVING, time__gte=ago(NO_PILE_UP))
    most = no_pile_up(len(ids)) if latest.exists() else math.inf
    return in_chunks(ids, lambda chunk: _give_away(chunk, most, term))


def heed_declarations(*, term: int | None = None) -> list[Move]:
    """Take away from nodes what they no longer admit, if they said so since the last pass."""
    said = NodeEvent.objects.filter(kind=NodeEvent.Kind.DECLARED)
    if last_pass := Hearing.objects.get().last_pass:
        said = said.filter(time__gte=last_pass - OVERLAP)
    names = set(said.values_list("node_name", flat=True))
    must, _ = _misplaced(Assignment.objects.filter(node__name__in=names)) if names else ([], [])
    return in_chunks(must, lambda chunk: _put_right(chunk, term))


def resume_due(*, term: int | None = None) -> list[Move]:
    """Resume what was paused until now."""
    due = Pause.objects.over().filter(config__isnull=False)
    return resume(list(due.values_list("config_id", flat=True)), term=term, actor="end of the pause")


def put_right(*, term: int | None = None) -> list[Move]:
    """Move what must not stay where it is: at once where it may not run, at the budget's pace where it only should not."""
    moves = [move for isolation in _in_company() for move in _leave_alone(isolation, term)]
    must, should = _misplaced(Assignment.objects.all())
    return moves + in_chunks([*must, *should[: budget()]], lambda chunk: _put_right(chunk, term))


def budget() -> int:
    """How many configs may move in one period for no better reason than order."""
    return max(5, int(Config.objects.dispatchable().count() * conf.REBALANCE_BUDGET))


def _misplaced(assignments: AssignmentQuerySet) -> tuple[list[int], list[int]]:
    """Of these, the configs that may not run where they are, and those that should not."""
    judge = Judge(Placement())
    if judge.is_content():
        return [], []
    must, should = [], []
    for entry in _assigned(assignments, with_origins=judge.eligibility.needs_origins()):
        if judge.must_go(entry):
            must.append(entry.id)
        elif judge.should_go(entry):
            should.append(entry.id)
    return must, should


def _assigned(assignments: AssignmentQuerySet, *, with_origins: bool) -> list[Entry]:
    """What has an owner, with no more than the judge needs."""
    pins = {pin.config_id: pin for pin in Pin.objects.in_force().filter(config__isnull=False)}
    rows = assignments.order_by("config_id").values_list("config_id", "config__name", "node_id")
    entries = [Entry(id_, "", name, False, owner=owner, pin=pins.get(id_)) for id_, name, owner in rows]
    if with_origins:
        name_origins(entries)
    return entries


@transaction.atomic
def _put_right(ids: Sequence[int], term: int | None) -> list[Move]:
    turn = Turn(term, "")
    move_astray(turn, entries_of(ids))
    return turn.finish() if turn.moves else []


@transaction.atomic
def _give_away(ids: Sequence[int], most: float, term: int | None) -> list[Move]:
    turn = Turn(term, "")
    turn.relocate(entries_of(ids), Placement(ceiling=most), Move.Reason.LEFT)
    # What nobody may take yet is tried at each pass, and must not make plans stale each time.
    return turn.finish() if turn.moves else []


def _in_company() -> list[Isolation]:
    """Isolations of configs that are not alone on their nodes."""
    owned = Isolation.objects.filter(config__assignment__node__isnull=False).select_related("config__assignment")
    counts = Assignment.objects.filter(node__in=owned.values("config__assignment__node")).counts()
    return [one for one in owned if one.config and counts.get(one.config.assignment.node_id, 0) > 1]


@transaction.atomic
def _leave_alone(isolation: Isolation, term: int | None) -> list[Move]:
    turn = Turn(term, "")
    owned = [entry for entry in entries_of([isolation.config_id or 0]) if entry.owner is not None]
    return [move for entry in owned for move in move_company(turn, entry, isolation.reason)]
