"""Searching for a word in a column."""

from typing import Any, TypeVar

from django.db.models import Q, QuerySet
from django.db.models.functions import Collate, Lower

R = TypeVar("R", bound=QuerySet[Any])


def containing(rows: R, column: str, word: str, otherwise: Q | None = None) -> R:
    """The rows with the word in a column, in small letters or capitals, or for which something else is true.

    Case is ignored for ASCII letters alone: in the collation C that takes a third of what icontains takes.
    """
    folded: R = rows.alias(folded=Lower(Collate(column, "C")))
    here = Q(folded__contains=word.encode().lower().decode())
    return folded.filter(here | otherwise if otherwise else here)
