"""Problems of Services as events on them, where `kubectl describe service` shows them: one for each problem."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import structlog

from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import ApiError, Forbidden, NotFound, Rejected, Unauthorized
from checks.sources.kubernetes.resources import EVENTS, SERVICES, Object
from checks.sources.kubernetes.watching import Watcher
from checks.sources.source import Problem
from clusteragent.lib import conf

# At most so many events a second, and so many that wait. Seconds after which one that failed, or was refused, is tried again.
A_SECOND, MOST_WAITING, AGAIN, REFUSED_AGAIN = 10, 1000, 10.0, 600.0
REASON = "ClusterCheckProblem"
MOST_CHARACTERS = 1000
_CONFLICT = 409

log = structlog.get_logger()


class Events:
    """Writes an event for each problem, in the thread of the watcher, one after the other.

    refusal: why events can't be written; empty when they can.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._waiting: deque[Problem] = deque(maxlen=MOST_WAITING)
        self._writing: Future[None] | None = None
        self.refusal = ""

    def add(self, problems: Iterable[Problem]) -> None:
        """Let events be written for these problems. Those that are not about a Service are left out."""
        self._waiting.extend(problem for problem in problems if _service_of(problem))

    def step(self) -> None:
        """Begin to write what waits. Never waits itself."""
        if self._waiting and (self._writing is None or self._writing.done()):
            self._writing = self._watcher.call(self._write)

    async def _write(self, client: Client) -> None:
        while self._waiting:
            problem = self._waiting.popleft()
            pause = 1 / A_SECOND
            try:
                await write(client, problem)
                self.refusal = ""
            except (Rejected, NotFound) as error:
                log.warning("event_not_written", where=problem.where, error=str(error))
            except ApiError as error:
                is_refused = isinstance(error, Forbidden | Unauthorized)
                self.refusal = str(error) if is_refused else self.refusal
                pause = REFUSED_AGAIN if is_refused else AGAIN
                self._waiting.appendleft(problem)
            await asyncio.sleep(pause)


async def write(client: Client, problem: Problem) -> None:
    """Write the event of a problem; one that is there already is dated anew. Raises an ApiError."""
    namespace, name = _service_of(problem) or ("", "")
    service = await client.get(SERVICES, namespace, name)
    event = event_of(problem, service)
    try:
        await client.create(EVENTS, namespace, event)
    except Rejected as error:
        if error.status != _CONFLICT:
            raise
        await client.patch(EVENTS, namespace, event["metadata"]["name"], {"lastTimestamp": event["lastTimestamp"]})


def event_of(problem: Problem, service: Object) -> dict[str, Any]:
    """Return the event of a problem of a Service. Equal problems have events of the same name."""
    namespace, name = _service_of(problem) or ("", "")
    number = hashlib.blake2b(str(problem).encode(), digest_size=8).hexdigest()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"name": f"{name}.{number}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": namespace,
            "name": name,
            "uid": service["metadata"]["uid"],
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


def _service_of(problem: Problem) -> tuple[str, str] | None:
    """Namespace and name of the Service that a problem is about; None when it is about none."""
    kind, _, names = problem.where.partition(" ")
    namespace, _, name = names.partition("/")
    return (namespace, name) if kind == "service" else None
