"""The one clock, the database's."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now


def now() -> datetime:
    """The database's time, as `Now()` means it in queries. What is stored is compared with no other."""
    with connection.cursor() as cursor:
        # Not the ORM: it asks nothing without a table.
        cursor.execute("SELECT statement_timestamp()")
        [moment] = cursor.fetchone()
    assert isinstance(moment, datetime)
    return moment


def ago(age: timedelta) -> Any:
    """The database's time, that long ago, for queries."""
    return Now() - age
