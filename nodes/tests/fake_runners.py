"""Runners that answer what a test says, each at a loopback address of its own."""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from simulation.tests.scripted_server import Answer, server_tls

Script = str | bytes | dict[str, Any] | Answer | Callable[[asyncio.StreamWriter], Awaitable[None]]

WORKERS = {"Count": 4, "Instances": {"worker_1": {"Utilization": 0.1}}}
HANGS = Answer("", delay=60)


class Asked(NamedTuple):
    address: str
    path: str
    authorization: str


def told(execution_ms: object = 100, runs: object = 3, **values: object) -> dict[str, object]:
    """What a runner tells of a check."""
    return {"AverageExecutionTime": execution_ms, "TotalRuns": runs, "TotalErrors": 0} | values


async def flood(writer: asyncio.StreamWriter) -> None:
    """Answer a GiB of JSON."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n{")
    for _ in range(2**14):
        writer.write(b" " * 2**16)
        await writer.drain()


class FakeRunners:
    """`asked` is what was asked, in order, and `received` all that came after handshakes, {address: bytes}.

    An address without a script closes the connection.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.port = 0
        self._scripts: dict[str, dict[str, Script]] = {}
        self.received: dict[str, bytes] = {}
        self._tokens: dict[str, str] = {}
        self._certificates: dict[str, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def says(self, address: str, stats: Script, workers: Script = WORKERS) -> None:
        """Say what the runner at the address answers from now on."""
        self._scripts[address] = {"stats": stats, "workers": workers}

    def accepts(self, address: str, token: str) -> None:
        """Let the runner at the address refuse all other tokens, as real ones do."""
        self._tokens[address] = token

    def shows(self, address: str, certificate: ssl.SSLContext) -> None:
        """Let the runner at the address show another certificate from the next connection on."""
        self._certificates[address] = certificate

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "0.0.0.0", 0, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address: str = writer.get_extra_info("sockname")[0]
        try:
            with suppress(EOFError, OSError):
                await writer.start_tls(self._certificates.get(address, server_tls()))
                while script := self._scripts.get(address):
                    line, *headers = (await self._head(address, reader)).decode().split("\r\n")
                    path = line.split(" ")[1]
                    fields = dict(header.lower().split(": ", 1) for header in headers if header)
                    self.asked.append(Asked(address, path, fields.get("authorization", "")))
                    if (
                        fields.get("authorization") != f"bearer {self._tokens.get(address, '')}"
                        and address in self._tokens
                    ):
                        await _answer(Answer("invalid session token", status=403), writer)
                        continue
                    await _answer(script[path.rpartition("/")[2]], writer)
        finally:
            writer.transport.abort()

    async def _head(self, address: str, reader: asyncio.StreamReader) -> bytes:
        """The head of a call. Raises EOFError where none comes, or not all of it."""
        head = b""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            head = error.partial
            raise
        finally:
            self.received[address] = self.received.get(address, b"") + head
        return head


async def _answer(script: Script, writer: asyncio.StreamWriter) -> None:
    if callable(script):
        await script(writer)
        return
    body = json.dumps(script) if isinstance(script, dict) else script
    answer = body if isinstance(body, Answer) else Answer(body)
    await asyncio.sleep(answer.delay)
    writer.write(answer.encode())
    await writer.drain()


# Tests share two busy cores.
PATIENCE = 60


@contextmanager
def serving(listen: Callable[[], Awaitable[Any]], close: Callable[[], Awaitable[Any]]) -> Iterator[None]:
    """A server on an event loop of its own: who asks it may block."""

    async def run(work: Callable[[], Awaitable[Any]]) -> None:
        await work()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(run(listen), loop).result(PATIENCE)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(run(close), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()
