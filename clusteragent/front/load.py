"""How far behind the event loop is, and whom it turns away then."""

import asyncio
import time

# Seconds between two looks.
_PERIOD = 0.05
# Seconds behind after which others than known nodes' heartbeats are turned away, and after which these are too.
OTHERS, ALL = 0.15, 0.4


class Overloaded(Exception):
    """the server is overloaded, try again"""

    def __str__(self) -> str:
        return Overloaded.__doc__ or ""


class Load:
    """A timer that comes late says by how much every other call does."""

    def __init__(self, others: float = OTHERS, everybody: float = ALL) -> None:
        """Seconds behind after which others are turned away, and everybody."""
        self._others, self._all = others, everybody
        self._due: float | None = None
        self._behind = 0.0

    def watch(self) -> None:
        """Begin, on the running loop."""
        if self._due is None:
            self._next()

    @property
    def behind(self) -> float:
        """Seconds that a call waits now until it is looked at."""
        return max(self._behind, time.monotonic() - self._due if self._due else 0.0)

    def admit(self, *, first: bool = False) -> None:
        """Raises Overloaded, for a call that comes first later than for others."""
        if self.behind > (self._all if first else self._others):
            raise Overloaded

    def _next(self) -> None:
        self._due = time.monotonic() + _PERIOD
        asyncio.get_running_loop().call_later(_PERIOD, self._look)

    def _look(self) -> None:
        self._behind = max(0.0, time.monotonic() - (self._due or 0.0))
        self._next()
