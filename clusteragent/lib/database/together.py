"""What many calls ask of the database at the same moment, done by one statement for all."""

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

# Seconds that the first call waits at most, until as many others are there as the last time. Those that were answered
# together come back nearly together; without a wait each statement finds a call or two.
_GATHERING = 0.001

# Seconds after a call's deadline from which on it is not done any more: its process was stopped, its client has given up,
# and what it says is no longer so.
_OVERDUE = 0.5

_TOO_LATE = "The call waited for too long."

# Calls that must wait, for a lock say, wait here, where they keep none of the others from its turn.
_few = ThreadPoolExecutor(4, "alone")


class _Call(NamedTuple):
    """A call that waits for its outcome, at the latest until a moment of the monotonic clock."""

    item: object
    deadline: float
    outcome: "asyncio.Future[object]"


class Together(Generic[T, R]):
    """`work(items)` for the items of all calls that came while it did the ones before. `work` may be done twice (see `ask`).

    Calls wait on the event loop, and one thread does the work for all of them, turn by turn. A turn has the time that its
    eldest call has left, so no call takes longer than it would alone. An error is every call's that shared the turn; an
    exception among the outcomes is one call's alone.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | BaseException]], *, most: int = 10_000) -> None:
        """most: items of one turn."""
        self._work, self._most = work, most
        self._thread = ThreadPoolExecutor(1, "turns")
        # A web server has one loop; a program that calls a view without one has another for each call.
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns[T, R]] = WeakKeyDictionary()

    async def ask(self, item: T) -> R:
        """The item's outcome. Raises Away within LIMIT seconds."""
        loop = asyncio.get_running_loop()
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = _Turns(self._work, self._most, self._thread)
        return await turns.ask(loop, item)


class _Turns(Generic[T, R]):
    """The turns of one event loop."""

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | BaseException]], most: int, thread: ThreadPoolExecutor
    ) -> None:
        self._work, self._most, self._thread = work, most, thread
        self._waiting: list[_Call] = []
        # How many shared the last turn.
        self._number = 1
        self._turn: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, loop: asyncio.AbstractEventLoop, item: T) -> "asyncio.Future[R]":
        # In an outage nobody waits for the call that finds out whether it is over.
        if is_away() and self._turn is not None:
            raise Lost(Lost.__doc__)
        outcome: asyncio.Future[R] = loop.create_future()
        self._waiting.append(_Call(item, monotonic() + LIMIT, outcome))  # type: ignore[arg-type]
        if self._turn is None:
            self._gather(loop)
        return outcome

    def _gather(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a turn if as many are there as in the last one, or in a moment."""
        if len(self._waiting) >= self._number or is_away():
            self._begin(loop)
        elif self._timer is None:
            self._timer = loop.call_later(_GATHERING, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        calls, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._number = len(calls)
        self._turn = loop.create_task(self._do(loop, calls))

    async def _do(self, loop: asyncio.AbstractEventLoop, calls: Sequence[_Call]) -> None:
        try:
            outcomes = await _in_thread(self._thread, lambda: self._ask(calls))
        except BaseException as error:  # noqa: BLE001 - raised by every call that shared it
            for call in calls:
                _settle(call.outcome, error)
        else:
            for call, outcome in zip(calls, outcomes, strict=True):
                _settle(call.outcome, outcome)
        self._turn = None
        if self._waiting:
            self._gather(loop)

    def _ask(self, calls: Sequence[_Call]) -> Sequence[R | BaseException]:
        timely = [call for call in calls if not _is_overdue(call.deadline)]
        # They are in the order in which they came.
        late = [Away(_TOO_LATE) for _ in range(len(calls) - len(timely))]
        if not timely:
            return late
        with _until(timely[0].deadline):
            return [*late, *ask(lambda: self._work([call.item for call in timely]))]  # type: ignore[misc]


def _is_overdue(deadline: float) -> bool:
    return monotonic() > deadline + _OVERDUE


def _until(deadline: float) -> AbstractContextManager[None]:
    # Not quite none: an answer that is there already costs no time.
    return limited(max(0.01, deadline - monotonic()))


def _settle(future: "asyncio.Future[object]", outcome: object) -> None:
    if future.done():
        return  # given up meanwhile
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


async def alone(work: Callable[[], R], latest: float) -> R:
    """Ask the database in a thread of few, until a moment of the monotonic clock at the latest. Raises Away."""

    def do() -> R:
        if _is_overdue(latest):
            raise Away(_TOO_LATE)
        with _until(latest):
            return ask(work)

    return await _in_thread(_few, do)


async def _in_thread(threads: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    """Do it in one of these threads; where a synchronous program waits for the loop, in that program's own."""
    if is_taken_over():
        return await asyncio.get_running_loop().run_in_executor(threads, work)
    return await sync_to_async(work, thread_sensitive=True)()
