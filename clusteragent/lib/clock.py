"""The one clock, the database's."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now


def ago(age: timedelta) -> Any:
    """The database's time, that long ago, for queries."""
    return Now() - age
