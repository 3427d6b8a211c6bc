"""Writing to the API server beside the watches: a few calls a second, and what fails or is refused is tried again later."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from typing import Generic, TypeVar

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError, Away, Forbidden
from checks.sources.kubernetes.resources import Resource
from checks.sources.kubernetes.watching import Watcher

K = TypeVar("K")
V = TypeVar("V")

# At most so many a second. Seconds after which what failed, or what was refused, is tried again.
A_SECOND, AGAIN, REFUSED_AGAIN = 10, 10.0, 60.0
# After so many failures one after the other it is the API server that fails, not one object: nothing is tried for a while.
FAILURES = 3

log = structlog.get_logger()


class Writer(ABC, Generic[K, V]):
    """Writes what waits, {what it is about: what is written}, one after the other in the thread of the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._waiting: dict[K, V] = {}
        # What is being written: a refusal is not over while it is tried again.
        self._in_hand: list[K] = []
        self._refused: dict[Resource, tuple[str, float]] = {}
        # When what failed may be tried again; how many failed in a row; and when anything may be tried.
        self._again: dict[K, float] = {}
        self._failures = 0
        self._not_before = 0.0
        # The namespace of what was written last.
        self._last = ""
        self._writing: Future[None] | None = None

    @property
    def refusals(self) -> list[str]:
        """Why something that waits can't be written: permissions that are missing."""
        with self._lock:
            needed = {resource for key in (*self._waiting, *self._in_hand) for resource in self._needs(key)}
        return [why for resource, (why, _) in list(self._refused.items()) if resource in needed]

    def step(self) -> None:
        """Begin to write what waits. Never waits itself."""
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = self._watcher.call(self._write_all)

    @abstractmethod
    def _needs(self, key: K) -> Collection[Resource]:
        """The resources that are read or written for it."""

    @abstractmethod
    def _namespace(self, key: K) -> str:
        """The namespace of the object that it is about."""

    @abstractmethod
    async def _write(self, client: Client, key: K, value: V) -> None:
        """Write it. Raises an ApiError if it is to be tried again."""

    async def _write_all(self, client: Client) -> None:
        while following := self._take():
            key, value = following
            if error := await self._try(client, key, value):
                self._note(key, error)
                with self._lock:
                    # A newer one may wait already.
                    self._waiting.setdefault(key, value)
                    self._again = {one: until for one, until in self._again.items() if one in self._waiting}
            else:
                for resource in self._needs(key):
                    self._refused.pop(resource, None)
                self._again.pop(key, None)
                self._failures = 0
            self._in_hand = []
            await asyncio.sleep(1 / A_SECOND)

    async def _try(self, client: Client, key: K, value: V) -> ApiError | None:
        """Write it; return why that failed."""
        try:
            await self._write(client, key, value)
        except ApiError as error:
            return error
        except Exception:
            # Whatever one object is, the others are written.
            log.exception("not_written", where=str(key))
            return ApiError("an error of ours")
        return None

    def _take(self) -> tuple[K, V] | None:
        """Take the first that waits and may be tried now, of each namespace in turn: one must not delay all others."""
        now = time.monotonic()
        refused = {resource for resource, (_, until) in self._refused.items() if now < until}
        first: dict[str, K] = {}
        with self._lock:
            for key in self._waiting if now >= self._not_before else ():
                if now >= self._again.get(key, 0.0) and refused.isdisjoint(self._needs(key)):
                    first.setdefault(self._namespace(key), key)
            if not first:
                return None
            self._last = min(first, key=lambda namespace: (namespace <= self._last, namespace))
            key = first[self._last]
            self._in_hand = [key]
            return key, self._waiting.pop(key)

    def _note(self, key: K, error: ApiError) -> None:
        if isinstance(error, Forbidden):
            self._refused[error.call.resource] = str(error), time.monotonic() + REFUSED_AGAIN
            return
        # What the API server answers for one object, such as one that is too large, says nothing of others.
        self._failures += not (isinstance(error, Away) and error.is_answer)
        self._again[key] = time.monotonic() + AGAIN
        if self._failures >= FAILURES:
            self._failures = 0
            # The API server is away, as a rule, and the watches tell it.
            self._not_before = time.monotonic() + AGAIN
