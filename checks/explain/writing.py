"""What sending configs that people and pipelines write would do, worked out as the verbs and passes will do it. Read-only."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from checks.dispatcher import changes
from checks.dispatcher.changes import ChangeBuilder, Changes, Entry
from checks.dispatcher.costs import assumed
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.misplaced import Judge
from checks.explain.aftermath import ASKED_WHY, Moving, refilled, told_refilled
from checks.explain.loss import homeless_reasons
from checks.explain.objections import nowhere, why_nowhere
from checks.models import Config, Origin, bounds
from checks.sources.origins import Admitted, Known
from checks.wire.sharding import parent_of
from clusteragent.lib.words import agreeing, grouped_count, listed, load_goes
from nodes.models import Hearing

NOBODY = "nobody"
# What is told to who is bound to sources, instead of where configs would run: which of those that it writes another source gives
# already would tell it, guess by guess, the passwords in them.
UNTOLD = "Where they would run is told to who is not bound to sources."


class Fate(NamedTuple):
    """What becomes of a config. before, after: the name of its node, NOBODY, or empty while there is no such config."""

    entry: Entry
    before: str
    after: str

    @property
    def is_lost(self) -> bool:
        """Whether it should run and would run nowhere, and that is not so now."""
        return self.after == NOBODY != self.before and not self.entry.paused

    @property
    def stops(self) -> bool:
        """Whether the node that runs it would not run it any more."""
        return self.before not in ("", NOBODY, self.after)

    @property
    def gets(self) -> str:
        """The node that would have one config more for it; empty for none."""
        return "" if self.entry.endpoint or self.after in ("", NOBODY, self.before) else self.after


class Effect(NamedTuple):
    """What follows when configs are saved.

    lost: how many configs would run nowhere, and do not so now. stops: the ids of those that are stored. about: what stands for
    all that is sent and changed, and for the configs that a node would lose. peak: the load before and after of the node that
    gets something, of several nodes the highest of all; zeros for who is not told.
    """

    sentences: Sequence[str]
    fates: Sequence[Fate]
    lost: int
    stops: Sequence[int]
    about: Sequence[str]
    peak: tuple[float, float]

    @property
    def nowhere(self) -> str:
        """The sentence about the lost ones, which is among the others; empty if there are none."""
        return nowhere(self.lost) if self.lost else ""


def save(source: str, sends: Sequence[Admitted], known: Mapping[str, Known], gone: Sequence[str] = ()) -> Effect:
    """Return what follows when these are sent for their keys, in place of what these send now, and then `gone` send nothing.

    known: what the store has of these keys, and maybe of others. 20 000 configs take a second or two. Who is bound to sources
    is told a number alone, and all of it, also what stands for it, is the same whether others give one of them already or not.
    """
    is_told = not bounds.why_not_all("checks.add_config", "it is about all sources")
    todo = ChangeBuilder([sent for one in sends for sent in one.sent], apart=not is_told).changes
    changes.attach_orders([*todo.changed, *todo.new])
    snapshot = read_snapshot(cold=True)
    snapshot.read_origins(todo.changed)
    before = snapshot.loads()
    removed = [*todo.removed, *_left_over(source, todo, _origins_left(sends, known, gone))]
    fates, filled = _fates(snapshot, todo, removed)
    lost = [fate.entry for fate in fates if fate.is_lost]
    keys = {*(one.key for one in sends), *gone}
    peak, of_loads = _loads(snapshot, before, fates)
    sentences = [*_sentences(fates), *told_refilled(filled), *of_loads, *_twins(todo, source, keys)]
    if lost:
        why = homeless_reasons(snapshot, [one for one in lost if not one.endpoint][:ASKED_WHY])
        ends = sorted({one.sent.patched.node_name for one in lost if one.endpoint and one.sent})
        told = [
            *why,
            *(f"it checks an endpoint of {name}, and no node of this name reports" for name in ends[:ASKED_WHY]),
        ]
        sentences += why_nowhere(told, len(lost))
    if sentences and Hearing.objects.filter(warmup=True).exists():
        sentences.append("The warm-up is not over: until then nothing new is placed.")
    sent = (one.patched.fingerprint for each in sends for one in each.sent)
    return Effect(
        (sentences or ["Nothing that runs would change."]) if is_told else [UNTOLD],
        fates if is_told else [],
        len(lost),
        [one.id for one in lost if one.id],
        [*sorted(keys), *sent, *(f"{fate.entry.id} stops" if fate.stops else f"{fate.entry.id}" for fate in fates)],
        peak if is_told else (0.0, 0.0),
    )


def _origins_left(sends: Iterable[Admitted], known: Mapping[str, Known], gone: Iterable[str]) -> list[str]:
    """The origins' keys that send nothing any more: those of a key that is cut otherwise now, and those of keys that go."""
    cut = {
        key
        for one in sends
        if one.key in known
        for key in set(known[one.key].origins) - {sent.key for sent in one.sent}
    }
    return [*sorted(cut), *(key for one in gone for key in known[one].origins)]


def _left_over(source: str, todo: Changes, left: Collection[str]) -> list[Entry]:
    """The configs that no origin sends any more once these keys of the source send nothing."""
    if not left:
        return []
    leaving = Counter(Origin.objects.filter(source=source, key__in=left).values_list("config_id", flat=True))
    coming = Counter(entry.id for _, entry in todo.joined)
    leaving.update(entry.id for entry in todo.lost_origin)
    gone = {entry.id for entry in todo.removed}
    found = changes.entries(leaving.keys() - gone)
    return [one for one in found if one.origins + coming[one.id] == leaving[one.id]]


def _fates(snapshot: Snapshot, todo: Changes, removed: Sequence[Entry]) -> tuple[list[Fate], list[Moving]]:
    """What becomes of each config that comes, changes or goes, and what else gets the room that they leave.

    The snapshot counts it, in the order in which it is done: first all that comes gets a node, then what goes leaves its own, and
    then who waits gets the room, the longest first: what found none when it came is the last.
    """
    now = _nodes(snapshot, [*todo.changed, *removed])
    judge = Judge(snapshot)
    fates = [Fate(one, "", _place(snapshot, one)) for one in todo.new]
    fates += [Fate(one, now[one.id], _follow(judge, one)) for one in todo.changed]
    for one in removed:
        if one.owner:
            snapshot.give_up(one)
    gone = [Fate(one, now[one.id], "") for one in removed]
    if not any(fate.stops for fate in (*fates, *gone)):
        return [*fates, *gone], []
    filled = refilled(snapshot, {fate.entry.id for fate in (*fates, *gone)})
    fates = [fate._replace(after=_place(snapshot, fate.entry)) if fate.after == NOBODY else fate for fate in fates]
    return [*fates, *gone], filled


def _nodes(snapshot: Snapshot, entries: Sequence[Entry]) -> dict[int, str]:
    """{id of a stored config: the node that runs it now}."""
    endpoints = dict(Config.objects.filter(pk__in=[one.id for one in entries]).values_list("pk", "node_name"))
    owners = {one.id: snapshot.by_id[one.owner].name for one in entries if one.owner in snapshot.by_id}
    return {
        id_: owners.get(id_, NOBODY) if not node else node if node in snapshot.by_name else NOBODY
        for id_, node in endpoints.items()
    }


def _place(snapshot: Snapshot, entry: Entry) -> str:
    """The node that a config without an owner would get."""
    if entry.endpoint:
        assert entry.sent is not None
        return entry.sent.patched.node_name if entry.sent.patched.node_name in snapshot.by_name else NOBODY
    to = None if entry.paused else snapshot.choose(entry)
    return NOBODY if to is None else snapshot.by_id[to].name


def _follow(judge: Judge, entry: Entry) -> str:
    """The node that an edited config would have: its own, unless that may not have it any more."""
    owner = judge.snapshot.by_id.get(entry.owner or 0)
    if owner is None or entry.endpoint or judge.must_go(entry):
        return _place(judge.snapshot, entry)
    return owner.name


def _sentences(fates: Sequence[Fate]) -> Iterator[str]:
    """What happens, one sentence each."""
    groups = {
        "would be added, on {after}": [one for one in fates if not one.before and one.after != NOBODY],
        "would change: {before} would stop the old one and start the new one": [
            one for one in fates if one.before == one.after != NOBODY
        ],
        "would change and move from {before} to {after}": [
            one for one in fates if one.stops and one.after not in ("", NOBODY)
        ],
        "would change and get a node: {after}": [one for one in fates if one.before == NOBODY != one.after != ""],
        "would be taken away from {before}": [one for one in fates if not one.after and one.before != NOBODY],
        "would be taken away, which nobody runs": [one for one in fates if not one.after and one.before == NOBODY],
        "would be paused: nobody runs it until it is resumed": [one for one in fates if one.after and one.entry.paused],
        "would run nowhere": [one for one in fates if one.is_lost],
        "would run nowhere, as now": [
            one for one in fates if one.before == one.after == NOBODY and not one.entry.paused
        ],
    }
    for words, group in groups.items():
        if group:
            before, after = sorted({one.before for one in group}), sorted({one.after for one in group})
            told = words.format(before=listed(before), after=listed(after))
            yield f"{grouped_count(len(group), 'config')} {told}."


def _loads(
    snapshot: Snapshot, before: Mapping[int, float], fates: Sequence[Fate]
) -> tuple[tuple[float, float], list[str]]:
    """The load before and after of the node that gets something, or of several nodes the highest of all, also in a sentence."""
    names = sorted({fate.gets for fate in fates if fate.gets})
    if not names:
        return (0.0, 0.0), []
    after = dict(snapshot.loads())
    for fate in fates:
        # What goes altogether was given up: the snapshot's loads are without it.
        if fate.stops and fate.after and not fate.entry.endpoint and (id_ := snapshot.by_name[fate.before].id) in after:
            after[id_] -= snapshot.cost(fate.entry) / snapshot.by_id[id_].capacity
    one = snapshot.by_name[names[0]].id
    was, then = (before[one], after[one]) if len(names) == 1 else (max(before.values()), max(after.values()))
    told = load_goes(was, then, f"The load of {names[0]}") if len(names) == 1 else load_goes(was, then)
    return (was, then), [told, *filter(None, [assumed()])]


def _twins(todo: Changes, source: str, keys: Collection[str]) -> Iterator[str]:
    """A sentence about configs that others give already."""
    mine = {id(one) for one in todo.changed}
    sent = [*(one for _, one in todo.new_origins), *(one for _, _, one in todo.changed_origins)]
    ids = {one.id for one in sent if one.id and id(one) not in mine}
    alike = Origin.objects.filter(config_id__in=ids).order_by("source", "key")
    others = [one for one in alike if one.source != source or parent_of(one.key) not in keys]
    if others:
        runs = sorted(str(config) for config in Config.objects.filter(pk__in={one.config_id for one in others}))
        gives = agreeing(len(others), "gives", "give")
        once = "it runs once, for both" if len(runs) == 1 else "each runs once, for all who give it"
        yield f"{listed([str(one) for one in others])} {gives} the same already, {listed(runs)}: {once}."
