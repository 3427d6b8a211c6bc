"""Writing to the API server beside the watches: a few calls a second, and what fails or is refused is tried again later."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from typing import Generic, TypeVar

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError, Forbidden
from checks.sources.kubernetes.resources import Resource
from checks.sources.kubernetes.watching import Watcher

K = TypeVar("K")
V = TypeVar("V")

# At most so many a second. Seconds after which what failed, or what was refused, is tried again.
A_SECOND, AGAIN, REFUSED_AGAIN = 10, 10.0, 60.0


class Writer(ABC, Generic[K, V]):
    """Writes what waits, {what it is about: what is written}, one after the other in the thread of the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._waiting: dict[K, V] = {}
        self._refused: dict[Resource, tuple[str, float]] = {}
        self._not_before = 0.0
        self._writing: Future[None] | None = None

    @property
    def refusals(self) -> list[str]:
        """Why something that waits can't be written: permissions that are missing."""
        with self._lock:
            needed = {resource for key in self._waiting for resource in self._needs(key)}
        return [why for resource, (why, _) in list(self._refused.items()) if resource in needed]

    def step(self) -> None:
        """Begin to write what waits. Never waits itself."""
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = self._watcher.call(self._write_all)

    @abstractmethod
    def _needs(self, key: K) -> Collection[Resource]:
        """The resources that are read or written for it."""

    @abstractmethod
    async def _write(self, client: Client, key: K, value: V) -> None:
        """Write it. Raises an ApiError if it is to be tried again."""

    async def _write_all(self, client: Client) -> None:
        while following := self._take():
            key, value = following
            try:
                await self._write(client, key, value)
                for resource in self._needs(key):
                    self._refused.pop(resource, None)
            except ApiError as error:
                self._note(error)
                with self._lock:
                    # A newer one may wait already.
                    self._waiting.setdefault(key, value)
            await asyncio.sleep(1 / A_SECOND)

    def _take(self) -> tuple[K, V] | None:
        """Take the first that waits and may be tried now."""
        now = time.monotonic()
        refused = {resource for resource, (_, until) in self._refused.items() if now < until}
        with self._lock:
            for key in self._waiting if now >= self._not_before else ():
                if refused.isdisjoint(self._needs(key)):
                    return key, self._waiting.pop(key)
        return None

    def _note(self, error: ApiError) -> None:
        if isinstance(error, Forbidden):
            self._refused[error.call.resource] = str(error), time.monotonic() + REFUSED_AGAIN
        else:
            # The API server is away, as a rule, and the watches tell it.
            self._not_before = time.monotonic() + AGAIN
