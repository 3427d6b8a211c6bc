"""Numbers of related rows, as annotations."""

from typing import Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce


def number_of(rows: QuerySet[Any], field: str, of: str = "pk") -> Coalesce:
    """An annotation: how many of these rows have the annotated row's `of` in this field."""
    found = rows.filter(**{field: OuterRef(of)}).order_by().values(field).annotate(number=Count("pk"))
    return Coalesce(Subquery(found.values("number"), output_field=IntegerField()), 0)
