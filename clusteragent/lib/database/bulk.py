"""Statements over very many rows: writing them, deleting them, and reading whole tables."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection, models, transaction
from psycopg.errors import QueryCanceled

from clusteragent.lib.database.rehearsal import outermost


class TooSlow(Exception):
    """A statement took longer than it may."""


# Rows that are deleted in one transaction, and in one run. A statement that takes longer than it may would be undone each time.
BATCH, MOST = 5_000, 200_000


def copy(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows with COPY, several times faster than bulk_create. fields: attribute names of the model, in the rows' order."""
    with connection.cursor() as cursor:
        columns = {field.attname: str(field.column) for field in model._meta.concrete_fields}
        copy_into(cursor, model._meta.db_table, [columns[name] for name in fields], rows)


def copy_into(cursor: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows into these columns of a table with COPY."""
    names = ", ".join(map(connection.ops.quote_name, columns))
    with cursor.copy(f"COPY {connection.ops.quote_name(table)} ({names}) FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)


def rewrite(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, also: str = "") -> None:
    """Change rows by COPY into a temporary table and one UPDATE. The first column is the key. also: further SET clauses in SQL.

    Wide values as parameters of a statement would be quoted and parsed again, which takes longer than all the rest; and a
    statement has at most 1 GB.
    """
    changes = ", ".join(f"{name} = n.{name}" for name in columns[1:])
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TEMPORARY TABLE rewritten ON COMMIT DROP"  # noqa: S608 - our own columns
            f" AS SELECT {', '.join(columns)} FROM {table} WITH NO DATA"
        )
        copy_into(cursor, "rewritten", columns, rows)
        cursor.execute(
            f"UPDATE {table} AS t SET {changes}{also} FROM rewritten AS n WHERE t.id = n.id"  # noqa: S608 - our own columns
        )
        cursor.execute("DROP TABLE rewritten")


def new_ids(model: type[models.Model], number: int) -> list[int]:
    """Take `number` keys from the model's sequence, for rows that refer to each other before they are written."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            (model._meta.db_table, number),
        )
        return [key for (key,) in cursor.fetchall()]


def delete(rows: models.QuerySet[Any], *, most: float = MOST, cascades: bool = False) -> int:
    """Delete the first `most` of these rows, in their order, in batches that are committed one by one. Returns how many.

    The next run deletes what this one leaves, also when it was interrupted. cascades: delete the rows that refer to them too.
    """
    deleted_number = 0
    while deleted_number < most and (
        keys := list(rows.values_list("pk", flat=True)[: int(min(BATCH, most - deleted_number))])
    ):
        with outermost():
            deleted = _delete(rows.order_by().filter(pk__in=keys), cascades)
        if not deleted:
            break  # other sessions hold these rows or have deleted them
        deleted_number += deleted
    return deleted_number


def _delete(rows: models.QuerySet[Any], cascades: bool) -> int:
    if not cascades:
        return rows.delete()[0]
    locked = [row.pk for row in rows.select_for_update(of=("self",), skip_locked=True)]
    # Filtered again under the lock: whoever held a row before us may have changed what refers to it, so that it should stay.
    keys = list(rows.filter(pk__in=locked).values_list("pk", flat=True))
    return int(rows.model._base_manager.filter(pk__in=keys).delete()[1].get(rows.model._meta.label, 0))


@contextmanager
def without_nested_loops() -> Iterator[Any]:
    """A transaction and its cursor, for statements that join whole tables.

    PostgreSQL takes tables that were filled a moment ago for empty ones until they are analysed, and would join them by
    nested loops: a thousand checks then took longer than a statement may.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_nestloop = off")
        yield cursor
        cursor.execute("SET LOCAL enable_nestloop = on")


@contextmanager
def read_only_snapshot() -> Iterator[None]:
    """A read-only transaction in which all statements see the database as it is at the first of them."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def within(milliseconds: int) -> Iterator[None]:
    """A transaction whose statements are broken off after this time: for what a page can do without. Raises TooSlow."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(milliseconds)])
            yield
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        raise TooSlow from error
