"""A TLS server that answers node agents from a script and writes down what they asked."""

import asyncio
import functools
import json
import ssl
import tempfile
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TOKEN = "t" * 32
VERSION = '{"Major":7,"Minor":60,"Patch":0,"Pre":"","Meta":"","Commit":""}'
TRUE, FALSE = '{"isuptodate":true}', '{"isuptodate":false}'


def scenario(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test, for at most a minute."""

    @functools.wraps(test)
    def run(*args: object, **fixtures: object) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **fixtures), 60))

    return run


async def until(condition: Callable[[], object], deadline: float = 30) -> None:
    """Wait until the condition holds; a TimeoutError when it does not in time."""
    async with asyncio.timeout(deadline):
        while not condition():
            await asyncio.sleep(0.002)


def configs(*names: str, last_change: int = 1, **fields: object) -> str:
    """An answer to GET configs: a config with one instance for each `check:instance`."""
    items = []
    for name in names:
        check, _, instance = name.partition(":")
        data = b64encode(f"name: {instance}\n".encode()).decode()
        items.append({"check_name": check, "instances": [data], "init_config": "e30="} | fields)
    return json.dumps({"last_change": last_change, "configs": items})


@dataclass(frozen=True)
class Request:
    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: str
    at: float

    @property
    def kind(self) -> str:
        return next(kind for kind in ("version", "status", "configs", "goodbye") if f"/{kind}" in self.target)


@dataclass
class Answer:
    """`delay` is in seconds, before the headers; `missing` are bytes that are announced and never come."""

    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    missing: int = 0

    def encode(self) -> bytes:
        body = self.body.encode() if isinstance(self.body, str) else self.body
        lines = [f"HTTP/1.1 {self.status} Scripted", f"Content-Length: {len(body) + self.missing}"]
        lines += [f"{key}: {value}" for key, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


class ScriptedServer:
    """Each route has a list of answers: the first is used up until only one is left, which is given for ever."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.tls: list[tuple[str | None, str | None]] = []
        self.answers: dict[str, list[Answer]] = {}
        self.answer(version=VERSION, status=TRUE, configs=configs(), goodbye="{}")
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, **routes: str | Answer | list[Answer | str]) -> None:
        """Say what the routes version, status, configs and goodbye answer from now on."""
        for route, answers in routes.items():
            many = answers if isinstance(answers, list) else [answers]
            self.answers[route] = [one if isinstance(one, Answer) else Answer(one) for one in many]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def asked(self, kind: str) -> list[Request]:
        return [request for request in self.requests if request.kind == kind]

    def order(self) -> list[str]:
        return [request.kind for request in self.requests]

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.go_away()

    async def listen(self) -> None:
        """Listen, the first time on a free port, later on the same."""
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self._port, ssl=server_tls())
        self._port = self._server.sockets[0].getsockname()[1]

    async def go_away(self) -> None:
        """Stop listening and cut all connections."""
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self) -> None:
        """Cut all connections and go on listening."""
        for writer in self._writers:
            writer.transport.abort()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        connection, session = self.connections, writer.get_extra_info("ssl_object")
        self.tls.append((session.version(), session.selected_alpn_protocol()))
        try:
            while True:
                await self._serve_one(connection, reader, writer)
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _serve_one(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = [tuple(header.split(": ", 1)) if ": " in header else (header.rstrip(":"), "") for header in rest]
        length = next((int(value) for key, value in headers if key == "Content-Length"), 0)
        body = (await reader.readexactly(length)).decode()
        request = Request(connection, method, target, headers, body, time.monotonic())
        self.requests.append(request)
        script = self.answers[request.kind]
        answer = script.pop(0) if len(script) > 1 else script[0]
        await asyncio.sleep(answer.delay)
        writer.write(answer.encode())
        await writer.drain()
        if answer.headers.get("Connection") == "close":
            raise EOFError


@functools.cache
def server_tls() -> ssl.SSLContext:
    """A server's context with a self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "server.pem")
        path.write_bytes(private + certificate.public_bytes(pem))
        context.load_cert_chain(path)
    return context
