"""What migrations do to tables that are in use and may be large: nobody waits for it, and it may be broken off and begun anew.

A migration that uses this has `atomic = False`, and changes nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently

# Rows, at most, of one transaction.
BATCH = 100_000


class AddIndexOnline(AddIndexConcurrently):
    """Build an index while others write. One that is there stays; one whose building was broken off is built anew."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        name = schema_editor.quote_name(self.index.name)
        with _unlimited(schema_editor) as cursor:
            cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
            found = cursor.fetchone()
            if found == (True,):
                return
            if found:
                schema_editor.execute(f"DROP INDEX CONCURRENTLY {name}")
            super().database_forwards(app_label, schema_editor, from_state, to_state)


def batches(cursor: Any, table: str) -> Iterator[tuple[int, int]]:
    """Ranges of ids, first and last, that together hold each row that is in the table now."""
    cursor.execute(f"SELECT min(id), max(id) FROM {table}")  # noqa: S608 - our own name
    first, last = cursor.fetchone()
    for start in range(first or 0, (last or -1) + 1, BATCH):
        yield start, min(start + BATCH - 1, last)


def update(cursor: Any, table: str, changes: str, where: str) -> None:
    """Change the rows of a table for which the condition holds, a batch a transaction."""
    for first, last in batches(cursor, table):
        cursor.execute(
            f"UPDATE {table} SET {changes} WHERE id BETWEEN %s AND %s AND ({where})",  # noqa: S608 - our own words
            [first, last],
        )


@contextmanager
def _unlimited(schema_editor: Any) -> Iterator[Any]:
    """Wait for as long as it takes: for the table to be read, and for transactions that began before."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        try:
            yield cursor
        finally:
            cursor.execute("RESET statement_timeout; RESET lock_timeout")
