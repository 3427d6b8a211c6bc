"""What the leader's passes do once something is otherwise: rules, nodes or orders. Read-only."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.misplaced import Judge, relocate_misplaced
from checks.dispatcher.transaction import light_entries
from checks.explain.loss import homeless_reasons
from checks.models import Assignment, Config, Cost
from checks.wire.scrub import scrub
from clusteragent.lib.words import grouped_count, listed

# How many configs that would run nowhere are asked why: each asks all nodes.
ASKED_WHY = 20
# Of so many configs that run nowhere now it is worked out whether they get the room that something leaves.
MOST_WAITING = 1000


class Moving(NamedTuple):
    """A config that would move. source, to: the nodes' names; empty for none."""

    config: int
    check: str
    source: str
    to: str


def titled(rows: Sequence[Moving]) -> list[tuple[Moving, str]]:
    """Return these, each with what people call its config; by its check, if it is gone."""
    found = Config.objects.filter(pk__in=[row.config for row in rows]).order_by("pk")
    known = list(found.values_list("pk", "title", "name", "digest"))
    names = dict(zip([pk for pk, *_ in known], Config.objects.told_apart(known), strict=True))
    return [(row, names.get(row.config) or scrub(row.check)) for row in rows]


class Aftermath(NamedTuple):
    """What passes would do that they do not do anyway.

    moves: to other nodes. lost: the configs that would run nowhere and run now. found: those that run nowhere now and would get
    a node. waiting: how many would run nowhere as they do now. staying: how many are about to move, and would not. anyway: how
    many move, or lose their node, in either case. peak: the highest load before and after. why: why no node could have `lost`,
    {reason: how many of the first ASKED_WHY}.
    """

    moves: Sequence[Moving]
    lost: Sequence[Moving]
    found: Sequence[Moving]
    waiting: int
    staying: int
    anyway: int
    peak: tuple[float, float]
    why: Mapping[str, int]


def follow(now: Snapshot, later: Snapshot, *, unpinned: Collection[int] = ()) -> Aftermath:
    """Return what passes would do if the nodes were as in `later`, and these configs not pinned.

    Both snapshots are used up: they count what would move.
    """
    held, then, homeless = _held(now), _held(later), [(*row, None) for row in _dangling()]
    # Of these alone: usually they are few of very many.
    costs = Cost.objects.expected({id_ for id_, *_ in (*held, *then, *homeless)})
    due, homed = _passes(now, held, homeless, costs)
    moving, homing = _passes(later, then, homeless, costs, frozenset(unpinned))
    names = {node.id: node.name for node in later.nodes}
    # What moves in either case is no effect of the change, wherever to; but losing its node is another thing than moving.
    made = [
        (entry, to)
        for entry, to in moving.values()
        if entry.id not in due or (due[entry.id][1] is None) != (to is None)
    ]
    found = [
        (entry, to)
        for id_, (entry, to) in homing.items()
        if to is not None and (id_ not in homed or homed[id_][1] is None)
    ]
    told = [Moving(one.id, one.name, names.get(one.owner or 0, ""), names.get(to or 0, "")) for one, to in made]
    return Aftermath(
        [one for one in told if one.to],
        [one for one in told if not one.to],
        [Moving(one.id, one.name, "", names[to]) for one, to in found],
        sum(to is None for _, to in homing.values()),
        len(due.keys() - moving.keys()),
        len(moving) - len(made),
        _peaks(now, later, [*made, *found], costs),
        homeless_reasons(later, [entry for entry, to in made if to is None][:ASKED_WHY]),
    )


# (config's id, check, owner's id), and {config's id: (config, node's id)}.
_Row = tuple[int, str, int | None]
_Moves = dict[int, tuple[Entry, int | None]]


def misplaced(snapshot: Snapshot) -> _Moves:
    """Return the configs that passes would move, each with the node that it would get: {config's id: (config, node's id)}.

    The snapshot is used up.
    """
    held = _held(snapshot)
    return _passes(snapshot, held, [], Cost.objects.expected({id_ for id_, *_ in held}))[0]


def _passes(
    snapshot: Snapshot,
    held: Sequence[_Row],
    homeless: Sequence[_Row],
    costs: Mapping[int, float],
    unpinned: Collection[int] = (),
) -> tuple[_Moves, _Moves]:
    """The configs that passes move, and those that run nowhere, each with the node that it would get: {config's id: …}."""
    entries = _read(held, snapshot, unpinned)
    for entry in entries:
        entry.cost = costs.get(entry.id)
    choices = relocate_misplaced(entries, Judge(snapshot))
    moving = {one.entry.id: (one.entry, one.to) for one in choices if one.to != one.entry.owner}
    return moving, {entry.id: (entry, snapshot.choose(entry)) for entry in _read(homeless, snapshot, unpinned)}


def _read(rows: Iterable[_Row], snapshot: Snapshot, unpinned: Collection[int]) -> list[Entry]:
    entries = light_entries(rows, snapshot)
    for entry in entries:
        if entry.id in unpinned:
            entry.pin = None
    return entries


def _held(snapshot: Snapshot) -> list[_Row]:
    """The configs that the passes would look at: (id, check, owner's id). Also those that rest now: their turn comes."""
    suspects = Judge(snapshot).suspects(Assignment.objects.all())
    rows = suspects.order_by("config_id").values_list("config_id", "config__name", "node_id")
    return [row for row in rows if row[2] in snapshot.by_id]


def refilled(later: Snapshot, but: Collection[int] = ()) -> list[Moving]:
    """Return the configs that run nowhere now and get a node for the room that `later` has more; of many the first MOST_WAITING.

    The snapshot is used up. but: the ids of those that are looked at elsewhere.
    """
    homeless = [(*row, None) for row in _dangling()[:MOST_WAITING] if row[0] not in but]
    if not homeless:
        return []
    costs = Cost.objects.expected({id_ for id_, *_ in homeless})
    _, homed = _passes(read_snapshot(cold=True), [], homeless, costs)
    _, homing = _passes(later, [], homeless, costs)
    return [
        Moving(id_, entry.name, "", later.by_id[to].name)
        for id_, (entry, to) in homing.items()
        if to is not None and homed[id_][1] is None
    ]


def refilled_after(left: Mapping[int, int | None]) -> list[Moving]:
    """Return the same for the room that configs leave which run: {config's id: the id of the node that it goes to, or None}."""
    if not left or not Config.objects.dangling().exists():
        return []
    later = read_snapshot(cold=True)
    owned = Assignment.objects.filter(config__in=left.keys(), node__in=later.by_id.keys()).order_by("config_id")
    costs = Cost.objects.expected(left.keys())
    for entry in light_entries(owned.values_list("config_id", "config__name", "node_id"), later):
        entry.cost = costs.get(entry.id)
        later.give_up(entry)
        if (to := left[entry.id]) in later.by_id:
            later.take(entry, to)
    return refilled(later, left.keys())


def told_refilled(found: Sequence[Moving]) -> list[str]:
    """Return a sentence about these, the first of them by name; nothing without any."""
    said = listed([f"{title} on {one.to}" for one, title in titled(found)])
    return [f"{grouped_count(len(found), 'config')} without a node would get one: {said}."] if found else []


def _dangling() -> list[tuple[int, str]]:
    """Those that run nowhere, (id, check), who waits longest first."""
    waiting = Config.objects.dangling().filter(node_name="").order_by("dangling_since", "pk")
    return list(waiting.values_list("pk", "name"))


def _peaks(
    now: Snapshot, later: Snapshot, moving: Sequence[tuple[Entry, int | None]], costs: Mapping[int, float]
) -> tuple[float, float]:
    """The highest load of all known nodes, before and after these moves."""
    needed = Counter(now.inventory.needed)
    before = max((needed[node.id] / node.capacity for node in now.nodes), default=0.0)
    for entry, to in moving:
        cost = costs.get(entry.id, 0.0)
        needed[entry.owner or 0] -= cost  # type: ignore[assignment]
        needed[to or 0] += cost  # type: ignore[assignment]
    return before, max((needed[node.id] / node.capacity for node in later.nodes), default=0.0)
