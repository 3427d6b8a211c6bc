"""Statuses of resources, where `kubectl get` shows them: written when they differ from what is there."""

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.conditions import Status, merged
from checks.sources.kubernetes.errors import NotFound, Rejected
from checks.sources.kubernetes.resources import Object, Resource
from checks.sources.kubernetes.watching import Watcher
from checks.sources.kubernetes.writing import Writer

# Seconds after which a status that could not be written as it is wanted is tried again.
TRIED_AGAIN = 60.0
_CONFLICT = 409

log = structlog.get_logger()


class Key(NamedTuple):
    """An object that has a status."""

    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.resource} {self.namespace}/{self.name}"


class Wanted(NamedTuple):
    """The status that an object should have, and the one that it has, as the watch told."""

    status: Status
    seen: Mapping[str, Any]


class _Tried(NamedTuple):
    """A status that was tried. seen: what the watch had told then. answer: what the API server made of it. until: it counts."""

    status: Status
    seen: Mapping[str, Any]
    answer: Object
    until: float


class Statuses(Writer[Key, Wanted]):
    """Writes of each object the status that was wanted last."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        self._tried: dict[Key, _Tried] = {}

    def want(self, wanted: Mapping[Key, Wanted]) -> None:
        """Let these objects have these statuses. Whatever was wanted before, and is not written yet, is forgotten."""
        with self._lock:
            self._tried = {key: one for key, one in self._tried.items() if key in wanted}
            differing = {key: one for key, one in wanted.items() if self._is_new(key, one)}
            # What waits keeps its place, so that none waits for ever.
            first = {key: differing[key] for key in self._waiting if key in differing}
            self._waiting = first | differing

    def _is_new(self, key: Key, one: Wanted) -> bool:
        """Whether it is to be written: it differs from what is there, and was not tried yet."""
        if merged(one.seen, one.status, "") == one.seen:
            self._tried.pop(key, None)
            return False
        tried = self._tried.get(key)
        # The watch may not have told it yet, or the schema may be another, so that it can't be said.
        if tried is None or tried.status != one.status or one.seen not in (tried.seen, tried.answer):
            return True
        return time.monotonic() >= tried.until

    def _needs(self, key: Key) -> Collection[Resource]:
        return (key.resource,)

    def _namespace(self, key: Key) -> str:
        return key.namespace

    async def _write(self, client: Client, key: Key, value: Wanted) -> None:
        found: Object = {}
        try:
            found = await client.get(*key)
            seen = _status_of(found)
            status = merged(seen, value.status, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            if status != seen:
                # Only if nobody changed it meanwhile: the list of conditions is replaced as a whole.
                version = found["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "status": dict.fromkeys(seen) | status}
                found = await client.patch(*key, body, "status")
        except (NotFound, Rejected) as error:
            if isinstance(error, Rejected) and error.status == _CONFLICT:
                return  # it is wanted again in a moment
            if found:
                log.warning("status_not_written", where=str(key), error=str(error))
        with self._lock:
            until = time.monotonic() + TRIED_AGAIN
            self._tried[key] = _Tried(value.status, value.seen, _status_of(found), until)


def _status_of(found: Object) -> Object:
    status = found.get("status")
    return status if isinstance(status, dict) else {}
