"""What the admin's pages share: links, tables, the bases of all admins, read-only rows."""

import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.core.exceptions import BadRequest, FieldDoesNotExist, ValidationError
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.views import ChangeList

from checks.explain.alerts import Alert, Target
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib import certificates, conf
from clusteragent.lib.words import duration, moment, relative
from operators import returning
from operators.admin.changelists import (
    DeclaredChangeList,
    UncountedChangeList,
    UncountedPaginator,
    page_of,
    page_of_row,
)
from operators.admin.editing import WatchedForms, reopen
from operators.admin.greying import DELETE, Greyed, GreyingAdmin, words_of
from operators.errors import NoSuchRow
from operators.models import SavedView
from operators.queries import Word, matching
from operators.terms import BadQuery

TABLE_ROWS = 20
# So much of an error is shown in lists.
MOST_ERROR_WORDS = 12


def row_url(row: Model) -> str:
    """The URL of a row's page."""
    return page_of_row(type(row), row.pk)


def anchor(url: str, text: Any) -> SafeString:
    """An HTML link in the admin's style."""
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', url, text)


def example(request: HttpRequest, name: str, *args: Any, body: Any = None, method: str = "POST") -> str:
    """A call of the operators' API for a terminal, whose token is in $TOKEN. name: of the URL. body, method: of one that acts."""
    # Behind CLUSTERAGENT_ADMIN_URL something else shows its certificate.
    own = None if conf.ADMIN_URL else certificates.trusted_by(conf.CERTIFICATE or conf.VAR / certificates.CERTIFICATE)
    trusted = f"--cacert {shlex.quote(str(own))} " if own else ""
    sent = f'-H "Content-Type: application/json" -d {shlex.quote(json.dumps(body))} ' if body else ""
    acts = f"-X {method} {sent}" if body is not None else ""
    url = shlex.quote(request.build_absolute_uri(reverse(name, args=args)))
    return f'curl {trusted}-H "Authorization: Bearer $TOKEN" {acts}{url}'


def elsewhere(request: HttpRequest, row: Model, call: str, *names: tuple[str, str]) -> list[tuple[str, str, str]]:
    """What copies a row's names, as (label, text), and leads to it from outside, for admin/elsewhere.html.

    call: a call of the operators' API.
    """
    copied = [("link to this page", request.build_absolute_uri(row_url(row))), *names, ("call of the API", call)]
    return numbered(copied)


def numbered(copied: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Texts to copy, (label, text), each with the id that admin/elsewhere.html gives it."""
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
    return format_html("<span>{},</span> {}", moment(time), aged(time, now)) if time else ""


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
    url = page_of(model, "changelist")
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


# The most characters and words of a search that are used.
MOST_SEARCHED, MOST_WORDS = 500, 10

# Unfold's ModelAdmin is untyped; a class that derives from both must not get the types of Django's.
_DjangoModelAdmin: Any = admin.ModelAdmin


def is_across(sent: Mapping[str, Any]) -> bool:
    """Whether an action is meant for all that match the filter, by what its form sent."""
    return bool(sent.get("select_across") == "1")


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


def first_words(searched: str) -> str:
    """The first MOST_WORDS words of a search. Each word is a condition of its own, and few suffice."""
    return " ".join(searched[:MOST_SEARCHED].split()[:MOST_WORDS])


class DeclaredAdmin(WatchedForms, GreyingAdmin, ModelAdmin):
    """The base of every admin. Its list only filters by what it declares, and is sorted by each column that has an order.

    linked: lookups that links to the list use, besides those of `list_filter`. words: the filters that its bar understands.
    empty: what stands in a list without rows: what they are, and how one comes about. at_times: the columns that
    `get_list_display` adds at times. greatest_first: columns of numbers, by which a first click sorts the greatest first.
    unsorted: {column: why its list can't be sorted by it}. is_endless: whether there may be so many rows that only the newest can
    be sorted by a column that is not `indexed`.
    """

    empty = ""
    at_times: Sequence[str] = ()
    greatest_first: Collection[str] = ()
    unsorted: Mapping[str, str] = {}
    is_endless = False
    indexed: Collection[str] = ()

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

    def sent_form(self, request: HttpRequest, object_id: str | None) -> Any:
        """The form of this row, or of a new one, if it was sent by somebody who may save it, and is valid; otherwise None.

        A page that asked may send it to have it opened again.
        """
        if reopen(request):
            return None
        obj = self.get_object(request, unquote(object_id)) if object_id else None
        allowed = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if request.method != "POST" or not allowed or (object_id and obj is None):
            return None
        form = self.get_form(request, obj, change=obj is not None)(request.POST, instance=obj)
        return form if form.is_valid() else None

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

    def get_sortable_by(self, request: HttpRequest) -> Any:
        """The columns of all times: a saved view may name one that is not shown now."""
        return [column for column in (*self.list_display, *self.at_times) if column not in self.unsorted]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        if gone := self._gone(request):
            return gone
        views = list(SavedView.objects.seen_by(request.user).filter(of=self.opts.label_lower))
        deletable = [view for view in views if view.is_deletable_by(request.user)]
        own = {"views": views, "deletable_views": deletable}
        return super().changelist_view(request, {**own, **(extra_context or {})})

    def _gone(self, request: HttpRequest) -> HttpResponse | None:
        """The answer to an action of rows none of which is there any more; None to others, and for who may not do it.

        Raises BadRequest for what can be no row of the list.
        """
        if request.method != "POST" or request.POST.get("action") not in self.get_actions(request):
            return None
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        for key in keys:
            try:
                self.opts.pk.to_python(key)
            except ValidationError:
                raise BadRequest("What was chosen is no row.") from None
        if not keys or is_across(request.POST) or self.get_queryset(request).filter(pk__in=keys).exists():
            return None
        messages.info(request, "Nothing was done: what was chosen is gone already.")
        return redirect(request.get_full_path())

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

    @display(description="note", ordering="note")
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
        return [name for name in self.actions or () if name != DELETE]

    def form_reasons(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        """The buttons of the row's form, if it has one, and why the user may not use each; empty where it may."""
        return []

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
            reasons = self.reasons(request, self.row_actions(request, obj), obj)
            offered = [(name, actions[name][2]) for name, why in reasons.items() if name in actions and not why]
            own = {
                "tables": self.tables(request, obj),
                "row_actions": offered,
                "greyed": Greyed.of(
                    [
                        *((words_of(getattr(self, name)), why) for name, why in reasons.items()),
                        *self.form_reasons(request, obj),
                    ]
                ),
                "list_url": list_url(self.model),
            }
            context |= self.page_context(request, obj) | own
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)
