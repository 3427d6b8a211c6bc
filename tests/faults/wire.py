"""The network between processes: an event loop in a thread of its own, and proxies that a test cuts, freezes and heals."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import TimeoutError as TooLate
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Backend = Path | int
"""A unix socket, or a port of this machine."""


class Loop:
    """An event loop that runs in a thread until `stop` is called. at_end: functions that are called then."""

    def __init__(self) -> None:
        self.at_end: list[Callable[[], object]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="the wire", daemon=True)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, T], patience: float = 30) -> T:
        """Run a coroutine on the loop, and return its result. Raises TimeoutError after `patience` seconds."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patience)

    def stop(self) -> None:
        """Cancel all tasks, and end the loop and its thread."""
        with contextlib.suppress(TooLate):
            self.do(self._end_all(), 10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for close in self.at_end:
            close()
        await self._loop.shutdown_default_executor()
        # Connections that were given up are closed in the loop's next turns.
        await asyncio.sleep(0.1)


class Proxy:
    """A port that forwards each connection to the next backend that answers: a load balancer, or a network that can fail."""

    def __init__(self, loop: Loop, backends: Sequence[Backend]) -> None:
        self.backends = list(backends)
        self._loop = loop
        self._turn = 0
        self._is_cut = False
        self._ends: set[asyncio.StreamWriter] = set()
        self.port: int = loop.do(self._listen())
        loop.at_end.append(self._close)

    def _close(self) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    def cut(self) -> None:
        """Break all connections, and every new one, until `heal`."""
        self._is_cut = True
        self._loop.do(self._act(lambda: [end.transport.abort() for end in self._ends]))

    def freeze(self) -> None:
        """Forward nothing and close nothing until `heal`, as if a cable had been pulled."""
        self._loop.do(self._act(self._flowing.clear))

    def heal(self) -> None:
        """Forward again, also what has waited."""
        self._is_cut = False
        self._loop.do(self._act(self._flowing.set))

    async def _act(self, action: Callable[[], object]) -> None:
        action()

    async def _listen(self) -> int:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        try:
            await self._flowing.wait()
            if not self._is_cut and (backend := await self._connect()):
                self._ends.add(backend[1])
                await self._join(reader, writer, *backend)
        finally:
            self._ends.discard(writer)
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self._turn += 1
        for number in range(len(self.backends)):
            backend = self.backends[(self._turn + number) % len(self.backends)]
            with contextlib.suppress(OSError):
                if isinstance(backend, Path):
                    return await asyncio.open_unix_connection(backend)
                return await asyncio.open_connection("127.0.0.1", backend)
        return None

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        """Forward in both directions until one end closes."""
        ways: list[Awaitable[None]] = [self._carry(reader, far_writer), self._carry(far_reader, writer)]
        carrying = [asyncio.ensure_future(way) for way in ways]
        try:
            await asyncio.wait(carrying, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in carrying:
                task.cancel()
            self._ends.discard(far_writer)
            far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            await self._flowing.wait()
