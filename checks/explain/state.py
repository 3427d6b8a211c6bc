"""The whole map as one JSON document: which node runs which config, the runners' stats, and the dangling configs."""

import json
from collections.abc import Generator, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, F, JSONField, OuterRef, Q, Subquery, When

from checks.models import Config, Instance
from checks.wire import standins
from checks.wire.options import made_by_us
from checks.wire.scrub import scrub as scrubbed
from clusteragent.lib.database.bulk import read_only_snapshot
from clusteragent.lib.shortids import displayed_check_id, displayed_name
from nodes.models import Hearing, Node, RunnerStats
from nodes.models.runners import COUNTS

# Rows that one fetch reads, and the least bytes of one piece.
_ROWS = 100
_PIECE = 64 * 1024


def document(*, scrub: bool = False) -> Generator[bytes, None, None]:
    """Yield the map as the Datadog Cluster Agent's StateResponse, in pieces, as of one moment. scrub: without secrets.

    It takes constant memory and holds a transaction: a caller that stops early must close it, in the same thread.
    """
    gathered, size = [], 0
    with read_only_snapshot():
        for part in _document(scrub):
            gathered.append(part)
            size += len(part)
            if size >= _PIECE:
                yield b"".join(gathered)
                gathered, size = [], 0
        yield b"".join(gathered)


def _document(scrub: bool) -> Iterator[bytes]:
    warmup = Hearing.objects.get().warmup
    yield b'{"not_running":"","warmup":%s,"nodes":[' % json.dumps(warmup).encode()
    yield from _nodes(scrub)
    yield b'],"dangling":['
    dangling = Config.objects.dangling().order_by("name", "id")
    configs = dangling.values_list("scrubbed" if scrub else "wire", "patched_with").iterator(_ROWS)
    yield from _separated(_shown(config, made, scrub) for config, made in configs)
    yield b"]}"


def _nodes(scrub: bool) -> Iterator[bytes]:
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
    # Rows and stats are both ordered by the nodes' names, so each is read once.
    stats = groupby(_stats(scrub), key=itemgetter(0))
    current = next(stats, None)
    for number, (name, group) in enumerate(groupby(rows, key=itemgetter(0))):
        yield b'%s{"name":%s,"configs":[' % (b"," if number else b"", _json(name))
        yield from _separated(
            b'{"instance_ids":%s,"config":%s}' % (_json(_ids(ids, shown, scrub)), _shown(config, made, scrub))
            for _, config, made, ids, shown in group
            # A node without configs is one row without a config.
            if config is not None
        )
        if current is not None and current[0] == name:
            yield b'],"stats":{'
            yield from _separated(member for _, member in current[1])
            yield b"}}"
            current = next(stats, None)
        else:
            yield b'],"stats":null}'


def _stats(scrub: bool) -> Iterator[tuple[str, bytes]]:
    """The last stats of each runner's checks: the node's name, and a member of a JSON object."""
    instances = Instance.objects.filter(check_id=OuterRef("check_id")).order_by("id")
    secrets = Subquery(instances.values("config__original__secrets")[:1])
    known = RunnerStats.objects.filter(node__in=Node.objects.known()).order_by("node__name", "check_id")
    named: Any = known.annotate(name=F("node__name"), shown=Subquery(instances.values("shown_name")[:1]))
    if scrub:
        named = named.annotate(secrets=Case(When(~Q(last_error=""), then=secrets), output_field=JSONField()))
    for one in named.iterator(_ROWS):
        check_id, error = one.check_id, one.last_error
        if scrub:
            # Without the secrets of its name, the same as beside the check's config.
            name = displayed_name(check_id) if one.shown is None else one.shown
            check_id = displayed_check_id(check_id, name, exact=True) if ":" in check_id else scrubbed(check_id)
            error = scrubbed(standins.put_back(error, one.secrets or {}))
        counts = {key: getattr(one, field) for key, field in COUNTS.items()}
        counts["LastExecutionDate"] = one.last_execution and round(one.last_execution.timestamp() * 1000)
        # The Datadog Cluster Agent's CLCRunnerStats, without fields that the runner did not report.
        shown = {
            "AverageExecutionTime": int(one.execution_ms) if one.execution_ms.is_integer() else one.execution_ms,
            **{key: number for key, number in counts.items() if number is not None},
            "LastExecFailed": one.failed,
            "LastError": error,
            "IsClusterCheck": one.shown is not None,
        }
        yield one.name, b"%s:%s" % (_json(check_id), _json(shown))


def _shown(config: bytes, patched_with: str, scrub: bool) -> bytes:
    return b"{}" if scrub and not made_by_us(patched_with) else bytes(config)


def _ids(check_ids: list[str], shown: list[str], scrub: bool) -> list[str]:
    """The check IDs. scrub: without the secrets of their names."""
    if not scrub:
        return check_ids
    return [displayed_check_id(check_id, name, exact=True) for check_id, name in zip(check_ids, shown, strict=True)]


def _separated(items: Iterator[bytes]) -> Iterator[bytes]:
    """The items, with a comma between them."""
    for number, item in enumerate(items):
        yield b"," + item if number else item


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
