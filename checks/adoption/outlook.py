"""What the map will be once another one is adopted: loads, and what finds a node or none. Read-only, and without a lock."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from checks.adoption.matching import Matching
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import Snapshot
from checks.dispatcher.inventory import Inventory
from checks.dispatcher.misplaced import Judge
from checks.dispatcher.transaction import entries_of
from checks.explain.aftermath import ASKED_WHY
from checks.explain.loss import homeless_reasons
from checks.explain.objections import Objection, of_dangling
from checks.explain.reasons import words
from checks.models import Assignment, Cost, Move
from clusteragent.lib.words import agreeing, load_goes, plain_count, utc


class Later(NamedTuple):
    """What our own rules move once its node has fetched it. why: the rule. to: the node that would get it; empty for none."""

    why: str
    to: str


class Outlook(NamedTuple):
    """The map after adopting, against that of now.

    owners: {id of a matched or starting config: its node here now}. later: {config's id: Later}. starts: {id of a config that no
    node here or there has: the node that would get it, empty for none}. peak: the highest load before and after. why: why the
    first of those that find no node find none.
    """

    owners: Mapping[int, str]
    later: Mapping[int, Later]
    starts: Mapping[int, str]
    peak: tuple[float, float]
    why: Mapping[str, int]

    @property
    def load(self) -> str:
        """The highest load before and after, in a sentence."""
        return load_goes(*self.peak)


class _Adopted(Inventory):
    """What nodes have once configs moved: {config's id: (from node's id or None, to node's id)}."""

    def __init__(
        self, before: Inventory, moves: Mapping[int, tuple[int | None, int]], costs: Mapping[int, float]
    ) -> None:
        super().__init__()
        held, needed = Counter(before.held), dict(before.needed)
        for config, (source, to) in moves.items():
            for node, sign in ((source, -1), (to, 1)):
                if node is not None:
                    held[node] += sign
                    needed[node] = needed.get(node, 0.0) + sign * costs.get(config, 0.0)
        self.held, self.needed = held, needed


def look(matching: Matching, now: Snapshot) -> Outlook:
    """Return what the map will be. now: with the nodes that come. Of rules that count configs it knows those of now."""
    there = {pair.ours.id: now.by_name[pair.node].id for pair in matching.pairs}
    ids = [*there, *(one.id for one in matching.starts)]
    here = dict(Assignment.objects.filter(config__in=ids).values_list("config_id", "node_id"))
    moves = {id_: (here.get(id_), to) for id_, to in there.items() if here.get(id_) != to}
    later = replace(now, inventory=_Adopted(now.inventory, moves, Cost.objects.expected(list(moves))))
    before, after = now.peak(), later.peak()
    entries = {entry.id: entry for entry in entries_of(ids)}
    later.read_origins(list(entries.values()))
    for id_, to in there.items():
        entries[id_].owner = to
    leaving = dict(_leaving(Judge(later), [entries[id_] for id_ in there if id_ in entries]))
    idle = [entries[id_] for id_ in ids if id_ in entries and id_ not in there and id_ not in here]
    idle = [entry for entry in idle if not entry.endpoint]
    names = {node.id: node.name for node in later.nodes}
    starts = {entry.id: names.get(later.choose(entry) or 0, "") for entry in idle}
    homeless = [entries[id_] for id_, one in leaving.items() if not one.to]
    homeless += [entry for entry in idle if not starts[entry.id]]
    return Outlook(
        {id_: names.get(node, "") for id_, node in here.items()},
        leaving,
        starts,
        (before, after),
        homeless_reasons(later, homeless[:ASKED_WHY]),
    )


def _leaving(judge: Judge, entries: Iterable[Entry]) -> Iterator[tuple[int, Later]]:
    """What rules move once the nodes report. Draining and balancing are left out: they are no rules."""
    snapshot = judge.snapshot
    for entry in entries:
        if why := judge.must_go(entry):
            refusal = snapshot.refusal(entry, snapshot.by_id[entry.owner or 0])
            to = snapshot.choose(entry, elsewhere=True)
            name = snapshot.by_id[to].name if to is not None else ""
            yield entry.id, Later(str(refusal) if refusal else words(why).title.lower(), name)


def objections(matching: Matching, outlook: Outlook) -> list[Objection]:
    """Return what must be accepted: of what runs there, all that would run nowhere. What is paused here is meant to stop."""
    stops = [one for one in matching.stops if one.is_lost]
    return of_dangling(len(stops) + sum(not one.to for one in outlook.later.values()))


def moved_since(time: datetime | None) -> Iterator[str]:
    """Say that the map has changed since a file was written, if it has."""
    if time and (number := Move.objects.filter(time__gt=time).count()):
        were = agreeing(number, "was", "were")
        yield f"It was written {utc(time)}; {plain_count(number, 'move')} {were} made here since."
