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
from checks.patching import made_by_us
from clusteragent.lib.shortids import told_check_id
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
        yield from _pieces(_document(scrub))


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


def _document(scrub: bool) -> Iterator[bytes]:
    warmup = Hearing.objects.get().warmup
    yield b'{"not_running":"","warmup":%s,"nodes":[' % json.dumps(warmup).encode()
    yield from _separated(_nodes(scrub))
    yield b'],"dangling":['
    dangling = Config.objects.dangling().order_by("name", "id")
    configs = dangling.values_list("scrubbed" if scrub else "wire", "patched_with").iterator(_ROWS)
    yield from _separated(iter([_shown(config, made, scrub)]) for config, made in configs)
    yield b"]}"


def _nodes(scrub: bool) -> Iterator[Iterator[bytes]]:
    instances = Instance.objects.filter(config=OuterRef("assignments__config")).order_by("id")
    column = f"assignments__config__{'scrubbed' if scrub else 'wire'}"
    rows = (
        Node.objects.known()
        .order_by("name", "assignments__config__name", "assignments__config_id")
        .values_list(
            "name",
            column,
            "assignments__config__patched_with",
            ArraySubquery(instances.values("check_id")),
            ArraySubquery(instances.values("shown_name")),
        )
        .iterator(_ROWS)
    )
    for name, group in groupby(rows, key=itemgetter(0)):
        yield _node(name, group, scrub)


def _node(name: str, rows: Iterator[tuple[Any, ...]], scrub: bool) -> Iterator[bytes]:
    yield b'{"name":%s,"configs":[' % _json(name)
    # A node without configs is one row without a config.
    yield from _separated(
        iter([b'{"instance_ids":%s,"config":%s}' % (_json(_ids(ids, shown, scrub)), _shown(config, made, scrub))])
        for _, config, made, ids, shown in rows
        if config is not None
    )
    yield b"]}"


def _shown(config: bytes, patched_with: str, scrub: bool) -> bytes:
    return b"{}" if scrub and not made_by_us(patched_with) else bytes(config)


def _ids(check_ids: list[str], shown: list[str], scrub: bool) -> list[str]:
    """The check IDs; scrubbed, without the secrets of their names."""
    if not scrub:
        return check_ids
    return [told_check_id(check_id, name, exact=True) for check_id, name in zip(check_ids, shown, strict=True)]


def _separated(items: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    """The parts of all items, with a comma between items."""
    for number, item in enumerate(items):
        if number:
            yield b","
        yield from item


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
