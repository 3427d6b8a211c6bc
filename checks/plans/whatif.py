"""What would become of the map if nodes went or came, worked out without a change."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from checks.balancing import DEFAULT_WORKERS, Pool, Spread, spread
from checks.eligibility import Candidate, Eligibility
from checks.models import Plan
from checks.models.plans import Held
from checks.plans import survey
from checks.plans.making import describe
from checks.plans.store import drafted
from checks.plans.survey import Place, Survey
from nodes.models.querysets import UnknownNode


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
        if name not in now.nodes:
            raise UnknownNode(f"node {name} is unknown")
    later = _with_other_nodes(now, frozenset(remove), add)
    lost = sorted(held for held in now.held.values() if held.node in remove)
    placed = _place(later, lost)
    moved = {one.digest: one._replace(node=to) for one, to in placed.items() if to}
    later = replace(later, held={**later.held, **moved})
    # Nodes that come and go make everybody wait, so by then what rests now has run.
    moves = later.plan(later.fixed())
    return Outlook(placed, drafted(describe(later, moves), author=""), spread(now.utilization().values()))


def _with_other_nodes(sight: Survey, gone: Collection[str], add: int) -> Survey:
    """The same without the nodes that are gone and what they had, and with so many new ones."""
    nodes = {name: node for name, node in sight.nodes.items() if name not in gone}
    runners_come = any(node.is_runner for node in sight.eligibility.nodes)
    candidates = [node for node in sight.eligibility.nodes if node.name not in gone]
    for name in _new_names(sight.nodes, add):
        nodes[name] = Place(-len(nodes) - 1, DEFAULT_WORKERS)
        candidates.append(Candidate(nodes[name].id, name, {}, "", runners_come))
    held = {digest: one for digest, one in sight.held.items() if one.node in nodes}
    return replace(sight, nodes=nodes, held=held, eligibility=Eligibility(candidates))


def _new_names(taken: Collection[str], number: int) -> Iterable[str]:
    numbered = (f"new-{one}" for one in range(1, number + len(taken) + 1))
    free = (name for name in numbered if name not in taken)
    return [next(free) for _ in range(number)]


def _place(sight: Survey, lost: Collection[Held]) -> dict[Held, str | None]:
    """Where these configs would be placed, one after the other."""
    takes = {name: node for name, node in sight.nodes.items() if node.takes}
    names = {node.id: name for name, node in takes.items()}
    load, counts = dict.fromkeys(takes, 0.0), dict.fromkeys(takes, 0)
    for digest, one in sight.held.items():
        if one.node in takes:
            load[one.node] += sight.costs[digest]
            counts[one.node] += 1
    pool = Pool(
        {name: name for name in takes},
        load,
        counts=counts,
        base={name: node.base for name, node in takes.items()},
        workers={name: node.capacity for name, node in takes.items()},
        limits={name: node.most for name, node in takes.items() if node.most is not None},
    )
    placed: dict[Held, str | None] = {}
    for one, entry in zip(lost, sight.entries(lost).values(), strict=True):
        among = sight.eligibility.among(entry)
        near = None if among is None else frozenset(names[id_] for id_ in among if id_ in names)
        placed[one] = to = pool.place(sight.costs[one.digest], among=near)
        if to is not None:
            sight.eligibility.take(entry, takes[to].id)
    return placed
