"""A streamed answer on its way: a thread writes it to its end at its own pace, and the event loop sends it at the client's."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable

# Bytes that one piece has, as many of an answer are kept in memory; and that all answers of a process may have in files.
PIECE = 64 * 2**10
ON_DISK = 4 * 2**30


class Abandoned(Exception):
    """Nobody reads on, or there is no room."""


class BrokenOff(Exception):
    """the answer broke off, try again"""

    def __str__(self) -> str:
        return BrokenOff.__doc__ or ""


class Spool:
    """Bytes that one thread writes and one loop reads. More than a piece is in a file without a name."""

    _all = 0
    _counting = threading.Lock()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._file = tempfile.SpooledTemporaryFile(max_size=PIECE)  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()
        self._changed = asyncio.Event()
        self._written = self._read = 0
        self._is_closed = self._is_whole = self._is_over = False

    def fill(self, chunks: Iterable[bytes]) -> None:
        """Write all of it, in the thread. Raises Abandoned when it is closed meanwhile, and what the chunks raise."""
        try:
            gathered = bytearray()
            for chunk in chunks:
                gathered += chunk
                if len(gathered) >= PIECE:
                    self._write(bytes(gathered))
                    gathered.clear()
            self._write(bytes(gathered))
            self._is_whole = True
        finally:
            self._is_over = True
            self._tell()

    async def more_than(self, size: int) -> bool:
        """Whether it has more bytes than that, as soon as this is known. Raises BrokenOff when it ends before, unfinished."""
        while self._written <= size and not self._is_over:
            self._changed.clear()
            if self._written <= size and not self._is_over:
                await self._changed.wait()
        if self._written <= size and not self._is_whole:
            raise BrokenOff
        return self._written > size

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is written, as it comes. Raises Abandoned when it broke off."""
        while True:
            self._changed.clear()
            # Before the last look: what is written until then is found by it.
            is_over = self._is_over
            while piece := self._next():
                yield piece
            if is_over:
                break
            await self._changed.wait()
        if not self._is_whole:
            raise Abandoned

    def close(self) -> None:
        """Nobody reads on: whoever writes is stopped by its next piece."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._file.close()
                self._count(-self._written)

    def _write(self, piece: bytes) -> None:
        with self._lock:
            if self._is_closed or Spool._all + len(piece) > ON_DISK:
                raise Abandoned
            self._file.seek(self._written)
            self._file.write(piece)
            self._written += len(piece)
            self._count(len(piece))
        self._tell()

    def _next(self) -> bytes:
        with self._lock:
            self._file.seek(self._read)
            piece = self._file.read(PIECE)
            self._read += len(piece)
            return piece

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    @classmethod
    def _count(cls, number: int) -> None:
        with cls._counting:
            cls._all += number
