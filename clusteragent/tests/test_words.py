"""Times and numbers as text."""

from datetime import UTC, datetime, timedelta

from clusteragent.lib.words import measured_count, utc

DEADLINE = datetime(2026, 12, 24, 8, 0, 47, 900_000, UTC)


def test_a_deadline_less_than_an_hour_away_has_its_seconds() -> None:
    assert utc(DEADLINE, DEADLINE - timedelta(minutes=59)) == "08:00:47 UTC"
    assert utc(DEADLINE, DEADLINE + timedelta(minutes=59)) == "08:00:47 UTC"
    assert utc(DEADLINE, DEADLINE - timedelta(hours=1)) == "08:00 UTC"
    assert utc(DEADLINE, DEADLINE - timedelta(days=1)) == "2026-12-24 08:00 UTC"


def test_a_time_that_is_kept_has_its_seconds_unless_they_are_zero() -> None:
    assert utc(DEADLINE) == "2026-12-24 08:00:47 UTC"
    assert utc(DEADLINE.replace(second=0)) == "2026-12-24 08:00 UTC"


def test_what_is_shown_as_one_is_one_thing() -> None:
    assert [measured_count(number, "worker") for number in (1.0, 1.004, 0.25, 12.0)] == [
        "1 worker",
        "1 worker",
        "0.25 workers",
        "12 workers",
    ]
