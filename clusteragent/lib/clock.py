"""The clock of the whole program: the database's."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now


def now() -> datetime:
    """Return the database's time, the same that `Now()` has in queries. Stored times are compared with this clock only."""
    with connection.cursor() as cursor:
        # Not the ORM: it has no query without a table.
        cursor.execute("SELECT statement_timestamp()")
        [moment] = cursor.fetchone()
    assert isinstance(moment, datetime)
    return moment


def ago(age: timedelta) -> Any:
    """Return an expression for queries: the database's time minus `age`."""
    return Now() - age


def later(column: str) -> str:
    """Return SQL of a number that the column never had: the time in nanoseconds, or more where the column is ahead of it.

    Not even before a restore of the database: where the clock is behind, as after it was set back, the histories before and
    after the restore would both count on from the same number. So each takes a random step of up to a second. Where the clock
    is ahead, the number is never ahead of the clock: whoever compares it with times relies on that.
    """
    now = "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
    return f"CASE WHEN {now} > {column} THEN {now} ELSE {column} + 1 + floor(random() * 1e9)::bigint END"
