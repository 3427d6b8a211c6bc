"""Statuses of resources, where `kubectl get` shows them: written when they differ from what is there."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.conditions import Status, merged
from checks.sources.kubernetes.errors import NotFound, Rejected
from checks.sources.kubernetes.resources import Object, Resource
from checks.sources.kubernetes.watching import Watcher
from checks.sources.kubernetes.writing import Writer

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
    seen: Object


class Statuses(Writer[Key, Status]):
    """Writes of each object the status that was wanted last."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        # What was tried last, and what the API server made of it, which need not be the same: it is not tried again.
        self._tried: dict[Key, Wanted] = {}

    def want(self, wanted: Mapping[Key, Wanted]) -> None:
        """Let these objects have these statuses. Whatever was wanted before, and is not written yet, is forgotten."""
        differing = {key: one.status for key, one in wanted.items() if self._is_new(key, one)}
        with self._lock:
            # What waits keeps its place, so that none waits for ever.
            first = {key: differing[key] for key in self._waiting if key in differing}
            self._waiting = first | differing
            self._tried = {key: one for key, one in self._tried.items() if key in wanted}

    def _is_new(self, key: Key, one: Wanted) -> bool:
        return merged(one.seen, one.status, "") != one.seen and self._tried.get(key) != one

    def _needs(self, key: Key) -> Collection[Resource]:
        return (key.resource,)

    async def _write(self, client: Client, key: Key, value: Status) -> None:
        found: Object = {}
        try:
            found = await client.get(*key)
            seen = _status_of(found)
            status = merged(seen, value, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            if status != seen:
                # Only if nobody changed it meanwhile: the list of conditions is replaced as a whole.
                version = found["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "status": dict.fromkeys(seen) | status}
                found = await client.patch(*key, body, "status")
        except (NotFound, Rejected) as error:
            if isinstance(error, Rejected) and error.status == _CONFLICT:
                return  # it is wanted again as soon as the watch tells the change
            if found:
                log.warning("status_not_written", where=str(key), error=str(error))
        with self._lock:
            self._tried[key] = Wanted(value, _status_of(found))


def _status_of(found: Object) -> Object:
    status = found.get("status")
    return status if isinstance(status, dict) else {}
