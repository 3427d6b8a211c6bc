"""The actions on configs, in their list and on their pages. An action that moves something shows a plan first."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Count, F, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.forms import ActionForm
from unfold.widgets import UnfoldBooleanWidget

from checks import dispatcher
from checks.dispatcher import costs, deciding
from checks.explain import forecasts
from checks.models import Assignment, Config
from checks.models.bounds import NEEDED
from checks.models.orders import Isolation
from clusteragent.lib.words import grouped_count, load_in_words, plain_count
from nodes.models import Node
from operators import returning
from operators.admin import sameness
from operators.admin.base import TABLE_ROWS, ReadOnlyAdmin, Table, is_across, link, list_url, row_url
from operators.admin.orderforms import DecidingForm, PauseForm, PinForm, ReassignForm
from operators.admin.plans import show_plan, unpin
from operators.admin.questions import Question, said
from operators.errors import Lacks

MOST_NODES = 500
# The most configs of one action. For more, the operator narrows the filter and repeats the action.
MOST_SELECTED = 20_000


def _needing(name: str) -> Callable[[Any, HttpRequest], bool]:
    """A check for the admin: whether the user has the permission that this action needs."""
    return lambda self, request: bool(request.user.has_perm(NEEDED[name]))


class AcrossForm(ActionForm):
    """The list's action form, with a box for all that match the filter: they are counted only after an action was chosen."""

    select_across = forms.BooleanField(
        label="All that match the filter",
        required=False,
        widget=UnfoldBooleanWidget(attrs={"value": "1"}),
    )

    def clean_select_across(self) -> bool:
        """Whether the box is checked. Scripts for Django's own form, which has a hidden field, send 0 for what is not."""
        return is_across(self.data)


class SteeringAdmin(ReadOnlyAdmin):
    """The actions on configs. The permissions to add and delete orders say which actions a user may run."""

    action_form = AcrossForm
    steering = ("reassign", "pin", "unpin", "pause", "resume", "isolate", "release")

    own_permissions = {**NEEDED, "unschedule": "checks.delete_config"}

    has_reassign_permission, has_pin_permission = _needing("reassign"), _needing("pin")
    has_unpin_permission, has_pause_permission = _needing("unpin"), _needing("pause")
    has_resume_permission, has_isolate_permission = _needing("resume"), _needing("isolate")
    has_release_permission = _needing("release")

    @admin.action(description="Reassign to a node…", permissions=["reassign"])
    def reassign(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Ask for a node and make the plan that moves these configs to it."""
        return self._plan(request, queryset, "reassign", ReassignForm)

    @admin.action(description="Pin…", permissions=["pin"])
    def pin(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Ask for a node, a pattern or a label, and make the plan that pins these configs to it."""
        return self._plan(request, queryset, "pin", PinForm)

    @admin.action(description="Pause…", permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Ask for an end and make the plan that pauses these configs."""
        return self._plan(request, queryset, "pause", PauseForm)

    @admin.action(description="Unpin…", permissions=["unpin"])
    def unpin(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Show what follows, then delete the pins of these configs. None of them moves at once."""
        ids = self.ids(request, queryset)
        return unpin(request, ids, list_url(Config), self.only(queryset, ids)) if ids else None

    @admin.action(description="Resume…", permissions=["resume"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Make the plan that ends the pauses of these configs. It shows which come back, and where."""
        ids = self.ids(request, queryset.filter(pause__isnull=False))
        return show_plan(request, lambda: deciding.resume(ids), "Not resumed")

    @admin.action(description="Isolate: leave it alone on its node…", permissions=["isolate"])
    def isolate(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Make the plan that isolates these configs. It shows where the other configs of their nodes would go."""
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: TABLE_ROWS + 1])
        if len(ids) > TABLE_ROWS:
            messages.error(request, f"At most {TABLE_ROWS} configs are isolated at once: each takes a node for itself.")
            return None
        return show_plan(request, lambda: deciding.isolate(ids), "Not isolated")

    @admin.action(description="Release from isolation…", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Show what follows, then delete the isolations of these configs."""
        ids = self.ids(request, queryset)
        if not ids:
            return None
        same, alone = sameness.of_orders("release", Isolation, ids), list(Isolation.objects.of(ids))
        question = Question.of(lambda: forecasts.release(ids), "Release", [*ids, *said(alone)], same)
        if page := question.unanswered(request, list_url(Config), self.only(queryset, ids)):
            return page
        released = dispatcher.release(ids, only=[one.pk for one in alone])
        messages.success(request, f"{plain_count(released, 'config')} released.")
        return None

    def ids(self, request: HttpRequest, queryset: QuerySet[Config]) -> list[int]:
        """The ids of the chosen configs. If there are more than MOST_SELECTED, show an error and return none."""
        ids = list(queryset.order_by("pk").values_list("pk", flat=True)[: MOST_SELECTED + 1])
        if len(ids) <= MOST_SELECTED:
            return ids
        messages.error(request, f"More than {MOST_SELECTED} configs match. Narrow the filter.")
        return []

    def only(self, queryset: QuerySet[Config], ids: Sequence[int]) -> Config | type[Config]:
        """The only chosen config; of several, which may be very many, their model."""
        return queryset.get(pk=ids[0]) if len(ids) == 1 else Config

    def _plan(
        self, request: HttpRequest, queryset: QuerySet[Config], action: str, form_class: type[DecidingForm]
    ) -> HttpResponse | None:
        """Ask for the order's details, then make its plan and show the plan's page."""
        if is_across(request.POST):
            # Endpoint checks can't be ordered about, so "all" leaves them out.
            queryset = queryset.filter(node_name="")
        ids = self.ids(request, queryset)
        if not ids:
            return None
        form = form_class(request.POST if "asked" in request.POST else None)
        form.fields.pop("configs", None)
        plan = form.plan(ids, request.user.get_username()) if form.is_valid() else None
        if plan is not None:
            return redirect(row_url(plan))
        return self._ask_details(request, queryset, ids, action, form)

    def _ask_details(
        self, request: HttpRequest, queryset: QuerySet[Config], ids: Sequence[int], action: str, form: DecidingForm
    ) -> HttpResponse:
        shown = queryset.filter(pk__in=ids[:TABLE_ROWS])
        subject = str(self.only(queryset, ids)) if len(ids) == 1 else grouped_count(len(ids), "config")
        title = f"{action.capitalize()} {subject}"
        return self.ask(
            request, title, action, ids, shown, form=form, nodes=_roomy(without=_only_owner(ids))[:MOST_NODES]
        )

    def giving(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for a node for one config, as the button of its page does, for a link. `?node=` fills it in."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET"])
        if not self.has_reassign_permission(request):
            raise Lacks(NEEDED["reassign"])
        config = self.get_object(request, str(pk))
        if why := self.why_not(request, "reassign", config):
            messages.error(request, f"Not yours to do: {why}.")
            return redirect(row_url(config))
        form = ReassignForm(initial={"node": request.GET.get("node", "")})
        return self._ask_details(request, Config.objects.filter(pk=config.pk), [config.pk], "reassign", form)

    def ask(
        self, request: HttpRequest, title: str, action: str, ids: Sequence[int], shown: Iterable[Config], **context: Any
    ) -> HttpResponse:
        """The page between the choice of an action and the action itself. shown: the listed configs; ids: all of them.

        A page that no form was sent to leads to the list, which has the actions.
        """
        back = returning.named(request, list_url(Config)) if request.method == "POST" else row_url(Config(pk=ids[0]))
        across = is_across(request.POST)
        rows = [(link(config), self.owner(config), self.origins(config)) for config in shown]
        context |= self.admin_site.each_context(request) | {
            "title": title,
            "action": action,
            "opts": self.opts,
            "number": len(ids),
            "across": across,
            # They may be too many to name in the form: the filter finds them again.
            "named": [] if across else ids,
            "send_to": "" if request.method == "POST" else list_url(Config),
            "back_to": returning.named(request) if request.method == "POST" else back,
            "back": back,
            "table": Table("", ("config", "owner now", "origins"), rows),
            "left": max(len(ids) - len(rows), 0),
        }
        return TemplateResponse(request, f"admin/checks/{action}.html", context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if is_across(request.POST) and not request.POST.getlist(ACTION_CHECKBOX_NAME):
            # Django runs no action without a selected row, even if all that match are meant.
            posted = request.POST.copy()
            posted[ACTION_CHECKBOX_NAME] = "0"
            request.POST = posted  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)


def _only_owner(ids: Sequence[int]) -> int:
    """The id of the node that has all of these configs; 0 if no node has."""
    owners = Assignment.objects.filter(config__in=ids).values_list("node").annotate(number=Count("pk"))[:2]
    return next((node for node, number in owners if number == len(ids)), 0)


def _roomy(*, without: int) -> list[tuple[str, str, int]]:
    """(name, load, number of configs) of the nodes that take configs, the least loaded first. Without those that a person would
    not choose who knew more of them: slow, overloaded and full ones, and the one with this id, where they are already.
    """
    fit: Any = (
        Node.objects.accepting()
        .exclude(pk=without)
        .exclude(slowness__level__gt=0)
        .exclude(runner__overloaded_since__isnull=False)
    )
    fit = fit.annotate(configs=Count("assignments")).exclude(max_configs__lte=F("configs"))
    loads, assumed = costs.told()
    rows = [
        (loads.get(pk, 0.0), configs, name, pk in assumed)
        for pk, name, configs in fit.values_list("pk", "name", "configs")
    ]
    # A guess makes no node full.
    return [
        (name, load_in_words(load, is_assumed=is_assumed), configs)
        for load, configs, name, is_assumed in sorted(rows)
        if load < 1 or is_assumed
    ]
