"""Searches for a word in a column, and for configs by their IDs."""

from collections.abc import Collection
from typing import Any, TypeVar

from django.db.models import Q, QuerySet
from django.db.models.functions import Collate, Lower

from clusteragent.lib.scrub import scrub
from clusteragent.lib.shortids import short_id_in

R = TypeVar("R", bound=QuerySet[Any])


def containing(rows: R, column: str, word: str, otherwise: Q | None = None) -> R:
    """Return the rows that have the word in a column, or that match `otherwise`.

    Only the case of ASCII letters is ignored: in the collation C this takes a third of the time of icontains.
    """
    folded: R = rows.alias(folded=Lower(Collate(column, "C")))
    here = Q(folded__contains=word.encode().lower().decode())
    return folded.filter(here | otherwise if otherwise else here)


def called(configs: Any, word: str, *, exact: bool) -> list[int]:
    """Return the ids of configs that have this short ID, or a check with it. exact: also by digest and check ID.

    Use `exact` only for users who may see digests, since a match confirms a guess. configs: the model.
    """
    wanted = []
    if short := short_id_in(word):
        wanted += [Q(short_id=short), Q(instances__short_id=short)]
    if exact:
        wanted += [Q(digest=word), Q(instances__check_id=word)]
    return sorted({pk for one in wanted for pk in configs.objects.filter(one).values_list("pk", flat=True)})


def ids_of(configs: QuerySet[Any], names: Collection[str], *, exact: bool) -> list[int]:
    """Return the ids of the configs with these short IDs; exact: also digests and check IDs.

    Raises LookupError that names the first unknown one.
    """
    short = {word: name for name in names if (word := short_id_in(name))}
    found = {short[word]: pk for word, pk in configs.filter(short_id__in=short).values_list("short_id", "pk")}
    of_checks = configs.filter(instances__short_id__in=short).values_list("instances__short_id", "pk")
    found |= {short[word]: pk for word, pk in of_checks}
    if exact:
        found |= dict(configs.filter(digest__in=names).values_list("digest", "pk"))
        found |= dict(configs.filter(instances__check_id__in=names).values_list("instances__check_id", "pk"))
    for name in names:
        if name not in found:
            raise LookupError(f"no config has the {'digest, check ID or ' * exact}short ID {scrub(name)}")
    return list(found.values())
