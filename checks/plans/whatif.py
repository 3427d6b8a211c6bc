"""What-if: the map if nodes went or came, computed without a change."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from checks.balancing import Spread, spread
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot
from checks.dispatcher.inventory import Candidate
from checks.dispatcher.refusals import PLACEMENT
from checks.models import Plan
from checks.models.plans import Held
from checks.plans.making import decision_of
from checks.plans.store import to_plan
from checks.plans.survey import take_survey


class Outlook(NamedTuple):
    """The result of a what-if.

    placed: where the configs of removed nodes would go, {config: node's name, None for nowhere}. plan: what a rebalance
    would move then. now: the spread of the loads before.
    """

    placed: dict[Held, str | None]
    plan: Plan
    now: Spread


def what_if(*, remove: Collection[str] = (), add: int = 0) -> Outlook:
    """Compute what happens if the nodes of these names go, and `add` nodes of the default size come. Raises UnknownNode."""
    now = take_survey()
    for name in remove:
        now.snapshot.named(name)
    runners_come = any(node.is_runner for node in now.snapshot.nodes if node.id in now.snapshot.open)
    names = (f"new-{one}" for one in range(1, add + len(now.nodes) + 1))
    free = (name for name in names if name not in now.nodes)
    new = [Candidate(-one, next(free), {}, "", runners_come) for one in range(1, add + 1)]
    snapshot = now.snapshot.with_nodes(without=remove, new=new)
    stays = {digest: one for digest, one in now.held.items() if one.node not in remove}
    later = replace(now, snapshot=snapshot, held=stays)
    lost = sorted(held for held in now.held.values() if held.node in remove)
    entries = later.entries(lost)
    placed = {now.held[entry.digest]: to for entry, to in place(replace(snapshot, purpose=PLACEMENT), entries.values())}
    for held, to in placed.items():
        if to is not None:
            snapshot.take(entries[held.digest], to.id)
    moved = {held.digest: held._replace(node=to.name) for held, to in placed.items() if to is not None}
    later = replace(later, held={**stays, **moved})
    # A real rebalance waits while nodes come and go. By then, configs that rest now have run.
    moves = later.plan(later.fixed())
    where = {held: to and to.name for held, to in placed.items()}
    return Outlook(where, to_plan(decision_of(later, moves), author=""), spread(now.utilization().values()))


def place(snapshot: Snapshot, entries: Iterable[Entry]) -> list[tuple[Entry, Candidate | None]]:
    """Choose a node for each of these configs, one after the other, and return the pairs; None for no node."""
    chosen = [(entry, snapshot.choose(entry)) for entry in entries]
    return [(entry, None if to is None else snapshot.by_id[to]) for entry, to in chosen]
