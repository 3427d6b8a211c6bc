"""Writing very many rows."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models


def copy(model: type[models.Model], fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows with COPY, several times faster than bulk_create. Fields are attribute names of the model."""
    with connection.cursor() as cursor:
        columns = {field.attname: str(field.column) for field in model._meta.concrete_fields}
        copy_into(cursor, model._meta.db_table, [columns[name] for name in fields], rows)


def copy_into(cursor: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    names = ", ".join(map(connection.ops.quote_name, columns))
    with cursor.copy(f"COPY {connection.ops.quote_name(table)} ({names}) FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)


def rewrite(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, also: str = "") -> None:
    """Change rows by COPY and one UPDATE. The first column is the key. also: what else is set, as SQL.

    As parameters of a statement wide values would be quoted and parsed again, which takes longer than all the rest; and a
    statement has 1 GB at most.
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
    """Take that many keys from the model's sequence, for rows that refer to each other before they are written."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            (model._meta.db_table, number),
        )
        return [key for (key,) in cursor.fetchall()]
