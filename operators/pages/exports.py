"""Exports of moves and node events as CSV and JSON. They are streamed row by row, so any number takes little memory."""

import csv
import heapq
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from django.http import HttpResponseBase, StreamingHttpResponse

from checks.models import Move
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import escape_controls
from nodes.models import NodeEvent
from operators.pages.ranges import Range

COLUMNS = (
    "time", "what", "id", "reason", "check", "title", "config", "short_id", "digest", "from", "to", "node", "actor", "cause",
    "promise", "handed_at",
)  # fmt: skip
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROWS = 2000


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def rows(span: Range, *, exact: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the moves and node events of a range as dicts, by time. exact: with digests, for users who may see them."""
    times = {"time__gte": span.since, "time__lt": span.until}
    moves = Move.objects.filter(**times).order_by("time", "id").iterator(_ROWS)
    events = NodeEvent.objects.filter(**times).order_by("time", "id").iterator(_ROWS)
    return heapq.merge((_move(move, exact) for move in moves), map(_event, events), key=itemgetter("time"))


def _move(move: Move, exact: bool) -> dict[str, Any]:
    return {
        "time": _written(move.time), "what": "move", "id": move.pk, "reason": move.reason, "check": scrub(move.name),
        "title": move.shown, "config": move.config_id, "short_id": short_id(move.digest), "digest": move.digest if exact else "",
        "from": move.source_node, "to": move.to_node,
        "actor": move.actor, "promise": move.promise, "handed_at": _written(move.handed_at) if move.handed_at else "",
    }  # fmt: skip


def _event(event: NodeEvent) -> dict[str, Any]:
    return {
        "time": _written(event.time), "what": "node event", "id": event.pk, "reason": event.kind, "node": event.node_name,
        "cause": event.told,
    }  # fmt: skip


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def harmless(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula and no terminal for a command."""
    text = str(cell)
    return f"'{escape_controls(text)}" if text.startswith(_FORMULA) else escape_controls(text)


def _csv(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    for row in found:
        yield writer.writerow([harmless(row.get(column, "")) for column in COLUMNS])


def _json(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "["
    for number, row in enumerate(found):
        yield f"{',' * bool(number)}\n{json.dumps(row)}"
    yield "\n]\n"


# {name of the format: (its content type, what writes rows in it)}
FORMATS = {"csv": ("text/csv; charset=utf-8", _csv), "json": ("application/json", _json)}


def export(span: Range, form: str, *, exact: bool = False) -> HttpResponseBase:
    """A streamed file of moves and node events in one of FORMATS. exact: with digests."""
    content_type, write = FORMATS[form]
    headers = {"Content-Disposition": f'attachment; filename="changes.{form}"'}
    return StreamingHttpResponse(write(rows(span, exact=exact)), content_type=content_type, headers=headers)
