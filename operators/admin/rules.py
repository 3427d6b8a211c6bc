"""Rules of configs and of nodes in the admin. What a change would do is shown before it is made."""

from collections.abc import Collection, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from checks.explain import ruling
from checks.models import Config
from checks.models.orders import Rule
from checks.wire.scrub import scrub
from clusteragent.lib.words import grouped_count, listed, plain_count
from nodes.models import NodeRule
from operators import rules
from operators.admin.base import NotedAdmin, Table, WithoutTransaction, link, list_url
from operators.admin.plans import first_of, load_change, worse

MOST_LISTED = 100
# What the page of a plan adds to the form that it shows.
_OWN_FIELDS = {"csrfmiddlewaretoken", "seen", "typed"}


@admin.register(Rule)
class RuleAdmin(NotedAdmin, WithoutTransaction):
    """The rules about configs. Whoever saves one becomes its author. A change shows what it would do before it is made."""

    list_display: tuple[str, ...] = (
        "name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "spread", "apart_from",
        "together_with", "handover", "author", "time",
    )  # fmt: skip
    search_fields: tuple[str, ...] = ("name", "check_pattern")
    fields: tuple[str, ...] = (
        "name",
        "check_pattern",
        "source_pattern",
        "required",
        "forbidden",
        "max_per_node",
        "spread",
        "apart_from",
        "apart_by_domain",
        "together_with",
        "handover",
        "note",
    )
    actions = ("delete_selected",)
    # A rule holds for all if that is what was typed, never by an oversight.
    typed_field = "check_pattern"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if self.typed_field in form.base_fields:
            form.base_fields[self.typed_field].required = True
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {self.typed_field: ""} | super().get_changeform_initial_data(request)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show what a valid form would do until that is confirmed, then save it."""
        obj = self.get_object(request, unquote(object_id)) if object_id else None
        allowed = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if request.method == "POST" and allowed and (obj or not object_id):
            names = flatten_fieldsets(self.get_fieldsets(request, obj))
            form = self.get_form(request, obj, change=obj is not None, fields=names)(request.POST, instance=obj)
            if form.is_valid() and (page := self._unconfirmed(request, "Save", [form.instance], saved=form.instance)):
                return page
        return super().changeform_view(request, object_id, form_url, extra_context)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show what deleting a rule would do until that is confirmed, then delete it."""
        obj = self.get_object(request, unquote(object_id))
        allowed = obj is not None and self.has_delete_permission(request, obj)
        if allowed and (page := self._unconfirmed(request, "Delete", [obj], deleted=[obj.pk])):
            return page
        return super().delete_view(request, object_id, extra_context)

    @admin.action(description="Delete…", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Show what deleting these rules would do until that is confirmed, then delete them."""
        chosen = list(queryset)
        if page := self._unconfirmed(request, "Delete", chosen, deleted=[rule.pk for rule in chosen]):
            return page
        self.log_deletions(request, queryset)
        self.delete_queryset(request, queryset)
        messages.success(request, f"{plain_count(len(chosen), 'rule')} deleted.")
        return None

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()
        messages.info(request, rules.save(obj, obj.save))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        messages.info(request, rules.delete([obj]))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        messages.info(request, rules.delete(queryset))

    def _unconfirmed(
        self,
        request: HttpRequest,
        verb: str,
        chosen: Sequence[Any],
        *,
        saved: Any = None,
        deleted: Collection[int] = (),
    ) -> HttpResponse | None:
        """The page that shows what the change would do; None if the user has confirmed just that."""
        effect = ruling.effect_of(self.model, saved=saved, deleted=deleted)
        word = _word(chosen, len(effect.lost))
        problem = ""
        if request.method == "POST" and (seen := request.POST.get("seen", "")):
            agreed = effect.agreed(seen)
            if agreed is None:
                problem = "Nothing was done, since something changed. This is what it would do now."
            elif word and request.POST.get("typed", "").strip() != _word(chosen, agreed):
                problem = f"Nothing was done: type {word} to confirm it."
            else:
                return None
        named = listed([f"{rule}" for rule in chosen])
        context = self.admin_site.each_context(request) | {
            "title": f"{verb} {self.opts.verbose_name if len(chosen) == 1 else self.opts.verbose_name_plural}",
            "opts": self.opts,
            "what": f"{verb} {named}",
            "problem": problem,
            "sentence": _sentence(effect),
            "worse": worse(effect.peak, len(effect.lost)),
            "notes": _notes(effect),
            "word": word,
            "seen": effect.seen,
            "hidden": [
                (name, value) for name, values in request.POST.lists() if name not in _OWN_FIELDS for value in values
            ],
            "tables": [
                _table(title, rows)
                for title, rows in (("Would run nowhere", effect.lost), ("Moves", effect.moves))
                if rows
            ],
            "list_url": list_url(self.model),
        }
        if len(chosen) == 1 and chosen[0].pk:
            # The heading names it: a phone has room for nothing else.
            context["original"] = chosen[0]
        return TemplateResponse(request, "admin/checks/rule_plan.html", context)


@admin.register(NodeRule)
class NodeRuleAdmin(RuleAdmin):
    """The rules about nodes."""

    list_display = ("__str__", "node_type", "labels", "weight", "max_configs", "author", "time")
    search_fields = ("pattern",)
    fields = ("pattern", "network", "node_type", "labels", "weight", "max_configs", "note")
    typed_field = "pattern"


def _word(chosen: Sequence[Any], lost: int) -> str:
    """What must be typed where configs would run nowhere: the name of one rule, else how many they are; empty if none would."""
    only = chosen[0].name.strip() if len(chosen) == 1 and isinstance(chosen[0], Rule) else ""
    return (only or str(lost)) if lost else ""


def _sentence(effect: ruling.Effect) -> str:
    """How much moves, and how the highest load changes."""
    nodes = f"{grouped_count(effect.nodes, 'node')} changed. " if effect.nodes else ""
    if not (effect.moves or effect.lost or effect.found):
        moving = "Nothing moves"
    else:
        moving = f"{grouped_count(len(effect.moves), 'config')} would move"
    return f"{nodes}{moving}. Highest load {load_change(effect.peak)}."


def _notes(effect: ruling.Effect) -> list[str]:
    """What an operator should know before applying the change, one sentence each."""
    found = [f"Why they would run nowhere: {scrub(why)}." for why in effect.why]
    if effect.found:
        found.append(f"{grouped_count(effect.found, 'config')} without a node would get one.")
    if effect.waiting:
        found.append(f"{grouped_count(effect.waiting, 'config')} would run nowhere, as now.")
    if effect.moves or effect.lost:
        found.append(
            "These moves follow within about a minute: the leader makes them. What only should move, moves within its budget."
        )
    return found


def _table(title: str, rows: Sequence[ruling.Moving]) -> Table:
    shown = [
        (link(Config(pk=row.config), scrub(row.check)), row.source, row.to or "nobody") for row in rows[:MOST_LISTED]
    ]
    return Table(first_of(title, len(shown), len(rows)), ("config", "from", "to"), shown)
