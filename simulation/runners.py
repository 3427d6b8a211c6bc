"""The stats API that each simulated node agent has as a cluster check runner: what its checks cost, at its own address."""

import asyncio
import hmac
import json
import math
import os
import random
import ssl
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Any
from zlib import crc32

import h11
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fnv_c import fnv1_64

from simulation.agents import SimulatedNode
from simulation.client import Config, SimulationError, instance_name, next_event, read_instance

# What a cluster check runner calls itself in a report to the server.
RUNNER = 1
WORKERS = 4
# Of execution times, in seconds; the sigma is of their logarithm.
MEDIAN, SIGMA, LONGEST = 0.4, 1.3, 20
INTERVAL = 15
# These Go checks report under their name alone when their config has one instance.
BARE = frozenset({"cpu", "disk", "file_handle", "io", "load", "memory", "uptime"})
VERSION = {"Major": 7, "Minor": 60, "Patch": 0, "Pre": "", "Meta": "", "Commit": ""}
# Seconds that a connection may say nothing; longer than any collector's period would keep dead ones.
IDLE = 60

_NUMBERED, _NAMED = IPv4Address("127.1.0.0"), IPv4Address("127.128.0.0")


def numbered_address(number: int) -> str:
    """The loopback address of the node of this number, from 1 on: 127.1.0.1 …"""
    return str(_NUMBERED + number)


def number_at(address: str) -> int:
    """The inverse of `numbered_address`."""
    return int(IPv4Address(address)) - int(_NUMBERED)


def named_address(name: str) -> str:
    """The loopback address of a node that has a process of its own: 127.128.0.0/9, by its name."""
    return str(_NAMED + 1 + crc32(name.encode()) % (2**23 - 2))


@dataclass(frozen=True, slots=True)
class Work:
    """What an instance costs: seconds of each run, between two runs, and from its start to the end of its first."""

    check_id: str
    execution: float
    interval: float
    first: float

    @property
    def workers(self) -> float:
        """How many workers it keeps busy."""
        return min(1.0, self.execution / self.interval)

    def slower(self, factor: float) -> "Work":
        """The same where each run takes `factor` times as long."""
        if factor == 1:
            return self
        return replace(self, execution=self.execution * factor, first=self.first + self.execution * (factor - 1))


@lru_cache(200_000)
def works(config: Config, seed: int) -> list[Work]:
    """What the instances of a config cost; the same for the same check ID and seed, wherever it runs."""
    found = []
    for instance in config.instances:
        keys, check_id = read_instance(instance), config.name
        if config.name not in BARE or len(config.instances) > 1:
            hashed = fnv1_64(struct.pack(">Q", config.digest) + instance + config.init_config)
            check_id = ":".join(filter(None, (config.name, instance_name(keys), f"{hashed:x}")))
        dice = random.Random(f"{seed}:{check_id}")  # noqa: S311
        execution = min(LONGEST, dice.lognormvariate(math.log(MEDIAN), SIGMA))
        asked = str(keys.get("min_collection_interval", ""))
        interval = int(asked) if asked.isdecimal() and int(asked) else INTERVAL
        found.append(Work(check_id, execution, interval, dice.uniform(0, interval) + execution))
    return found


_NONE: Mapping[str, str] = MappingProxyType({})


def stats(node: SimulatedNode, seed: int, now: float, errors: Mapping[str, str] = _NONE) -> dict[str, Any]:
    """What the node's checks did until `now`, by `time.monotonic()`; one that never ended a run is not among them.

    errors: {beginning of a check ID: why each run of such a check fails}.
    """
    return {
        work.check_id: _stats(work, now - since, _error_of(work.check_id, errors))
        for work, since in _works_of(node, seed)
        if now - since >= work.first
    }


def _error_of(check_id: str, errors: Mapping[str, str]) -> str:
    return next((error for beginning, error in errors.items() if check_id.startswith(beginning)), "")


def _works_of(node: SimulatedNode, seed: int) -> Iterator[tuple[Work, float]]:
    """What the node's instances cost there, and since when it has each."""
    for running in node.running.values():
        for work in works(running.config, seed):
            yield work.slower(node.slowdown), running.since


def _stats(work: Work, age: float, error: str) -> dict[str, Any]:
    since_last = (age - work.first) % work.interval
    runs = int((age - work.first) // work.interval) + 1
    last = time.time() - since_last
    return {
        "AverageExecutionTime": int(work.execution * 1000),
        "MetricSamples": 10,
        "HistogramBuckets": 0,
        "Events": 0,
        "ServiceChecks": 1,
        "LastExecFailed": bool(error),
        "LastError": error,
        "TotalRuns": runs,
        "TotalErrors": runs if error else 0,
        "TotalMetricSamples": 10 * runs,
        "TotalEvents": 0,
        "TotalServiceChecks": runs,
        "LastSuccessDate": 0 if error else int(last),
        "LastExecutionDate": int(last * 1000),
    }


def workers(node: SimulatedNode, seed: int) -> dict[str, Any]:
    """How busy the node's workers are."""
    busy = sum(work.workers for work, _ in _works_of(node, seed))
    utilization = round(min(1.0, busy / WORKERS), 4)
    return {"Count": WORKERS, "Instances": {f"worker_{n}": {"Utilization": utilization} for n in range(1, WORKERS + 1)}}


class SimulatedRunners:
    """Serves the stats API of many nodes: the address a client connected to says which node it asks.

    errors: those of `stats`; they may be exchanged.
    """

    def __init__(
        self,
        find: Callable[[str], SimulatedNode | None],
        token: str,
        seed: int = 0,
        errors: Mapping[str, str] = _NONE,
    ) -> None:
        self._find, self._token, self._seed, self.errors = find, token, seed, errors
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> asyncio.Server:
        """Raises SimulationError when it can't."""
        try:
            return await asyncio.start_server(self._accept, host, port, ssl=server_tls(), backlog=1000)
        except OSError as error:
            raise SimulationError(
                f"the stats API can't listen on {host}:{port}: {os.strerror(error.errno or 0)}"
            ) from error

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not left to asyncio, which logs an error for each connection that is open when the simulation ends.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address: str = writer.get_extra_info("sockname")[0]
        http = h11.Connection(h11.SERVER)
        try:
            async with asyncio.timeout(None) as patience:
                while (node := self._find(address)) and node.is_up:
                    patience.reschedule(asyncio.get_running_loop().time() + IDLE)
                    await self._serve_one(node, http, reader, writer)
                    http.start_next_cycle()
        except (OSError, h11.ProtocolError):
            pass
        finally:
            writer.transport.abort()

    async def _serve_one(
        self, node: SimulatedNode, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await next_event(http, reader)
        if not isinstance(request, h11.Request):
            raise ConnectionAbortedError
        while not isinstance(await next_event(http, reader), h11.EndOfMessage):
            pass
        # A node that is cut off is asked and does not answer; one that lags answers late.
        while node.link.is_cut:
            await asyncio.sleep(0.1)
        await asyncio.sleep(node.link.lag)
        if not node.is_up:
            raise ConnectionAbortedError
        status, answer = self._answer(node, request)
        body = answer.encode()
        events = (
            h11.Response(status_code=status, headers=[("Content-Length", str(len(body)))]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        writer.write(b"".join(http.send(event) or b"" for event in events))
        await writer.drain()

    def stats(self, node: SimulatedNode) -> dict[str, Any]:
        """What the node's checks did until now."""
        return stats(node, self._seed, time.monotonic(), self.errors)

    def _answer(self, node: SimulatedNode, request: h11.Request) -> tuple[int, str]:
        scheme, _, token = dict(request.headers).get(b"authorization", b"").partition(b" ")
        if not scheme:
            return 401, "no session token provided\n"
        if scheme != b"Bearer":
            return 401, f"unsupported authorization scheme: {scheme.decode(errors='replace')}\n"
        if not hmac.compare_digest(token, self._token.encode()):
            return 403, "invalid session token\n"
        match request.target.decode().removeprefix("/api/v1/clcrunner/"):
            case "version":
                answer: dict[str, Any] = VERSION
            case "stats":
                answer = self.stats(node)
            case "workers":
                answer = workers(node, self._seed)
            case _:
                return 404, "404 page not found\n"
        return (200, json.dumps(answer)) if request.method == b"GET" else (405, "Method Not Allowed\n")


def server_tls() -> ssl.SSLContext:
    """TLS 1.3 with a certificate of its own making, as an agent's."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    validity = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.NamedTemporaryFile() as file:
        file.write(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        file.write(validity.sign(key, hashes.SHA256()).public_bytes(pem))
        file.flush()
        context.load_cert_chain(file.name)
    return context
