"""Acts in the admin: what people did."""

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet, TextField, Value
from django.db.models.functions import Concat, Now
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import is_aware, make_aware
from unfold.contrib.filters.admin import ChoicesDropdownFilter, TextFilter
from unfold.decorators import display

from acts.models import Act
from checks.models import Plan
from clusteragent.lib.database.natural import Natural
from operators.admin.base import TABLE_ROWS, ReadOnlyAdmin, Table, dated, link, list_url, time_column
from operators.admin.filters import DaysFilter, OptionFilter

SEES = "acts.view_act"
HEADERS = ("time", "who", "how", "what", "reason")


# What was done to what, as it is shown.
_WHAT = Concat("verb", Value(" ", output_field=TextField()), "object", output_field=TextField())


class PersonFilter(TextFilter):
    """Acts of a person."""

    title = parameter_name = "person"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Act]) -> QuerySet[Act]:
        return queryset.filter(person=self.value()) if self.value() else queryset


class HowFilter(OptionFilter):
    """Acts by their entrance."""

    title, parameter_name, options = "how", "how__exact", dict(Act.How.choices)

    def condition(self, value: str) -> Q:
        return Q(how=value)


class TokenFilter(TextFilter):
    """Acts by the tokens that begin like this."""

    title = parameter_name = "token"

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Act]:
        return queryset.by_token(self.value()) if self.value() else queryset


class MomentFilter(TextFilter):
    """Acts from a moment on, or before it, as 2026-11-23T03:12:00Z; of what is no moment none. lookup: which of both."""

    lookup: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Act]) -> QuerySet[Act]:
        if not (value := self.value()):
            return queryset
        with suppress(ValueError):
            if moment := parse_datetime(value):
                return queryset.filter(**{self.lookup: moment if is_aware(moment) else make_aware(moment, UTC)})
        return queryset.none()


class SinceFilter(MomentFilter):
    """Acts from a moment on."""

    title = parameter_name = "since"
    lookup = "time__gte"


class UntilFilter(MomentFilter):
    """Acts before a moment."""

    title = parameter_name = "until"
    lookup = "time__lt"


class ConfigFilter(TextFilter):
    """Acts on a config, by its id."""

    title = "config's number"
    parameter_name = "config"

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Act]:
        value = self.value() or ""
        if not value:
            return queryset
        return queryset.of_config(int(value)) if value.isdecimal() and len(value) < 19 else queryset.none()


class NodeFilter(TextFilter):
    """Acts on a node, by its name."""

    title = parameter_name = "node"

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Act]:
        return queryset.of_node(self.value()) if self.value() else queryset


@admin.register(Act)
class ActAdmin(ReadOnlyAdmin):
    """The acts, the last one first."""

    empty = "What people and tokens do is a line here: who, from where, what, before and after."
    list_display = ("when", "who", "shown_how", "address", "what", "reason")
    list_display_links = ("what",)
    is_endless = True
    indexed = ("when",)
    when = time_column("time", dated)
    list_filter = (
        PersonFilter, ("verb", ChoicesDropdownFilter), HowFilter, TokenFilter, ("time", DaysFilter), SinceFilter,
        UntilFilter, NodeFilter, ConfigFilter,
    )  # fmt: skip
    search_fields = ("object",)
    search_help_text = "A part of what it was done to"
    fields = readonly_fields = (
        "when", "who", "shown_how", "address", "verb", "object", "shown_plan", "reason", "shown_foreseen", "shown_before",
        "shown_after",
    )  # fmt: skip

    class Media:
        css = {"all": ["checks/config.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Act]:
        """The acts. The list shows nothing of what may be long."""
        acts: QuerySet[Act] = super().get_queryset(request)
        return acts.defer("before", "after", "foreseen", "about")

    @display(description="who", ordering="person")
    def who(self, act: Act) -> str:
        """The person."""
        return who(act)

    @display(description="how", ordering="how")
    def shown_how(self, act: Act) -> str:
        """The entrance, and of the API which token."""
        return how(act)

    @display(description="what", ordering=Natural(_WHAT))
    def what(self, act: Act) -> str:
        """The verb and its object."""
        return str(act)

    @display(description="plan")
    def shown_plan(self, act: Act) -> SafeString | str:
        """A link to the plan that it applied, as long as that is kept."""
        plan = Plan.objects.filter(pk=act.plan).only("pk").first() if act.plan else None
        return link(plan, f"plan {act.plan}") if plan else f"{act.plan or '-'}"

    @display(description="foreseen")
    def shown_foreseen(self, act: Act) -> SafeString | str:
        """What was foreseen of it."""
        return _as_page(act.foreseen) if act.foreseen else "-"

    @display(description="before")
    def shown_before(self, act: Act) -> SafeString | str:
        """What it was."""
        return _as_json(act.before)

    @display(description="after")
    def shown_after(self, act: Act) -> SafeString | str:
        """What it became."""
        return _as_json(act.after)


def who(act: Act) -> str:
    """The person of an act."""
    return act.person or "a stranger"


def how(act: Act) -> str:
    """The entrance of an act, in words. Whoever came to the API did so by a token or by a session."""
    by = f" by {act.credential}" if act.how == Act.How.API and act.credential else ""
    return f"{act.get_how_display()}{by}"


def tables(user: Any, acts: QuerySet[Act], **query: Any) -> list[Table]:
    """The table of the last acts on something; none if there are none, or for who may not see acts.

    query: of the list of all of them.
    """
    if not user.has_perm(SEES):
        return []
    found = acts.annotate(now=Now()).defer("before", "after", "foreseen", "about")[: TABLE_ROWS + 1]
    rows = [(dated(act.time, act.now), who(act), how(act), link(act), act.reason) for act in found]
    return [Table.of("Acts", HEADERS, rows, list_url(Act, **query))] if rows else []


def _as_page(told: dict[str, Any]) -> SafeString:
    """What was foreseen, as a page that asks shows it: first what is worse, in red, then sentences, then tables."""
    worse = format_html_join(
        "", '<p class="font-semibold text-red-700 dark:text-red-400">{}</p>', ((one,) for one in told.get("worse", ()))
    )
    sentences = format_html_join("", "<p>{}</p>", ((one,) for one in told.get("sentences", ())))
    tables = format_html_join(
        "", "<p>{}:</p><ul>{}</ul>", ((title, _lines(rows)) for title, rows in told.get("tables", {}).items())
    )
    return format_html("{}{}{}", worse, sentences, tables)


def _lines(rows: Sequence[Sequence[str]]) -> SafeString:
    """Rows as `shop: ash → birch`."""
    told = ((": ".join(filter(None, [row[0], " → ".join(row[1:])])),) for row in rows if row)
    return format_html_join("", "<li>{}</li>", told)


def _as_json(value: Any) -> SafeString | str:
    if value is None:
        return "-"
    return format_html('<pre class="config-text">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
