"""The plans in the admin: what each would move, and applying it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
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
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldBooleanWidget

from acts.models import Act
from acts.recording import record
from checks import dispatcher, plans
from checks.dispatcher import REFUSALS, Decision, described
from checks.dispatcher.acting import record_refusal
from checks.explain import drains, forecasts
from checks.models import Config, Plan, freezes
from checks.models.bounds import NEEDED, why_not_configs
from checks.models.orders import Pin
from checks.models.titles import called
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import grouped_count, listed, natural, percent, plain_count, utc
from nodes.models import Node, Slowness, UnknownNode
from operators import bounds
from operators.admin import sameness
from operators.admin.base import (
    ReadOnlyAdmin,
    Table,
    aged,
    dated,
    elsewhere,
    example,
    first_of,
    link,
    list_url,
    row_url,
    time_column,
)
from operators.admin.greying import Greyed
from operators.admin.orderforms import NoteField, UntilField
from operators.admin.questions import Question, is_typed, word_of, word_of_configs
from operators.errors import Lacks
from operators.roles import comes_with, with_permission

MOST_MOVES = 200
MOST_NODES = 100
# The most nodes of a drain that are told one by one.
MOST_DRAINED = 5
# A smaller rise of the highest load is no news.
NOTICEABLE = 0.01
# Who may make a plan of a rebalance.
PLANS = "checks.add_plan"
# What takes a plan back, by its verb. Ending a drain is cordoning's, and what was resumed is paused anew.
UNDOES = dict.fromkeys(("", "reassign", "pin", "isolate", "undo", "adopt"), "Undo…") | {
    "pause": "Resume what it paused…"
}

# A plan's verb as its name begins, and the name without what it is of. Without a verb it is a rebalance.
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

    by = UntilField(empty="at the usual pace")
    note = NoteField()


@admin.register(Plan)
class PlanAdmin(ReadOnlyAdmin):
    """The plans, the last one first. A plan is applied on its page."""

    empty = (
        "A plan shows what an order would move before anything moves: pins, pauses, drains, rebalances and others make one."
        " It is applied, and where that is possible undone, on its page."
    )
    list_display = ("shown", "author", "when", "moving", "peak", "state")
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
        ways = [(way, _undoing(plan, way), _kept_back(plan, way)) for way in plans.ways_back(request.user, plan)]
        return {
            "plan": plan,
            "what": plan,
            "sentence": sentence(plan),
            "worse": []
            if plan.applied_at
            else [*worse(plan.spread.get("peak", ()), nowhere(plan)), *_closing(plan.order)],
            "word": _word(plan),
            "notes": notes(plan),
            "done": done(plan, plan.moved),
            "may_apply": may_apply,
            "kept": kept,
            "stale": stale,
            "anew_url": reverse("admin:checks_plan_anew", args=[plan.pk]) if plans.can_be_decided_anew(plan) else "",
            "progress": list(_progress(plan)) if plan.applied_at else [],
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
        loads = sorted(plan.nodes.items(), key=lambda node: -abs(node[1]["after"] - node[1]["before"]))
        nodes = [(name, percent(load["before"]), percent(load["after"])) for name, load in loads[:MOST_NODES]]
        left = plan.staying() if plan.order.get("verb") == "resume" else []
        shown = Config.objects.told_apart([(one["config"], one["title"], one["name"], one["digest"]) for one in left])
        dangling = [(link(Config(pk=one["config"]), name),) for one, name in zip(left, shown, strict=True)]
        moves = _in_order(plan)[:MOST_MOVES]
        configs = Config.objects.told_apart(
            [(move["config"], move.get("title", ""), move["name"], move["digest"]) for move in moves]
        )
        return [
            *([Table.of("Would run nowhere", ("config",), dangling)] if dangling else []),
            Table(first_of("Nodes", len(nodes), len(loads)), ("node", "load before", "load after"), nodes),
            Table(
                first_of("Moves", len(moves), len(plan.moves)),
                ("config", "from", "to"),
                [_route(move, config) for move, config in zip(moves, configs, strict=True)],
            ),
        ]

    def apply(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Apply a plan, or show why it can't be applied any more."""
        plan = self.get_queryset(request).filter(pk=pk).first()
        if plan is None:
            raise Http404
        if not plans.may_apply(request.user, plan):
            raise PermissionDenied
        word = _word(plan)
        if plan.applied_at is None and word and not is_typed(request, word):
            problem = f"Nothing was done: type {word} to confirm it"
            record(Act.Verb.REFUSE, f"plan {plan.pk}: {plan}", reason=problem, plan=plan.pk)
            messages.error(request, f"{problem}.")
            return redirect(row_url(plan))
        if plan.order.get("verb") == "drain":
            form = DrainForm(request.POST)
            if not form.is_valid():
                wrong = next(field for field in form if field.errors)
                messages.error(request, f"Nothing was done. {wrong.label} {scrub(wrong.data)}: {wrong.errors[0]}")
                return redirect(row_url(plan))
            plans.complete_drain(plan, **form.cleaned_data)
        self._carry_out(request, plan)
        return redirect(row_url(plan))

    def _carry_out(self, request: HttpRequest, plan: Plan) -> None:
        try:
            moves = plans.apply(plan, actor=request.user.get_username())
        except plans.StalePlan as stale:
            messages.error(request, f"Nothing was moved, since something changed: {scrub(str(stale))}. Plan anew.")
        except OperationalError as busy:
            messages.error(request, f"Nothing was moved: {scrub(described(busy))}. Apply it again.")
        else:
            plan.refresh_from_db()
            messages.success(request, f"{plan}: {done(plan, len(moves))}.")
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
        """Take an applied plan back: its pins after asking, its pauses and moves by a plan."""
        plan = get_object_or_404(Plan, pk=pk)
        ways = plans.ways_back(request.user, plan)
        if not ways:
            raise PermissionDenied
        # Each shows what it does first, so that a button which does not hold any more may lead to the other one.
        way = request.POST.get("way")
        if (way if way in ways else ways[0]) == "unpin":
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
        question = Question.of(lambda: forecasts.unpin(ids), "Unpin", ids)
        if page := question.unanswered(request, back, row):
            return page
        unpinned = dispatcher.unpin(ids)
    except REFUSALS as refusal:
        messages.error(request, f"Not unpinned: {scrub(str(refusal))}.")
        return None
    messages.success(request, f"{plain_count(unpinned, 'config')} unpinned. What runs stays where it is.")
    return None


def _undoing(plan: Plan, way: str) -> str:
    """The words of the button that takes an applied plan back this way."""
    return "Unpin what it pinned…" if way == "unpin" else UNDOES[plan.order.get("verb", "")]


def sentence(plan: Plan) -> str:
    """How many configs the plan moves, and how the highest load changes."""
    number = len(plan.moves)
    if not number:
        return "Nothing moves."
    one, many = {"pause": ("stops running", "stop running"), "resume": ("comes back", "come back")}.get(
        plan.order.get("verb", ""), ("moves", "move")
    )
    verb = one if number == 1 else many
    peak = load_change(plan.spread["peak"])
    return (
        f"{plain_count(number, 'config')} {verb}. {plain_count(len(plan.nodes), 'node')} touched, highest load {peak}."
    )


def done(plan: Plan, moved: int) -> str:
    """What applying the plan did or began. moved: the number of configs."""
    if plan.order.get("verb") == "drain":
        return (
            f"begun, {plain_count(len(plan.moves), 'config')} to move bit by bit"
            if plan.moves
            else "begun, nothing to move"
        )
    verb = {"pause": "paused", "resume": "resumed"}.get(plan.order.get("verb"), "moved")
    return f"{plain_count(moved, 'config')} {verb}"


def _progress(plan: Plan) -> Iterator[str]:
    """How far an applied drain is, a sentence for each of its first nodes."""
    nodes = plan.order["nodes"] if plan.order.get("verb") == "drain" else ()
    for name in nodes[:MOST_DRAINED]:
        try:
            drain = drains.of(name)
        except UnknownNode as gone:
            yield f"{gone}."
            continue
        moved = f", {plain_count(drain.moved, 'config')} moved since" if drain.moved else ""
        said = drain.sentence
        yield f"{said[0].upper()}{said[1:]}{moved}."
        yield from (f"{reason}." for reason in drain.reasons)
    if len(nodes) > MOST_DRAINED:
        yield f"And {plain_count(len(nodes) - MOST_DRAINED, 'node')} more."


def notes(plan: Plan) -> Sequence[str]:
    """What an operator should know before applying the plan, one sentence each."""
    order = plan.order
    found = [f"Until {order['until'][:16].replace('T', ' ')} UTC."] if order.get("until") else []
    found += [f"By {utc(datetime.fromisoformat(order['by']))}."] if order.get("by") else []
    found += [f"Note: {scrub(order['note'])}"] if order.get("note") else []
    if refused := order.get("refused"):
        why = scrub(listed(sorted(set(refused.values()))))
        found.append(f"{plain_count(len(refused), 'move')} can't be undone: {why}.")
    return [*found, *_consequences(order), *_pinned_there(plan), *_slow_there(plan)]


def _pinned_there(plan: Plan) -> Iterator[str]:
    """What becomes of configs that are pinned to the nodes of a drain."""
    if plan.order.get("verb") == "drain":
        moved = [move["config"] for move in plan.moves]
        pins = Pin.objects.filter(config__in=moved, kind=Pin.Kind.NODE, aim__in=plan.order["nodes"])
        if number := pins.count():
            yield f"{plain_count(number, 'config')} of it pinned there: back as soon as the node takes work again."


def _slow_there(plan: Plan) -> Iterator[str]:
    """What the plan's loads leave out: what a slow node gets takes longer there."""
    slow = Slowness.objects.slow().filter(node__name__in={move["to_node"] for move in plan.moves} - {""})
    if names := sorted(slow.values_list("node__name", flat=True), key=natural):
        are = "is" if len(names) == 1 else "are"
        yield f"{listed(names)} {are} slow: what moves there may take longer than it does now, and load it more than this says."


def _consequences(order: dict[str, Any]) -> Iterator[str]:
    """The effects of an order besides its moves, one sentence each."""
    verb, also = order.get("verb", ""), order.get("also", ())
    if verb == "isolate":
        one, their = ("it is", "its node") if len(order["alone"]) == 1 else ("they are", "their nodes")
        yield f"Until {one} released, nothing else is placed on {their}."
        if company := len({id_ for id_, *_ in also} - set(order["alone"])):
            yield f"{plain_count(company, 'config')} may run nowhere else, and would stay."
    elif also:
        yield _staying(verb, plain_count(len(also), "config"))
    if verb == "pin" and not _is_node_known(order):
        then = "run nowhere" if order["waits"] else "run elsewhere"
        yield f"There is no such node now: until there is one, they {then}."
    if verb == "reassign" and not order["hold"]:
        yield "They are not pinned: the next rebalance may move them away again."
    if verb == "undo" and not freezes.why_off():
        freeze = reverse("admin:checks_freeze_add")
        # An undone rebalance leaves the loads that it was made for.
        again = f"Balancing goes on and may move them, or others, again: {forecasts.rounds()}."
        yield format_html(
            '{} <a class="underline" href="{}">Freeze it first</a> where nothing shall move.', again, freeze
        )
    if verb == "drain":
        yield "The nodes get nothing new from then on, and what they have moves bit by bit."


def _staying(verb: str, configs: str) -> str:
    """Why configs of an order don't move."""
    match verb:
        case "drain":
            return f"{configs} can go to no other node now, and would stay."
        case "resume":
            return f"{configs} of it would dangle: no node may have it now."
        case _:
            return f"{configs} of it would stay: on the right node already, or on none."


def _is_node_known(order: dict[str, Any]) -> bool:
    """Whether a known node matches the pin."""
    pin = Pin(kind=order["kind"], aim=order["aim"])
    return any(pin.matches(*node) for node in Node.objects.known().values_list("name", "labels"))


def worse(peak: Sequence[float], nowhere: int) -> list[str]:
    """In which ways a plan makes things worse, in words that every plan's page shows in red. nowhere: configs without a node."""
    found = [f"{grouped_count(nowhere, 'config')} would run nowhere."] if nowhere else []
    if len(peak) == 2 and peak[1] - peak[0] >= NOTICEABLE:
        found.append(f"It raises the highest load from {percent(peak[0])} to {percent(peak[1])}.")
    return found


def _word(plan: Plan) -> str:
    """What must be typed to apply a plan by which configs that should run would not, or no node would take work; else empty.

    Of a drain it is its node, of others the config, or its check.
    """
    if plan.order.get("verb") == "drain":
        left = any(move["to"] is None for move in plan.moves) or _closing(plan.order)
        return word_of(plan.order["nodes"], "node") if left else ""
    return word_of_configs(
        [(called(move.get("title", ""), move["name"], move["digest"]), move["name"]) for move in _left(plan)]
    )


def _closing(order: dict[str, Any]) -> Sequence[str]:
    """What a drain means that leaves no node which takes work, in red."""
    return list(filter(None, [forecasts.closing(order["nodes"])])) if order.get("verb") == "drain" else ()


def nowhere(plan: Plan) -> int:
    """How many configs should run and would have no node by this plan."""
    return len(_left(plan))


def _left(plan: Plan) -> list[dict[str, Any]]:
    """The configs that should run and would have no node by this plan."""
    verb = plan.order.get("verb")
    moves = [] if verb == "pause" else [move for move in plan.moves if move["to"] is None]
    return [*moves, *(plan.staying() if verb == "resume" else ())]


def load_change(values: Sequence[float]) -> str:
    """The highest load before and after."""
    return f"{percent(values[0])} → {percent(values[1])}"


def _in_order(plan: Plan) -> Sequence[dict[str, Any]]:
    """A plan's moves: of a rebalance those that gain most first, of an order by name."""
    if not plan.order:
        return plan.moves
    return sorted(plan.moves, key=lambda move: natural(called(move.get("title", ""), move["name"], move["digest"])))


def _route(move: dict[str, Any], config: str) -> list[SafeString | str]:
    ends = ((move["source"], move["from_node"]), (move["to"], move["to_node"]))
    return [
        link(Config(pk=move["config"]), config),
        *(link(Node(pk=pk), name) if pk else "nobody" for pk, name in ends),
    ]
