"""Patches again, where they are, the configs that other options than this process's patched, or an older release.

A process that starts with other tags would else give every config other bytes at once, and every check of the cluster would
restart in one moment; and what was written by hand, which no scan reads again, would keep the old ones. The leader alone
does so: what replicas with other options send meanwhile is patched once more, and nothing is ever patched back. What a later
release wrote is left as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from checks import sources
from checks.dispatcher import Refused, changes
from checks.dispatcher.changes import Changes, Entry, Identities, Sent
from checks.dispatcher.transaction import MapWriter, in_chunks, own_transaction
from checks.dispatcher.upkeep import budget
from checks.models import Config, Move, Origin
from checks.sources import origins, renewing
from checks.wire import options, patching, sharding
from checks.wire.patching import IntegrationConfig, UnpatchableConfig

ACTOR = "repatching"

log = structlog.get_logger()


class _Fresh(NamedTuple):
    """A config patched again, and when it had changed last; None: it can't be any more."""

    changed: datetime
    sent: Sent | None
    is_same: bool = False


def repatch(*, term: int | None = None) -> list[Move]:
    """Patch again what other options patched, no more configs at once than may move in one period. Raises NotLeader."""
    ours = options.fingerprint()
    renewing.renew(term=term)
    # Not exclude(): two ranges are found in the index, and mostly there is nothing to find.
    stale = Config.objects.filter(patched_with__lt=ours) | Config.objects.filter(patched_with__gt=ours)
    # What waits for another copy is patched after that.
    stale = stale.filter(patched_with__startswith=options.made_with())
    # What a replica of a later version wrote stays: else two leaders, one after the other, would undo each other's bytes.
    kinds = stale.order_by("patched_with").values_list("patched_with", flat=True).distinct()
    stale = stale.exclude(patched_with__in=[kind for kind in kinds if options.made_by_newer(kind)])
    ids = list(stale.order_by("pk").values_list("pk", flat=True)[: budget()])
    moves = _recut(ids, term) + in_chunks(ids, lambda chunk: _patch(chunk, term))
    if moves:
        log.info("configs_repatched", moves=len(moves), term=term)
    return moves


def _recut(ids: Sequence[int], term: int | None) -> list[Move]:
    """Cut or join what no scan reads again, where the options about shards changed."""
    sent = Origin.objects.filter(config_id__in=ids).exclude(source__in=_scanned()).order_by("pk")
    parents = {
        (source, sharding.parent_of(key)): None
        for source, key, config in sent.values_list("source", "key", "config__original")
        if sharding.is_shard(key) or origins.cut(IntegrationConfig.from_json(config))
    }
    return [move for source, key in parents for move in _put(source, key, term)]


def _put(source: str, key: str, term: int | None) -> list[Move]:
    """Send a config again as the options want it now, if they want it cut otherwise."""
    try:
        admitted = origins.admit(source, key, origins.original(source, key), text=origins.written(source, key))
    except (LookupError, Refused, UnpatchableConfig) as error:
        log.warning("config_not_recut", source=source, key=key, reason=str(error))
        return []
    if {one.key for one in admitted.sent} == {origin.key for origin in origins.origins(source, key)}:
        return []
    return origins.replace(source, admitted, term=term, actor=ACTOR)


def _patch(ids: Sequence[int], term: int | None) -> list[Move]:
    """Patch before the lock is taken, write under it."""
    rows = Config.objects.filter(pk__in=ids).values_list("pk", "changed", "original", "wire")
    fresh = {pk: _patched(changed, original, bytes(bytes_)) for pk, changed, original, bytes_ in rows}
    return _write(fresh, term)


def _patched(changed: datetime, original: Mapping[str, object], before: bytes) -> _Fresh:
    config = IntegrationConfig.from_json(original)
    try:
        same = patching.patch(config, options.extra_tags(), apart=patching.apart(before))
        if same.wire == before:
            return _Fresh(changed, Sent("", "", config, same), is_same=True)
        return _Fresh(changed, Sent("", "", config, patching.patch(config, options.extra_tags())))
    except UnpatchableConfig as error:
        # It was dispatched, so it goes on as it is rather than not at all.
        log.warning("config_not_repatched", reason=str(error))
        return _Fresh(changed, None)


@own_transaction
def _write(fresh: Mapping[int, _Fresh], term: int | None) -> list[Move]:
    writer = MapWriter(term, ACTOR)
    # Whoever edited one meanwhile patched it, and sent something else.
    times = dict(Config.objects.filter(pk__in=fresh).values_list("pk", "changed"))
    unedited = {pk: one for pk, one in fresh.items() if times.get(pk) == one.changed}
    others = {pk: one.sent for pk, one in unedited.items() if one.sent is not None and not one.is_same}
    _note({pk: one.sent for pk, one in unedited.items() if pk not in others})
    if others:
        _change(writer, others)
    # Of what an older release wrote: it let configs name sources that had gone.
    changes.use_remaining_origins(unedited.keys())
    return writer.finish() if others else []


def _note(same: Mapping[int, Sent | None]) -> None:
    """Note that these have the bytes that our options make, and what they say."""
    configs = list(Config.objects.filter(pk__in=same).only("fast_digest", "contents", "patched_with"))
    for config in configs:
        config.patched_with = options.fingerprint()
        if (sent := same[config.pk]) is not None:
            config.fast_digest, config.contents = sent.patched.fast_digest, sent.patched.contents
    Config.objects.bulk_update(configs, ["fast_digest", "contents", "patched_with"], batch_size=500)


def _change(writer: MapWriter, others: Mapping[int, Sent]) -> None:
    """Give these configs their new bytes. One that says what another says joins that one."""
    found = changes.entries_like(others.values(), others)
    identities = Identities(found)
    mine = [entry for entry in found if entry.id in others]
    for entry in mine:
        identities.discard(entry)
    todo = Changes()
    shared = []
    for entry in mine:
        sent = others[entry.id]
        twin = identities.find_same(sent) or entry
        if twin is entry:
            entry.set_content(identities.distinct(sent))
            identities.add(entry)
            todo.changed.append(entry)
        else:
            Origin.objects.filter(config_id=entry.id).update(config_id=twin.id)
            todo.removed.append(entry)
        if entry.owner is not None:
            writer.move(entry, entry.owner if twin is entry else None, Move.Reason.CHANGED)
        if twin is not entry or entry.origins > 1:
            shared.append(twin)
    changes.write(todo, ACTOR)
    _ask_again(shared)


def _ask_again(shared: Iterable[Entry]) -> None:
    """Several origins' configs, the same until now, may differ with other tags: their next scan sends each anew."""
    ids = [entry.id for entry in shared]
    Origin.objects.filter(config_id__in=ids, source__in=_scanned()).update(fingerprint="")


def _scanned() -> list[str]:
    return [source.name for source in sources.SOURCES]
