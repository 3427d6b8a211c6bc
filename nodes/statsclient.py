"""The client of the runners' stats API: what the checks on each node did, asked of many nodes at once."""

import asyncio
import ipaddress
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import httpx
import structlog

from clusteragent.lib import conf
from nodes.models import Heartbeat, Node, Runner
from nodes.models.runners import COUNTS, Answer, CheckStats

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
# Seconds for all nodes. Those that answered the last time come first, so that others can't make them wait in vain.
ROUND = 45.0
# Of all nodes together, so that very many runners fill neither the memory nor the disk: bytes of a round, and how many
# answers may grow large at the same time.
MAX_ROUND_BYTES = 512 * 2**20
LARGE, LARGE_AT_ONCE = 2**18, 8
# Nodes that may name the same address. More are somebody's who points us at a third.
MAX_OF_ONE_ADDRESS = 4
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


class _Asking:
    """A round: what all nodes share while they are asked. One object for all chunks, semaphores for each loop."""

    def __init__(self) -> None:
        self._ends = time.monotonic() + ROUND
        self._bytes_left = MAX_ROUND_BYTES

    def is_over(self) -> bool:
        """Whether nobody is asked any more."""
        return time.monotonic() > self._ends

    def begin_chunk(self) -> None:
        self.large = asyncio.Semaphore(LARGE_AT_ONCE)

    def take(self, number: int) -> None:
        """Note bytes that came. Raises Unreadable when there were too many of all nodes together."""
        self._bytes_left -= number
        if self._bytes_left < 0:
            raise Unreadable(f"not read: all runners told more than {MAX_ROUND_BYTES >> 20} MiB")


def collect() -> Round:
    """Ask every living node that named its address, and write what it told. One that fails keeps what it told before.

    Those that answered the last time come first. Who is not reached within ROUND is not asked this time.
    """
    began = time.monotonic()
    asking = _Asking()
    asked = failed = 0
    for chunk in _chunks(_addresses()):
        answers = asyncio.run(_ask_all(chunk, asking))
        clamped = Runner.objects.note(answers)
        for name, what in clamped.items():
            log.warning("runner_clamped", node=name, told=what)
        asked += len(answers)
        failed += sum(bool(answer.error) for answer in answers.values())
    if asking.is_over():
        log.warning("runners_not_all_asked", asked=asked, seconds=ROUND)
    return Round(asked, failed, time.monotonic() - began)


def _addresses() -> dict[int, str]:
    """Where the nodes are that are to be asked, in the order in which they are: the eldest of those that answer first."""
    nodes = Heartbeat.objects.filter(node__in=Node.objects.alive(), client_ip__isnull=False).order_by("node_id")
    rows: list[tuple[int, Any, int | None]] = list(nodes.values_list("node_id", "client_ip", "node__runner__failures"))
    # Of those that fail, others each time, should there be too many to ask them all.
    rows.sort(key=lambda row: random.random() if row[2] else 0)  # noqa: S311
    return {node_id: address for node_id, address, _ in rows}


def _chunks(addresses: Mapping[int, Any]) -> Iterator[dict[int, str]]:
    items = iter(addresses.items())
    while chunk := dict(islice(items, CHUNK)):
        yield chunk


async def _ask_all(addresses: Mapping[int, str], asking: _Asking) -> dict[int, Answer]:
    """What each of the nodes answers, without those for which there was no time left."""
    room, eager = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(EAGER)
    asking.begin_chunk()
    number: Counter[str] = Counter()

    async def ask(address: str) -> Answer | None:
        number[address] += 1
        if number[address] > MAX_OF_ONE_ADDRESS:
            return Answer(None, error=f"not asked: more than {MAX_OF_ONE_ADDRESS} nodes name the address {address}")
        async with room:
            if asking.is_over():
                return None
            async with eager:
                call = asyncio.ensure_future(_ask(address, asking))
                await asyncio.wait([call], timeout=HANGING)
            return await call

    answers = await asyncio.gather(*map(ask, addresses.values()))
    return {node_id: answer for node_id, answer in zip(addresses, answers, strict=True) if answer is not None}


async def _ask(address: str, asking: _Asking) -> Answer:
    """What the node at the address answers; its stats count even if it does not say how many workers it has."""
    stats = workers = None
    error = clamped = ""
    try:
        async with asyncio.timeout(TIMEOUT), _client(_host(address)) as client:
            told = await _get(client, "stats", asking)
            stats = read_stats(told)
            clamped = _left_out(told, stats)
            workers = read_workers(await _get(client, "workers", asking))
            if workers is not None and workers > conf.RUNNER_MAX_WORKERS:
                clamped = f"{min(workers, 10**15)} workers, taken as {conf.RUNNER_MAX_WORKERS}"
                workers = conf.RUNNER_MAX_WORKERS
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
    return Answer(stats, workers, "" if stats is not None else error[:200], clamped)


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


async def _get(client: httpx.AsyncClient, what: str, asking: _Asking) -> object:
    """The JSON that a route answers. Raises Unreadable."""
    body = bytearray()
    async with AsyncExitStack() as held:
        response = await held.enter_async_context(client.stream("GET", what))
        if response.status_code != httpx.codes.OK:
            raise Unreadable(f"{what}: answered {response.status_code}")
        async for part in response.aiter_raw():
            asking.take(len(part))
            if len(body) <= LARGE < len(body) + len(part):
                await held.enter_async_context(asking.large)
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


def _left_out(answer: object, read: list[CheckStats]) -> str:
    """How many checks of an answer are none: their IDs can't be stored, or their times are no times."""
    left = (len(answer) if isinstance(answer, dict) else 0) - len(read)
    return f"{left} checks whose name or times can't be, left out" if left else ""


def read_workers(answer: object) -> int | None:
    """How many workers the runner says that it has, None when it does not say."""
    count = answer.get("Count") if isinstance(answer, dict) else None
    return count if type(count) is int and count > 0 else None


def _check(check_id: str, values: object) -> CheckStats | None:
    if not isinstance(values, dict):
        return None
    execution = _number(values.get("AverageExecutionTime"))
    if execution is None:
        return None
    return CheckStats(
        check_id,
        float(execution),
        values.get("LastExecFailed") is True,
        _storable(values.get("LastError")),
        _time(values.get("LastExecutionDate")),
        **{field: _count(values.get(key)) for key, field in COUNTS.items()},
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


def _count(value: Any) -> int | None:
    """A number that PostgreSQL holds; None when there is none, or none that can be."""
    return min(int(value), _MAX_COUNT) if type(value) in (int, float) and 0 <= value < float("inf") else None


def _time(milliseconds: Any) -> datetime | None:
    known = type(milliseconds) in (int, float) and 0 < milliseconds < _LAST_DAY
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if known else None


def _storable(text: object) -> str:
    """The text as PostgreSQL takes it, without NUL and half characters, and not too long."""
    return text[:MAX_ERROR].replace("\0", "").encode(errors="replace").decode() if isinstance(text, str) else ""
