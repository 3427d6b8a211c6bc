"""Many values as one array. `field__in=[…]` asks for one: as parameters each would be quoted, sent and parsed for itself."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Field, ForeignKey
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.related_lookups import RelatedIn
from django.db.models.lookups import In

# With fewer values PostgreSQL is given a list, of which its planner knows more.
MANY = 20
# Whose values psycopg writes into arrays as they are, and the types of their columns.
_TYPES = {
    "BigAutoField": "bigint", "BigIntegerField": "bigint", "IntegerField": "bigint", "PositiveIntegerField": "bigint",
    "CharField": "text", "TextField": "text",
}  # fmt: skip

# What is more fits no column, and would be an error in an array.
_LIMIT = 2**63


class _AsArray:
    """Mixed into a lookup of `in`."""

    rhs: Any
    lhs: Any

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        values = self._values()
        kind = _TYPES.get(_internal_type(self.lhs.output_field)) if values else None
        if not kind:
            return super().as_sql(compiler, connection)  # type: ignore[misc]
        column, params = self.process_lhs(compiler, connection)  # type: ignore[attr-defined]
        # Numbers are put together here, which is faster than psycopg's array of each.
        array: Any = "{" + ",".join(map(str, values)) + "}" if kind == "bigint" else values
        return f"{column} = ANY(%s::{kind}[])", [*params, array]

    def _values(self) -> list[Any]:
        """The values, which were prepared for the column, without those that equal nothing; none where they are few."""
        # Expressions are not in a list.
        if not isinstance(self.rhs, list) or len(self.rhs) < MANY:
            return []
        values = [value for value in self.rhs if value is not None]
        return [] if any(isinstance(value, int) and abs(value) >= _LIMIT for value in values) else values


def _internal_type(field: Any) -> str:
    while isinstance(field, ForeignKey):
        field = field.target_field
    return str(field.get_internal_type())


class InArray(_AsArray, In):
    """`in` of a column."""


class RelatedInArray(_AsArray, RelatedIn):
    """`in` of a foreign key."""


def register() -> None:
    Field.register_lookup(InArray)
    ForeignObject.register_lookup(RelatedInArray)


def array(values: Iterable[object]) -> str:
    """An array as PostgreSQL reads it. Psycopg takes as long to make one, element by element, as for all the rest."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
