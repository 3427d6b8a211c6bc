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


def new_ids(model: type[models.Model], number: int) -> list[int]:
    """Take that many keys from the model's sequence, for rows that refer to each other before they are written."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            (model._meta.db_table, number),
        )
        return [key for (key,) in cursor.fetchall()]
