"""Patches stored configs again that other options or an older release patched. They stay on their nodes.

It is done slowly, since other extra tags change the bytes of every config, and all checks would restart at once. It includes
configs that were written by hand, which no scan reads again. Only the leader does it: what replicas with other options send
meanwhile is patched again, and nothing is patched back. Configs that a later release patched stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from checks import sources
from checks.dispatcher import Refused, budget, changes
from checks.dispatcher.changes import Changes, Entry, Identities, Sent
from checks.dispatcher.transaction import MapWriter, in_chunks, own_transaction
from checks.models import Config, Move, Origin
from checks.sources import origins, renewing
from checks.wire import options, patching, sharding
from checks.wire.patching import IntegrationConfig, UnpatchableConfig

ACTOR = "repatching"

log = structlog.get_logger()


class _Fresh(NamedTuple):
    """A config that was patched again. changed: its time of change when it was read. sent: None when it can't be patched any
    more. is_same: the bytes are the same as before.
    """

    changed: datetime
    sent: Sent | None
    is_same: bool = False


def repatch(*, term: int | None = None) -> list[Move]:
    """Patch again what other options patched, at most as many configs as may move in one period. Return the moves.

    Each chunk is a transaction of its own. Raises NotLeader.
    """
    ours = options.fingerprint()
    renewing.renew(term=term)
    # Not exclude(): the index finds two ranges, and usually both are empty.
    stale = Config.objects.filter(patched_with__lt=ours) | Config.objects.filter(patched_with__gt=ours)
    # Configs whose display copies are outdated are patched after those are renewed.
    stale = stale.filter(patched_with__startswith=options.made_with())
    # Configs that a later version patched stay: else leaders of two versions would undo each other's bytes.
    kinds = stale.order_by("patched_with").values_list("patched_with", flat=True).distinct()
    stale = stale.exclude(patched_with__in=[kind for kind in kinds if options.made_by_newer(kind)])
    ids = list(stale.order_by("pk").values_list("pk", flat=True)[: budget()])
    moves = _recut(ids, term) + in_chunks(ids, lambda chunk: _patch(chunk, term))
    if moves:
        log.info("configs_repatched", moves=len(moves), term=term)
    return moves


def _recut(ids: Sequence[int], term: int | None) -> list[Move]:
    """Cut or join configs of sources that are not scanned, when the options of sharding changed."""
    sent = Origin.objects.filter(config_id__in=ids).exclude(source__in=_scanned()).order_by("pk")
    parents = {
        (source, sharding.parent_of(key)): None
        for source, key, config in sent.values_list("source", "key", "config__original")
        if sharding.is_shard(key) or origins.cut(IntegrationConfig.from_json(config))
    }
    return [move for source, key in parents for move in _put(source, key, term)]


def _put(source: str, key: str, term: int | None) -> list[Move]:
    """Send a config again if the present options cut it differently."""
    try:
        admitted = origins.admit(source, key, origins.original(source, key), text=origins.written(source, key))
    except (LookupError, Refused, UnpatchableConfig) as error:
        log.warning("config_not_recut", source=source, key=key, reason=str(error))
        return []
    if {one.key for one in admitted.sent} == {origin.key for origin in origins.origins(source, key)}:
        return []
    return origins.replace(source, admitted, term=term, actor=ACTOR)


def _patch(ids: Sequence[int], term: int | None) -> list[Move]:
    """Patch before taking the lock, and write under it."""
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
        # It is dispatched already, so its old bytes stay rather than none.
        log.warning("config_not_repatched", reason=str(error))
        return _Fresh(changed, None)


@own_transaction
def _write(fresh: Mapping[int, _Fresh], term: int | None) -> list[Move]:
    writer = MapWriter(term, ACTOR)
    # A config that was edited meanwhile has been patched by that edit.
    times = dict(Config.objects.filter(pk__in=fresh).values_list("pk", "changed"))
    unedited = {pk: one for pk, one in fresh.items() if times.get(pk) == one.changed}
    others = {pk: one.sent for pk, one in unedited.items() if one.sent is not None and not one.is_same}
    _note({pk: one.sent for pk, one in unedited.items() if pk not in others})
    if others:
        _change(writer, others)
    # An older release let configs name sources that were gone.
    changes.use_remaining_origins(unedited.keys())
    return writer.finish() if others else []


def _note(same: Mapping[int, Sent | None]) -> None:
    """Store that these configs have the bytes of the present options, and their hashes."""
    configs = list(Config.objects.filter(pk__in=same).only("fast_digest", "contents", "patched_with"))
    for config in configs:
        config.patched_with = options.fingerprint()
        if (sent := same[config.pk]) is not None:
            config.fast_digest, config.contents = sent.patched.fast_digest, sent.patched.contents
    Config.objects.bulk_update(configs, ["fast_digest", "contents", "patched_with"], batch_size=500)


def _change(writer: MapWriter, others: Mapping[int, Sent]) -> None:
    """Give configs their new bytes. A config with the same meaning as another is merged into that one."""
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
    """Let the next scan send each origin of shared configs again: with other tags their configs may differ now."""
    ids = [entry.id for entry in shared]
    Origin.objects.filter(config_id__in=ids, source__in=_scanned()).update(fingerprint="")


def _scanned() -> list[str]:
    return [source.name for source in sources.SOURCES]
