"""Texts by others for terminals and logs, which must neither obey them nor take them for several lines."""

import re

# What moves a cursor, begins a line, or turns the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def inert(text: str) -> str:
    """The text in one line, with what a terminal would obey written as `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
