"""The client of the runners' stats API: what the checks on each node did, asked of many nodes at once."""

import asyncio
import ipaddress
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import httpx
import structlog

from clusteragent.lib import conf
from nodes.models import Heartbeat, Node, Runner
from nodes.runnerstats import Answer, CheckStats

# Nodes that are asked at a time, and of them those that may still answer any moment: a runner hangs when it has said nothing
# for a second. More at once would take each other's processor time, and on a slow machine all would be taken for hanging.
AT_ONCE, EAGER = 100, 32
HANGING = 1.0
# Seconds for both calls to a node.
TIMEOUT = 2.0
MAX_BYTES = 4 * 2**20
MAX_CHECKS = 20_000
# Nodes whose answers are written in one transaction.
CHUNK = 1000
# A check's stats are told under this at most; our own IDs are shorter still.
MAX_CHECK_ID_BYTES = 2000
MAX_ERROR = 1000
_MAX_COUNT = 2**63 - 1
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000

log = structlog.get_logger()


class Unreadable(ValueError):
    """A runner's answer is not what it should be. The message names what is wrong and quotes nothing of it."""


class Round(NamedTuple):
    """How many nodes were asked for their stats, how many of them gave none, and the seconds that it took."""

    asked: int
    failed: int
    seconds: float


def collect() -> Round:
    """Ask every living node that named its address, and write what it told. One that fails keeps what it told before."""
    began = time.monotonic()
    asked = failed = 0
    nodes = Heartbeat.objects.filter(node__in=Node.objects.alive(), client_ip__isnull=False)
    for chunk in _chunks(dict(nodes.values_list("node_id", "client_ip"))):
        answers = asyncio.run(_ask_all(chunk))
        Runner.objects.note(answers)
        asked += len(answers)
        failed += sum(bool(answer.error) for answer in answers.values())
    return Round(asked, failed, time.monotonic() - began)


def _chunks(addresses: Mapping[int, Any]) -> Iterator[dict[int, str]]:
    items = iter(addresses.items())
    while chunk := dict(islice(items, CHUNK)):
        yield chunk


async def _ask_all(addresses: Mapping[int, str]) -> dict[int, Answer]:
    room, eager = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(EAGER)

    async def ask(address: str) -> Answer:
        async with room:
            async with eager:
                asking = asyncio.ensure_future(_ask(address))
                await asyncio.wait([asking], timeout=HANGING)
            return await asking

    answers = await asyncio.gather(*map(ask, addresses.values()))
    return dict(zip(addresses, answers, strict=True))


async def _ask(address: str) -> Answer:
    """What the node at the address answers; its stats count even if it does not say how many workers it has."""
    stats = workers = None
    error = ""
    try:
        async with asyncio.timeout(TIMEOUT), _client(_host(address)) as client:
            stats = read_stats(await _get(client, "stats"))
            workers = read_workers(await _get(client, "workers"))
    except TimeoutError:
        error = f"did not answer within {TIMEOUT:g} s"
    except Unreadable as wrong:
        error = str(wrong)
    except httpx.ConnectError as failure:
        error = f"can't connect: {failure}"
    except httpx.HTTPError:
        # Its message may repeat what came, and what came may repeat our token.
        error = "broke off, or does not speak HTTP"
    except Exception as failure:
        # Whatever one runner does, the others' answers must not be lost.
        log.exception("runner_call_failed", address=address)
        error = type(failure).__name__
    return Answer(stats, workers, "" if stats is not None else error[:200])


def _host(address: str) -> str:
    """The address as it stands in a URL. Raises Unreadable when it must not be given our token."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or ip.is_multicast or not any(ip in network for network in conf.RUNNER_NETWORKS):
        raise Unreadable(f"not asked: {ip} is outside of CLUSTERAGENT_RUNNER_NETWORKS")
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _client(host: str) -> httpx.AsyncClient:
    """A client of one runner, so that nothing that it sends, such as cookies, reaches another."""
    return httpx.AsyncClient(
        base_url=f"https://{host}:{conf.CLC_RUNNERS_PORT}/api/v1/clcrunner/",
        # Nothing is decompressed: a small answer could grow without end.
        headers={"Authorization": f"Bearer {conf.AUTH_TOKEN}", "Accept-Encoding": "identity"},
        verify=_TLS,
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
    )


def _tls() -> ssl.SSLContext:
    """Runners have certificates of their own making."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _tls()


async def _get(client: httpx.AsyncClient, what: str) -> object:
    """The JSON that a route answers. Raises Unreadable."""
    body = bytearray()
    async with client.stream("GET", what) as response:
        if response.status_code != httpx.codes.OK:
            raise Unreadable(f"{what}: answered {response.status_code}")
        async for part in response.aiter_raw():
            body += part
            if len(body) > MAX_BYTES:
                raise Unreadable(f"{what}: answered more than {MAX_BYTES >> 20} MiB")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(f"{what}: the answer is not JSON") from None


def read_stats(answer: object) -> list[CheckStats]:
    """The stats that can be those of a check; what is odd is left out. Raises Unreadable when there is no map."""
    if not isinstance(answer, dict | None):
        raise Unreadable("stats: the answer is not a map")
    told: dict[str, object] = answer or {}
    if len(told) > MAX_CHECKS:
        raise Unreadable(f"stats: {len(told)} checks, allowed are {MAX_CHECKS}")
    checks = (_check(check_id, values) for check_id, values in told.items() if _is_check_id(check_id))
    return [check for check in checks if check is not None]


def read_workers(answer: object) -> int | None:
    """How many workers the runner has, None when it does not say."""
    count = answer.get("Count") if isinstance(answer, dict) else None
    return count if type(count) is int and 0 < count <= 100_000 else None


def _check(check_id: str, values: object) -> CheckStats | None:
    if not isinstance(values, dict):
        return None
    execution = _number(values.get("AverageExecutionTime"))
    if execution is None:
        return None
    return CheckStats(
        check_id,
        float(execution),
        _count(values.get("TotalRuns")),
        _count(values.get("TotalErrors")),
        values.get("LastExecFailed") is True,
        _storable(values.get("LastError")),
        _time(values.get("LastExecutionDate")),
    )


def _is_check_id(text: str) -> bool:
    """Whether a check can be stored under it."""
    try:
        return "\0" not in text and 0 < len(text.encode()) <= MAX_CHECK_ID_BYTES
    except UnicodeEncodeError:
        # JSON can name half a character.
        return False


def _number(value: Any) -> float | None:
    """A number from 0 to 10^12; NaN is none."""
    return value if type(value) in (int, float) and 0 <= value <= 10**12 else None


def _count(value: Any) -> int:
    return min(int(value), _MAX_COUNT) if type(value) in (int, float) and 0 <= value < float("inf") else 0


def _time(milliseconds: Any) -> datetime | None:
    known = type(milliseconds) in (int, float) and 0 < milliseconds < _LAST_DAY
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if known else None


def _storable(text: object) -> str:
    """The text as PostgreSQL takes it, without NUL and half characters, and not too long."""
    return text[:MAX_ERROR].replace("\0", "").encode(errors="replace").decode() if isinstance(text, str) else ""
