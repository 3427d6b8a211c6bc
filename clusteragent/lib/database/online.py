"""Migration steps for large tables in use: they block nobody, and can be interrupted and run again.

A migration that uses them has `atomic = False`, and does nothing else.
"""

from collections.abc import Iterator
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently

# The most rows that one transaction changes.
BATCH = 100_000


class AddIndexOnline(AddIndexConcurrently):
    """Build an index while others write. An existing index stays; one whose build was interrupted is built again."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Build the index unless a valid one of this name exists. Without time limits."""
        name = schema_editor.quote_name(self.index.name)
        with schema_editor.connection.cursor() as cursor:
            # A build reads the whole table and waits for transactions that began before it.
            cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
            try:
                cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
                found = cursor.fetchone()
                if found == (True,):
                    return
                if found:
                    schema_editor.execute(f"DROP INDEX CONCURRENTLY {name}")
                super().database_forwards(app_label, schema_editor, from_state, to_state)
            finally:
                cursor.execute("RESET statement_timeout; RESET lock_timeout")


def batches(cursor: Any, table: str) -> Iterator[tuple[int, int]]:
    """Yield (first id, last id) of batches that together contain every row that is in the table now."""
    cursor.execute(f"SELECT min(id), max(id) FROM {table}")  # noqa: S608 - our own name
    first, last = cursor.fetchone()
    for start in range(first or 0, (last or -1) + 1, BATCH):
        yield start, min(start + BATCH - 1, last)


def update(cursor: Any, table: str, changes: str, where: str) -> None:
    """Run `UPDATE table SET changes WHERE where`, a transaction for each batch of ids."""
    for first, last in batches(cursor, table):
        cursor.execute(
            f"UPDATE {table} SET {changes} WHERE id BETWEEN %s AND %s AND ({where})",  # noqa: S608 - our own words
            [first, last],
        )
