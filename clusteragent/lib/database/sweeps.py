"""Transactions that read much."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction


@contextmanager
def sweep() -> Iterator[Any]:
    """A cursor for statements that join whole tables.

    PostgreSQL takes tables that were filled a moment ago for empty ones, until it has counted them, and would go through
    one for each row of another: a thousand checks took longer than a statement may.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")
        yield cursor
        cursor.execute("SET LOCAL enable_nestloop = on")


@contextmanager
def one_moment() -> Iterator[None]:
    """A transaction that only reads, in which all statements see the database as it is at the first of them."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
