"""A map of who runs what, written straight into the tables, for tests of how it is read."""

import json
from collections.abc import Sequence
from typing import Any

from django.db.models import Max

from checks.models import Assignment, Config, Instance
from checks.wire import options
from clusteragent.lib.shortids import named_in, short_id
from nodes.heartbeats import note_heartbeats
from nodes.models import Heartbeat, Node
from nodes.models.heartbeats import Beat, Report


def register(name: str, version: int = 0) -> Node:
    """A known node."""
    node, _ = Node.objects.get_or_create(name=name)
    Node.objects.filter(pk=node.pk).update(config_version=version)
    Heartbeat.objects.get_or_create(node=node)
    return node


def store(wire: bytes | str, *, owner: Node | None = None, check_ids: tuple[str, ...] = (), **fields: Any) -> Config:
    """A config with these bytes, and its owner."""
    raw = wire.encode() if isinstance(wire, str) else wire
    number = (Config.objects.aggregate(Max("id"))["id__max"] or 0) + 1
    values = {"digest": f"{number:x}", "name": "ntp", "original": {}, "scrubbed": b'{"secret":"********"}', "text": ""}
    values |= {"patched_with": options.fingerprint()}
    config = Config.objects.create(**values | {"wire": raw} | fields)
    Instance.objects.bulk_create(
        Instance(config=config, check_id=check_id, shown_name=named_in(check_id), short_id=short_id(check_id))
        for check_id in check_ids
    )
    if owner:
        Assignment.objects.create(config=config, node=owner, reason="scheduled")
    return config


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tell(reports: Sequence[Report]) -> list[bool | Exception | None]:
    """Write heartbeats together: whether each node is up to date, or what is wrong with its report."""
    return [
        beat.is_current(report.last_change) if isinstance(beat, Beat) else beat
        for report, beat in zip(reports, note_heartbeats(reports), strict=True)
    ]
