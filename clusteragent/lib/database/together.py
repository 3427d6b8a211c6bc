"""What many threads ask of the database at the same moment, done by one of them for all."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from clusteragent.lib.database import ask, limited

T = TypeVar("T")
R = TypeVar("R")

# Seconds that the first call waits at most, until as many others are there as the last time. Those that were answered
# together come back nearly together; without a wait each statement finds a thread or two.
_GATHERING = 0.001


class _Call(Generic[T, R]):
    """A call that waits: for its outcome, or for its turn to do the work."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.leads = False
        self.outcome: R | BaseException | None = None
        self._wake = threading.Lock()
        self._wake.acquire()

    def wait(self) -> None:
        self._wake.acquire()

    def wake(self) -> None:
        self._wake.release()


class Together(Generic[T, R]):
    """`work(items)` for the items of all calls that came while it did the ones before. `work` may be done twice (see `ask`).

    The eldest of the waiting calls does it for all, so the time that it has left is the least of all, and no call takes
    longer than it would alone. An error is every call's that shared the work; an exception among the outcomes is one
    call's alone.
    """

    def __init__(self, work: Callable[[Sequence[T]], Sequence[R | BaseException]]) -> None:
        self._work = work
        self._gathered = threading.Condition()
        self._waiting: list[_Call[T, R]] = []
        # How many shared the last turn.
        self._number = 1
        self._is_led = False

    def ask(self, item: T) -> R:
        """The item's outcome. Raises Away within LIMIT seconds."""
        call = _Call[T, R](item)
        with limited():
            with self._gathered:
                self._waiting.append(call)
                call.leads, self._is_led = not self._is_led, True
                if len(self._waiting) == self._number:
                    self._gathered.notify()
            if not call.leads:
                call.wait()
            if call.leads:
                self._lead()
        if isinstance(call.outcome, BaseException):
            raise call.outcome
        return call.outcome  # type: ignore[return-value]

    def _lead(self) -> None:
        with self._gathered:
            self._gathered.wait_for(lambda: len(self._waiting) >= self._number, _GATHERING)
            calls, self._waiting = self._waiting, []
            self._number = len(calls)
        try:
            outcomes = ask(lambda: self._work([call.item for call in calls]))
            for call, outcome in zip(calls, outcomes, strict=True):
                call.outcome = outcome
        except BaseException as error:  # noqa: BLE001 - raised by every call that shared it, ours included
            for call in calls:
                call.outcome = error
        self._hand_over()
        for call in calls[1:]:
            call.wake()

    def _hand_over(self) -> None:
        """Let the eldest of those that came meanwhile lead."""
        with self._gathered:
            self._is_led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].wake()
