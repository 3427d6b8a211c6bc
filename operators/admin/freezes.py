"""Freezes of automatic balancing: who stopped it, why, until when, and who ended that."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from checks.explain import forecasts
from checks.models import freezes
from checks.models.freezes import Freeze
from clusteragent.lib.database.natural import Natural
from operators.admin import sameness
from operators.admin.base import NotedAdmin, ReadOnlyAdmin, aged, dated, list_url, time_column
from operators.admin.orderforms import NoteField, UntilField, settle_ends
from operators.admin.questions import Question, seen_of_form


class FreezeForm(forms.ModelForm):  # type: ignore[type-arg]
    """Until when nothing is balanced automatically, and why."""

    until = UntilField()
    note = NoteField()

    class Meta:
        model = Freeze
        fields = ("until", "note")


@admin.register(Freeze)
class FreezeAdmin(NotedAdmin, ReadOnlyAdmin):
    """The freezes, past and present."""

    form = FreezeForm
    empty = "A freeze stops automatic balancing until a time, as during a release. Configs of lost nodes still move."
    list_display = ("about", "shown_note", "when", "ends", "over")
    actions = ("thaw",)
    own_permissions = {"thaw": "checks.delete_freeze"}
    when, given = time_column("time"), time_column("time", dated)
    ends, due = time_column("until"), time_column("until", dated)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """A stored freeze also shows who started it and whether it is over."""
        return ("until", "note") if obj is None else self.get_readonly_fields(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if obj is None else ("author", "given", "due", "shown_note", "over")

    has_add_permission = ModelAdmin.has_add_permission

    def has_thaw_permission(self, request: HttpRequest) -> bool:
        """Whether the user may end a freeze."""
        return bool(request.user.has_perm("checks.delete_freeze"))

    def row_actions(self, request: HttpRequest, obj: Freeze) -> list[str]:
        return [] if self.over(obj) != "no" else ["thaw"]

    @display(description="freeze", ordering=Natural("author"))
    def about(self, freeze: Freeze) -> str:
        """The freeze in words."""
        return str(freeze)

    @display(description="over", ordering=Coalesce("ended_at", "until"))
    def over(self, freeze: Any) -> SafeString | str:
        """Whether the freeze is over, and who ended it."""
        if freeze.ended_at:
            return format_html("ended by {} {}", freeze.ended_by, aged(freeze.ended_at, freeze.now))
        return "no" if Freeze.objects.in_force().filter(pk=freeze.pk).exists() else "its time is over"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Ask for an end and a note, show what a freeze stops, then freeze."""
        may_add = request.method == "POST" and self.has_add_permission(request)
        if may_add and (form := self.get_form(request)(request.POST)).is_valid():
            settle_ends(request, form)
            until, note = form.cleaned_data["until"], form.cleaned_data["note"]
            in_force = Freeze.objects.in_force().values_list("pk", flat=True)
            about = [*in_force, seen_of_form(form)]
            question = Question.of(lambda: forecasts.freeze(until), "Freeze", about, sameness.of_freeze(until, note))
            if page := question.unanswered(request, list_url(Freeze), Freeze):
                return page
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in ("until", "note")}
        obj.pk = freezes.freeze(actor=request.user.get_username(), **given).pk
        obj.refresh_from_db()

    @admin.action(description="End the freeze…", permissions=["thaw"])
    def thaw(self, request: HttpRequest, queryset: QuerySet[Freeze]) -> HttpResponse | None:
        """Show what follows, then end the freeze that is in force, whichever was chosen: there is at most one."""
        in_force = list(Freeze.objects.in_force().values_list("pk", flat=True))
        same = sameness.of_thaw(in_force)
        if page := Question.of(forecasts.thaw, "End the freeze", in_force, same).unanswered(
            request, list_url(Freeze), Freeze
        ):
            return page
        if freezes.thaw(actor=request.user.get_username(), only=in_force):
            messages.success(request, "The freeze is over.")
        else:
            messages.info(request, "Balancing is not frozen.")
        return None
