"""What saving a config that is written by hand would do, worked out as the verbs and passes will do it. Read-only."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from checks.dispatcher import changes
from checks.dispatcher.changes import ChangeBuilder, Changes, Entry
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.dispatcher.misplaced import Judge
from checks.explain.aftermath import ASKED_WHY
from checks.explain.loss import homeless_reasons
from checks.models import Config, Origin
from checks.sources import origins
from checks.sources.origins import Admitted
from checks.wire.sharding import parent_of
from clusteragent.lib.words import grouped_count, listed
from nodes.models import Hearing

NOBODY = "nobody"


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


class Effect(NamedTuple):
    """What follows when a config is saved.

    lost: how many configs would run nowhere, and do not so now. about: what stands for all that is sent and changed, and for the
    configs that a node would lose.
    """

    sentences: Sequence[str]
    fates: Sequence[Fate]
    lost: int
    about: Sequence[str]


def save(source: str, admitted: Admitted) -> Effect:
    """Return what follows when this is sent for its key, in place of what the key sends now."""
    todo = ChangeBuilder(admitted.sent).changes
    changes.attach_orders([*todo.changed, *todo.new])
    snapshot = read_snapshot(cold=True)
    snapshot.read_origins(todo.changed)
    removed = [*todo.removed, *_left_over(source, admitted)]
    now = _nodes(snapshot, [*todo.changed, *removed])
    for one in removed:
        if one.owner:
            snapshot.give_up(one)
    judge = Judge(snapshot)
    fates = [
        *(Fate(one, "", _place(snapshot, one)) for one in todo.new),
        *(Fate(one, now[one.id], _follow(judge, one)) for one in todo.changed),
        *(Fate(one, now[one.id], "") for one in removed),
    ]
    lost = [fate.entry for fate in fates if fate.is_lost]
    sentences = [*_sentences(fates), *_twins(todo, source, admitted.key)]
    if lost:
        why = homeless_reasons(snapshot, [one for one in lost if not one.endpoint][:ASKED_WHY])
        ends = sorted({one.sent.patched.node_name for one in lost if one.endpoint and one.sent})
        told = [*why, *(f"it checks an endpoint of {name}, and no node of this name reports" for name in ends)]
        sentences += [f"Why it would run nowhere: {one}." for one in told]
    if sentences and Hearing.objects.filter(warmup=True).exists():
        sentences.append("The warm-up is not over: until then nothing new is placed.")
    sent = (one.patched.fingerprint for one in admitted.sent)
    return Effect(
        sentences or ["Nothing that runs would change."],
        fates,
        len(lost),
        [admitted.key, *sent, *(f"{fate.entry.id} stops" if fate.stops else f"{fate.entry.id}" for fate in fates)],
    )


def _left_over(source: str, admitted: Admitted) -> list[Entry]:
    """The configs that go since the key is cut otherwise now."""
    kept = {one.key for one in admitted.sent}
    left = [origin.config_id for origin in origins.origins(source, admitted.key) if origin.key not in kept]
    found = changes.entries(left) if left else []
    return [one for one in found if one.origins == left.count(one.id)]


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
        "would be taken away from {before}": [one for one in fates if not one.after],
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


def _twins(todo: Changes, source: str, key: str) -> Iterator[str]:
    """A sentence about configs that others give already."""
    mine = {id(one) for one in todo.changed}
    sent = [*(one for _, one in todo.new_origins), *(one for _, _, one in todo.changed_origins)]
    ids = {one.id for one in sent if one.id and id(one) not in mine}
    alike = Origin.objects.filter(config_id__in=ids).order_by("source", "key")
    others = [one for one in alike if (one.source, parent_of(one.key)) != (source, key)]
    if others:
        runs = sorted(str(config) for config in Config.objects.filter(pk__in={one.config_id for one in others}))
        gives = "gives" if len(others) == 1 else "give"
        yield f"{listed([str(one) for one in others])} {gives} the same already, {listed(runs)}: it runs once, for both."
