"""The client of the runners' stats API. It asks many nodes at once what their checks did."""

import asyncio
import ipaddress
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import httpx
import structlog
from django.db.models.functions import Now

from clusteragent.lib import conf, tls
from clusteragent.lib.version import USER_AGENT
from clusteragent.lib.words import utc
from nodes import runnercertificates, tokens
from nodes.models import Heartbeat, Node, Runner
from nodes.models.runners import COUNTS, REFUSES, SHOWS_ANOTHER, UNSENT, Answer, CheckStats
from nodes.runnercertificates import Compared, brief, fingerprint

# How many nodes are asked at the same time, and how many of them may still be within their first second (HANGING). A runner
# that is silent for longer hangs and makes room for another. With more at once, calls would take each other's processor
# time, and on a slow machine all runners would seem to hang.
AT_ONCE, EAGER = 100, 32
HANGING = 1.0
# Seconds for both calls to a node.
TIMEOUT = 2.0
MAX_BYTES = 4 * 2**20
MAX_CHECKS = 20_000
# Nodes whose answers are written in one transaction.
CHUNK = 1000
# Seconds for all nodes. Nodes that answered the last time come first, so that others can't use up their time.
ROUND = 45.0
# Limits for all nodes together, so that many runners fill neither memory nor disk: the bytes of a round, the size in bytes
# from which an answer is large, and how many large answers are read at the same time.
MAX_ROUND_BYTES = 512 * 2**20
LARGE, LARGE_AT_ONCE = 2**18, 8
# How many nodes may have the same address. With more, somebody may be pointing us at a third party.
MAX_OF_ONE_ADDRESS = 4
# The longest check ID in stats. Our own IDs are shorter.
MAX_CHECK_ID_BYTES = 2000
MAX_ERROR = 1000
# The most nodes of which it is remembered which of several tokens they accept.
_MOST_REMEMBERED = 100_000
_MAX_COUNT = 2**63 - 1
_LAST_DAY = datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000
# Runners have self-signed certificates.
_TLS = tls.unverified()

log = structlog.get_logger()


class Unreadable(ValueError):
    """A runner's answer is not what it should be. The message says what is wrong and quotes nothing of the answer."""


class Refused(Unreadable):
    """A runner does not accept the token."""


class Target(NamedTuple):
    """A node that is asked, the address that it names, and the fingerprint of the certificate that is kept of it, since when."""

    name: str
    address: str
    certificate: str = ""
    since: datetime | None = None


# What a target is made of, by the path from a heartbeat.
TARGET = ("node__name", "client_ip", "node__runner__certificate", "node__runner__certificate_since")


def target_of(name: str, address: str, certificate: str | None, since: datetime | None) -> Target:
    """The target of what `TARGET` reads. A node that was never asked has no row of its runner."""
    return Target(name, address, certificate or "", since)


class Round(NamedTuple):
    """A round of stats: how many nodes were asked, how many of them failed, and the seconds that it took."""

    asked: int
    failed: int
    seconds: float


class _Asking:
    """What all nodes of a round share: its end, its budget of bytes and the tokens."""

    # How many more large answers may be read. It belongs to the event loop of one chunk.
    large: asyncio.Semaphore

    def __init__(self) -> None:
        self._ends = time.monotonic() + ROUND
        self._bytes_left = MAX_ROUND_BYTES
        self._tokens = tokens.for_runners()

    def is_over(self) -> bool:
        """Whether the time of the round is over."""
        return time.monotonic() > self._ends

    def tokens_of(self, name: str) -> list[str]:
        """The tokens that a node of this name is sent in turn, that which it accepted last first."""
        return sorted(self._tokens.of(name), key=lambda token: token != _accepted.get(name))

    def take(self, number: int) -> None:
        """Count received bytes. Raises Unreadable when all nodes together sent too many."""
        self._bytes_left -= number
        if self._bytes_left < 0:
            raise Unreadable(f"not read: all runners told more than {MAX_ROUND_BYTES >> 20} MiB")


# {node's name: the token that it accepted last}, where there were several.
_accepted: dict[str, str] = {}


def collect(node_ids: Collection[int] | None = None) -> Round:
    """Ask living nodes with an address for their stats, and store the answers. A node that fails keeps its old stats.

    node_ids: of the nodes that are asked; None for all.
    Nodes that answered the last time come first. Nodes that are not reached within ROUND seconds are left out of this round.
    """
    began = time.monotonic()
    asking = _Asking()
    asked = failed = 0
    nodes = Heartbeat.objects.filter(node__in=Node.objects.alive(), client_ip__isnull=False).order_by("node_id")
    if node_ids is not None:
        nodes = nodes.filter(node_id__in=node_ids)
    columns = ("node_id", "node__runner__failures", Now(), *TARGET)
    rows: list[tuple[Any, ...]] = list(nodes.values_list(*columns))
    # Failing nodes come in random order: if there are too many to ask all, each round asks others.
    rows.sort(key=lambda row: random.random() if row[1] else 0)  # noqa: S311
    items = ((node_id, target_of(*of)) for node_id, _, _, *of in rows)
    while chunk := dict(islice(items, CHUNK)):
        answers = asyncio.run(_ask_all(chunk, asking))
        clamped = Runner.objects.note(answers)
        shown = {pk: Compared(chunk[pk].certificate, one.certificate) for pk, one in answers.items() if one.certificate}
        for name, what in runnercertificates.note(shown, rows[0][2]).items():
            log.warning("runner_certificate_changed", node=name, told=what)
        for name, what in clamped.items():
            log.warning("runner_clamped", node=name, told=what)
        asked += len(answers)
        failed += sum(bool(answer.error) for answer in answers.values())
    if asking.is_over():
        log.warning("runners_not_all_asked", asked=asked, seconds=ROUND)
    return Round(asked, failed, time.monotonic() - began)


def ask(targets: Mapping[int, Target]) -> dict[int, Answer]:
    """Ask these nodes, {node id: target}, and return their answers. Stores nothing."""
    return asyncio.run(_ask_all(targets, _Asking()))


async def _ask_all(targets: Mapping[int, Target], asking: _Asking) -> dict[int, Answer]:
    """{node id: its answer}, without the nodes for which no time was left."""
    room, eager = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(EAGER)
    asking.large = asyncio.Semaphore(LARGE_AT_ONCE)
    number: Counter[str] = Counter()

    async def ask(target: Target) -> Answer | None:
        address = target.address
        number[address] += 1
        if number[address] > MAX_OF_ONE_ADDRESS:
            return Answer(None, error=f"not asked: more than {MAX_OF_ONE_ADDRESS} nodes name the address {address}")
        async with room:
            if asking.is_over():
                return None
            async with eager:
                began = time.monotonic()
                call = asyncio.ensure_future(_ask(target, asking))
                await asyncio.wait([call], timeout=HANGING)
            return (await call)._replace(address=address, began=began)

    answers = await asyncio.gather(*map(ask, targets.values()))
    return {node_id: answer for node_id, answer in zip(targets, answers, strict=True) if answer is not None}


class _Certificate:
    """The certificate that a runner shows, which decides whether it is sent anything. shown: its fingerprint, once known."""

    def __init__(self, target: Target) -> None:
        self.shown = ""
        self._target = target

    def context(self) -> ssl.SSLContext:
        """The TLS of a call to the runner."""
        return tls.looking(self._look) if conf.RUNNER_CERTIFICATES_PINNED else _TLS

    def _look(self, certificate: bytes | None) -> None:
        """Note the certificate. Raises Unreadable if it is another one than that which is kept."""
        if certificate is None:
            raise Unreadable("not asked: it shows no certificate")
        self.shown = fingerprint(certificate)
        _, _, kept, since = self._target
        if kept and kept != self.shown:
            time = f", kept since {utc(since)}" if since else ""
            raise Unreadable(f"{SHOWS_ANOTHER}: {brief(self.shown)} instead of {brief(kept)}{time}")


async def _ask(target: Target, asking: _Asking) -> Answer:
    """The answer of the node. Its stats count even if it does not say how many workers it has."""
    stats = workers = None
    error = clamped = ""
    certificate = _Certificate(target)
    try:
        async with asyncio.timeout(TIMEOUT), _client(_host(target.address), certificate.context()) as client:
            answer = await _authorized(client, target.name, asking)
            stats = read_stats(answer)
            if isinstance(answer, dict) and len(answer) > len(stats):
                clamped = f"{len(answer) - len(stats)} checks whose name or times can't be, left out"
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
        # The error's message may quote the answer, and the answer may repeat our token.
        error = "broke off, or does not speak HTTP"
    except Exception as failure:
        # One runner must not lose the other runners' answers.
        log.exception("runner_call_failed", address=target.address)
        error = type(failure).__name__
    failure_told = "" if stats is not None else error[:200]
    return Answer(stats, workers, failure_told, clamped, certificate=certificate.shown)


def allowed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address as it is called. Raises Unreadable if it must not be called."""
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or ip.is_multicast or not any(ip in network for network in conf.RUNNER_NETWORKS):
        raise Unreadable(f"not asked: {ip} is outside of CLUSTERAGENT_RUNNER_NETWORKS")
    return ip


def _host(address: str) -> str:
    """The address as the host of a URL. Raises Unreadable if it must not get our token."""
    ip = allowed(address)
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _client(host: str, context: ssl.SSLContext = _TLS) -> httpx.AsyncClient:
    """A client for one runner only, so that nothing it sends, such as cookies, reaches another."""
    return httpx.AsyncClient(
        base_url=f"https://{host}:{conf.CLC_RUNNERS_PORT}/api/v1/clcrunner/",
        # No compression: a small answer could expand without limit.
        headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
        verify=context,
        timeout=TIMEOUT,
        follow_redirects=False,
        trust_env=False,
    )


async def _authorized(client: httpx.AsyncClient, name: str, asking: _Asking) -> object:
    """The JSON answer of the stats' route, by the first token that the node accepts. The client keeps it. Raises Unreadable."""
    ours = asking.tokens_of(name)
    if not ours:
        raise Unreadable(UNSENT)
    for token in ours:
        client.headers["Authorization"] = f"Bearer {token}"
        try:
            answer = await _get(client, "stats", asking)
        except Refused:
            if token == ours[-1]:
                raise
            continue
        if len(ours) > 1:
            if len(_accepted) >= _MOST_REMEMBERED:
                _accepted.clear()
            _accepted[name] = token
        break
    return answer


async def _get(client: httpx.AsyncClient, what: str, asking: _Asking) -> object:
    """The JSON answer of a route. Raises Unreadable."""
    body = bytearray()
    async with AsyncExitStack() as held:
        response = await held.enter_async_context(client.stream("GET", what))
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise Refused(f"{REFUSES}: {what}: answered {response.status_code}")
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
    """The stats of all checks in an answer; invalid ones are left out. Raises Unreadable if the answer is no map or too large."""
    if not isinstance(answer, dict | None):
        raise Unreadable("stats: the answer is not a map")
    found: dict[str, object] = answer or {}
    if len(found) > MAX_CHECKS:
        raise Unreadable(f"stats: {len(found)} checks, allowed are {MAX_CHECKS}")
    checks = (_check(check_id, values) for check_id, values in found.items() if _is_check_id(check_id))
    return [check for check in checks if check is not None]


def read_workers(answer: object) -> int | None:
    """The number of workers that the runner reports; None if it reports none."""
    count = answer.get("Count") if isinstance(answer, dict) else None
    return count if type(count) is int and count > 0 else None


def _check(check_id: str, values: object) -> CheckStats | None:
    if not isinstance(values, dict):
        return None
    execution = _number(values.get("AverageExecutionTime"), 10**12)
    if execution is None:
        return None
    ended, error = _number(values.get("LastExecutionDate"), _LAST_DAY), values.get("LastError")
    return CheckStats(
        check_id,
        float(execution),
        values.get("LastExecFailed") is True,
        # PostgreSQL stores neither NUL nor half surrogate pairs.
        error[:MAX_ERROR].replace("\0", "").encode(errors="replace").decode() if isinstance(error, str) else "",
        datetime.fromtimestamp(ended / 1000, UTC) if ended else None,
        **{field: _count(values.get(key)) for key, field in COUNTS.items()},
    )


def _is_check_id(text: str) -> bool:
    """Whether the text can be stored as a check ID."""
    try:
        return "\0" not in text and 0 < len(text.encode()) <= MAX_CHECK_ID_BYTES
    except UnicodeEncodeError:
        # JSON can hold half of a surrogate pair.
        return False


def _number(value: Any, most: float) -> float | None:
    """The value if it is a number from 0 to `most`, else None."""
    return value if type(value) in (int, float) and 0 <= value <= most else None


def _count(value: Any) -> int | None:
    """The number as PostgreSQL can hold it; None if it is no count."""
    return min(int(value), _MAX_COUNT) if type(value) in (int, float) and 0 <= value < float("inf") else None
