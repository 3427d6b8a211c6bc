"""What one caller, and all together, may hold at once."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class TooMany(Exception):
    """A caller holds as much as it may."""


class Quota:
    """So many `things` at once for each caller, and for all."""

    def __init__(self, things: str, each: float, altogether: float = math.inf) -> None:
        self._things, self._each, self._altogether = things, each, altogether
        self._held: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Hold one more while the block runs. Raises TooMany."""
        if self._held[caller] >= self._each or self._held.total() >= self._altogether:
            raise TooMany(f"too many {self._things} at once, try again")
        self._held[caller] += 1
        try:
            yield
        finally:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


class Turns:
    """So many calls at once for each caller; its others wait for their turn, and keep nobody else from theirs."""

    def __init__(self, each: int, patience: float) -> None:
        """patience: seconds that a call waits."""
        self._each, self._patience = each, patience
        self._callers: dict[str, asyncio.Semaphore] = {}
        self._calls: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, caller: str) -> AsyncIterator[None]:
        """Have a turn while the block runs. Raises TooMany."""
        turns = self._callers.setdefault(caller, asyncio.Semaphore(self._each))
        self._calls[caller] += 1
        try:
            try:
                await asyncio.wait_for(turns.acquire(), self._patience)
            except TimeoutError:
                raise TooMany("too many calls at once, try again") from None
            try:
                yield
            finally:
                turns.release()
        finally:
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller], self._callers[caller]
