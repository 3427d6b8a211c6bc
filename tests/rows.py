"""The rows of all tables, as they were."""

from django.db import connection, transaction
from psycopg import sql


class Rows:
    """A copy of all rows of the tests' database."""

    def __init__(self) -> None:
        self._copies: dict[str, bytes] = {}
        with connection.cursor() as cursor:
            for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
                with cursor.copy(_statement("COPY {} TO STDOUT", table)) as copy:
                    self._copies[table] = b"".join(copy)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same rows, which PostgreSQL copies in any order."""
        return isinstance(other, Rows) and self._sorted() == other._sorted()

    __hash__ = None  # type: ignore[assignment]

    def _sorted(self) -> dict[str, list[bytes]]:
        return {table: sorted(rows.splitlines()) for table, rows in self._copies.items()}

    def restore(self) -> None:
        """Delete what is there, and insert what was there. Few rows take a tenth of the time of truncating all tables."""
        with transaction.atomic(), connection.cursor() as cursor:
            # In any order: foreign keys are checked at the end of the transaction.
            cursor.execute("SET LOCAL clusteragent.pruning = 'on'")  # else acts stay
            cursor.execute(sql.SQL("; ").join(_statement("DELETE FROM {}", table) for table in self._copies))
            for table, rows in self._copies.items():
                if rows:
                    with cursor.copy(_statement("COPY {} FROM STDIN", table)) as copy:
                        copy.write(rows)


def _statement(text: str, table: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(table))
