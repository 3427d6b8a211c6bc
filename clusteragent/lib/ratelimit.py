"""A limit for log lines that strangers can cause as often as they like."""

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Allows `most` events a minute and counts the others."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: returns seconds."""
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._began = clock()
        self._taken = self._passed_over = 0

    def take(self) -> int | None:
        """Return None if this event is over the limit, else the number of events over it since the last allowed one."""
        with self._lock:
            now = self._clock()
            if now - self._began >= 60:
                self._began, self._taken = now, 0
            if self._taken >= self._most:
                self._passed_over += 1
                return None
            self._taken += 1
            passed_over, self._passed_over = self._passed_over, 0
            return passed_over
