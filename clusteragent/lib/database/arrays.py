"""Many values as one array parameter: `field__in=[…]` uses it, as each value as a parameter would be quoted, sent and parsed."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Field, ForeignKey
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.lookups import In

# With fewer values the query has a list, for which PostgreSQL's planner has better estimates.
MANY = 20
# Fields whose values are written into arrays unchanged, and the types of their columns.
_TYPES = {
    "BigAutoField": "bigint", "BigIntegerField": "bigint", "IntegerField": "bigint", "PositiveIntegerField": "bigint",
    "CharField": "text", "TextField": "text",
}  # fmt: skip

# A larger number fits no column. In an array it would be an error.
_LIMIT = 2**63


class _AsArray:
    """Mixin for `in` lookups."""

    rhs: Any
    lhs: Any

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        # A queryset or an expression is not a list. None equals nothing.
        is_many = isinstance(self.rhs, list) and len(self.rhs) >= MANY
        values = [value for value in self.rhs if value is not None] if is_many else []
        fit = not any(isinstance(value, int) and abs(value) >= _LIMIT for value in values)
        kind = _TYPES.get(_internal_type(self.lhs.output_field)) if values and fit else None
        if not kind:
            return super().as_sql(compiler, connection)  # type: ignore[misc]
        column, params = self.process_lhs(compiler, connection)  # type: ignore[attr-defined]
        # Arrays of numbers are written here, which is faster than psycopg's adaptation of each number.
        array: Any = "{" + ",".join(map(str, values)) + "}" if kind == "bigint" else values
        return f"{column} = ANY(%s::{kind}[])", [*params, array]


def _internal_type(field: Any) -> str:
    while isinstance(field, ForeignKey):
        field = field.target_field
    return str(field.get_internal_type())


class InArray(_AsArray, In):
    """`in` of a column."""


class RelatedInArray(_AsArray, RelatedIn):
    """`in` of a foreign key."""


def register() -> None:
    """Replace Django's `in` lookups by the ones of this module."""
    Field.register_lookup(InArray)
    ForeignObject.register_lookup(RelatedInArray)


def array(values: Iterable[object]) -> str:
    """Return the values as PostgreSQL's text form of an array. Psycopg's own conversion, element by element, is much slower."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
