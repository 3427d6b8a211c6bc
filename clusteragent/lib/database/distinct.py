"""The different values of a column that has an index."""

from typing import Any

from django.db import connection, models

# DISTINCT reads all rows. This finds each value in the index, and then the next greater one; the ORM has no such statement.
_DIFFERENT = """
    WITH RECURSIVE found (value) AS (
        (SELECT {column} FROM {table} ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT (SELECT {column} FROM {table} WHERE {column} > found.value ORDER BY {column} LIMIT 1)
        FROM found WHERE found.value IS NOT NULL
    )
    SELECT value FROM found WHERE value IS NOT NULL LIMIT %s
"""


def values(model: type[models.Model], column: str, most: int) -> list[Any]:
    """Return the first `most` different values of a column without NULL, in order. An index must begin with the column."""
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(_DIFFERENT.format(table=quote(model._meta.db_table), column=quote(column)), [most])
        return [value for (value,) in cursor.fetchall()]
