"""The delay of the event loop, and the refusal of calls when it is too long."""

import asyncio
import time

# Seconds between two measurements.
_PERIOD = 0.05
# Seconds of delay above which all calls but known nodes' heartbeats are refused, and above which these are refused too.
OTHERS, ALL = 0.15, 0.4


class Overloaded(Exception):
    """The event loop is too far behind to answer this call in time."""


class Load:
    """Measures the delay of the event loop by a timer: it is as late as every call."""

    def __init__(self, others: float = OTHERS, everybody: float = ALL) -> None:
        """others: seconds of delay above which calls without priority are refused; everybody: above which all are."""
        self._others, self._all = others, everybody
        self._due: float | None = None
        self._behind = 0.0

    def watch(self) -> None:
        """Start measuring the running loop, if it was not started before."""
        if self._due is None:
            self._next()

    @property
    def delay(self) -> float:
        """Seconds that a call now waits until the loop handles it."""
        return max(self._behind, time.monotonic() - self._due if self._due else 0.0)

    def admit(self, *, first: bool = False) -> None:
        """Raise Overloaded if the delay is too long. first: the call has priority, so its limit is higher."""
        if self.delay > (self._all if first else self._others):
            raise Overloaded("the server is overloaded, try again")

    def _next(self) -> None:
        self._due = time.monotonic() + _PERIOD
        asyncio.get_running_loop().call_later(_PERIOD, self._look)

    def _look(self) -> None:
        self._behind = max(0.0, time.monotonic() - (self._due or 0.0))
        self._next()
