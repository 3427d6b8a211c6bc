"""Watching resources of the Kubernetes API: a complete list, then what changes, however often the connection breaks."""

import asyncio
import contextlib
import enum
import queue
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import structlog

from checks.sources.kubernetes.access import Reader
from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.errors import (
    ApiError,
    Forbidden,
    Gone,
    NotFound,
    Slow,
    Unauthorized,
    Unreadable,
)
from checks.sources.kubernetes.resources import NODES, Object, Resource, Selection

T = TypeVar("T")

# Seconds of a watch, at random: watches that began together don't end together.
SECONDS = (300.0, 600.0)
# Servers send a bookmark each minute. After so many seconds without a word they are asked whether they are there.
IDLE = 90.0
# The pause after a failure doubles with each further one.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
LONGEST_WAIT = 60.0
# After an outage that lasted so long the server may be one that was restored from a copy: what it has is listed again.
OUTAGE = 10.0
# The same while lists succeed, and only watches fail.
LISTED_AGAIN = 600.0
# Seconds after which a resource that need not be there is asked for again.
OPTIONAL = 60.0
# A watch that lasted so long worked.
LASTING = 1.0
# What is told and not yet taken. When there is more, the server waits, and with it the change of everything else.
MOST_UNREAD = 10_000
# Seconds in which the thread ends.
ENDING = 1.0

log = structlog.get_logger()


class Listed(NamedTuple):
    """All that there is of a watch, complete: what is not in it is gone. objects: what `keep` made of them."""

    resource: Resource
    objects: list[Any]


class Changed(NamedTuple):
    """An object is new or changed. object: what `keep` made of it."""

    resource: Resource
    object: Any


class Deleted(NamedTuple):
    """An object is gone, or `keep` no longer keeps it. It is told of objects that never were kept, too."""

    resource: Resource
    namespace: str
    name: str


Told = Listed | Changed | Deleted


class Phase(enum.Enum):
    """What a watch is doing."""

    LISTING = "listing"
    WATCHING = "watching"
    AWAY = "away"
    REFUSED = "refused"
    MISSING = "not there"


class State(NamedTuple):
    """What people see of a watch. since: when the phase began. why: of a failure. heard: the API server's last word."""

    phase: Phase
    since: datetime
    why: str = ""
    heard: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """Objects to watch, and what is kept of each: `keep` returns None for an object that does not matter."""

    selection: Selection
    keep: Callable[[Object], Any]


class Watch:
    """Watches the first of some kinds that the API server has, and tells a queue what there is and what changes.

    First it tells `Listed`, then each change in order, once. After a connection broke it goes on from the last change; `Listed`
    comes again when the server no longer knows what happened since. It never ends by itself.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        told: "queue.Queue[Told]",
        *,
        seconds: tuple[float, float] = SECONDS,
        idle: float = IDLE,
        optional: bool = False,
    ) -> None:
        """optional: where it is not there, or refused, it is asked for again seldom."""
        self._kinds, self._told = kinds, told
        self._absence = OPTIONAL if optional else 0.0
        self._seconds, self._idle = seconds, idle
        self._kind = kinds[0]
        # From which a watch goes on; empty: list first.
        self._version = ""
        self._failures = 0
        # When the first of them was.
        self._failing_since = 0.0
        # When the last list was complete.
        self._listed = 0.0
        self._state = State(Phase.LISTING, _now())
        self._heard: datetime | None = None

    @property
    def resource(self) -> Resource:
        """The resource that is watched: of several kinds, the one that was there last."""
        return self._kind.selection.resource

    @property
    def state(self) -> State:
        """What the watch is doing. May be asked by any thread."""
        return self._state._replace(heard=self._heard)

    async def run(self, client: Client) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list(client)
                await self._follow(client)
            except ApiError as error:
                await self._pause(error)
            except Exception as error:
                log.exception("kubernetes_watch_failed", resource=str(self.resource))
                self._version = ""
                await self._pause(Unreadable(f"{self.resource}: {type(error).__name__}, an error of ours"))

    async def _list(self, client: Client) -> None:
        """Tell what there is of the first kind that the server has."""
        *others, last = self._kinds
        for kind in others:
            try:
                return await self._list_kind(client, kind)
            except NotFound:
                continue
        return await self._list_kind(client, last)

    async def _list_kind(self, client: Client, kind: Kind) -> None:
        objects: list[Any] = []
        version = ""
        async with aclosing(client.pages(kind.selection)) as pages:
            async for page in pages:
                self._heard = _now()
                objects += [kept for item in page.items if (kept := _kept(kind, item)) is not None]
                version = page.version
        self._kind = kind
        await self._tell(Listed(self.resource, objects))
        self._version, self._listed = version, time.monotonic()

    async def _follow(self, client: Client) -> None:
        """Tell what changes until the server ends the watch."""
        seconds = random.uniform(*self._seconds)  # noqa: S311
        async with client.watch(self._kind.selection, self._version, seconds, self._idle) as events:
            began = time.monotonic()
            self._enter(Phase.WATCHING)
            try:
                async for event, about in events:
                    await self._hear(event, about)
            except Slow:
                if not await self._is_quiet(client):
                    raise
            finally:
                # Else a server that accepts watches and ends them at once would be asked without a pause.
                if time.monotonic() - began > LASTING:
                    self._failures = 0
        if time.monotonic() - began <= LASTING:
            await self._sleep()

    async def _is_quiet(self, client: Client) -> bool:
        """Return whether a watch without a word is right: the API server answers, and was not restored from a copy.

        A server that started after the last change of a resource sends no bookmarks.
        """
        try:
            return int(await client.version(self._kind.selection)) >= int(self._version)
        except (ApiError, ValueError):
            return False

    async def _hear(self, event: str, about: Object) -> None:
        self._heard = _now()
        if event != "BOOKMARK":
            await self._tell_of(event, about)
        # Told first: whoever goes on from a version has told all up to it.
        self._version = _version(about) or self._version

    async def _tell_of(self, event: str, about: Object) -> None:
        kept = None if event == "DELETED" else _kept(self._kind, about)
        if kept is not None:
            await self._tell(Changed(self.resource, kept))
        else:
            metadata = _metadata(about)
            await self._tell(
                Deleted(self.resource, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
            )

    async def _tell(self, what: Told) -> None:
        """Put it into the queue. While that is full nothing more is read, so the server waits, or ends the watch."""
        while self._told.full():
            await asyncio.sleep(0.02)
        self._told.put_nowait(what)

    async def _pause(self, error: ApiError) -> None:
        if not self._failures:
            self._failing_since = time.monotonic()
        # After a silence only a list shows it if the server was restored from a copy, and counts from an older version.
        # While lists succeed and watches fail it is not listed each time.
        was_listed = self._listed > self._failing_since
        is_long = time.monotonic() - max(self._failing_since, self._listed) > (LISTED_AGAIN if was_listed else OUTAGE)
        if is_long or isinstance(error, Gone | Slow | Unreadable | NotFound):
            self._version = ""
        if isinstance(error, Gone):
            self._enter(Phase.LISTING)
        else:
            self._enter(_phase(error), str(error))
        absence = self._absence if isinstance(error, Forbidden | NotFound) else 0.0
        await self._sleep(max(error.retry_after, absence))

    async def _sleep(self, least: float = 0.0) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        await asyncio.sleep(max(pause * random.uniform(0.5, 1), min(least, LONGEST_WAIT)))  # noqa: S311

    def _enter(self, phase: Phase, why: str = "") -> None:
        if phase is Phase.WATCHING:
            self._heard = _now()
        if (phase, why) != (self._state.phase, self._state.why):
            log.info(
                "kubernetes_watch", resource=str(self.resource), state=phase.value, **({"why": why} if why else {})
            )
        since = self._state.since if phase is self._state.phase else _now()
        self._state = State(phase, since, why)


class Watcher:
    """Runs watches, and calls of others, in one thread with an event loop and a client of its own."""

    def __init__(self, read: Reader, watches: Sequence[Watch]) -> None:
        self.watches = watches
        self._read = read
        # The tasks of calls that are under way.
        self._calls: set[asyncio.Task[Any] | None] = set()

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubernetes", daemon=True)
        self._client = Client(self._read)
        self._main = self._loop.create_task(self._all())
        self._thread.start()

    def call(self, make: Callable[[Client], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Make a call of the API in the thread, such as `lambda client: client.patch(…)`. The future raises an ApiError."""
        return asyncio.run_coroutine_threadsafe(self._called(make), self._loop)

    def stop(self) -> bool:
        """End the thread, whatever it is waiting for; return whether it ended within a second."""
        with contextlib.suppress(RuntimeError):  # it ended already
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(ENDING)
        return not self._thread.is_alive()

    async def _called(self, make: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        task = asyncio.current_task()
        self._calls.add(task)
        try:
            return await make(self._client)
        finally:
            self._calls.discard(task)

    async def _all(self) -> None:
        try:
            await asyncio.gather(*(watch.run(self._client) for watch in self.watches), asyncio.Event().wait())
        finally:
            await self._client.close()

    def _run(self) -> None:
        # Not asyncio.run: at its end it waits for threads that resolve names.
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
            self._loop.run_until_complete(self._cancel_calls())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _cancel_calls(self) -> None:
        # Not the tasks that these began: one that has not begun itself would leave a coroutine that nobody awaits.
        calls = [call for call in self._calls if call]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def _kept(kind: Kind, about: Object) -> Any:
    """What is kept of an object; None for one that can't be read, which must not keep others from being told."""
    metadata = _metadata(about)
    metadata.pop("managedFields", None)
    # Kubernetes' own nodes have no namespace.
    is_namespaced = isinstance(metadata.get("namespace"), str) or kind.selection.resource == NODES
    if not (is_namespaced and isinstance(metadata.get("name"), str)):
        return None
    try:
        return kind.keep(about)
    except Exception:
        log.exception(
            "kubernetes_object_unreadable", resource=str(kind.selection.resource), name=_metadata(about).get("name")
        )
        return None


def _metadata(about: Object) -> Object:
    metadata = about.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _version(about: Object) -> str:
    version = _metadata(about).get("resourceVersion")
    return version if isinstance(version, str) else ""


def _phase(error: ApiError) -> Phase:
    if isinstance(error, Forbidden | Unauthorized):
        return Phase.REFUSED
    return Phase.MISSING if isinstance(error, NotFound) else Phase.AWAY


def _now() -> datetime:
    return datetime.now(UTC)
