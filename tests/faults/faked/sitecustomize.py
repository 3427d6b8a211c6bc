"""Replaces `time.sleep` in processes under libfaketime, which takes the sleep's end on the monotonic clock for a faked time."""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], max(seconds, 0))


time.sleep = _sleep
