"""Problems of objects as events on them, where `kubectl describe` shows them: one for each problem."""

import hashlib
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import NotFound, Rejected
from checks.sources.kubernetes.resources import CLUSTERCHECKS, EVENTS, INSTRUMENTATIONS, SERVICES, Object, Resource
from checks.sources.kubernetes.watching import Watcher
from checks.sources.kubernetes.writing import Writer
from checks.sources.source import Problem
from clusteragent.lib import conf

REASON = "ClusterCheckProblem"
MOST_CHARACTERS = 1000
# Of an object's name in that of its events, which has 253 characters at most.
MOST_OF_NAME = 230
_CONFLICT = 409

log = structlog.get_logger()


class Kind(NamedTuple):
    """Objects that have events, and their kind in the API."""

    name: str
    resource: Resource


class Named(NamedTuple):
    """An object that has events."""

    kind: Kind
    namespace: str
    name: str


# By the first word of a problem's place.
_KINDS = {
    kind.name.lower(): kind
    for kind in (
        Kind("Service", SERVICES),
        Kind("ClusterCheck", CLUSTERCHECKS),
        Kind("DatadogInstrumentation", INSTRUMENTATIONS),
    )
}


class Events(Writer[Problem, None]):
    """Writes an event for each problem, once in each term: in a new one nobody knows what the last one still wanted to write."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(watcher)
        self._told: set[Problem] = set()

    def want(self, problems: Iterable[Problem]) -> None:
        """Let there be an event for each of these problems, which are all that there are. Those about no object are left out."""
        wanted = dict.fromkeys(problem for problem in problems if _object_of(problem))
        with self._lock:
            self._told &= wanted.keys()
            self._waiting = {problem: None for problem in wanted if problem not in self._told}

    def _needs(self, key: Problem) -> Collection[Resource]:
        found = _object_of(key)
        return (EVENTS, found.kind.resource) if found else (EVENTS,)

    def _namespace(self, key: Problem) -> str:
        found = _object_of(key)
        return found.namespace if found else ""

    async def _write(self, client: Client, key: Problem, value: None) -> None:
        try:
            await write(client, key)
        except (Rejected, NotFound) as error:
            log.warning("event_not_written", where=key.where, error=str(error))
        with self._lock:
            self._told.add(key)


async def write(client: Client, problem: Problem) -> None:
    """Write the event of a problem; one that is there already is dated anew. Raises an ApiError."""
    if found := _object_of(problem):
        about = await client.get(found.kind.resource, found.namespace, found.name)
        event = event_of(problem, found, about)
        try:
            await client.create(EVENTS, found.namespace, event)
        except Rejected as error:
            if error.status != _CONFLICT:
                raise
            again = {"lastTimestamp": event["lastTimestamp"]}
            await client.patch(EVENTS, found.namespace, event["metadata"]["name"], again)


def event_of(problem: Problem, named: Named, about: Object) -> dict[str, Any]:
    """Return the event of a problem of an object. Equal problems of the same object have events of the same name."""
    uid = about["metadata"]["uid"]
    number = hashlib.blake2b(f"{uid} {problem}".encode(), digest_size=8).hexdigest()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": f"{named.name[:MOST_OF_NAME].rstrip('-.')}.{number}", "namespace": named.namespace},
        "involvedObject": {
            "apiVersion": named.kind.resource.api_version,
            "kind": named.kind.name,
            "namespace": named.namespace,
            "name": named.name,
            "uid": uid,
        },
        "type": "Warning",
        "reason": REASON,
        "message": problem.error[:MOST_CHARACTERS],
        "source": {"component": "clusteragent", "host": conf.REPLICA},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "reportingComponent": "clusteragent",
        "reportingInstance": conf.REPLICA,
    }


def _object_of(problem: Problem) -> Named | None:
    """The object that a problem is about; None when it is about none."""
    kind, _, names = problem.where.partition(" ")
    namespace, _, name = names.partition("/")
    return Named(_KINDS[kind], namespace, name) if kind in _KINDS else None
