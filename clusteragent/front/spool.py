"""The buffer of a streamed answer: a thread writes it at its own pace, and the event loop sends it at the client's pace."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable

# Bytes of a piece, which are also the most of an answer in memory; and the most bytes in files of all answers of a process.
PIECE = 64 * 2**10
ON_DISK = 4 * 2**30


class Abandoned(Exception):
    """The client no longer reads the answer, or there is no room for it."""


class BrokenOff(Exception):
    """A streamed answer failed before its beginning was sent."""


class Spool:
    """Bytes that one thread writes and one event loop reads. If they are more than a piece, they are in an unnamed file."""

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
        """Write all chunks; called in the thread. Raises Abandoned when the spool is closed, and what `chunks` raises."""
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
        """Return, as soon as it is known, whether there are more than `size` bytes. Raises BrokenOff if `fill` fails first."""
        while self._written <= size and not self._is_over:
            self._changed.clear()
            if self._written <= size and not self._is_over:
                await self._changed.wait()
        if self._written <= size and not self._is_whole:
            raise BrokenOff("the answer broke off, try again")
        return self._written > size

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they are written. Raises Abandoned when `fill` has failed."""
        while True:
            self._changed.clear()
            # Read before the pieces: when it is true, the following loop yields all that was written.
            is_over = self._is_over
            while piece := self._next():
                yield piece
            if is_over:
                break
            await self._changed.wait()
        if not self._is_whole:
            raise Abandoned

    def close(self) -> None:
        """Drop the bytes: nobody reads them any more. The writing thread gets Abandoned at its next piece."""
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
