"""How often something is said that strangers can make happen as often as they like."""

import threading
import time
from collections.abc import Callable


class Ration:
    """So many things a minute, and how many more there were."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._began = clock()
        self._taken = self._passed_over = 0

    def take(self) -> int | None:
        """None: this one is too many. Else how many were too many since the last one that was not."""
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
