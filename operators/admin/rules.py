"""Rules of configs and of nodes in the admin. What a change would do is shown before it is made."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from checks.explain import ruling
from checks.models import Config
from checks.models.orders import Rule
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.patterns import fits
from clusteragent.lib.words import grouped_count, listed
from nodes.models import NodeRule
from operators import rules
from operators.admin.base import NotedAdmin, WithoutTransaction, list_url, row_url, time_column
from operators.admin.greying import Greyed
from operators.admin.planpage import load_change, worse
from operators.admin.questions import Question, ShownDeletions, moving_table, said, seen_of, word_of
from operators.admin.sameness import Call, Deed


@admin.register(Rule)
class RuleAdmin(ShownDeletions, NotedAdmin, WithoutTransaction):
    """The rules about configs. Whoever saves one becomes its author. A change shows what it would do before it is made."""

    empty = (
        "A rule says which nodes may run the configs of some checks or sources, how many of them a node may have, and what they"
        " are kept apart from or beside. What it would move is shown before it is made."
    )
    list_display: tuple[str, ...] = (
        "name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "spread", "apart_from",
        "together_with", "handover", "author", "when",
    )  # fmt: skip
    when = time_column("time")
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

        messages.info(request, rules.save(obj, store))

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
        bad = [*worse(after.peak, len(after.lost)), *([ruling.FILLS] if effect.fills else [])]
        tables = (("Would run nowhere", after.lost), ("Moves", after.moves))
        return Question(
            f"{verb} {listed([f'{rule}' for rule in chosen])}",
            [_sentence(effect), *_notes(effect), *_of_none(saved)],
            bad,
            [moving_table(title, rows) for title, rows in tables if rows],
            seen_of(
                [effect.rules, *about],
                len(after.lost),
                len(after.moves),
                len(bad),
                stops=[one.config for one in after.lost],
            ),
            _word(chosen) if effect.objections else "",
        )


@admin.register(NodeRule)
class NodeRuleAdmin(RuleAdmin):
    """The rules about nodes."""

    empty = (
        "A node rule gives nodes of some name or network labels, a weight or a limit of configs. What it would move is shown"
        " before it is made."
    )
    list_display = ("about", "node_type", "labels", "weight", "max_configs", "author", "when")
    search_fields = ("pattern",)
    fields = ("pattern", "network", "node_type", "labels", "weight", "max_configs", "note")
    typed_field = "pattern"

    @display(description="node rule", ordering=Natural("pattern"))
    def about(self, rule: NodeRule) -> str:
        """Which nodes it is about."""
        return str(rule)


def _of_none(rule: Any) -> list[str]:
    """A sentence about a rule that no config is of now: its pattern may be misspelt."""
    if not isinstance(rule, Rule):
        return []
    names = Config.objects.order_by().values_list("name", flat=True).distinct()
    if any(fits(name, rule.check_pattern) for name in names):
        return []
    return [f"No config is of the checks {rule.check_pattern} now."]


def _word(chosen: Sequence[Any]) -> str:
    """What must be typed where configs would run nowhere, or no node would have room: the name of one rule, else how many."""
    return word_of([rule.name if isinstance(rule, Rule) else str(rule) for rule in chosen], "rule")


def _sentence(effect: ruling.Effect) -> str:
    """How much moves, and how the highest load changes."""
    after = effect.after
    nodes = f"{grouped_count(effect.nodes, 'node')} changed. " if effect.nodes else ""
    if not (after.moves or after.lost or after.found):
        moving = "Nothing moves"
    else:
        moving = f"{grouped_count(len(after.moves), 'config')} would move"
    return f"{nodes}{moving}. Highest load {load_change(after.peak)}."


def _notes(effect: ruling.Effect) -> list[str]:
    """What an operator should know before applying the change, one sentence each."""
    after = effect.after
    found = [f"Why they would run nowhere: {scrub(why)}." for why in after.why]
    if effect.above:
        found.append(
            f"{grouped_count(effect.above, 'node')} above the most that it allows: what is there stays, and no more is added."
        )
    if after.found:
        found.append(f"{grouped_count(len(after.found), 'config')} without a node would get one.")
    if after.waiting:
        found.append(f"{grouped_count(after.waiting, 'config')} would run nowhere, as now.")
    if after.staying:
        found.append(f"{grouped_count(after.staying, 'config')} about to move away would stay.")
    if after.anyway:
        found.append(f"About to move anyway: {grouped_count(after.anyway, 'config')}.")
    if after.moves or after.lost:
        found.append(
            "These moves follow within about a minute: the leader makes them. What only should move, moves within its budget."
        )
    return found
