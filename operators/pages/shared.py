"""One answer for all tabs that read a page anew."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """What `take()` answered last in this process, for so many seconds from when it was asked.

    Whoever finds none asks, and others wait for that answer, but no longer than it would be good for. An error is told to
    whom it happens alone.
    """

    def __init__(self, take: Callable[[], T], seconds: float) -> None:
        self._take, self._seconds = take, seconds
        self._turn = threading.Lock()
        self._last: tuple[T, float] | None = None
        self._changes = 0

    def get(self) -> T:
        """The last answer, or another if that is too old."""
        with self._in_turn():
            if self._last is not None and time.monotonic() < self._last[1]:
                return self._last[0]
            return self.anew()

    def anew(self) -> T:
        """An answer of this moment, which is the others' too from now on."""
        changes, until = self._changes, time.monotonic() + self._seconds
        answer = self._take()
        # One that does not know of a change that was made meanwhile is nobody else's.
        if changes == self._changes:
            self._last = answer, until
        return answer

    def forget(self) -> None:
        """Something was changed: whoever asks from now on is told of it."""
        self._changes += 1
        self._last = None

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for who asks. When that takes too long, ask too: one that hangs must not keep all from their answers."""
        mine = self._turn.acquire(timeout=self._seconds)
        try:
            yield
        finally:
            if mine:
                self._turn.release()
