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
