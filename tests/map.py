"""Nodes, configs and assignments written directly into the tables, for tests of reading them."""

import json
from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Max

from checks.models import Assignment, Config, Instance
from checks.wire import options
from clusteragent.lib.shortids import displayed_name, short_id
from nodes.heartbeats import note_heartbeats
from nodes.models import Heartbeat, Node
from nodes.models.heartbeats import Beat, Report


def register(name: str, version: int = 0) -> Node:
    """Make a known node with this version of its configs."""
    node, _ = Node.objects.get_or_create(name=name)
    Node.objects.filter(pk=node.pk).update(config_version=version)
    Heartbeat.objects.get_or_create(node=node)
    return node


def store(wire: bytes | str, *, owner: Node | None = None, check_ids: tuple[str, ...] = (), **fields: Any) -> Config:
    """Make a config with these bytes, and assign it to `owner` if there is one. fields: further columns of Config."""
    raw = wire.encode() if isinstance(wire, str) else wire
    number = (Config.objects.aggregate(Max("id"))["id__max"] or 0) + 1
    values = {"digest": f"{number:x}", "name": "ntp", "original": {}, "scrubbed": b'{"secret":"********"}', "text": ""}
    values |= {"patched_with": options.fingerprint()}
    config = Config.objects.create(**values | {"wire": raw} | fields)
    Instance.objects.bulk_create(
        Instance(config=config, check_id=check_id, shown_name=displayed_name(check_id), short_id=short_id(check_id))
        for check_id in check_ids
    )
    if owner:
        Assignment.objects.create(config=config, node=owner, reason="scheduled")
    return config


def store_many(number: int, wire: bytes, *, owner: Node) -> None:
    """Make so many configs with these bytes, and assign them to `owner`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH made AS (INSERT INTO checks_config (digest, name, original, wire, scrubbed, text, patched_with)"
            " SELECT to_hex(n), 'ntp', '{}', %s, %s, '', %s FROM generate_series(1, %s) AS n RETURNING id)"
            " INSERT INTO checks_assignment (config_id, node_id, reason) SELECT id, %s, 'scheduled' FROM made",
            [wire, b'{"secret":"********"}', options.fingerprint(), number, owner.pk],
        )


def compact(value: Any) -> str:
    """Return the value as JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tell(reports: Sequence[Report]) -> list[bool | Exception | None]:
    """Write heartbeats in one batch; return for each whether the node is up to date, or the error of its report."""
    return [
        beat.is_current(report.last_change) if isinstance(beat, Beat) else beat
        for report, beat in zip(reports, note_heartbeats(reports), strict=True)
    ]
