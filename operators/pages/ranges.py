"""A range of time in a URL: `?last=6h`, `?at=03:12`, or `?since=2026-11-23T03:00&until=2026-11-23T04:00` (`&zone=`, else UTC).

`from` and `to` are the same as `since` and `until`.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple, Self
from urllib.parse import urlencode

from django.http import QueryDict
from django.utils.dateparse import parse_datetime, parse_time

from clusteragent.lib import deadlines

SPANS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
USUAL = "1h"
# What is shown before and after a single time.
AROUND = timedelta(minutes=10)
TIMES = "Times are written as 03:12, or as 2026-11-23T03:12, in UTC or in the zone that the page shows."


class Range(NamedTuple):
    """The time from since (included) to until (excluded). last: the name of the span that ends now; empty for fixed times."""

    since: datetime
    until: datetime
    last: str = ""

    @classmethod
    def asked(cls, query: QueryDict, now: datetime) -> tuple[Self, str]:
        """Return (the range that a URL asks for, ""), or (the last hour, what is wrong with the URL)."""
        zone = deadlines.zone_of(query.get("zone", ""))
        if at := query.get("at", "").strip():
            try:
                moment = _moment(at, now, now, zone)
                return (cls(moment - AROUND, moment + AROUND), "") if moment else (cls.until_now(now, USUAL), TIMES)
            except OverflowError:
                return cls.until_now(now, USUAL), TIMES
        given = [query.get("since", query.get("from", "")), query.get("until", query.get("to", ""))]
        if not any(given):
            last = query.get("last", USUAL)
            known = last in SPANS
            return cls.until_now(now, last if known else USUAL), "" if known else f"There is no span {last}."
        since, until = _moment(given[0], now - SPANS[USUAL], now, zone), _moment(given[1], now, now, zone)
        if since is None or until is None:
            return cls.until_now(now, USUAL), TIMES
        if since >= until:
            return cls.until_now(now, USUAL), "The range ends before it begins."
        return cls(since, until), ""

    @classmethod
    def until_now(cls, now: datetime, last: str) -> Self:
        """The span of this name that ends now."""
        return cls(now - SPANS[last], now, last)

    @property
    def query(self) -> str:
        """The URL query for these fixed times. It means the same times tomorrow."""
        return between(self.since, self.until)


def between(since: datetime, until: datetime) -> str:
    """The URL query for these two times."""
    return urlencode({"since": _written(since), "until": _written(until)})


def _written(time: datetime) -> str:
    return (
        time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds" if time.microsecond else "seconds")
    )


def _moment(text: str, default: datetime, now: datetime, zone: tzinfo) -> datetime | None:
    """The time that the text means, in this zone; a time of day is its last one. None if it means none."""
    if not text:
        return default
    try:
        if ":" in text[:3] and (time := parse_time(text)):
            today = datetime.combine(now.astimezone(zone), time.replace(tzinfo=zone))
            return (today if today <= now else today - timedelta(days=1)).astimezone(UTC)
        found = parse_datetime(text)
        # Times near the first and last year overflow here.
        return found and (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
