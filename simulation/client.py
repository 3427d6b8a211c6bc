"""A node agent's end of the wire: its one connection to the cluster agent, and how it reads configs."""

import asyncio
import gzip
import json
import random
import ssl
import time
import zlib
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, TypeVar, cast
from urllib.parse import quote, urlsplit

import h11
import mmh3
import yaml

T = TypeVar("T")

_DICE = random.Random()  # noqa: S311


class SimulationError(Exception):
    """The simulation can't start as asked; the message names the thing that is wrong."""


class CallError(Exception):
    """A call had no usable answer: no connection, an answer too late or broken, another status than 200.

    `reason` is the kind of failure in a word: the status, or the name of the error.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class LostCallError(CallError):
    """The simulation itself kept the call from the server."""


class UnreadableAnswerError(CallError):
    """A 200 whose body is not what it should be."""


@dataclass(frozen=True, slots=True)
class Timing:
    """A node agent's intervals and patience, in seconds; the defaults are the real agent's."""

    poll: float = 10
    extra_heartbeat: float = 25
    first_retry: float = 1
    longest_retry: float = 300
    dial: float = 1
    handshake: float = 5
    response: float = 3
    call: float = 10
    extra_call: float = 5


@dataclass(slots=True)
class Link:
    """The network between a node agent and the server; nothing is wrong with it unless said.

    `lag` is in seconds, between the two halves of a request and again before its answer is read; `loss` is the share of
    heartbeats that never arrive.
    """

    lag: float = 0
    loss: float = 0
    dice: random.Random = _DICE
    is_cut: bool = False
    _mended_at: float | None = None

    def cut(self) -> None:
        """Nothing passes from now on; neither end is told."""
        self.is_cut = True

    def mend(self) -> None:
        """Everything passes again."""
        self.is_cut, self._mended_at = False, time.monotonic()

    def loses_heartbeat(self) -> bool:
        """Whether the next heartbeat gets lost: drawn anew at each call."""
        return self.loss > 0 and self.dice.random() < self.loss

    def is_disturbed(self, aftermath: float) -> bool:
        """Whether it loses heartbeats, is cut, or was so in the last `aftermath` seconds."""
        recently_cut = self._mended_at is not None and time.monotonic() - self._mended_at < aftermath
        return self.is_cut or recently_cut or self.loss > 0


@dataclass(frozen=True, slots=True)
class Server:
    """The cluster agent as a node agent is told of it: `url` with or without https://, the shared `token`."""

    host: str
    port: int
    authority: str
    prefix: str
    token: str
    tls: ssl.SSLContext
    # All nodes share one processor here: with more handshakes at once, our own delay would look like the server's.
    handshakes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(200))

    @classmethod
    def at(cls, url: str, token: str) -> Self:
        """Raises SimulationError for a URL or a token that a real agent would refuse."""
        if len(token) < 32 or not token.isascii() or not token.isprintable() or " " in token:
            raise SimulationError("the token must have at least 32 characters, all printable ASCII and none a space")
        try:
            parts = urlsplit(url if "://" in url else f"https://{url}")
            host, port = parts.hostname, parts.port or 443
        except ValueError as error:
            raise SimulationError(f"the URL {url!r} is wrong: {error}") from error
        if parts.scheme != "https" or not host:
            raise SimulationError(f"the URL {url!r} must be https://host:port")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        return cls(host, port, parts.netloc, escape(parts.path), token, tls)


def escape(path: str) -> str:
    """The path as Go's client sends it: only what HTTP can't carry (spaces, controls, other alphabets) is escaped."""
    return quote(path, safe="/%?!$&'()*+,;=:@[]")


class Connection:
    """A node agent's only connection: opened when needed, kept alive for its life, given up after any failure."""

    _reader: asyncio.StreamReader
    _http: h11.Connection

    def __init__(self, server: Server, timing: Timing, real_ip: str, link: Link) -> None:
        self._server, self._timing, self._real_ip, self._link = server, timing, real_ip, link
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: bytes = b"", *, patience: float) -> bytes:
        """The body of a 200. `patience` is for the whole exchange, in seconds. Raises CallError."""
        if self._link.is_cut:
            await self.lose()
        try:
            writer = await self._open()
            async with asyncio.timeout(patience):
                await self._send(writer, self._request(method, path, body))
                response, answer = await self._response()
        except (OSError, h11.RemoteProtocolError) as error:
            # What is left of a late or broken answer would be taken for the answer to the next call.
            self.abort()
            raise CallError(str(error) or "no answer in time", type(error).__name__) from error
        if self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.abort()
        status, answer = response.status_code, _unpack(response, answer)
        if status != 200:
            raise CallError(f"{method} {path}: {status} {answer[:200].decode(errors='replace').strip()}", str(status))
        return answer

    async def lose(self) -> NoReturn:
        """A call that never arrives: wait for its answer as long as a real agent does. Raises LostCallError."""
        await asyncio.sleep(self._timing.response if self._writer else self._timing.dial)
        self.abort()
        raise LostCallError("the simulation lets nothing through", "lost")

    def abort(self) -> None:
        """Drop the connection without a farewell."""
        if self._writer:
            self._writer.transport.abort()
            self._writer = None

    async def _open(self) -> asyncio.StreamWriter:
        if self._writer and not self._writer.is_closing() and not self._reader.at_eof():
            return self._writer
        self.abort()
        server, patience = self._server, self._timing.handshake
        async with server.handshakes:
            async with asyncio.timeout(self._timing.dial):
                self._reader, self._writer = await asyncio.open_connection(server.host, server.port)
            await self._writer.start_tls(server.tls, server_hostname=server.host, ssl_handshake_timeout=patience)
        self._http = h11.Connection(h11.CLIENT)
        return self._writer

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        server = self._server
        headers = [
            ("Host", server.authority),
            ("User-Agent", "Go-http-client/1.1"),
            *([("Content-Length", str(len(body)))] if method == "POST" else []),
            ("Authorization", f"Bearer {server.token}"),
            ("X-Real-Ip", self._real_ip),
            ("Accept-Encoding", "gzip"),
        ]
        events = (
            h11.Request(method=method, target=server.prefix + path, headers=headers),
            *([h11.Data(data=body)] if body else []),
            h11.EndOfMessage(),
        )
        return b"".join(self._http.send(event) or b"" for event in events)

    async def _send(self, writer: asyncio.StreamWriter, request: bytes) -> None:
        if not (lag := self._link.lag):
            return writer.write(request)
        transport = cast(asyncio.Transport, writer.transport)
        # Else asyncio would read ahead, and the server would never have to wait for a late reader.
        transport.pause_reading()
        for half in (request[: len(request) // 2], request[len(request) // 2 :]):
            writer.write(half)
            await asyncio.sleep(lag)
        return transport.resume_reading()

    async def _response(self) -> tuple[h11.Response, bytes]:
        async with asyncio.timeout(self._timing.response):
            while not isinstance(response := await next_event(self._http, self._reader), h11.Response):
                pass
        body = bytearray()
        while isinstance(data := await next_event(self._http, self._reader), h11.Data):
            body += data.data
        return response, bytes(body)


async def next_event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    """What came next on the wire, as h11's event. Raises h11.RemoteProtocolError for what is no HTTP."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(65536))
    return event


def _unpack(response: h11.Response, body: bytes) -> bytes:
    if (b"content-encoding", b"gzip") not in list(response.headers):
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise CallError(f"the answer is no gzip: {error}", type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class Config:
    """A config as a node agent holds it. `digest` is the peer's FastDigest: over the raw bytes that came."""

    digest: int
    name: str
    instances: tuple[bytes, ...]
    init_config: bytes = b""

    @property
    def label(self) -> str:
        """The check's name with those of its instances, for people: `http_check:shop,blog`."""
        names = ",".join(filter(None, (instance_name(read_instance(instance)) for instance in self.instances)))
        return f"{self.name}:{names}" if names else self.name


def read_instance(instance: bytes) -> dict[Any, Any]:
    """The keys of an instance, scalars as they are written; none where it is no YAML map."""
    try:
        keys = yaml.load(instance, yaml.CBaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError):
        return {}
    return keys if isinstance(keys, dict) else {}


def instance_name(keys: dict[Any, Any]) -> str:
    """What an instance of these keys is called in its check ID; empty if nothing."""
    given = [value for key in ("name", "namespace") if (value := keys.get(key)) and value not in ("~", "null")]
    # A real agent gives both up when one is no scalar.
    return given[0] if given and all(isinstance(value, str) for value in given) else ""


def read_configs(body: bytes) -> tuple[int, list[Config]]:
    """`last_change` and the configs that a node agent runs: no templates. ValueError where Go's decoder fails."""
    answer = typed(json.loads(body), dict, {})
    items = typed(answer.get("configs"), list, [])
    configs = [_read_config(typed(item, dict, {})) for item in items]
    last_change = typed(answer.get("last_change"), int, 0)
    if not -(2**63) <= last_change < 2**63:
        raise ValueError(f"last_change {last_change} has more than 64 bits")
    return last_change, [config for config in configs if config]


def _read_config(item: dict[str, Any]) -> Config | None:
    name, node_name, service_id = (typed(item.get(key), str, "") for key in ("check_name", "node_name", "service_id"))
    instances = [_data(text) for text in typed(item.get("instances"), list, [])]
    init_config, logs = _data(item.get("init_config")), _data(item.get("logs"))
    identifiers = [typed(text, str, "") for text in typed(item.get("ad_identifiers"), list, [])]
    is_template = bool(identifiers or typed(item.get("advanced_ad_identifiers"), list, []))
    ignores_tags = typed(item.get("ignore_autodiscovery_tags"), bool, False)
    texts = (node_name.encode(), logs, service_id.encode(), b"true" if ignores_tags else b"false")
    raw = b"".join([name.encode(), *instances, init_config, *(text.encode() for text in identifiers), *texts])
    if typed(item.get("cluster_check"), bool, False) or is_template or not instances:
        return None
    return Config(mmh3.hash64(raw, signed=False)[0], name, tuple(instances), init_config)


def _data(text: object) -> bytes:
    return b64decode(typed(text, str, ""), validate=True)


def typed(value: object, kind: type[T], missing: T) -> T:
    """The value, `missing` for None. Raises ValueError for one of another type, as Go's decoder does."""
    if value is None:
        return missing
    # Not isinstance: a JSON true is no integer.
    if type(value) is not kind:
        raise ValueError(f"{value!r:.60} is no {kind.__name__}")
    return value
