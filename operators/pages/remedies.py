"""The buttons on the first page: each alert's remedy, where a verb can provide one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from checks import dispatcher, plans, sources
from checks.dispatcher import deciding
from checks.dispatcher.acting import record_refusal
from checks.explain import forecasts
from checks.explain.alerts import WORDS, Alert, Kind, Word, beyond_moves, held_by_pins
from checks.explain.forecasts import Forecast
from checks.models import Config, Plan, freezes
from checks.models.bounds import WRITING, why_not_all, why_not_configs, why_not_source
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.wire.scrub import scrub
from clusteragent.lib.words import duration, grouped_count, listed
from nodes.models import Node
from operators import bounds, documentation, roles
from operators.admin.base import address, row_url
from operators.admin.questions import Question, is_about, said, seen_by
from operators.admin.sameness import NO_DEED, Deed, of_orders, of_thaw
from operators.admin.sources import UNDER_WAY, scan, scanned_names
from operators.errors import Lacks
from operators.pages import base

# Labels of alerts, of those whose kind is written otherwise.
_LABELS = {Kind.WARMUP: "Warm-up"}


@dataclass(frozen=True)
class Remedy:
    """A button. act(subject, actor): carries it out and returns a sentence that says what it did, or a plan to look at.

    forecast(): what that does, to be shown first. Without one it changes nothing that people must see before, or makes a plan.
    about(): the rows that it is about, if others of them are another question; ends: the kind of orders of these configs that it
    ends, where it ends some. takes_nothing: no config can lose its node by it, so an answer is not asked about again.
    same(about): how the same is done elsewhere.
    """

    label: str
    permission: str
    act: Callable[[str, str], str | Plan]
    forecast: Callable[[], Forecast] | None = None
    about: Callable[[], list[int]] = list
    ends: type[Order] | None = None
    takes_nothing: bool = False
    same: Callable[[list[int]], Deed] = lambda about: NO_DEED

    @property
    def done_by(self) -> str:
        """The label without its dots, which say that a page is shown first."""
        return self.label.rstrip("…")


class Line(NamedTuple):
    """What needs somebody, and the button. unpins: whether there is a button that unpins what overloads its nodes.

    kept: why a bound, or its roles, keep the button from the user; empty if neither does.
    """

    alert: Alert
    remedy: Remedy | None
    unpins: bool = False
    kept: str = ""

    @property
    def label(self) -> str:
        return _LABELS.get(self.alert.kind) or self.alert.kind.replace("_", " ").capitalize()

    @property
    def url(self) -> str:
        """Where what it is about is shown."""
        return address(self.alert.target)

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What its cause names, each with its URL."""
        return [(name, address(target)) for name, target in self.alert.parts]

    @property
    def advice(self) -> str:
        """Where the documentation says what to do."""
        return documentation.page("troubleshooting", self.alert.kind)

    @property
    def age(self) -> str:
        return duration(self.alert.age)

    @property
    def is_grave(self) -> bool:
        """Whether the cluster is not healthy while it lasts."""
        return WORDS[self.alert.kind] == Word.NOT_HEALTHY


def lines(found: Iterable[Alert], user: Any) -> list[Line]:
    """What needs somebody, each with the button that this user may press."""
    rows, scanned = [], scanned_names()
    for alert in found:
        remedy = REMEDIES.get(alert.kind)
        # Only sources that this program reads itself can be scanned. Held removals have no button here: the page that the line
        # links to shows what they remove first.
        can_act = not alert.subject or alert.subject in scanned
        kept = _kept(remedy, alert.subject, user) if remedy and can_act else ""
        if remedy and not kept and not (can_act and user.has_perm(remedy.permission)):
            remedy = None
        is_overload = alert.kind == Kind.OVERLOADED
        held = held_by_pins() if is_overload else {}
        beyond, one = beyond_moves(held) if is_overload else set(), alert.target.pk
        if is_overload and (len(beyond) == alert.count if one is None else one in beyond):
            # The cause says what helps instead.
            remedy, kept = None, ""
        unpins = (bool(held) if one is None else one in held) and user.has_perm(REMEDIES[UNPIN].permission)
        rows.append(Line(alert, remedy, unpins, scrub(kept)))
    return rows


def _kept(remedy: Remedy, subject: str, user: Any) -> str:
    """Why a bound, or its roles, keep the user from the whole of a remedy; empty if neither does."""
    if why := bounds.refusal(user, remedy.permission) or roles.why_not(user, remedy.permission):
        return why
    is_bound = why_not_all(remedy.permission, "it places whatever dangles")
    if not (is_bound and user.has_perm(remedy.permission)):
        return ""
    if remedy is _DISPATCH_NOW:
        return is_bound
    if remedy.permission in WRITING:
        return why_not_source(remedy.permission, subject)
    return why_not_configs(remedy.permission, remedy.about())


@base.page
@require_POST
def remedy(request: HttpRequest, kind: str) -> HttpResponse:
    """Press the button of an alert of this kind, or the one that unpins."""
    if kind not in REMEDIES:
        raise Http404
    chosen = REMEDIES[kind]
    if not request.user.has_perm(chosen.permission):
        raise Lacks(chosen.permission)
    about, button = chosen.about(), chosen.done_by
    # Where it takes nothing, what moves besides is no matter of asking again.
    is_seen = chosen.takes_nothing and is_about(seen_by(request, button), about)
    if chosen.forecast:
        orders = said(chosen.ends.objects.of(about)) if chosen.ends else ()
        question = Question.of(chosen.forecast, button, [*about, *orders], chosen.same(about))
        if is_seen:
            question.note()
        elif page := question.unanswered(
            request, reverse("admin:index"), freezes.Freeze if kind == Kind.FROZEN else Config
        ):
            return page
    return _pressed(request, chosen)


def _pressed(request: HttpRequest, chosen: Remedy) -> HttpResponse:
    """Carry out what the button does. A message says what was done, or why nothing was."""
    try:
        done = chosen.act(request.POST.get("subject", ""), request.user.get_username())
        if isinstance(done, Plan):
            return redirect(row_url(done))
        messages.info(request, done)
    except (plans.StalePlan, dispatcher.NotTheirs) as stale:
        messages.error(request, f"Not done, since something changed: {scrub(str(stale))}.")
    except dispatcher.Outside as outside:
        record_refusal(chosen.done_by, outside)
        messages.error(request, f"Not done: {scrub(str(outside))}.")
    except sources.SyncUnderWay:
        messages.error(request, UNDER_WAY)
    return redirect("admin:index")


def _dispatch(subject: str, actor: str) -> str:
    number = len(dispatcher.redispatch(actor=actor))
    return (
        f"{grouped_count(number, 'config')} dispatched."
        if number
        else "None could be dispatched: the reasons why they dangle still hold."
    )


def _resume(subject: str, actor: str) -> str | Plan:
    due = list(Pause.objects.over().filter(config__isnull=False).values_list("config_id", flat=True))
    return plans.store(deciding.resume(due), author=actor) if due else "No pause is overdue any more."


def _quarantined() -> list[int]:
    alone = Isolation.objects.filter(reason=Isolation.Reason.QUARANTINED, config__isnull=False)
    return list(alone.values_list("config", flat=True))


def _frozen() -> list[int]:
    return list(freezes.Freeze.objects.in_force().values_list("pk", flat=True))


def _release(subject: str, actor: str) -> str:
    return f"{grouped_count(dispatcher.release(_quarantined()), 'config')} released."


def _thaw(subject: str, actor: str) -> str:
    return "Balancing goes on." if freezes.thaw(actor=actor) else "Balancing is not frozen."


def _relieve(subject: str, actor: str) -> str | Plan:
    plan = plans.draft(actor=actor, force=True)
    if not any(1 < node["before"] > node["after"] for node in plan.nodes.values()):
        if held := held_by_pins():
            names = Node.objects.filter(pk__in=held).order_by("name").values_list("name", flat=True)
            pinned = f"what is pinned to {listed(list(names))} needs more than all of its workers"
            return f"No move would help: {pinned}. Unpin some of it first."
        if beyond_moves(held):
            return "No move would help: a config alone needs more than any node has."
        return "No move would help: no node that may run these configs has room, or they are pinned or have just moved."
    plan.save()
    return plan


def _held() -> list[int]:
    return [config for configs in held_by_pins().values() for config in configs]


def _unpin(subject: str, actor: str) -> str:
    return f"{grouped_count(dispatcher.unpin(_held()), 'config')} unpinned. What runs stays where it is: plan a relief now."


# What unpins the costliest configs of nodes that pins alone overload. It stands beside the button of that alert.
UNPIN = "unpin"
_DISPATCH_NOW = Remedy(
    "Dispatch now…",
    "checks.change_assignment",
    _dispatch,
    forecasts.redispatch,
    takes_nothing=True,
    same=lambda _: Deed(["redispatch"]),
)
REMEDIES: Mapping[str, Remedy] = {
    Kind.OVERLOADED: Remedy("Plan a relief", "checks.add_plan", _relieve),
    UNPIN: Remedy(
        "Unpin…",
        "checks.delete_pin",
        _unpin,
        lambda: forecasts.unpin(_held()),
        _held,
        Pin,
        same=lambda about: of_orders("unpin", Pin, about),
    ),
    Kind.UNSCHEDULED: _DISPATCH_NOW,
    Kind.DANGLING: _DISPATCH_NOW,
    Kind.PAUSE_OVERDUE: Remedy("Resume…", "checks.delete_pause", _resume),
    Kind.QUARANTINED: Remedy(
        "Release…",
        "checks.delete_isolation",
        _release,
        lambda: forecasts.release(_quarantined()),
        _quarantined,
        Isolation,
        same=lambda about: of_orders("release", Isolation, about),
    ),
    Kind.SOURCE_ERROR: Remedy("Scan again", "checks.change_source", lambda name, _: scan({name})),
    Kind.FROZEN: Remedy(
        "End the freeze…",
        "checks.delete_freeze",
        _thaw,
        forecasts.thaw,
        _frozen,
        takes_nothing=True,
        same=of_thaw,
    ),
}
