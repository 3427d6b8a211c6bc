"""Batching: calls that ask the database for the same thing at the same moment share one statement."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from time import monotonic
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async

from clusteragent.lib.database import LIMIT, Away, Lost, ask, is_away, is_taken_over, limited

T = TypeVar("T")
R = TypeVar("R")

# Seconds that the first call of a batch waits at most, until the batch is as large as the last one. Clients that were
# answered together call again nearly together; without a wait each batch would have one or two calls.
_GATHERING = 0.001

# Seconds after its deadline from which on a call is not executed any more: the process was stopped meanwhile, the client has
# given up, and the call's content is outdated.
_OVERDUE = 0.5

_TOO_LATE = "The call waited for too long."

# Threads for calls that may wait, for a lock for example: here they delay no batch.
_alone = ThreadPoolExecutor(4, "alone")


class _Call(NamedTuple):
    """A call that waits for its outcome. deadline: by the monotonic clock."""

    item: object
    deadline: float
    outcome: "asyncio.Future[object]"


class Batcher(Generic[T, R]):
    """Runs `work(items)` for batches of calls: all that arrived while the batch before was executed.

    Calls wait on the event loop, and one thread executes the batches one by one. `work` may be executed twice (see `ask`) and
    returns an outcome for each item. A batch has the time that its oldest call has left, so no call takes longer than it would
    alone. An error that `work` raises is raised by every call of the batch; an exception among the outcomes by its call alone.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | BaseException]], *, most: int = 10_000) -> None:
        """most: the largest number of items of a batch."""
        self._work, self._most = work, most
        self._thread = ThreadPoolExecutor(1, "batches")
        # A web server has one loop; a program that calls a view without one has a new loop for each call.
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[T, R]] = WeakKeyDictionary()

    async def ask(self, item: T) -> R:
        """Return the item's outcome. Raises Away within LIMIT seconds."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._work, self._most, self._thread)
        return await queue.ask(loop, item)


class _Queue(Generic[T, R]):
    """The waiting calls and the running batch of one event loop."""

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | BaseException]], most: int, thread: ThreadPoolExecutor
    ) -> None:
        self._work, self._most, self._thread = work, most, thread
        self._waiting: list[_Call] = []
        self._last_size = 1
        self._batch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, loop: asyncio.AbstractEventLoop, item: T) -> "asyncio.Future[R]":
        # In an outage no call waits for the one that checks whether it is over.
        if is_away() and self._batch is not None:
            raise Lost(Lost.__doc__)
        outcome: asyncio.Future[R] = loop.create_future()
        self._waiting.append(_Call(item, monotonic() + LIMIT, outcome))  # type: ignore[arg-type]
        if self._batch is None:
            self._gather(loop)
        return outcome

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a batch now if it is as large as the last one, else after _GATHERING seconds."""
        if len(self._waiting) >= self._last_size or is_away():
            self._begin(loop)
        elif self._timer is None:
            self._timer = loop.call_later(_GATHERING, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._last_size = len(calls)
        self._batch = loop.create_task(self._do(loop, calls))

    async def _do(self, loop: asyncio.AbstractEventLoop, calls: Sequence[_Call]) -> None:
        try:
            outcomes = await _in_thread(self._thread, lambda: self._ask(calls))
        except BaseException as error:  # noqa: BLE001 - raised by every call of the batch
            for call in calls:
                _settle(call.outcome, error)
        else:
            for call, outcome in zip(calls, outcomes, strict=True):
                _settle(call.outcome, outcome)
        self._batch = None
        if self._waiting:
            self._gather(loop)

    def _ask(self, calls: Sequence[_Call]) -> Sequence[R | BaseException]:
        timely = [call for call in calls if not _is_overdue(call.deadline)]
        # Calls are in the order in which they arrived, so the overdue ones come first.
        late = [Away(_TOO_LATE) for _ in range(len(calls) - len(timely))]
        if not timely:
            return late
        with _until(timely[0].deadline):
            return [*late, *ask(lambda: self._work([call.item for call in timely]))]  # type: ignore[misc]


def _is_overdue(deadline: float) -> bool:
    return monotonic() > deadline + _OVERDUE


def _until(deadline: float) -> AbstractContextManager[None]:
    # Never 0: an answer that has arrived already needs no time.
    return limited(max(0.01, deadline - monotonic()))


def _settle(future: "asyncio.Future[object]", outcome: object) -> None:
    if future.done():
        return  # its caller has given up
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


async def run_alone(work: Callable[[], R], latest: float) -> R:
    """Run `work` with the database in a thread beside the batches, until `latest` by the monotonic clock. Raises Away."""

    def do() -> R:
        if _is_overdue(latest):
            raise Away(_TOO_LATE)
        with _until(latest):
            return ask(work)

    return await _in_thread(_alone, do)


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    """Run `work` in one of these threads. Where a synchronous program waits for the loop (tests), in that program's thread."""
    if is_taken_over():
        return await asyncio.get_running_loop().run_in_executor(threads, work)
    return await sync_to_async(work, thread_sensitive=True)()
