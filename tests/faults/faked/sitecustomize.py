"""For processes under libfaketime: it takes the time that Python's sleep ends at, a monotonic one, for one it has faked."""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], max(seconds, 0))


time.sleep = _sleep
