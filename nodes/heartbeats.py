"""The heartbeats of node agents: each is written, and what else it says is noted.

A heartbeat of a known node is one statement. New and returning nodes are registered first, and fresh starts and changed
declarations are noted after it (`nodes/registration.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from django.db import DataError, IntegrityError

from nodes import registration
from nodes.holders import hand_over
from nodes.models import Heartbeat, Node, NodeEvent, UnknownNode
from nodes.models.heartbeats import EXTRA_HEARTBEAT, Beat, Claim, Report
from nodes.newcomers import TooManyNames, newcomers

T = TypeVar("T")
R = TypeVar("R")


def note_heartbeat(
    name: str,
    *,
    last_change: int,
    node_type: int = 0,
    client_ip: str | None = None,
    declared: str = "",
    peer: str | None = None,
) -> bool:
    """Write one heartbeat, waiting for its row if need be. Returns whether the node is up to date. Raises TooManyNames."""
    report = Report(name, last_change, node_type, client_ip, declared, peer)
    beat = Heartbeat.objects.beat(report)
    while beat is None:
        fresh, _ = Node.objects.absent([name])
        if fresh and not newcomers.admit(1):
            raise TooManyNames(TooManyNames.__doc__)
        # None: somebody else has just registered it, or it was lost this moment.
        beat = registration.register({name: report}, wait=True).get(name) or Heartbeat.objects.beat(report)
    for error in _note_said({name: report}, {name: beat}).values():
        raise error
    return beat.is_current(last_change)


def note_heartbeats(reports: Sequence[Report]) -> list[Beat | Exception | None]:
    """Write many heartbeats in a few statements. Returns for each what is known of its node, or what is wrong with it.

    A bad report spoils no other one. An exception is TooManyNames, UnknownNode for a report that was answered before its
    node was lost, or the database's error. None: the heartbeat must be written alone (`note_heartbeat`), since its row is
    locked, somebody else registers the node now, or the node is here twice.
    """
    told = {report.name: report for report in reports}
    beats, wrong = _apart(Heartbeat.objects.beat_together, told)
    missing = told.keys() - beats.keys() - wrong.keys()
    if missing:
        fresh, lost = Node.objects.absent(missing)
        # Answered before the node was lost, so it must not bring the node back: its process may have been stopped for long.
        late = {name for name in fresh | lost if told[name].age}
        wrong |= {name: UnknownNode(UnknownNode.__doc__) for name in late}
        fresh, lost = fresh - late, lost - late
        admitted = sorted(fresh)[: newcomers.admit(len(fresh))] if fresh else []
        wrong |= {name: TooManyNames(TooManyNames.__doc__) for name in fresh.difference(admitted)}
        arrived, odd = _apart(registration.register, {name: told[name] for name in (*lost, *admitted)})
        beats, wrong = beats | arrived, wrong | odd
    outcomes = beats | wrong | _note_said(told, beats)
    return [outcomes.get(report.name) if told[report.name] is report else None for report in reports]


def _note_said(told: Mapping[str, Report], beats: Mapping[str, Beat]) -> dict[str, Exception]:
    """Note fresh starts, changed declarations and second addresses. Returns what is wrong with some: {name: error}."""
    restarted, declared, elsewhere = {}, {}, []
    for name, beat in beats.items():
        report = told[name]
        if beat.is_late:
            continue
        if report.last_change == 0 and (beat.acknowledged_before > 0 or beat.said_goodbye):
            restarted[name] = beat
        if report.last_change != EXTRA_HEARTBEAT and report.declared != beat.declared:
            declared[name] = report.declared
        # A report of 0 is a fresh start, and a node may start at an address that it had before.
        if beat.rival and report.last_change != 0:
            NodeEvent.objects.note_addresses(name, {str(report.client_ip), beat.rival})
        if beat.is_elsewhere:
            elsewhere.append(Claim(name, str(report.peer), is_report=True))
    if elsewhere:
        hand_over(elsewhere)
    _, wrong = _apart(registration.note_restarts, restarted)
    return wrong | _apart(registration.note_declarations, declared)[1]


def _apart(
    work: Callable[[Mapping[str, T]], Mapping[str, R] | None], items: Mapping[str, T]
) -> tuple[dict[str, R], dict[str, Exception]]:
    """Do the work for all items at once: ({name: result}, {name: error}).

    Where it fails it is done again for each half, until the bad item is alone. An outage is no item's fault: it is raised.
    """
    if not items:
        return {}, {}
    try:
        return dict(work(items) or {}), {}
    except (DataError, IntegrityError, ValueError) as error:
        if len(items) == 1:
            return {}, dict.fromkeys(items, error)
    pairs, middle = list(items.items()), len(items) // 2
    done, wrong = _apart(work, dict(pairs[:middle]))
    more, odd = _apart(work, dict(pairs[middle:]))
    return done | more, wrong | odd
