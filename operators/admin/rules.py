"""Rules of configs and of nodes in the admin. What a change would do is shown before it is made."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.db.models import JSONField, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from checks.explain import ruling
from checks.models.orders import Rule
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import listed
from nodes.models import NodeRule
from operators import rules
from operators.admin.base import NotedAdmin, WithoutTransaction, list_url, row_url, time_column
from operators.admin.editing import Changed
from operators.admin.greying import Greyed
from operators.admin.labels import LabelsField, labels_column
from operators.admin.questions import Question, ShownDeletions, moving_table, said, seen_of_moves, tens, word_of
from operators.admin.sameness import Call, Deed


@admin.register(Rule)
class RuleAdmin(ShownDeletions, NotedAdmin, WithoutTransaction):
    """The rules about configs. Whoever saves one becomes its author. A change shows what it would do before it is made."""

    empty = (
        "A rule says which nodes may run the configs of some checks or sources, how many of them a node may have, and what they"
        " are kept apart from or beside. What it would move is shown before it is made."
    )
    list_display: tuple[str, ...] = (
        "name", "check_pattern", "source_pattern", "shown_required", "shown_forbidden", "max_per_node", "spread", "apart_from",
        "together_with", "handover", "author", "when",
    )  # fmt: skip
    when = time_column("time")
    shown_required, shown_forbidden = labels_column("required"), labels_column("forbidden")
    change_form_outer_before_template = "admin/greyed.html"
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
    # A rule holds for all if that is what was typed, never by an oversight.
    typed_field = "check_pattern"

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if isinstance(db_field, JSONField):
            return db_field.formfield(form_class=LabelsField, widget=None)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        if self.typed_field in form.base_fields:
            form.base_fields[self.typed_field].required = True
        return form

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context |= {"greyed": Greyed.of(self.reasons_of_form(request, obj))}
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        return {self.typed_field: ""} | super().get_changeform_initial_data(request)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show what a valid form would do until that is confirmed, then save it."""
        if form := self.sent_form(request, object_id):
            question = self._question("Save", [form.instance], saved=form.instance)
            back = row_url(form.instance) if form.instance.pk else list_url(self.model)
            if page := question.unanswered(request, back, form.instance, reopens=True):
                return page
        return super().changeform_view(request, object_id, form_url, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()

        def store() -> None:
            form.require_unchanged()
            obj.save()

        try:
            messages.info(request, rules.save(obj, store))
        except rules.Taken as taken:
            raise Changed(str(taken)) from None

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        messages.info(request, rules.delete([obj]))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        messages.info(request, rules.delete(queryset))

    def question(self, rows: Sequence[Any]) -> Question:
        question = self._question("Delete", rows, said(rows), deleted=[rule.pk for rule in rows])
        call = Call(f"{self.opts.model_name}-detail", [rows[0].pk], method="DELETE") if len(rows) == 1 else None
        return replace(question, same=Deed(call=call))

    def _question(
        self,
        verb: str,
        chosen: Sequence[Any],
        about: Sequence[object] = (),
        *,
        saved: Any = None,
        deleted: Collection[int] = (),
    ) -> Question:
        effect = ruling.effect_of(self.model, saved=saved, deleted=deleted)
        after = effect.after
        return Question(
            f"{verb} {listed([f'{rule}' for rule in chosen])}",
            effect.sentences,
            effect.worse,
            [moving_table(title, rows) for title, rows in effect.moves.items()],
            seen_of_moves(
                [effect.rules, *about],
                int(effect.fills),
                tens(after.peak),
                lost=after.lost,
                moves=[*after.moves, *after.found],
            ),
            _word(chosen) if effect.objections else "",
            moves=[row for rows in effect.moves.values() for row in rows],
            nodes=effect.nodes,
        )


@admin.register(NodeRule)
class NodeRuleAdmin(RuleAdmin):
    """The rules about nodes."""

    empty = (
        "A node rule gives nodes of some name or network labels, a weight or a limit of configs. What it would move is shown"
        " before it is made."
    )
    list_display = ("about", "node_type", "shown_labels", "weight", "max_configs", "author", "when")
    shown_labels = labels_column("labels")
    search_fields = ("pattern",)
    fields = ("pattern", "network", "node_type", "labels", "weight", "max_configs", "note")
    typed_field = "pattern"

    @display(description="node rule", ordering=Natural("pattern"))
    def about(self, rule: NodeRule) -> str:
        """Which nodes it is about."""
        return str(rule)


def _word(chosen: Sequence[Any]) -> str:
    """What must be typed where configs would run nowhere, or no node would have room: the name of one rule, else how many."""
    return word_of([rule.name if isinstance(rule, Rule) else str(rule) for rule in chosen], "rule")
