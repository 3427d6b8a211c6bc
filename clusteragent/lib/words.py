"""Numbers, times and lists in words, as pages, messages and commands say them."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils.formats import localize
from django.utils.timezone import localtime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_NARROW = "\u202f"


def duration(value: timedelta | None) -> str:
    """A length of time in its largest unit, cut to a whole number: `4 s`, `12 min`, `3 d`; empty for None."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def ago(value: timedelta | None) -> str:
    """How long ago, `4 s ago`; 0 s when a clock was set back; empty for None."""
    return f"{duration(max(value, timedelta(0)))} ago" if value is not None else ""


def moment(value: datetime | None) -> str:
    """A time as people read it, in the server's time zone; empty for None."""
    return localize(localtime(value)) if value else ""


def milliseconds(value: float) -> str:
    """`12 ms`, `3.4 s`; runners tell whole milliseconds, so 0 is less than one."""
    if value <= 0:
        return "under 1 ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def numbered(number: int, noun: str) -> str:
    """`1 config`, `3540 configs`: for messages, logs and programs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def grouped(number: int) -> str:
    """`3 540`, with a narrow space that breaks no line: for pages."""
    return f"{number:,}".replace(",", _NARROW)


def counted(number: int, noun: str) -> str:
    """`1 check`, `3 540 checks`: for pages."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], most: int = 3) -> str:
    """`ash`, `ash and birch`, `ash, birch, cedar and 4 more`."""
    shown = [*words[:most], f"{grouped(len(words) - most)} more"] if len(words) > most else list(words)
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def percent(share: float) -> str:
    """`42 %`; below ten with a digit more, `4.2 %`."""
    share = round(share, 4) + 0  # what is left of a sum of floats is not less than nothing
    return f"{100 * share:.1f}{_NARROW}%" if 0 < share < 0.1 else f"{100 * share:.0f}{_NARROW}%"
