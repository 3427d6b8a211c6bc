"""The threads in which Django's views run: a fixed number with a bounded queue. After each call a thread's state is reset."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from clusteragent.lib import database

T = TypeVar("T")

# Calls in the queue for each thread. With more of them, the last would wait longer than any client.
QUEUE = 8
_MESSAGE = "all threads are busy, try again"

log = structlog.get_logger()


class Busy(Exception):
    """No thread became free in time."""


class Threads:
    """A pool of threads with a bounded queue."""

    def __init__(self, number: int, max_wait: float) -> None:
        """max_wait: seconds that a call waits for a thread before it is refused."""
        self._pool = ThreadPoolExecutor(number, "web")
        self._most = number * (1 + QUEUE)
        self._max_wait = max_wait
        self._taken = 0

    def run(self, work: Callable[[Callable[[T], None]], None]) -> "asyncio.Future[T]":
        """Run `work(set_result)` in a thread; return a future of what it passes to set_result, after which it may go on.

        Raises Busy when the queue is full; the future raises Busy after max_wait seconds, and what `work` raises.
        """
        if self._taken >= self._most:
            raise Busy(_MESSAGE)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        latest = time.monotonic() + self._max_wait

        def settle(value: T | BaseException) -> None:
            loop.call_soon_threadsafe(_settle, outcome, value)

        def do() -> None:
            try:
                if time.monotonic() > latest:
                    raise Busy(_MESSAGE)  # noqa: TRY301 - passed on like every other error
                work(settle)
            except BaseException as error:  # noqa: BLE001 - raised by the future
                settle(error)
            finally:
                database.leave_clean()

        self._taken += 1
        self._pool.submit(do).add_done_callback(lambda _: loop.call_soon_threadsafe(self._give_back))
        return outcome

    def _give_back(self) -> None:
        self._taken -= 1


def _settle(outcome: "asyncio.Future[T]", value: T | BaseException) -> None:
    if outcome.done():
        # The caller has its result already, and waits for no error.
        if isinstance(value, BaseException):
            log.error("answer_broken_off", error=repr(value))
    elif isinstance(value, BaseException):
        outcome.set_exception(value)
    else:
        outcome.set_result(value)
