"""What something that was done changed on the map: for dry runs that do it and take it back. Read-only."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.transaction import entries_of
from checks.explain.aftermath import ASKED_WHY, Moving, misplaced
from checks.explain.forecasts import MOST_FORESEEN, Forecast
from checks.explain.loss import homeless_reasons
from checks.explain.objections import no_node, of_dangling, why_nowhere
from checks.models import Config, freezes
from checks.models.orders import Pause
from checks.models.titles import called
from clusteragent.lib.words import grouped_count, listed, load_goes, natural
from nodes.models import Hearing, Node

# Where a config is that no node has, one that is not there yet, and one that is not there any more.
NOBODY, NEW, GONE = "nobody", "new", "gone"
_COLUMNS = ("pk", "assignment__node__name", "node_name", "title", "name", "digest")


class Map(NamedTuple):
    """Who runs what at one moment.

    owners: {config's id: its node's name, or NOBODY}. checks, titles: {config's id: its check, and how people call it}. nodes:
    names. is_open: some node takes work. peak: the highest load. due: what passes would move, {config's id: the node that it
    would get, or NOBODY}. unbalanced: why nothing is balanced automatically; empty if it is.
    """

    owners: Mapping[int, str]
    checks: Mapping[int, str]
    titles: Mapping[int, str]
    nodes: Collection[str]
    is_open: bool
    peak: float
    due: Mapping[int, str]
    unbalanced: str


def read(*, with_due: bool = False) -> Map:
    """Return the map as it is now. with_due: also what passes would move, where rules, pins or nodes may change."""
    snapshot = read_snapshot(cold=True)
    peak, names = snapshot.peak(), {node.id: node.name for node in snapshot.nodes}
    known = set(names.values())
    rows = list(Config.objects.order_by("pk").values_list(*_COLUMNS))
    moving = misplaced(snapshot) if with_due else {}
    return Map(
        # Who may run on one node alone has no assignment.
        {pk: node or (own if own in known else NOBODY) for pk, node, own, *_ in rows},
        {pk: check for pk, *_, check, _ in rows},
        {pk: called(*title) for pk, _, _, *title in rows},
        known,
        Node.objects.accepting().exists(),
        peak,
        {pk: names.get(to or 0, NOBODY) for pk, (_, to) in moving.items()},
        freezes.why_off(),
    )


def since(before: Map, what: str, *, with_due: bool = False) -> Forecast:
    """Return what is otherwise on the map now, and what the next passes do. Call it while it is so.

    what: what was done. Its moves lead from NEW for what is new, and to GONE. It objects if what ran before runs nowhere
    then, also as it is paused, and if no node takes work. with_due: as `before` was read.
    """
    after, snapshot = read(with_due=with_due), read_snapshot(cold=True)
    placed, homeless = _foreseen(before, after, snapshot)
    leaving = {pk: to for pk, to in after.due.items() if pk in before.owners and pk not in before.due}
    owners = {**after.owners, **placed, **leaving}
    changed = [pk for pk, to in owners.items() if before.owners.get(pk) != to]
    moves = [Moving(pk, after.checks[pk], before.owners.get(pk, NEW), owners[pk]) for pk in changed]
    moves += [Moving(pk, before.titles[pk], was, GONE) for pk, was in before.owners.items() if pk not in owners]
    stopped = [one for one in moves if one.to == NOBODY != one.source != NEW]
    objections = of_dangling(len(stopped))
    if after.nodes and not after.is_open and (before.is_open or not before.nodes):
        objections.append(no_node())
    homeless += entries_of([pk for pk, to in leaving.items() if to == NOBODY][:ASKED_WHY])
    # The snapshot counts what passes place.
    load = load_goes(before.peak, snapshot.peak())
    off = (
        f"Nothing would be balanced automatically: {after.unbalanced}." if after.unbalanced != before.unbalanced else ""
    )
    sentences = [*_counted(moves), *_why(snapshot, homeless), *_cold(), load, *filter(None, [off])]
    return Forecast(what, sentences, moves, objections)


def _foreseen(before: Map, after: Map, snapshot: Snapshot) -> tuple[dict[int, str], list[Entry]]:
    """Where passes place what has no node any more, or none yet, {config's id: node's name}; and the first that find none."""
    idle = [pk for pk, node in after.owners.items() if node == NOBODY != before.owners.get(pk)]
    entries = [one for one in entries_of(idle[:MOST_FORESEEN]) if not (one.paused or one.endpoint)]
    snapshot.read_origins(entries)
    chosen = [(one, snapshot.choose(one)) for one in entries]
    placed = {one.id: snapshot.by_id[to].name for one, to in chosen if to is not None}
    return placed, [one for one, to in chosen if to is None][:ASKED_WHY]


def _counted(moves: Sequence[Moving]) -> Iterator[str]:
    """What happens, one sentence each. What ran and runs nowhere then is an objection."""
    idle = [one.config for one in moves if one.to == NOBODY]
    paused = set(Pause.objects.of(idle).values_list("config_id", flat=True))
    groups = {
        "would be added, on {to}": [one for one in moves if one.source == NEW and one.to != NOBODY],
        "would be added, and run nowhere": [
            one for one in moves if one.source == NEW and one.to == NOBODY and one.config not in paused
        ],
        "would get a node: {to}": [one for one in moves if one.source == NOBODY and one.to != GONE],
        "would move from {source} to {to}": [
            one for one in moves if one.source not in (NEW, NOBODY) and one.to not in (NOBODY, GONE)
        ],
        "would be taken away from {source}": [one for one in moves if one.to == GONE],
        "would be paused: nobody runs it until it is resumed": [one for one in moves if one.config in paused],
    }
    for words, group in groups.items():
        if group:
            source, to = {one.source for one in group}, {one.to for one in group}
            told = words.format(source=listed(sorted(source, key=natural)), to=listed(sorted(to, key=natural)))
            yield f"{grouped_count(len(group), 'config')} {told}."


def _why(snapshot: Snapshot, homeless: Sequence[Entry]) -> Iterator[str]:
    snapshot.read_origins(homeless)
    yield from why_nowhere(homeless_reasons(snapshot, homeless[:ASKED_WHY]))


def _cold() -> Iterator[str]:
    if Hearing.objects.filter(warmup=True).exists():
        yield "The warm-up is not over: until then nothing new is placed."
