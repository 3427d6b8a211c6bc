"""One computed answer for all tabs that fetch the same page."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Caches the answer of `take()` in this process for some seconds, counted from the call.

    When the answer is too old, one thread computes a new one and the others wait for it, but not longer than it would be valid.
    An error is raised only in the thread that met it.
    """

    def __init__(self, take: Callable[[], T], seconds: float) -> None:
        self._take, self._seconds = take, seconds
        self._turn = threading.Lock()
        self._last: tuple[T, float] | None = None
        self._changes = 0

    def get(self) -> T:
        """The cached answer, or a new one if that is too old."""
        with self._in_turn():
            if self._last is not None and time.monotonic() < self._last[1]:
                return self._last[0]
            return self.anew()

    def anew(self) -> T:
        """Compute a new answer and cache it for the others."""
        changes, until = self._changes, time.monotonic() + self._seconds
        answer = self._take()
        # Something changed meanwhile: the answer may be too old for the others.
        if changes == self._changes:
            self._last = answer, until
        return answer

    def forget(self) -> None:
        """Call after a change: the cached answer is dropped, and so is one that is being computed."""
        self._changes += 1
        self._last = None

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for the thread that computes. After too long, go on without: a thread that hangs must not block all others."""
        mine = self._turn.acquire(timeout=self._seconds)
        try:
            yield
        finally:
            if mine:
                self._turn.release()
