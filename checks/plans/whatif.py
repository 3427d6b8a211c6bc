"""What would become of the map if nodes went or came, worked out without a change."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from checks.balancing import Spread, spread
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import PLACEMENT, Candidate, Snapshot
from checks.models import Plan
from checks.models.plans import Held
from checks.plans import survey
from checks.plans.making import decision_of
from checks.plans.store import to_plan


class Outlook(NamedTuple):
    """Where the configs of removed nodes would go ({config: node's name, None: nowhere}), and what a rebalance would do then.

    now: how evenly nodes are loaded before all that.
    """

    placed: dict[Held, str | None]
    plan: Plan
    now: Spread


def what_if(*, remove: Collection[str] = (), add: int = 0) -> Outlook:
    """What if these nodes went, and so many of the usual size came. Changes nothing. Raises UnknownNode."""
    now = survey.take()
    for name in remove:
        now.snapshot.named(name)
    snapshot = now.snapshot.with_nodes(without=remove, new=_new_nodes(now.snapshot, add))
    stays = {digest: one for digest, one in now.held.items() if one.node not in remove}
    later = replace(now, snapshot=snapshot, held=stays)
    lost = sorted(held for held in now.held.values() if held.node in remove)
    entries = later.entries(lost)
    placed = {now.held[entry.digest]: to for entry, to in place(snapshot.for_purpose(PLACEMENT), entries.values())}
    for held, to in placed.items():
        if to is not None:
            snapshot.take(entries[held.digest], to.id)
    moved = {held.digest: held._replace(node=to.name) for held, to in placed.items() if to is not None}
    later = replace(later, held={**stays, **moved})
    # Nodes that come and go make everybody wait, so by then what rests now has run.
    moves = later.plan(later.fixed())
    names = {held: to and to.name for held, to in placed.items()}
    return Outlook(names, to_plan(decision_of(later, moves), author=""), spread(now.utilization().values()))


def place(snapshot: Snapshot, entries: Iterable[Entry]) -> list[tuple[Entry, Candidate | None]]:
    """Where these configs would be placed, one after the other; None: nowhere."""
    chosen = [(entry, snapshot.choose(entry)) for entry in entries]
    return [(entry, None if to is None else snapshot.by_id[to]) for entry, to in chosen]


def _new_nodes(snapshot: Snapshot, number: int) -> list[Candidate]:
    runners_come = any(node.is_runner for node in snapshot.nodes if node.id in snapshot.open)
    names = (f"new-{one}" for one in range(1, number + len(snapshot.nodes) + 1))
    free = (name for name in names if name not in snapshot.by_name)
    return [Candidate(-one, next(free), {}, "", runners_come) for one in range(1, number + 1)]
