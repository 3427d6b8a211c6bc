"""Others' texts in terminals and logs: without control characters and line breaks."""

import re

# Characters that move a cursor, begin a line, or change the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    """Return the text as one line, with control characters written as escapes such as `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
