"""The threads in which Django's views run: a fixed number, a bounded queue before them, and each as good as new after a call."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from clusteragent.lib import database

T = TypeVar("T")

# Calls that may wait for each thread. More would wait longer than anybody does.
QUEUE = 8

log = structlog.get_logger()


class Busy(Exception):
    """all threads are busy, try again"""

    def __str__(self) -> str:
        return Busy.__doc__ or ""


class Threads:
    def __init__(self, number: int, patience: float) -> None:
        """patience: seconds that a call waits for a thread before it is refused."""
        self._pool = ThreadPoolExecutor(number, "web")
        self._most = number * (1 + QUEUE)
        self._patience = patience
        self._taken = 0

    def run(self, work: Callable[[Callable[[T], None]], None]) -> "asyncio.Future[T]":
        """The first thing that the work tells by the function that it is given; it may go on after that. Raises Busy."""
        if self._taken >= self._most:
            raise Busy
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        latest = time.monotonic() + self._patience

        def tell(value: T) -> None:
            loop.call_soon_threadsafe(_settle, outcome, value)

        def fail(error: BaseException) -> None:
            loop.call_soon_threadsafe(_settle_error, outcome, error)

        def do() -> None:
            try:
                if time.monotonic() > latest:
                    raise Busy  # noqa: TRY301 - told like every other error
                work(tell)
            except BaseException as error:  # noqa: BLE001 - the caller's to raise
                fail(error)
            finally:
                database.leave_clean()

        self._taken += 1
        self._pool.submit(do).add_done_callback(lambda _: loop.call_soon_threadsafe(self._give_back))
        return outcome

    def _give_back(self) -> None:
        self._taken -= 1


def _settle(outcome: "asyncio.Future[T]", value: T) -> None:
    if not outcome.done():
        outcome.set_result(value)


def _settle_error(outcome: "asyncio.Future[T]", error: BaseException) -> None:
    if outcome.done():
        # Told already: nobody waits for more.
        log.error("answer_broken_off", error=repr(error))
    else:
        outcome.set_exception(error)
