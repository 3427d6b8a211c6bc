"""Lists of the admin: they filter and sort by what their admin declares, say what filters them, and never count for long."""

import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ALL_VAR, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import CharField, Model, QuerySet, TextField
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.views import ChangeList

from clusteragent.lib.database import bulk
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import grouped
from operators.terms import BadQuery, parse, written

LAST_PAGE = 1_000_000
# The milliseconds that a page spends on counting the rows of its list. Of a filtered list so many rows after the page's are
# looked at, so that few need no count: counting what a filter finds may take as long as finding it.
MOST_COUNTING, MOST_AHEAD = 50, 300
# Of a list that grows without a bound, so many of the newest rows are sorted by a column that has no index.
MOST_SORTED = 2_000
# Where a long name goes on in another line: after a slash, and before a part of some length, which no port or ending is. At an
# underscore it does so within long words alone: the names of checks stay whole.
_BREAKS = re.compile(r"(?<=/)(?=[^/])|(?:(?<=[.:,@=])|(?<=[\w-]{11}_))(?=[\w-]{5})")


class Chip(NamedTuple):
    """A filter of a list that is on. without: the list's URL without it."""

    text: str
    without: str


class UncountedPaginator(Paginator):  # type: ignore[type-arg]
    """Marks a list whose pages `UncountedChangeList` reads."""

    template_name = "admin/uncounted_pagination.html"


class DeclaredChangeList(ChangeList):
    """A list that filters and sorts only by what its admin declares. A column is sorted by its number or name: `?o=-load`.

    Django's own list filters by any lookup of any field: whoever may see the list could find out, letter by letter, what no
    page shows. It also sorts by columns that are not offered for it.
    """

    # A DeclaredAdmin, whose module is above this one.
    model_admin: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ordered: dict[str, Any] = {}
        super().__init__(*args, **kwargs)
        # Django's asks to select one to change, which nobody can.
        self.title = capfirst(self.opts.verbose_name_plural)

    def url_for_result(self, result: Model) -> str:
        return page_of_row(self.model, result.pk)

    @property
    def chips(self) -> list[Chip]:
        """What filters the list now: the terms of its bar and its other filters, each with the list's URL without it."""
        given = {name: self.params[name] for name in self.params if name in self.model_admin.linked}
        titles: dict[str, tuple[str, Mapping[str, str]]] = {name: (name, {}) for name in given}
        for spec in self.filter_specs:
            told = dict(getattr(spec, "lookup_choices", ()))
            titles |= dict.fromkeys(spec.expected_parameters(), (spec.title, told))
        found = []
        for name, (title, options) in titles.items():
            if value := str(self.params.get(name, "")):
                found.append(Chip(f"{title}: {options.get(value, value)}", self._url({name: None})))
        return [*self._terms(), *found]

    @property
    def unfiltered(self) -> str:
        """The list's URL with nothing but its order."""
        return self._url(dict.fromkeys(name for name in self.params if name != ORDER_VAR))

    @property
    def in_own_order(self) -> str:
        """The list's URL without another order."""
        return self._url({ORDER_VAR: None})

    @property
    def named(self) -> dict[str, str]:
        """What filters and sorts the list now, as parameters of its URL that are the same for everybody."""
        kept = {name: str(value) for name, value in self.params.items() if name not in (PAGE_VAR, ALL_VAR) and value}
        if ORDER_VAR in kept:
            kept[ORDER_VAR] = ".".join(map(self._column, kept[ORDER_VAR].split(".")))
        return kept | ({SEARCH_VAR: self.query} if self.query else {})

    @property
    def named_query(self) -> str:
        """The query string that says this."""
        return urlencode(self.named)

    def _column(self, number: str) -> str:
        """The name of the column of this number, with its sign."""
        sign, number = ("-", number[1:]) if number.startswith("-") else ("", number)
        is_known = number.isdecimal() and int(number) < len(self.list_display)
        return sign + (str(self.list_display[int(number)]) if is_known else number)

    def _terms(self) -> list[Chip]:
        try:
            terms = parse(self.query, self.model_admin.words) if self.model_admin.words else []
        except BadQuery:
            terms = []
        if not terms:
            return [Chip(self.query, self._url({SEARCH_VAR: None}))] if self.query else []
        rest = (written(terms[:number] + terms[number + 1 :]) or None for number in range(len(terms)))
        return [
            Chip(written([term]), self._url({SEARCH_VAR: others})) for term, others in zip(terms, rest, strict=True)
        ]

    def _url(self, changed: dict[str, Any]) -> str:
        return self.get_query_string({PAGE_VAR: None, **changed})

    def get_filters(self, request: HttpRequest) -> tuple[list[Any], bool, dict[str, Any], bool, bool]:
        """Raise DisallowedModelAdminLookup for an undeclared filter; the answer is 400."""
        found = super().get_filters(request)
        # Django would use what no filter took as a lookup.
        for name in found[2]:
            if name not in self.model_admin.linked:
                raise DisallowedModelAdminLookup(f"{self.opts.label} has no filter {name[:100]}")
        return found

    def get_ordering(self, request: HttpRequest, queryset: Any) -> Any:
        self._number_columns()
        return super().get_ordering(request, queryset)

    def get_ordering_field_columns(self) -> Any:
        self._number_columns()
        # Django compares expressions for it, which evaluates their queries.
        asked = str(self.params.get(ORDER_VAR, ""))
        if asked not in self._ordered:
            self._ordered[asked] = super().get_ordering_field_columns()
        return self._ordered[asked]

    @property
    def sorting_columns(self) -> set[str]:
        """The names of the columns that the list is sorted by."""
        numbers = self.get_ordering_field_columns()
        return {str(name) for number, name in enumerate(self.list_display) if number in numbers}

    def _number_columns(self) -> None:
        # Links name columns: their numbers depend on what else the user sees.
        asked = str(self.params.get(ORDER_VAR, "")).split(".")
        numbers = {name: str(number) for number, name in enumerate(map(str, self.list_display))}
        signs = (("-", one[1:]) if one.startswith("-") else ("", one) for one in asked)
        if any(asked):
            self.params[ORDER_VAR] = ".".join(sign + numbers.get(name, name) for sign, name in signs)

    def get_ordering_field(self, field_name: Any) -> Any:
        """What a column is sorted by; None if it is not offered for that. Texts are in natural order."""
        is_offered = self.sortable_by is None or field_name in self.sortable_by
        found: Any = super().get_ordering_field(field_name) if is_offered else None
        return Natural(found) if field_name not in self.model_admin.indexed and self._is_text(found) else found

    def _is_text(self, name: Any) -> bool:
        """Whether this is the name of a field of texts that people write."""
        try:
            field = self.opts.get_field(name)
        except FieldDoesNotExist:
            return False
        return isinstance(field, CharField | TextField) and not field.choices


class UncountedChangeList(DeclaredChangeList):
    """A list that reads one row more than it shows, to know whether a page follows: a count may cost more than the page."""

    # Whether only the newest of the rows that fit are sorted.
    is_of_newest = False

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request, *args, **kwargs)
        if not self.model_admin.is_endless or self.sorting_columns <= {*self.model_admin.indexed}:
            return rows
        newest = rows.order_by(*(self.model_admin.get_ordering(request) or self.opts.ordering))
        self.is_of_newest = newest.values("pk")[MOST_SORTED : MOST_SORTED + 1].exists()
        chosen = newest.values("pk")[:MOST_SORTED]
        return self.root_queryset.filter(pk__in=chosen).order_by(*rows.query.order_by)

    @property
    def most_sorted(self) -> int:
        """How many rows are sorted where not all are; 0 where all are."""
        return MOST_SORTED if self.is_of_newest else 0

    def get_results(self, request: HttpRequest) -> None:
        if not 1 <= self.page_num <= LAST_PAGE:
            raise IncorrectLookupParameters
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        before = (self.page_num - 1) * self.list_per_page
        end = before + self.list_per_page + (MOST_AHEAD if self.chips else 1)
        try:
            # Keys first: the rows before a late page are then skipped in an index, without joins.
            keys = list(self.queryset.values_list("pk", flat=True)[before:end])
        except DataError as error:
            raise IncorrectLookupParameters from error
        shown = keys[: self.list_per_page]
        rows = {row.pk: row for row in self.queryset.filter(pk__in=shown).order_by()}
        self.result_list = [rows[key] for key in shown if key in rows]
        self.has_next = len(keys) > self.list_per_page
        self._seen = before + len(keys)
        self._are_all_seen = self._seen < end and (bool(keys) or not before)
        self.first_number, self.last_number = before + 1, before + len(self.result_list)
        self.result_count = self.last_number
        self.full_result_count = self.result_count  # so that no page shows a total
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True

    @cached_property
    def total(self) -> str:
        """How many rows fit, of a filtered list also how many there are: `26, 548 in all`. `more than 100` where it is slow."""
        # A whole list is always counted, by as many statements for few rows as for many.
        fitting = None if self._are_all_seen and self.chips else counted(self.queryset)
        if fitting is None and self._are_all_seen:
            fitting = self._seen
        told = f"more than {grouped(self._seen - 1)}" if fitting is None else grouped(fitting)
        whole = counted(self.root_queryset) if self.chips else None
        return told if whole is None else f"{told}, {grouped(whole)} in all"


@cache
def page_of(model: type[Model], page: str, *arguments: int) -> str:
    """The URL of an admin's page. A list has hundreds of links, and working out each takes a tenth of its time."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def page_of_row(model: type[Model], key: Any) -> str:
    """The URL of a row's page."""
    if isinstance(key, int):
        return page_of(model, "change", 0).replace("/0/", f"/{key}/")
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[key])


def breakable(name: str) -> SafeString:
    """A name that a narrow column breaks between its parts."""
    return format_html_join(SafeString("<wbr>"), "{}", ((part,) for part in _BREAKS.split(name)))


def counted(rows: QuerySet[Any]) -> int | None:
    """How many rows there are; None if counting takes too long."""
    try:
        with bulk.within(MOST_COUNTING):
            return rows.count()
    except bulk.TooSlow:
        return None


def model_of(label: str) -> type[Model] | None:
    """The model of this label, if it has a list."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    return model if admin.site.is_registered(model) else None


def list_called(label: str) -> str:
    """What the list of this model is called; the label if there is none, or no more."""
    model = model_of(label)
    return str(model._meta.verbose_name_plural) if model else label
