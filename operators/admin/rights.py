"""What people may do by all their groups together, and what they gain and lose of it, in words."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet

from checks.models.bounds import STEERING, WRITING, is_boundable
from clusteragent.lib.words import listed
from operators import bounds
from operators.admin.base import Table
from operators.roles import Role, in_words

# {permission: the bounds within which it may be used, in words}. An empty bound is everywhere.
Rights = Mapping[str, Collection[str]]
EVERYWHERE = frozenset([""])


class Given(NamedTuple):
    """What a group gives: permissions as `checks.add_pin`, and within which bound, in words; an empty one is everywhere."""

    permissions: Collection[str]
    bound: str = ""


def offered(group: Group | None = None) -> QuerySet[Permission]:
    """The permissions that pages or calls of ours ask for, and those that this group has."""
    # Django makes one for each act on each table of each library: of most nobody asks.
    shown = ContentType.objects.get_for_models(*filter(admin.site.is_registered, apps.get_models())).values()
    used = Q(content_type__in=shown) | Q(group__name__in=Role.values) | Q(group=(group and group.pk) or 0)
    return Permission.objects.filter(used).distinct()


def codes(permissions: Any) -> list[str]:
    """Permissions as `checks.add_pin`, sorted."""
    columns = ("content_type__app_label", "codename")
    return [".".join(row) for row in permissions.values_list(*columns).order_by(*columns)]


def given_by(groups: Iterable[Group]) -> dict[int, Given]:
    """What each of these groups gives, as stored: {group's id: given}."""
    found: dict[int, Given] = {}
    rows = Group.objects.filter(pk__in=[group.pk for group in groups])
    for group in rows.select_related("bound").prefetch_related("permissions__content_type"):
        found[group.pk] = Given(_held(group.permissions), bounds.in_words(group))
    return found


def _held(permissions: Any) -> list[str]:
    """The codes of permissions that are read already."""
    return [f"{one.content_type.app_label}.{one.codename}" for one in permissions.all()]


def of(user: User, given: Iterable[Given]) -> Rights:
    """What a user may do in groups that give this, and by its own row: everything, or as long as it is not active nothing."""
    if not user.is_active:
        return {}
    if user.is_superuser:
        return dict.fromkeys(codes(offered()), EVERYWHERE)
    found: dict[str, set[str]] = {code: {""} for code in (_held(user.user_permissions) if user.pk else ())}
    for one in given:
        for code in one.permissions:
            if not one.bound or is_boundable(code):
                found.setdefault(code, set()).add(one.bound if code in STEERING | WRITING else "")
    return {code: EVERYWHERE if "" in where else where for code, where in found.items()}


def of_stored(user: User) -> Rights:
    """What a user may do today, as stored; of one that is not there yet nothing."""
    stored = User.objects.filter(pk=user.pk).first() if user.pk else None
    return of(stored, given_by(stored.groups.all()).values()) if stored else {}


def gained(had: Rights, has: Rights) -> Rights:
    """What may be done that could not be done before: somewhere, or somewhere else. The other way round: what is lost."""
    more = {code: set(where) - set(had.get(code, ())) for code, where in has.items() if "" not in had.get(code, ())}
    return {code: where for code, where in more.items() if where}


def words(permissions: Iterable[str]) -> list[str]:
    """Permissions in words, those for the same rows together: `add and delete pins`."""
    verbs: dict[str, list[str]] = {}
    for verb, _, rows in (in_words(code).partition(" ") for code in sorted(permissions)):
        verbs.setdefault(rows, []).append(verb)
    return [f"{listed(doing, None)} {rows}".rstrip() for rows, doing in verbs.items()]


def told(rights: Rights, rest: Rights | None = None) -> str:
    """Rights in words: `add pins; move configs, within team:shop`. rest: of lost ones, what is left of them."""
    by_place: dict[str, list[str]] = {}
    for code, where in rights.items():
        left = (rest or {}).get(code, ())
        by_place.setdefault(_place(where) or (f"outside of {_named(left)}" if left else ""), []).append(code)
    return "; ".join(
        f"{text}, {place}" if place else text for place, of in sorted(by_place.items()) for text in words(of)
    )


def facts(*rights: Rights) -> list[str]:
    """What stands for rights where an answer to a page is compared with what it showed."""
    return [f"{number} {code} {sorted(of[code])}" for number, of in enumerate(rights) for code in sorted(of)]


def table(title: str, had: Rights, has: Rights) -> list[Table]:
    """The table of what may be done that could not be done, and the other way round, by rows; none if that is nothing."""
    changed = sorted({*gained(had, has), *gained(has, had)})
    kinds: dict[tuple[str, str], list[str]] = {}
    for code in changed:
        kinds.setdefault((_answer(had.get(code, ())), _answer(has.get(code, ()))), []).append(code)
    rows = [(text, today, then) for (today, then), held in kinds.items() for text in words(held)]
    return [Table(title, ("right to", "today", "then"), rows)] if rows else []


def rows_of(changes: Iterable[tuple[Any, str, Rights, Rights]]) -> Iterator[tuple[Any, str, str, str]]:
    """Rows of a table of people, (whom, roles, had, has): what each gains and loses, those first of whom that is something."""
    found = [(whom, roles, told(gained(had, has)), told(gained(has, had), has)) for whom, roles, had, has in changes]
    for whom, roles, more, less in sorted(found, key=lambda row: not (row[2] or row[3])):
        yield whom, roles, more or "nothing", less or "nothing"


def _place(where: Collection[str]) -> str:
    return "" if "" in where else f"within {_named(where)}"


def _named(bounded: Collection[str]) -> str:
    return " or ".join(sorted(bounded))


def _answer(where: Collection[str]) -> str:
    return (_place(where) or "yes") if where else "no"
