"""Patches stored configs again that other options or an older release patched. They stay on their nodes.

It is done slowly, since other extra tags change the bytes of every config, and all checks would restart at once. It includes
configs that were written by hand, which no scan reads again. Only the leader does it: what replicas with other options send
meanwhile is patched again, and nothing is patched back. Configs that a later release patched stay as they are.

Display copies (`Config.display_text`) that another version or another secret key made are renewed first, some thousands a
minute. Until then nothing is shown that this version would hide. The bytes of node agents do not change by it.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog
from django.db import transaction

from checks import sources
from checks.dispatcher import Refused, budget, changes
from checks.dispatcher.changes import Changes, Identities, Sent
from checks.dispatcher.transaction import MapWriter, in_chunks, own_transaction
from checks.models import ClusterStore, Config, Instance, Move, Origin
from checks.models.configs import KUBERNETES
from checks.models.titles import title
from checks.sources import origins
from checks.wire import options, patching, sharding
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import displayed_name, short_id

ACTOR = "repatching"
# For so many seconds one call renews copies, of so many configs in one transaction.
RENEWS_FOR, RENEWED_AT_ONCE = 20.0, 200

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
    renew(term=term)
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
    """Send configs of sources that are not scanned again, if the present options cut them differently."""
    sent = Origin.objects.filter(config_id__in=ids).exclude(source__in=_scanned()).order_by("pk")
    parents = {
        (source, sharding.parent_of(key)): None
        for source, key, config in sent.values_list("source", "key", "config__original")
        if sharding.is_shard(key) or origins.cut(IntegrationConfig.from_json(config))
    }
    moves = []
    for source, key in parents:
        try:
            admitted = origins.admit(source, key, origins.original(source, key), text=origins.written(source, key))
        except (LookupError, Refused, UnpatchableConfig) as error:
            log.warning("config_not_recut", source=source, key=key, reason=str(error))
            continue
        if {one.key for one in admitted.sent} != {origin.key for origin in origins.origins(source, key)}:
            moves += origins.replace(source, admitted, term=term, actor=ACTOR)
    return moves


def _patch(ids: Sequence[int], term: int | None) -> list[Move]:
    """Patch before taking the lock, and write under it."""
    rows = Config.objects.filter(pk__in=ids).values_list("pk", "changed", "original", "wire")
    fresh, tags = {}, options.extra_tags()
    for pk, changed, original, wire in rows:
        config, before = IntegrationConfig.from_json(original), bytes(wire)
        try:
            patched = patching.patch(config, tags, apart=patching.apart(before))
            if not (is_same := patched.wire == before):
                patched = patching.patch(config, tags)
            fresh[pk] = _Fresh(changed, Sent("", "", config, patched), is_same)
        except UnpatchableConfig as error:
            # It is dispatched already, so its old bytes stay rather than none.
            log.warning("config_not_repatched", reason=str(error))
            fresh[pk] = _Fresh(changed, None)
    return _write(fresh, term)


@own_transaction
def _write(fresh: Mapping[int, _Fresh], term: int | None) -> list[Move]:
    writer = MapWriter(term, ACTOR)
    # A config that was edited meanwhile has been patched by that edit.
    times = dict(Config.objects.filter(pk__in=fresh).values_list("pk", "changed"))
    unedited = {pk: one for pk, one in fresh.items() if times.get(pk) == one.changed}
    others = {pk: one.sent for pk, one in unedited.items() if one.sent is not None and not one.is_same}
    same = [pk for pk in unedited if pk not in others]
    configs = list(Config.objects.filter(pk__in=same).only("fast_digest", "contents", "patched_with"))
    for config in configs:
        config.patched_with = options.fingerprint()
        if (sent := unedited[config.pk].sent) is not None:
            config.fast_digest, config.contents = sent.patched.fast_digest, sent.patched.contents
    Config.objects.bulk_update(configs, ["fast_digest", "contents", "patched_with"], batch_size=500)
    if others:
        _change(writer, others)
    # An older release let configs name sources that were gone.
    changes.use_remaining_origins(unedited.keys())
    return writer.finish() if others else []


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
    # The next scan sends each origin of shared configs again: with other tags their configs may differ now.
    ids = [entry.id for entry in shared]
    Origin.objects.filter(config_id__in=ids, source__in=_scanned()).update(fingerprint="")


def _scanned() -> list[str]:
    # The leader's watch compares all that it knows with the store when a term begins, and now and then.
    return [*(source.name for source in sources.SOURCES), KUBERNETES]


def renew(*, term: int | None = None) -> int:
    """Renew outdated display copies for at most RENEWS_FOR seconds. Return of how many configs. Raises NotLeader."""
    until, number = time.monotonic() + RENEWS_FOR, 0
    while time.monotonic() < until:
        old = Config.objects.exclude(patched_with__startswith=options.made_with())
        ids = list(old.order_by("pk").values_list("pk", flat=True)[:RENEWED_AT_ONCE])
        if not ids:
            break
        number += _renew(ids, term)
    if number:
        log.info("copies_renewed", configs=number, term=term)
    return number


def _renew(ids: Sequence[int], term: int | None) -> int:
    """Make the copies before taking the lock, then write those of configs that have not changed since. Return the number read."""
    configs = list(Config.objects.filter(pk__in=ids).only("wire", "name", "digest", "patched_with").order_by("pk"))
    originals = {
        pk: (tuple((hidden or {}).items()), source or "")
        for pk, hidden, source in Config.objects.filter(pk__in=ids).values_list(
            "pk", "original__secrets", "original__source"
        )
    }
    read = {config.pk: config.digest for config in configs}
    for config in configs:
        secrets, source = originals[config.pk]
        config.scrubbed, config.text = patching.copies(bytes(config.wire), secrets)
        config.short_id = short_id(config.digest)
        config.title = title(config.name, patching.calls(config.scrubbed), source)
        config.patched_with = options.made_with() + config.patched_with.rpartition(".")[2]
    senders = list(Origin.objects.filter(config__in=ids).only("key"))
    for origin in senders:
        origin.shown = scrub(origin.key)
    instances = list(Instance.objects.filter(config__in=ids).only("check_id", "config_id"))
    for instance in instances:
        instance.shown_name, instance.short_id = displayed_name(instance.check_id), short_id(instance.check_id)
    with transaction.atomic():
        # Every change of configs holds this lock, so that no two lock rows in different orders.
        ClusterStore.objects.lock(term)
        now = dict(Config.objects.filter(pk__in=ids).values_list("pk", "digest"))
        same = {pk for pk, digest in read.items() if now.get(pk) == digest}
        unchanged = [one for one in instances if one.config_id in same]
        Instance.objects.bulk_update(unchanged, ["shown_name", "short_id"], batch_size=500)
        Origin.objects.bulk_update(senders, ["shown"], batch_size=500)
        columns = ["scrubbed", "text", "short_id", "title", "patched_with"]
        Config.objects.bulk_update([one for one in configs if one.pk in same], columns, batch_size=100)
    return len(ids)
