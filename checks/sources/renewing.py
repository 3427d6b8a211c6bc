"""Renews display copies (`Config.display_text`) that another version or another secret key made.

After an upgrade these are all copies; the leader renews some thousands a minute. The bytes of node agents do not change. Until
then nothing is shown that this version would hide.
"""

import time
from collections.abc import Sequence

import structlog
from django.db import transaction

from checks.models import ClusterStore, Config, Instance, Origin
from checks.wire import patching
from checks.wire.options import made_with
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import displayed_name, short_id

# Seconds of one call, and configs of one transaction.
AT_ONCE, CHUNK = 20.0, 200

log = structlog.get_logger()


def renew(*, term: int | None = None) -> int:
    """Renew outdated display copies for at most AT_ONCE seconds. Return of how many configs. Raises NotLeader."""
    until, number = time.monotonic() + AT_ONCE, 0
    while time.monotonic() < until:
        old = Config.objects.exclude(patched_with__startswith=made_with())
        ids = list(old.order_by("pk").values_list("pk", flat=True)[:CHUNK])
        if not ids:
            break
        number += _renew(ids, term)
    if number:
        log.info("copies_renewed", configs=number, term=term)
    return number


def _renew(ids: Sequence[int], term: int | None) -> int:
    """Make the copies before taking the lock, then write those of configs that have not changed since. Return the number read."""
    configs = list(Config.objects.filter(pk__in=ids).only("wire", "digest", "patched_with").order_by("pk"))
    read = {config.pk: config.digest for config in configs}
    for config in configs:
        config.scrubbed, config.text = patching.copies(bytes(config.wire))
        config.short_id = short_id(config.digest)
        config.patched_with = made_with() + config.patched_with.rpartition(".")[2]
    origins = list(Origin.objects.filter(config__in=ids).only("key"))
    for origin in origins:
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
        Origin.objects.bulk_update(origins, ["shown"], batch_size=500)
        columns = ["scrubbed", "text", "short_id", "patched_with"]
        Config.objects.bulk_update([one for one in configs if one.pk in same], columns, batch_size=100)
    return len(ids)
