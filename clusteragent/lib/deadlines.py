"""Deadlines of orders as people write them: `90s`, `30m`, `2h`, `2 hours`, `3d`, `1w`, or a date and time in UTC."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from clusteragent.lib import clock
from clusteragent.lib.words import relative, utc

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# What a span looks like, for those who write one; nothing is captured, since it also stands in the operators' API's schema.
SPAN = r"^[0-9]{1,4} *(?:[smhdw]|seconds?|minutes?|hours?|days?|weeks?)$"
# What is farther away is a slip of the keyboard, and soon no date at all.
FARTHEST = timedelta(days=36525)
HELP = "90s, 30m, 2h, 3d, 1w, or a time in UTC: 2026-12-24 08:00"


def is_span(text: str) -> bool:
    """Whether the text is a span, which means another time whenever it is read."""
    return bool(re.match(SPAN, text.strip()))


def parse(text: str) -> datetime:
    """Return the time that the text means, by the database's clock. Raises ValueError with a message for people, also for a
    time that is over or more than 100 years away."""
    text = text.strip()
    if is_span(text):
        unit = text.lstrip("0123456789 ")
        return in_future(clock.now() + timedelta(**{_UNITS[unit[0]]: int(text.removesuffix(unit))}))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"That is neither a span nor a time: {HELP}.") from None
    return in_future(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def told(time: datetime) -> str:
    """Format a deadline: when it is, and how far away: `2026-12-24 08:00 UTC, in 2 h`."""
    # A span of two hours that was read a moment ago is not 1 h 59 min.
    return f"{utc(time)}, {relative(time, clock.now() - timedelta(seconds=5))}"


def zone_of(name: str) -> tzinfo:
    """The zone of this name; UTC if there is none of it."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return UTC


def in_zone(text: str, zone: tzinfo) -> str:
    """Return a date and time of this zone as one in UTC that says so; a text with a zone, and everything else, as it is."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return text if moment.tzinfo else moment.replace(tzinfo=zone).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return text


def in_future(end: datetime) -> datetime:
    """Return the same time. Raises ValueError when it is over by the database's clock, or more than 100 years away."""
    now = clock.now()
    if end <= now:
        raise ValueError("That is over already.")
    if end > now + FARTHEST:
        raise ValueError("That is more than 100 years away.")
    return end
