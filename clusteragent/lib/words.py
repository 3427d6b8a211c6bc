"""Numbers, times and lists as text, in the form that pages, messages and commands have; and others' texts made harmless."""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from django.utils.formats import localize
from django.utils.timezone import localtime

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
_NARROW = "\u202f"
_DIGITS = re.compile(r"(\d+)", re.ASCII)
# More digits than any number in a name has; of a longer one the last digits decide.
MOST_DIGITS = 20
# Characters that move a cursor, begin a line, or change the direction of writing.
# Also what is not seen, or turns the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def escape_controls(text: str) -> str:
    """Return the text as one line for terminals and logs, with control characters written as escapes such as `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible(text: str) -> str:
    """Return a text of several lines for pages, with what is not seen, or turns the direction of writing, as such escapes."""
    return "\n".join("\t".join(map(escape_controls, line.split("\t"))) for line in text.split("\n"))


def duration(value: timedelta | None) -> str:
    """Format a length of time in its largest unit, rounded down: `4 s`, `12 min`, `3 d`; empty for None."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def ago(value: timedelta | None) -> str:
    """Format an age, `4 s ago`; `0 s ago` for a negative one (a clock was set back); empty for None."""
    return f"{duration(max(value, timedelta(0)))} ago" if value is not None else ""


def relative(time: datetime, now: datetime) -> str:
    """Format how far a time is away: `4 s ago`, `in 1 h 45 min`: of what ends today the hour alone would be half the truth."""
    left = time - now
    if left < timedelta(seconds=1):
        return ago(-left)
    hours = timedelta(hours=1) <= left < timedelta(days=1)
    minutes = left % timedelta(hours=1) // timedelta(minutes=1) if hours else 0
    return f"in {duration(left)}{f' {minutes} min' if minutes else ''}"


def moment(value: datetime | None) -> str:
    """Format a time in the server's time zone; empty for None."""
    return localize(localtime(value)) if value else ""


def utc(value: datetime, now: datetime | None = None) -> str:
    """Format a time in UTC, as orders take it: `2026-12-24 08:00 UTC`; without its date on the same day as `now`.

    It has seconds, `08:00:47`, unless they are 0 or `now` is an hour away: without them a deadline seems over before it is.
    """
    value = value.astimezone(UTC)
    is_today = now is not None and value.date() == now.astimezone(UTC).date()
    is_near = now is None or abs(value - now) < timedelta(hours=1)
    return f"{value:{'' if is_today else '%Y-%m-%d '}%H:%M{':%S' if is_near and value.second else ''} UTC}"


def milliseconds(value: float) -> str:
    """Format milliseconds: `12 ms`, `3.4 s`. Runners report whole milliseconds, so 0 means less than one: `under 1 ms`."""
    if value <= 0:
        return "under 1 ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def plain_count(number: int, noun: str) -> str:
    """Format a number of things for messages, logs and programs: `1 config`, `3540 configs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def measured_count(number: float, noun: str, digits: int = 2) -> str:
    """Format a measured number of things with so many digits: `0.25 workers`, `1 worker`."""
    shown = f"{number:.{digits}g}"
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def agreeing(number: int, one: str, many: str) -> str:
    """Return the words that go with so many things: `is` or `are`, `it stays` or `they stay`."""
    return one if number == 1 else many


def grouped(number: int) -> str:
    """Format a number for pages: `3 540`, with a narrow no-break space."""
    return f"{number:,}".replace(",", _NARROW)


def grouped_count(number: int, noun: str) -> str:
    """Format a number of things for pages: `1 check`, `3 540 checks`."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def listed(words: Collection[str], most: int | None = 3) -> str:
    """Return `ash`, `ash and birch`, `ash, birch, cedar and 4 more`; all words if `most` is None; empty without words."""
    shown = (
        list(words)
        if most is None or len(words) <= most
        else [*islice(words, most), f"{grouped(len(words) - most)} more"]
    )
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def cut(text: str, most: int) -> str:
    """Return the text, or its first characters and `…` if it has more than `most`."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def cut_at_word(text: str, most: int) -> str:
    """Return the text, or its first whole words and `…`; a word that is longer than all of it is cut."""
    if len(text) <= most:
        return text
    words, blank, _ = text[:most].rpartition(" ")
    return f"{words.rstrip()}…" if blank else cut(text, most)


def percent(share: float) -> str:
    """Format a share (1 is all): `42 %`; below 10 % with one decimal, `4.2 %`."""
    share = round(share, 4) + 0  # a rounding error below zero would become `-0 %`
    return f"{100 * share:.1f}{_NARROW}%" if 0 < share < 0.1 else f"{100 * share:.0f}{_NARROW}%"


def load_goes(was: float, then: float, what: str = "The highest load of a node") -> str:
    """Return the sentence about a load before and after: `… would go from 10 % to about 25 %.`."""
    # What is new was never measured.
    now, later = percent(was), percent(then)
    return f"{what} would stay at {now}." if now == later else f"{what} would go from {now} to about {later}."


def load_change(peak: Sequence[float]) -> str:
    """Return the highest load before and after in words: `10 % → 25 %`."""
    return f"{percent(peak[0])} → {percent(peak[1])}"


def load_in_words(share: float, *, is_assumed: bool) -> str:
    """Return a load as people are told of it; of a guess it says so."""
    return f"{percent(share)}, assumed" if is_assumed and share else percent(share)


def natural(text: str) -> list[tuple[int, int | str]]:
    """A text's place in natural order: `web-2` comes before `web-10`, and capitals don't matter. As `Natural` in the database."""
    parts = _DIGITS.split(text.lower())
    return [(0, int(part[-MOST_DIGITS:])) if number % 2 else (1, part) for number, part in enumerate(parts)]
