"""Pins, pauses, isolations and rules in the admin. Giving an order and taking it back are verbs of the dispatcher."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from checks import dispatcher, plans
from checks.dispatcher import REFUSALS, Decision, deciding
from checks.models import ClusterStore, Config
from checks.models.orders import Isolation, Order, Pause, Pin, Rule
from checks.wire.scrub import scrub
from clusteragent.lib.words import plain_count
from operators.admin.base import NotedAdmin, ReadOnlyAdmin, link
from operators.admin.orderforms import NoteField, UntilField
from operators.roles import sees_digests


class OrderForm(forms.ModelForm):  # type: ignore[type-arg]
    """An order for configs that are named by short ID, digest or check ID. A stored order can't change its config."""

    configs = forms.CharField(
        help_text="Short IDs (for those who see them: digests or check IDs), with spaces between them.",
        widget=UnfoldAdminTextInputWidget,
    )
    note = NoteField()
    exact = False  # whether digests and check IDs are taken

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            del self.fields["configs"]

    def clean_configs(self) -> list[int]:
        """The ids of the named configs. Raises ValidationError if a name is unknown."""
        try:
            return Config.objects.ids_of(self.cleaned_data["configs"].split(), exact=self.exact)
        except LookupError as error:
            raise ValidationError(str(error)) from None

    def given(self) -> dict[str, Any]:
        """The arguments of the verb, without the configs."""
        return {name: value for name, value in self.cleaned_data.items() if name != "configs"}


class TimedForm(OrderForm):
    """An order that may end at a given time."""

    until = UntilField()


class OrderAdmin(NotedAdmin, ReadOnlyAdmin):
    """The orders of one kind."""

    form = OrderForm
    list_display: Sequence[str] = ("about", "origin", "author", "shown_note", "time")
    # The config's column links to the config.
    list_display_links = ("origin",)
    search_fields: Sequence[str] = ("source", "config__origins__shown", "author")
    search_help_text = "An origin or an author"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found: QuerySet[Any] = super().get_queryset(request)
        return found.select_related("config").only(*self._columns())

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.exact = sees_digests(request.user)
        return form

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        return [field for field in super().get_fields(request, obj) if obj is None or field != "configs"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(ModelAdmin.has_add_permission(self, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_change_permission(self, request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_delete_permission(self, request, obj))

    @display(description="config")
    def about(self, order: Order) -> SafeString | str:
        """A link to the config, if its origin sends one now."""
        return link(order.config) if order.config else "none: its origin sends nothing now"

    @display(description="origin")
    def origin(self, order: Order) -> str:
        """The origin of the config, `source:key`."""
        return scrub(f"{order.source}:{order.key}")

    def give(self, ids: Collection[int], **given: Any) -> Decision:
        """Return the decision to give these configs the order."""
        raise NotImplementedError

    def take(self, ids: Collection[int], actor: str) -> object:
        """Take the order back from these configs."""
        raise NotImplementedError

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return _or_refusal(
            request, lambda: super(OrderAdmin, self).changeform_view(request, object_id, form_url, extra_context)
        )

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return _or_refusal(request, lambda: super(OrderAdmin, self).delete_view(request, object_id, extra_context))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return _or_refusal(request, lambda: super(OrderAdmin, self).changelist_view(request, extra_context))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> None:
        """Do nothing: Django calls this before the deletion, which may be refused. `_take` logs afterwards."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Give the order by its verb, so that it acts at once. An order that waits for its origin is only stored."""
        actor = request.user.get_username()
        if change and obj.config_id is None:
            obj.author = actor
            obj.save()
            return
        ids = [obj.config_id] if change else form.cleaned_data["configs"]
        plan, moves = plans.order(lambda: self.give(ids, **form.given()), actor=actor)
        # 0: the order is gone already, and its page says so.
        obj.pk = self.model.objects.values_list("pk", flat=True).filter(config=ids[0]).first() or 0
        messages.info(request, f"{plain_count(len(moves), 'config')} moved.")
        if plan.outcome:
            messages.warning(request, scrub(plan.outcome))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._take(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._take(request, list(queryset))

    def _take(self, request: HttpRequest, orders: Sequence[Any]) -> None:
        self.take([order.config_id for order in orders if order.config_id], request.user.get_username())
        # The verb took back the orders of configs. What is left waits for its origin, or was not taken back.
        self.model.objects.filter(pk__in=[order.pk for order in orders], config=None).delete()
        super().log_deletions(request, orders)

    def _columns(self) -> list[str]:
        """The columns to read: all of the order, and the config's name and digest."""
        own = [field.attname for field in self.opts.concrete_fields]
        return [*own, "config__name", "config__digest"]


def _or_refusal(request: HttpRequest, view: Callable[[], HttpResponse]) -> HttpResponse:
    """The view's response. If its verb is refused or can't get the store's lock, show the reason and return to the page."""
    try:
        return view()
    except (*REFUSALS, plans.StalePlan, OperationalError) as refusal:
        messages.error(request, f"Not done: {scrub(dispatcher.described(refusal))}.")
        return redirect(request.path)


class PinForm(TimedForm):
    """A pin."""

    class Meta:
        model = Pin
        fields = ("kind", "aim", "waits", "until", "note")


class PauseForm(TimedForm):
    """A pause."""

    class Meta:
        model = Pause
        fields = ("until", "note")


class IsolationForm(OrderForm):
    """An isolation."""

    class Meta:
        model = Isolation
        fields = ("note",)


@admin.register(Pin)
class PinAdmin(OrderAdmin):
    """The pins."""

    form = PinForm
    fields = ("configs", "kind", "aim", "waits", "until", "note")
    list_display = ("about", "pinned_to", "waits", "until", "origin", "author", "shown_note", "time")
    search_fields = ("aim", *OrderAdmin.search_fields)
    search_help_text = "A node, a source, the whole key of an origin or an author"

    @display(description="pinned to")
    def pinned_to(self, pin: Pin) -> str:
        """The node, pattern or label."""
        return str(pin)

    def give(self, ids: Collection[int], **given: Any) -> Decision:
        return deciding.pin(ids, **given)

    def take(self, ids: Collection[int], actor: str) -> object:
        return dispatcher.unpin(ids)


@admin.register(Pause)
class PauseAdmin(OrderAdmin):
    """The pauses."""

    form = PauseForm
    fields = ("configs", "until", "note")
    list_display = ("about", "until", "origin", "author", "shown_note", "time")

    def give(self, ids: Collection[int], **given: Any) -> Decision:
        return deciding.pause(ids, **given)

    def take(self, ids: Collection[int], actor: str) -> object:
        return plans.order(lambda: deciding.resume(ids), actor=actor)


@admin.register(Isolation)
class IsolationAdmin(OrderAdmin):
    """The isolations, by operators and by quarantine."""

    form = IsolationForm
    fields = ("configs", "note")
    list_display = ("about", "get_reason_display", "origin", "author", "shown_note", "time")

    def give(self, ids: Collection[int], **given: Any) -> Decision:
        return deciding.isolate(ids, **given)

    def take(self, ids: Collection[int], actor: str) -> object:
        return dispatcher.release(ids)


@admin.register(Rule)
class RuleAdmin(NotedAdmin):
    """The rules about configs. A config on a node that a new rule forbids moves in the leader's next pass."""

    list_display = (
        "name",
        "check_pattern",
        "source_pattern",
        "required",
        "forbidden",
        "max_per_node",
        "author",
        "time",
    )
    search_fields = ("name", "check_pattern")
    fields = ("name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "note")

    def save_model(self, request: HttpRequest, obj: Rule, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()
        super().save_model(request, obj, form, change)
        self._wake(request)

    def delete_model(self, request: HttpRequest, obj: Rule) -> None:
        super().delete_model(request, obj)
        self._wake(request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        super().delete_queryset(request, queryset)
        self._wake(request)

    def _wake(self, request: HttpRequest) -> None:
        """Wake the leader: what dangles may find a node now, and what a rule forbids moves within a minute."""
        ClusterStore.objects.wake()
        messages.info(
            request,
            "It holds for all placements from now on. Configs on forbidden nodes move within a minute.",
        )
