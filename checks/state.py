"""The whole map as one JSON document: who runs what, and what dangles."""

import json
from collections.abc import Generator, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection, transaction
from django.db.models import OuterRef

from checks.models import Config, Instance
from nodes.models import Hearing, Node

# Rows that one statement fetches, and bytes that one piece has at least.
_ROWS = 100
_PIECE = 64 * 1024


def document(*, scrub: bool = False) -> Generator[bytes, None, None]:
    """The map as the peer's StateResponse, piece by piece, all of one moment and made of the stored bytes.

    It takes constant memory and holds a transaction, so whoever does not read it to its end must close it, in its thread.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield from _pieces(_document("scrubbed" if scrub else "wire"))


def _pieces(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Fewer, larger parts."""
    gathered, size = [], 0
    for part in parts:
        gathered.append(part)
        size += len(part)
        if size >= _PIECE:
            yield b"".join(gathered)
            gathered, size = [], 0
    yield b"".join(gathered)


def _document(column: str) -> Iterator[bytes]:
    warmup = Hearing.objects.get().warmup
    yield b'{"not_running":"","warmup":%s,"nodes":[' % json.dumps(warmup).encode()
    yield from _separated(_nodes(column))
    yield b'],"dangling":['
    dangling = Config.objects.dangling().order_by("name", "id").values_list(column, flat=True)
    yield from _separated(iter([bytes(config)]) for config in dangling.iterator(_ROWS))
    yield b"]}"


def _nodes(column: str) -> Iterator[Iterator[bytes]]:
    check_ids = Instance.objects.filter(config=OuterRef("assignments__config")).order_by("id").values("check_id")
    rows = (
        Node.objects.known()
        .order_by("name", "assignments__config__name", "assignments__config_id")
        .values_list("name", f"assignments__config__{column}", ArraySubquery(check_ids))
        .iterator(_ROWS)
    )
    for name, group in groupby(rows, key=itemgetter(0)):
        yield _node(name, group)


def _node(name: str, rows: Iterator[tuple[str, bytes | None, list[str]]]) -> Iterator[bytes]:
    yield b'{"name":%s,"configs":[' % _json(name)
    # A node without configs is one row without a config.
    yield from _separated(
        iter([b'{"instance_ids":%s,"config":%s}' % (_json(check_ids), config)])
        for _, config, check_ids in rows
        if config is not None
    )
    yield b"]}"


def _separated(items: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """The parts of all items, with a comma between items."""
    for number, item in enumerate(items):
        if number:
            yield b","
        yield from item


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
