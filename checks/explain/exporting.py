"""Exports the whole state to a JSON file, with secrets: for inspection, comparison and use elsewhere."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError
from django.db.models import F, Model, QuerySet

from acts.models import Act
from acts.recording import record
from checks.models import Assignment, ClusterStore, Config, Cost, Origin, Source
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from clusteragent.lib import clock
from clusteragent.lib.database.bulk import read_only_snapshot
from nodes.models import Node, NodeRule

log = structlog.get_logger()

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

VERSION = 1
# Rows that one statement fetches.
_ROWS = 500
# Columns of a node's heartbeat that stand in the node's row; null once it is lost.
HEARD = ("seen_at", "acknowledged", "client_ip", "node_type")
# Derived from columns that are exported, so left out.
DERIVED = ("wire", "scrubbed", "text", "patched_with", "short_id", "title", "fast_digest", "contents")
# The columns that are left out: those that are derived, and numbers of plans, which are not exported.
LEFT_OUT = {"configs": DERIVED} | dict.fromkeys(("pins", "pauses", "isolations"), ("plan",))


def export(file: Path) -> dict[str, int]:
    """Write all rows, as of one moment, to a new file that only its owner may read. Return {table: number of rows}.

    Raises OSError when the file exists or can't be written.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            return write(stream)
    except BaseException:
        # Nobody should take an incomplete file for the whole state.
        file.unlink(missing_ok=True)
        raise


def write(stream: "SupportsWrite[str]") -> dict[str, int]:
    """Write all rows, as of one moment, to a stream. Return {table: number of rows}. What is broken off is no JSON.

    Raises OSError when it can't be written.
    """
    try:
        record(Act.Verb.EXPORT, "the whole state, with its secrets")
    except DatabaseError as error:
        # A standby, or a full disk: where an export is wanted most.
        log.warning("export_without_act", error=" ".join(str(error).split()))
    numbers = {}
    with read_only_snapshot():
        stream.write(f'{{"version": {VERSION}, "time": {_json(clock.now())}')
        for name, rows in _tables().items():
            stream.write(f',\n"{name}": [')
            numbers[name] = 0
            for row in rows.order_by("pk").iterator(_ROWS):
                # What handles of Secrets stand for is for node agents alone.
                row.get("original", {}).pop("secrets", None)
                stream.write(f"{',' if numbers[name] else ''}\n{_json(row)}")
                numbers[name] += 1
            stream.write("]")
        stream.write("}\n")
    return numbers


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


def _columns(kind: str, model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields if field.attname not in LEFT_OUT[kind]]


def _tables() -> Mapping[str, QuerySet[Any, Any]]:
    """The rows of each table: {name in the file: queryset}. Rows refer to configs and nodes by id."""
    return {
        "configs": Config.objects.values(*_columns("configs", Config)),
        "origins": Origin.objects.values(),
        "assignments": Assignment.objects.values(),
        "costs": Cost.objects.values(),
        "pins": Pin.objects.values(*_columns("pins", Pin)),
        "pauses": Pause.objects.values(*_columns("pauses", Pause)),
        "isolations": Isolation.objects.values(*_columns("isolations", Isolation)),
        "freezes": Freeze.objects.values(),
        "rules": Rule.objects.values(),
        "nodes": Node.objects.values(
            *(field.attname for field in Node._meta.concrete_fields),
            **{name: F(f"heartbeat__{name}") for name in HEARD},
        ),
        "node_rules": NodeRule.objects.values(),
        "sources": Source.objects.values(),
        "cluster": ClusterStore.objects.values("term", "leader", "revision"),
    }
