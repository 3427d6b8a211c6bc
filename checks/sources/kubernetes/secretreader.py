"""Reads the Secrets that configs name: each soon after it is named, and again and again, since it may be rotated.

Each is read by its name, so that a role may allow a few Secrets and nothing else. A watch would need a connection for each.
"""

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from operator import itemgetter
from typing import NamedTuple

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError, Forbidden, NotFound
from checks.sources.kubernetes.mirror import Name
from checks.sources.kubernetes.resources import SECRETS
from checks.sources.kubernetes.secrets import Handle, Value, value_of
from checks.sources.kubernetes.subjects import in_turn
from checks.sources.kubernetes.watching import Watcher

# At most so many Secrets a second, so many in one go. Seconds, more or less, until one is read again, and one that lacks a value.
A_SECOND, AT_ONCE, AGAIN, SOON = 20, 10, 30.0, 10.0


log = structlog.get_logger()


class _Read(NamedTuple):
    """What came of reading. failed: reasons that say nothing of the Secret, such as a server that is away."""

    found: dict[Handle, Value]
    failed: dict[Handle, Value]


class SecretReader:
    """Reads Secrets in the thread of the watcher. known: what was read last of those that are named."""

    def __init__(self, watcher: Watcher, known: dict[Handle, Value]) -> None:
        self._watcher, self._known = watcher, known
        self._due: dict[Handle, float] = {}
        self._reading: Future[_Read] | None = None

    def step(self, named: Collection[Handle]) -> set[Handle]:
        """Take what was read, and begin to read what is due of what is named. Return what is other than before. Never waits."""
        changed: set[Handle] = set()
        if self._reading and self._reading.done():
            reading, self._reading = self._reading, None
            try:
                changed = self._take(reading.result())
            except Exception:
                # It is read again with the next step.
                log.exception("secrets_not_read")
        for handle in self._known.keys() - named:
            del self._known[handle]
        self._due = {handle: self._due.get(handle, 0.0) for handle in named}
        if self._reading is None and (due := self._next()):
            self._reading = self._watcher.call(lambda client: _read(client, due))
        return changed

    def _take(self, read: _Read) -> set[Handle]:
        # While the server is away, what is known stays.
        values = {handle: why for handle, why in read.failed.items() if handle not in self._known} | read.found
        changed = {handle for handle, value in values.items() if self._known.get(handle) != value}
        self._known.update(values)
        for handle in (*read.found, *read.failed):
            wait = SOON if self._known[handle].error else AGAIN
            self._due[handle] = time.monotonic() + wait * random.uniform(0.75, 1.25)  # noqa: S311
        return changed

    def _next(self) -> dict[Name, list[Handle]]:
        """The Secrets that are due longest, each with all keys that are named: keys that belong together change together."""
        now = time.monotonic()
        due = sorted((at, handle) for handle, at in self._due.items() if at <= now)
        names = in_turn(dict.fromkeys((handle.namespace, handle.name) for _, handle in due), itemgetter(0))[:AT_ONCE]
        chosen: dict[Name, list[Handle]] = {name: [] for name in names}
        for handle in self._due if chosen else ():
            if (name := (handle.namespace, handle.name)) in chosen:
                chosen[name].append(handle)
        return chosen


async def _read(client: Client, due: Mapping[Name, Collection[Handle]]) -> _Read:
    read = _Read({}, {})
    for number, ((namespace, name), handles) in enumerate(due.items()):
        await asyncio.sleep(1 / A_SECOND if number else 0)
        try:
            secret = await client.get(SECRETS, namespace, name)
            read.found.update({handle: value_of(secret, handle) for handle in handles})
        except NotFound:
            why = Value(error=f"there is no Secret {namespace}/{name}")
            read.found.update(dict.fromkeys(handles, why))
        except ApiError as error:
            why = Value(error=f"Secret {namespace}/{name} can't be read: {error}")
            (read.found if isinstance(error, Forbidden) else read.failed).update(dict.fromkeys(handles, why))
    return read
