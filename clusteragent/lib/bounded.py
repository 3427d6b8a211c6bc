"""Reading what others send, within bounds."""

import time
from collections.abc import Iterable


class TooMuch(Exception):
    """More bytes came than are read."""


class TooSlow(Exception):
    """The bytes did not come in time."""


def read(parts: Iterable[bytes], *, most: int, until: float) -> bytes:
    """Return all parts as one. Raises TooMuch for more than `most` bytes, and TooSlow when a part comes after `until`, a time of
    time.monotonic(). One part is waited for as long as `parts` does that.
    """
    data = bytearray()
    for part in parts:
        data += part
        if len(data) > most:
            raise TooMuch
        if time.monotonic() > until:
            raise TooSlow
    return bytes(data)
