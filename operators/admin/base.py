"""What the admin's pages share: links, tables, lists that filter by declared fields and never count, read-only rows."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ALL_VAR, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import FieldDoesNotExist
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from checks.explain.alerts import Alert, Target
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib import certificates, conf
from clusteragent.lib.database import bulk
from clusteragent.lib.words import duration, grouped, moment, relative
from operators import returning
from operators.admin.greying import Greyed, GreyingAdmin, words_of
from operators.errors import NoSuchRow
from operators.models import SavedView
from operators.queries import Word, matching
from operators.terms import BadQuery, parse, written

TABLE_ROWS = 20
# So much of an error is shown in lists.
MOST_ERROR_WORDS = 12
LAST_PAGE = 1_000_000
# The milliseconds that a page spends on counting the rows of its list. Of a filtered list so many rows after the page's are
# looked at, so that few need no count: counting what a filter finds may take as long as finding it.
MOST_COUNTING, MOST_AHEAD = 50, 300


def row_url(row: Model) -> str:
    """The URL of a row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def anchor(url: str, text: Any) -> SafeString:
    """An HTML link in the admin's style."""
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text)


def example(request: HttpRequest, name: str, *args: Any) -> str:
    """A call of the operators' API for a terminal, whose token is in $TOKEN. name: of the URL."""
    # Behind CLUSTERAGENT_ADMIN_URL something else shows its certificate.
    own = None if conf.ADMIN_URL else certificates.trusted_by(conf.CERTIFICATE or conf.VAR / certificates.CERTIFICATE)
    trusted = f"--cacert {shlex.quote(str(own))} " if own else ""
    return f'curl {trusted}-H "Authorization: Bearer $TOKEN" {request.build_absolute_uri(reverse(name, args=args))}'


def elsewhere(request: HttpRequest, row: Model, call: str, *names: tuple[str, str]) -> list[tuple[str, str, str]]:
    """What copies a row's names, as (label, text), and leads to it from outside, for admin/elsewhere.html.

    call: a call of the operators' API.
    """
    copied = [("link to this page", request.build_absolute_uri(row_url(row))), *names, ("call of the API", call)]
    return [(f"elsewhere-{number}", label, text) for number, (label, text) in enumerate(copied)]


def command(*words: str) -> str:
    """A command for a terminal."""
    return shlex.join(["clusteragent", *words])


def link(row: Model, text: str = "") -> SafeString:
    """A link to a row's page."""
    return anchor(row_url(row), text or row)


def aged(time: datetime | None, now: datetime) -> SafeString | str:
    """How long ago it was or how soon it will be, with the time itself on hover; empty for None."""
    return _marked(time, relative(time, now)) if time else ""


def lasting(since: datetime, now: datetime) -> SafeString:
    """For how long it has been so, with the time itself on hover."""
    return _marked(since, duration(now - since))


def dated(time: datetime | None, now: datetime) -> SafeString | str:
    """The time, and how far it is away: for records, and for pages of one row; empty for None."""
    return format_html("<span>{}</span> {}", moment(time), aged(time, now)) if time else ""


def _marked(time: datetime, text: str) -> SafeString:
    """A text, marked with its time, so that a script can show that in another zone."""
    return format_html('<time datetime="{}" title="{}">{}</time>', time.isoformat(), moment(time), text)


def time_column(field: str, show: Callable[[Any, datetime], SafeString | str] = aged, title: str = "") -> Any:
    """A column, or a line of a page, that shows a row's time. show: `aged` or `dated`. The row has `now`."""

    @display(description=title or field.replace("_", " "), ordering=field)
    def column(self: Any, row: Any) -> SafeString | str | None:
        """The time; None without one, which is shown as a dash."""
        return show(getattr(row, field), row.now) or None

    return column


def shortened(error: str) -> SafeString | str:
    """The first MOST_ERROR_WORDS words of an error, with all of it on hover."""
    shown = Truncator(error).words(MOST_ERROR_WORDS)
    return format_html('<span title="{}">{}</span>', error, shown) if error else ""


def first_of(what: str, shown: int, of: int) -> str:
    """The title of a table that may not show all its rows."""
    return what if shown == of else f"{what}: the first {shown} of {of}"


def list_url(model: type[Model], **query: Any) -> str:
    """The URL of a model's list, filtered by the query."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{url}?{urlencode(query)}" if query else url


def by_load(node: str) -> str:
    """The URL of the list of what a node runs, the greatest load first."""
    return list_url(Config, node=node, o="-load")


def address(target: Target) -> str:
    """The URL of the page that shows an alert's target."""
    return list_url(target.model, **target.query) if target.pk is None else row_url(target.model(pk=target.pk))


def told(alert: Alert) -> dict[str, Any]:
    """Return the alert as JSON data, without secrets."""
    return {
        "kind": alert.kind,
        "subject": alert.subject,
        "count": alert.count,
        "cause": scrub(alert.cause),
        "since": (alert.since or alert.now).isoformat(timespec="seconds"),
        "link": address(alert.target),
    }


@dataclass(frozen=True)
class Table:
    """A table below a page's fields. more: the URL of all rows."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    more: str = ""

    @classmethod
    def of(cls, title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]], more: str = "") -> "Table":
        """A table of the first TABLE_ROWS rows. `more` is kept only if there are more rows."""
        listed = list(rows)
        return cls(title, headers, listed[:TABLE_ROWS], more if len(listed) > TABLE_ROWS else "")


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

    model_admin: "DeclaredAdmin"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Django's asks to select one to change, which nobody can.
        self.title = capfirst(self.opts.verbose_name_plural)

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
        # Links name columns: their numbers depend on what else the user sees.
        asked = str(self.params.get(ORDER_VAR, "")).split(".")
        numbers = {name: str(number) for number, name in enumerate(map(str, self.list_display))}
        signs = (("-", one[1:]) if one.startswith("-") else ("", one) for one in asked)
        if any(asked):
            self.params[ORDER_VAR] = ".".join(sign + numbers.get(name, name) for sign, name in signs)
        return super().get_ordering(request, queryset)

    def get_ordering_field(self, field_name: Any) -> Any:
        is_offered = self.sortable_by is None or field_name in self.sortable_by
        return super().get_ordering_field(field_name) if is_offered else None


class UncountedChangeList(DeclaredChangeList):
    """A list that reads one row more than it shows, to know whether a page follows: a count may cost more than the page."""

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


def counted(rows: QuerySet[Any]) -> int | None:
    """How many rows there are; None if counting takes too long."""
    try:
        with bulk.within(MOST_COUNTING):
            return rows.count()
    except bulk.TooSlow:
        return None


# The most characters and words of a search that are used.
MOST_SEARCHED, MOST_WORDS = 500, 10

# Unfold's ModelAdmin is untyped; a class that derives from both must not get the types of Django's.
_DjangoModelAdmin: Any = admin.ModelAdmin


class WithoutTransaction(_DjangoModelAdmin):
    """Forms and deletions outside of a transaction, for rows that verbs change in their own transactions.

    Name it after unfold's ModelAdmin in the list of bases: it takes the place of Django's ModelAdmin.
    """

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self._changeform_view(request, object_id, form_url, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return self._delete_view(request, object_id, extra_context)

    def sent_form(self, request: HttpRequest, object_id: str | None) -> Any:
        """The form of this row, or of a new one, if it was sent by somebody who may save it, and is valid; otherwise None."""
        obj = self.get_object(request, unquote(object_id)) if object_id else None
        allowed = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if request.method != "POST" or not allowed or (object_id and obj is None):
            return None
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        return form if form.is_valid() else None


def first_words(searched: str) -> str:
    """The first MOST_WORDS words of a search. Each word is a condition of its own, and few suffice."""
    return " ".join(searched[:MOST_SEARCHED].split()[:MOST_WORDS])


class DeclaredAdmin(GreyingAdmin, ModelAdmin):
    """The base of every admin. Its list only filters and sorts by what it declares.

    linked: lookups that links to the list use, besides those of `list_filter`. words: the filters that its bar understands.
    empty: what stands in a list without rows: what they are, and how one comes about.
    """

    empty = ""

    linked: Sequence[str] = ()
    words: Mapping[str, Word] = {}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, with `now`: the time by the database's clock."""
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.annotate(now=Now())

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row; NoSuchRow if there is none, for those who may know: Django would show the first page instead."""
        found = super().get_object(request, object_id, from_field)
        if found is None and self.has_view_permission(request):
            raise NoSuchRow(self.model, list_url(self.model))
        return found

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if not self.words:
            return super().get_search_results(request, queryset, first_words(search_term))
        try:
            return matching(queryset, search_term, self.words, partial(self.with_text, request)), False
        except BadQuery as error:
            messages.error(request, f"Nothing is shown: {scrub(str(error))}.")
            return queryset.none(), False

    def with_text(self, request: HttpRequest, rows: Any, text: str) -> QuerySet[Any]:
        """The rows that have a text of the bar."""
        raise NotImplementedError

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return DeclaredChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        views = list(SavedView.objects.seen_by(request.user).filter(of=self.opts.label_lower))
        deletable = [view for view in views if view.is_deletable_by(request.user)]
        own = {"views": views, "deletable_views": deletable}
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def unknown(self, request: HttpRequest, query: Mapping[str, str]) -> list[str]:
        """What a query of the list names that the list has not, or has no more: a clause for each."""
        filters, columns = self._filters(request), self.get_sortable_by(request)
        found = []
        for name, value in query.items():
            if name == ORDER_VAR:
                asked = (column.removeprefix("-") for column in value.split("."))
                found += [f"there is no column {column} to sort by" for column in asked if column not in columns]
            elif name == SEARCH_VAR:
                found += self._misunderstood(request, value)
            elif name not in filters:
                found.append(f"there is no filter {name}")
            elif filters[name] and value not in filters[name]:
                found.append(f"there is no {name} {value}")
        return found

    def _filters(self, request: HttpRequest) -> dict[str, Mapping[str, str]]:
        """{the parameter of a filter: its options, if they are always the same}."""
        found: dict[str, Mapping[str, str]] = {name: {} for name in self.linked}
        for one in self.get_list_filter(request):
            if isinstance(one, tuple):
                field, kind = one
                spec = kind(self.opts.get_field(field), request, {}, self.model, self, field)
                found |= {parameter: {} for parameter in spec.expected_parameters()}
            else:
                found[one.parameter_name] = getattr(one, "options", {})
        return found

    def _misunderstood(self, request: HttpRequest, query: str) -> list[str]:
        """What the bar does not understand of this."""
        try:
            if self.words:
                matching(self.get_queryset(request), query, self.words, partial(self.with_text, request))
        except BadQuery as error:
            return [str(error)]
        return []

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        """Whether the field is the primary key. A row that is found by another field would reveal the field's value."""
        try:
            return bool(self.opts.get_field(to_field).primary_key)
        except (FieldDoesNotExist, AttributeError):
            return False


class NotedAdmin(DeclaredAdmin):
    """Rows with a note. Users who may not change a row see its note without secrets."""

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        fields = super().get_fields(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fields
        return ["shown_note" if field == "note" else field for field in fields]

    @display(description="note")
    def shown_note(self, row: Any) -> str:
        """The note without secrets."""
        return scrub(row.note)


class ReadOnlyAdmin(DeclaredAdmin, WithoutTransaction):
    """Rows that only verbs change. Nobody adds, deletes or edits one by hand; actions ask for the change permission."""

    paginator = UncountedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 100
    list_disable_select_all = True
    list_filter_submit = True
    list_fullwidth = True
    sortable_by: Sequence[str] = ()
    change_form_outer_before_template = "admin/row_actions.html"
    change_form_outer_after_template: str | None = "admin/tables.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return UncountedChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may run the list's actions. A single row is never editable."""
        return obj is None and super().has_change_permission(request)

    def row_actions(self, request: HttpRequest, obj: Any) -> list[str]:
        """The names of the list's actions that the row's page offers. For deleting it has a button of its own."""
        return [name for name in self.actions or () if name != "delete_selected"]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Run the chosen action. What was pressed on a row's own page leads back to it, as long as the row is there."""
        response: HttpResponse | None = super().response_action(request, queryset)
        back = returning.named(request)
        if back and getattr(response, "url", "") == request.get_full_path():
            rows = self.get_queryset(request).filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
            return redirect(back) if rows.exists() else response
        return response

    def tables(self, request: HttpRequest, obj: Any) -> list[Table]:
        """The tables below the row's fields."""
        return []

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """More context for the templates of the row's page."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            actions = self.get_actions(request)
            reasons = {name: self.why_not(request, name, obj) for name in self.row_actions(request, obj)}
            offered = [(name, actions[name][2]) for name, why in reasons.items() if name in actions and not why]
            own = {
                "tables": self.tables(request, obj),
                "row_actions": offered,
                "greyed": Greyed.of((words_of(getattr(self, name)), why) for name, why in reasons.items()),
                "list_url": list_url(self.model),
            }
            context |= self.page_context(request, obj) | own
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)
