"""Limits of what each caller, and all together, may have at once."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class TooMany(Exception):
    """A caller has as much as it may have."""


class Quota:
    """At most `each` things at once for each caller, and `altogether` for all."""

    def __init__(self, things: str, each: float, altogether: float = math.inf) -> None:
        """things: the plural noun for the message."""
        self._things, self._each, self._altogether = things, each, altogether
        self._held: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Count one more for the caller while the block runs. Raises TooMany."""
        if self._held[caller] >= self._each or self._held.total() >= self._altogether:
            raise TooMany(f"too many {self._things} at once, try again")
        self._held[caller] += 1
        try:
            yield
        finally:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


class Slots:
    """At most `each` calls at once for each caller. Its further calls wait, and delay no other caller."""

    def __init__(self, each: int, max_wait: float) -> None:
        """max_wait: seconds that a call waits for a slot."""
        self._each, self._max_wait = each, max_wait
        self._callers: dict[str, asyncio.Semaphore] = {}
        self._calls: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, caller: str) -> AsyncIterator[None]:
        """Hold a slot while the block runs. Raises TooMany after max_wait seconds."""
        slots = self._callers.setdefault(caller, asyncio.Semaphore(self._each))
        self._calls[caller] += 1
        try:
            try:
                await asyncio.wait_for(slots.acquire(), self._max_wait)
            except TimeoutError:
                raise TooMany("too many calls at once, try again") from None
            try:
                yield
            finally:
                slots.release()
        finally:
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller], self._callers[caller]
