"""The plans in the admin: what each would move, and applying it."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.db.models import Case, F, Model, QuerySet, TextField, Value, When
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Concat, Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldBooleanWidget

from acts.models import Act
from acts.recording import record
from checks import dispatcher, plans
from checks.dispatcher import REFUSALS, Decision, described
from checks.dispatcher.acting import record_refusal
from checks.explain import consequences, forecasts, foreseen
from checks.models import Config, Plan, freezes
from checks.models.bounds import NEEDED, why_not_configs
from checks.models.orders import Pin
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import listed, load_change, plain_count
from operators import bounds
from operators.admin import planpage, sameness
from operators.admin.base import (
    ReadOnlyAdmin,
    Table,
    aged,
    dated,
    elsewhere,
    example,
    list_url,
    row_url,
    time_column,
)
from operators.admin.greying import Greyed
from operators.admin.orderforms import NoteField, UntilField
from operators.admin.questions import MOST_LISTED, Question, is_typed, said
from operators.errors import Lacks
from operators.roles import comes_with, with_permission

# Who may make a plan of a rebalance.
PLANS = "checks.add_plan"

# A plan's verb as its name begins, and of how many configs it is: one stands before several. Without a verb it is a rebalance.
_VERB = Case(
    When(order__verb="reassign", then=Value("give")),
    default=Coalesce(KeyTextTransform("verb", "order"), Value("rebalance")),
    output_field=TextField(),
)
_SHOWN = Concat(_VERB, Value(" ", output_field=TextField()), Cast("number", TextField()), output_field=TextField())


class RebalanceForm(forms.Form):
    """How much a rebalance may move."""

    force = forms.BooleanField(label="Even if it makes no clear difference", required=False, widget=UnfoldBooleanWidget)
    unlimited = forms.BooleanField(
        label="Without a limit of moves",
        required=False,
        help_text="Otherwise no more moves than an automatic rebalance makes in one period.",
        widget=UnfoldBooleanWidget,
    )


class DrainForm(forms.Form):
    """By when the nodes of a drain shall be empty, and why."""

    by = UntilField(empty="at the usual pace", told="All of it moves by then, however much that is at once")
    note = NoteField()


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    """The plans, the last one first. A plan is applied on its page."""

    empty = (
        "A plan shows what an order would move before anything moves: pins, pauses, drains, rebalances and others make one."
        " It is applied, and where that is possible undone, on its page."
    )
    list_display = ("shown", "author", "when", "moving", "peak", "state")
    greatest_first = ("moving", "peak")
    is_endless = True
    indexed = ("when",)
    # How many it moved, or paused, is said above them.
    fields = readonly_fields = ("author", "made", "applied", "outcome")
    when, made, applied = time_column("time"), time_column("time", dated), time_column("applied_at", dated, "applied")
    change_form_outer_before_template = "admin/checks/plan_head.html"
    list_before_template = "admin/checks/plan_buttons.html"

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("rebalance/", self.admin_site.admin_view(self.rebalance), name="checks_plan_rebalance"),
            path("<int:pk>/apply/", self.admin_site.admin_view(require_POST(self.apply)), name="checks_plan_apply"),
            path("<int:pk>/anew/", self.admin_site.admin_view(require_POST(self.anew)), name="checks_plan_anew"),
            path("<int:pk>/undo/", self.admin_site.admin_view(require_POST(self.undo)), name="checks_plan_undo"),
        ]
        return [*own, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        offered = {
            "may_rebalance": request.user.has_perm(PLANS),
            "may_freeze": request.user.has_perm("checks.add_freeze"),
            "why_off": freezes.why_off(),
        }
        return super().changelist_view(request, offered | (extra_context or {}))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        """Without what there is nothing to say of: when it was applied, and what came of that."""
        told = {"applied": obj is None or obj.applied_at, "outcome": obj is None or obj.outcome}
        return [name for name in self.fields if told.get(name, True)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        """The plans with the number of their moves. The moves themselves may be many and are read later."""
        return Plan.objects.with_number().annotate(first_move=F("moves__0"), now=Now()).defer("moves", "nodes")

    @display(description="plan", ordering=Natural(_SHOWN))
    def shown(self, plan: Any) -> str:
        """The plan in a few words."""
        return str(plan)

    @display(description="moves", ordering="number")
    def moving(self, plan: Any) -> int:
        """The number of moves."""
        return int(plan.number)

    # By that after it.
    @display(description="highest load", ordering=F("spread__peak__1").asc(nulls_first=True))
    def peak(self, plan: Plan) -> str:
        """The highest load before and after."""
        return load_change(plan.spread["peak"]) if plan.spread else ""

    @display(description="applied", ordering=F("applied_at").asc(nulls_first=True))
    def state(self, plan: Any) -> SafeString | str:
        """When it was applied, or no."""
        return aged(plan.applied_at, plan.now) or "no"

    def page_context(self, request: HttpRequest, plan: Plan) -> dict[str, Any]:
        kept = [] if plan.applied_at else Greyed.of([("Apply", _kept(request.user, plan))])
        may_apply = plan.applied_at is None and not kept
        stale = scrub(plans.why_stale(plan)) if may_apply else ""
        ways = [
            (way, planpage.undoing(plan, way), _kept_back(plan, way)) for way in plans.ways_back(request.user, plan)
        ]
        return {
            "plan": plan,
            "what": plan,
            "sentence": consequences.sentence(plan),
            "worse": [] if plan.applied_at else consequences.worse(plan),
            "word": planpage.typed_word(plan),
            "notes": planpage.notes(plan),
            "done": planpage.done(plan, plan.moved),
            "may_apply": may_apply,
            "kept": kept,
            "stale": stale,
            "anew_url": reverse("admin:checks_plan_anew", args=[plan.pk]) if plans.can_be_decided_anew(plan) else "",
            "progress": list(planpage.progress(plan)) if plan.applied_at else [],
            "undo": [(way, words) for way, words, why in ways if not why],
            "kept_back": Greyed.of((words, why) for _, words, why in ways),
            "undo_url": reverse("admin:checks_plan_undo", args=[plan.pk]),
            "form": DrainForm() if plan.order.get("verb") == "drain" else None,
            "elsewhere": elsewhere(
                request, plan, example(request, "operators:plan-detail", plan.pk), *sameness.of_plan(request, plan)
            ),
            "apply_url": reverse("admin:checks_plan_apply", args=[plan.pk]),
        }

    def greyed(self, request: HttpRequest) -> list[Greyed]:
        deeds = (("Rebalance…", PLANS), ("Freeze balancing…", "checks.add_freeze"))
        return Greyed.of((words, bounds.refusal(request.user, permission)) for words, permission in deeds)

    def tables(self, request: HttpRequest, plan: Plan) -> list[Table]:
        return planpage.tables(plan)

    def apply(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Apply a plan, or show why it can't be applied any more."""
        plan = self.get_queryset(request).filter(pk=pk).first()
        if plan is None:
            raise Http404
        if not plans.may_apply(request.user, plan):
            raise PermissionDenied
        word = planpage.typed_word(plan)
        if plan.applied_at is None and word and not is_typed(request, word):
            return _refused(request, plan, f"plan {plan.pk}: {plan}", f"type {word} to confirm it")
        if plan.order.get("verb") == "drain":
            form = DrainForm(request.POST)
            if not form.is_valid():
                wrong = next(field for field in form if field.errors)
                messages.error(request, f"Nothing was done. {wrong.label} {scrub(wrong.data)}: {wrong.errors[0]}")
                return redirect(row_url(plan))
            plans.complete_drain(plan, **form.cleaned_data)
        self._carry_out(request, plan, may_close=bool(word))
        return redirect(row_url(plan))

    def _carry_out(self, request: HttpRequest, plan: Plan, *, may_close: bool) -> None:
        foreseen.note_plan(plan)
        try:
            moves = plans.apply(plan, actor=request.user.get_username(), may_close=may_close)
        except plans.StalePlan as stale:
            messages.error(request, f"Nothing was moved, since something changed: {scrub(str(stale))}. Plan anew.")
        except OperationalError as busy:
            messages.error(request, f"Nothing was moved: {scrub(described(busy))}. Apply it again.")
        else:
            plan.refresh_from_db()
            messages.success(request, f"{plan}: {planpage.done(plan, len(moves))}.")
            if plan.outcome:
                messages.warning(request, scrub(plan.outcome))

    def anew(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make a plan of what a stale one orders, as things are now."""
        plan = get_object_or_404(Plan, pk=pk)
        if not plans.may_apply(request.user, plan):
            raise PermissionDenied
        if not plans.can_be_decided_anew(plan):
            raise Http404
        return show_plan(request, lambda: plans.decide_anew(plan), "No new plan") or redirect(row_url(plan))

    def undo(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take an applied plan back: its pins after asking, its pauses and moves by a plan. What was shown and holds no more is
        refused.
        """
        plan = get_object_or_404(Plan, pk=pk)
        ways = plans.ways_back(request.user, plan)
        if not ways:
            raise PermissionDenied
        way = request.POST.get("way") or ways[0]
        if way not in ways:
            why = "this plan's pins, or its moves, were taken back or replaced already"
            return _refused(request, plan, f"{way} plan {plan.pk}: {plan}", why)
        if way == "unpin":
            return unpin(request, plans.pinned_by(plan), row_url(plan)) or redirect(row_url(plan))
        return show_plan(request, lambda: plans.decide_undo(plan), "Nothing to undo") or redirect(row_url(plan))

    def rebalance(self, request: HttpRequest) -> HttpResponse:
        """Ask how much may move, and make a plan of it."""
        if not request.user.has_perm(PLANS):
            raise Lacks(PLANS)
        form = RebalanceForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            plan = plans.make(actor=request.user.get_username(), **form.cleaned_data)
            if plan.moves:
                return redirect(row_url(plan))
            messages.info(request, "There is nothing to move that would make a clear difference.")
        context = self.admin_site.each_context(request) | {
            "title": "Rebalance",
            "opts": self.opts,
            "form": form,
            "list_url": list_url(Plan),
        }
        return TemplateResponse(request, "admin/checks/rebalance.html", context)


def _refused(request: HttpRequest, plan: Plan, what: str, why: str) -> HttpResponse:
    """Say why nothing was done with a plan, on record, and lead back to its page. what: what was to be done."""
    problem, (configs, nodes) = f"Nothing was done: {why}", plan.concerned(MOST_LISTED)
    record(Act.Verb.REFUSE, what, reason=problem, plan=plan.pk, configs=configs, nodes=nodes)
    messages.error(request, f"{problem}.")
    return redirect(row_url(plan))


def _kept(user: Any, plan: Plan) -> str:
    """Why the user may not apply a plan: by a bound, or since no role gives it; empty if it may."""
    if why := bounds.refusal(user, NEEDED[plan.order.get("verb", "")]):
        return why
    if lacked := [one for one in plans.needed(plan) if not user.has_perm(one)]:
        return f"this {comes_with(with_permission(lacked[0]))}"
    return plans.why_outside(plan)


def _kept_back(plan: Plan, way: str) -> str:
    """Why a bound keeps the user from taking a plan back this way; empty if none does."""
    verb = way if way == "unpin" else "resume" if plan.order.get("verb") == "pause" else "undo"
    moved = [move["config"] for move in plan.moves]
    return why_not_configs(NEEDED[verb], plans.pinned_by(plan) if way == "unpin" else moved)


def show_plan(request: HttpRequest, decide: Callable[[], Decision], failed: str) -> HttpResponse | None:
    """Store the plan of what is decided, and lead to its page. None, with a message, if that is refused or nothing is to be done.

    failed: how the message begins.
    """
    try:
        decision = decide()
    except REFUSALS as refusal:
        record_refusal("order", refusal)
        messages.error(request, f"{failed}: {scrub(described(refusal))}.")
        return None
    if decision.is_empty:
        why = listed(sorted(set(decision.refused.values()))) or "nothing of it is left to do"
        messages.warning(request, f"{failed}: {scrub(why)}.")
        return None
    return redirect(row_url(plans.store(decision, author=request.user.get_username())))


def unpin(
    request: HttpRequest, ids: Collection[int], back: str, row: Model | type[Model] = Config
) -> HttpResponse | None:
    """Show what follows without the pins of these configs until that is confirmed, then delete them. None once nothing is to be
    asked: a message says what was done. back, row: see `Question.unanswered`.
    """
    try:
        same, pins = sameness.of_orders("unpin", Pin, ids), list(Pin.objects.of(ids))
        question = Question.of(lambda: forecasts.unpin(ids), "Unpin", [*ids, *said(pins)], same)
        if page := question.unanswered(request, back, row):
            return page
        unpinned = dispatcher.unpin(ids, only=[pin.pk for pin in pins])
    except REFUSALS as refusal:
        messages.error(request, f"Not unpinned: {scrub(str(refusal))}.")
        return None
    messages.success(request, f"{plain_count(unpinned, 'config')} unpinned. What runs stays where it is.")
    return None
