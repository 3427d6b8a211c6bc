"""What others send is read within bounds of bytes and time."""

import time
from itertools import repeat

import pytest

from clusteragent.lib import bounded


def test_what_is_within_the_bounds_is_read_whole() -> None:
    assert bounded.read([b"ab", b"", b"c"], most=3, until=time.monotonic() + 60) == b"abc"


def test_what_never_ends_is_given_up_by_its_size_or_its_time() -> None:
    with pytest.raises(bounded.TooMuch):
        bounded.read(repeat(b"ab"), most=1001, until=time.monotonic() + 60)
    with pytest.raises(bounded.TooSlow):
        bounded.read(repeat(b""), most=1, until=time.monotonic() + 0.05)
