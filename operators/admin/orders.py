"""Pins, pauses and isolations in the admin. Giving an order and taking it back are verbs of the dispatcher."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display

from checks import dispatcher, plans
from checks.dispatcher import REFUSALS, Outside, deciding
from checks.dispatcher.acting import record_refusal
from checks.explain import forecasts
from checks.explain.forecasts import Forecast
from checks.models import bounds
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import listed, plain_count
from operators.admin import sameness
from operators.admin.base import NotedAdmin, ReadOnlyAdmin, dated, link, list_url, row_url, time_column
from operators.admin.greying import DELETE
from operators.admin.orderforms import IsolationForm, PauseForm, PinForm
from operators.admin.plans import show_plan
from operators.admin.questions import Question, ShownDeletions, only, said
from operators.admin.sameness import NO_DEED
from operators.roles import sees_digests


class OrderAdmin(ShownDeletions, NotedAdmin, ReadOnlyAdmin):
    """The orders of one kind."""

    list_display: Sequence[str] = ("about", "origin", "author", "shown_note", "when")
    # The config's column links to the config.
    list_display_links = ("origin",)
    search_fields: Sequence[str] = ("source", "config__origins__shown", "author")
    search_help_text = "An origin or an author"
    when, given, ends = time_column("time"), time_column("time", dated), time_column("until")
    ordering = (Natural("config__title"), "id")

    has_add_permission = ModelAdmin.has_add_permission

    def outside(self, permission: str, obj: Order) -> str:
        """Why a bound keeps the user from the config of an order, or from one that waits for its origin."""
        if obj.config_id is None:
            return bounds.why_not_all(permission, f"the {self.opts.verbose_name} waits for its origin")
        return bounds.why_not_configs(permission, [obj.config_id])

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may change orders, or this one."""
        may_change: bool = ModelAdmin.has_change_permission(self, request)
        return may_change and not (obj and self.why_not(request, "change", obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may take orders back, or this one."""
        may_delete: bool = ModelAdmin.has_delete_permission(self, request)
        return may_delete and not (obj and self.why_not(request, "delete", obj))

    def form_reasons(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        return self.reasons_of_form(request, obj, ["change", "delete"] if self.is_deleted(obj) else ["change"])

    def is_deleted(self, obj: Any) -> bool:
        """Whether the page of an order has a button that deletes it."""
        return True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        own = [field.attname for field in self.opts.concrete_fields]
        rows = super().get_queryset(request).select_related("config")
        return rows.only(*own, "config__title", "config__name", "config__digest")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.exact = sees_digests(request.user)
        return form

    def last_change(self, obj: Order) -> tuple[str, datetime] | None:
        # Of a config, a new order takes the place of the old one.
        return (obj.author, obj.time) if obj.config_id else None

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        fields = super().get_fields(request, obj)
        return fields if obj is None else ["about", "origin", *fields[1:], "author", "given"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return () if obj is None else ("about", "origin", "shown_note", "author", "given")

    @display(description="config", ordering=Natural("config__title"))
    def about(self, order: Order) -> SafeString | str:
        """A link to the config, if its origin sends one now."""
        return link(order.config) if order.config else "none: its origin sends nothing now"

    @display(description="origin", ordering=Natural("key"))
    def origin(self, order: Order) -> str:
        """The origin of the config, `source:key`."""
        return scrub(f"{order.source}:{order.key}")

    # What follows when these configs lose the order. A pause of a config is ended by a plan instead.
    forecast: Callable[[Collection[int]], Forecast]
    # The command that takes it back.
    ended_by = ""
    # What becomes of a config whose order was deleted while it waited for its origin.
    late = "It is gone when a config comes from there again."

    def take(self, ids: Collection[int], only: Collection[int]) -> object:
        """Take the orders with the ids `only` back from these configs. None of them moves."""
        raise NotImplementedError

    def question(self, rows: Sequence[Any]) -> Question:
        ids = [order.config_id for order in rows if order.config_id]
        waiting = [order for order in rows if not order.config_id]
        named = f"Delete {plain_count(len(waiting), str(self.opts.verbose_name))}"
        about = said(rows)
        # A command takes no order that waits for its origin.
        same = NO_DEED if waiting else sameness.of_orders(self.ended_by, self.model, ids)
        question = Question.of(lambda: type(self).forecast(ids) if ids else Forecast(named, []), "Delete", about, same)
        if waiting:
            told = listed([self.origin(order) for order in waiting])
            late = f"{told}: nothing comes from there now. {self.late}"
            question = replace(question, sentences=[*question.sentences, late])
        return question

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Make the plan of a valid form, and show its page: the order is given there. One that waits for its origin is stored."""
        return _or_refusal(self._formed, request, object_id, form_url, extra_context)

    def _formed(self, request: HttpRequest, object_id: str | None, form_url: str, extra_context: Any) -> HttpResponse:
        if (form := self.sent_form(request, object_id)) and form.decision:
            return redirect(row_url(plans.store(form.decision, author=request.user.get_username())))
        response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return response

    def delete_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        # Not back to where it is asked: what is refused there is refused again.
        return _or_refusal(super().delete_view, *args, back=list_url(self.model), **kwargs)

    def changelist_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return _or_refusal(super().changelist_view, *args, **kwargs)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """Do nothing: Django calls this before the deletion, which may be refused. `_take` logs afterwards."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store an order that waits for its origin. Others are given by their plan."""
        obj.author, obj.from_source = request.user.get_username(), False
        dispatcher.store_waiting(obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._take(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._take(request, list(queryset))

    def _take(self, request: HttpRequest, orders: Sequence[Any]) -> None:
        self.take([order.config_id for order in orders if order.config_id], [order.pk for order in orders])
        # The verb took back the orders of configs. What is left waits for its origin, or was not taken back.
        dispatcher.forget_waiting(self.model.objects.filter(pk__in=[order.pk for order in orders], config=None))
        super().log_deletions(request, orders)


def _or_refusal(
    view: Callable[..., HttpResponse], request: HttpRequest, *args: Any, back: str = "", **kwargs: Any
) -> HttpResponse:
    """The view's response. If its verb is refused or can't get the store's lock, show why; return to the page, or `back`."""
    try:
        return view(request, *args, **kwargs)
    except (*REFUSALS, plans.StalePlan, OperationalError) as refusal:
        if isinstance(refusal, Outside):
            record_refusal("order", refusal)
        messages.error(request, f"Not done: {scrub(dispatcher.described(refusal))}.")
        return redirect(back or request.path)


@admin.register(Pin)
class PinAdmin(OrderAdmin):
    """The pins."""

    form = PinForm
    forecast = staticmethod(forecasts.unpin)
    ended_by = "unpin"
    empty = (
        "A pin says on which node, or on nodes of which name or label, a config shall run, and stays when its file is edited."
        " Make one here, or on a config's page by Pin…: what would move is shown first."
    )
    fields = ("configs", "kind", "aim", "waits", "until", "note")
    list_display = ("about", "pinned_to", "waits", "ends", "origin", "author", "shown_note", "when")
    search_fields = ("aim", *OrderAdmin.search_fields)
    search_help_text = "A node, a source, the whole key of an origin or an author"

    @display(description="pinned to", ordering=Natural("aim"))
    def pinned_to(self, pin: Pin) -> str:
        """The node, pattern or label."""
        return str(pin)

    def take(self, ids: Collection[int], only: Collection[int]) -> object:
        return dispatcher.unpin(ids, only=only)


@admin.register(Pause)
class PauseAdmin(OrderAdmin):
    """The pauses. One that waits for its origin is deleted; others are ended by a plan, as their configs are placed again."""

    form = PauseForm
    empty = (
        "A paused config runs nowhere, until a time or until somebody resumes it. Make a pause here, on a config's page, or"
        " for all configs of a filter in their list: what would stop is shown first."
    )
    late = "When a config comes from there again, it runs."
    actions = ("resume", "resume_group")
    own_permissions = {"resume": "checks.delete_pause"}
    fields = ("configs", "until", "note")
    list_display = ("about", "ends", "origin", "author", "shown_note", "when")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or self.is_deleted(obj))

    def is_deleted(self, obj: Any) -> bool:
        """A pause that waits for its origin is deleted. Any other one is ended by a plan."""
        return obj.config_id is None

    def get_actions(self, request: HttpRequest) -> Any:
        return {name: action for name, action in super().get_actions(request).items() if name != DELETE}

    def has_resume_permission(self, request: HttpRequest) -> bool:
        """Whether the user may end pauses."""
        return super().has_delete_permission(request)

    def row_actions(self, request: HttpRequest, obj: Any) -> list[str]:
        """Nothing is resumed of a pause that waits for its origin; a pause of one config alone is no group."""
        if obj.config_id is None:
            return []
        return ["resume", "resume_group"] if Pause.objects.given_with([obj]).count() > 1 else ["resume"]

    @admin.action(description="Resume…", permissions=["resume"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Pause]) -> HttpResponse | None:
        """Show what ending those that wait for their origin means, and delete them; then make the plan that ends the others."""
        waiting = list(queryset.filter(config=None))
        ids = [id_ for id_ in queryset.values_list("config", flat=True) if id_]
        if waiting:
            question = replace(self.question(waiting), button="Resume")
            if ids:
                others = f"The plan that resumes {plain_count(len(ids), 'config')} is shown after that."
                question = replace(question, sentences=[*question.sentences, others])
            if page := question.unanswered(request, list_url(Pause), only(waiting, Pause)):
                return page
            dispatcher.forget_waiting(waiting)
            messages.success(request, f"{plain_count(len(waiting), 'pause')} that waited for an origin deleted.")
        return show_plan(request, lambda: deciding.resume(ids), "Not resumed") if ids else None

    @admin.action(description="Resume all that were paused together with it…", permissions=["resume"])
    def resume_group(self, request: HttpRequest, queryset: QuerySet[Pause]) -> HttpResponse | None:
        """Make the plan that ends all pauses of the orders that made these."""
        return self.resume(request, Pause.objects.given_with(queryset))

    def take(self, ids: Collection[int], only: Collection[int]) -> None:
        """Refuse to end pauses of configs by a deletion: that would place them unseen."""
        if ids:
            raise PermissionDenied


@admin.register(Isolation)
class IsolationAdmin(OrderAdmin):
    """The isolations, by operators and by quarantine."""

    form = IsolationForm
    forecast = staticmethod(forecasts.release)
    ended_by = "release"
    empty = (
        "An isolated config has its node for itself until somebody releases it. Isolate one here or on its page: what would"
        " leave its node is shown first. The quarantine isolates what seems to kill node after node."
    )
    fields = ("configs", "note")
    list_display = ("about", "cause", "origin", "author", "shown_note", "when")

    @display(description="reason", ordering="reason")
    def cause(self, order: Isolation) -> str:
        """Who isolated it."""
        return str(order.get_reason_display())

    def take(self, ids: Collection[int], only: Collection[int]) -> object:
        return dispatcher.release(ids, only=only)
