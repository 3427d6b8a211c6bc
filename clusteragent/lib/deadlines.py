"""Deadlines of orders as people write them: `90s`, `30m`, `2h`, `3d`, `1w`, or a date and time in UTC."""

import re
from datetime import UTC, datetime, timedelta

from clusteragent.lib import clock

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"(\d{1,4}) *([smhdw])\Z")
HELP = "90s, 30m, 2h, 3d, 1w, or a time in UTC: 2026-12-24 08:00"


def parse(text: str) -> datetime:
    """Return the time that the text means, by the database's clock. Raises ValueError with a message for people, also for a
    time that is over."""
    text = text.strip()
    span = _SPAN.match(text)
    if span:
        return in_future(clock.now() + timedelta(**{_UNITS[span[2]]: int(span[1])}))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{HELP}.") from None
    return in_future(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def in_future(end: datetime) -> datetime:
    """Return the same time. Raises ValueError when it is over by the database's clock."""
    if end <= clock.now():
        raise ValueError("That is over already.")
    return end
