"""Makes anew the copies that people see (`Config.display_text`) where another version or another secret key made them.

After an upgrade that is all of them, some thousands a minute. The leader does it, a few at a time: the bytes that node agents
have stay as they are, and nothing is shown meanwhile that this version would hide.
"""

import time
from collections.abc import Sequence

import structlog
from django.db import transaction

from checks.models import ClusterStore, Config, Instance, Origin
from checks.wire import patching
from checks.wire.options import made_with
from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import named_in, short_id

# Seconds that the leader spends on it at once, and configs of one transaction.
AT_ONCE, CHUNK = 20.0, 200

log = structlog.get_logger()


def renew(*, term: int | None = None) -> int:
    """Make anew the copies that another version or another secret key made, for some seconds. Raises NotLeader."""
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
    """Make the copies of these before the lock is taken, and write those of configs that nobody changed meanwhile."""
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
        instance.shown_name, instance.short_id = named_in(instance.check_id), short_id(instance.check_id)
    with transaction.atomic():
        # Who changes configs holds the lock, so that nobody waits for rows of another in another order.
        ClusterStore.objects.lock(term)
        now = dict(Config.objects.filter(pk__in=ids).values_list("pk", "digest"))
        same = {pk for pk, digest in read.items() if now.get(pk) == digest}
        told = [one for one in instances if one.config_id in same]
        Instance.objects.bulk_update(told, ["shown_name", "short_id"], batch_size=500)
        Origin.objects.bulk_update(origins, ["shown"], batch_size=500)
        columns = ["scrubbed", "text", "short_id", "patched_with"]
        Config.objects.bulk_update([one for one in configs if one.pk in same], columns, batch_size=100)
    return len(ids)
