"""The page of changes: how many configs moved and why, as stories that unfold to moves. Some moves can be undone."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Min
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from acts.models import Act
from acts.recording import record
from checks import dispatcher
from checks.dispatcher import deciding
from checks.models import Config, Move
from checks.wire.scrub import scrub
from clusteragent.lib import clock, deadlines
from clusteragent.lib.words import duration, grouped_count
from nodes.models import Node, NodeEvent
from nodes.pools import pool_of
from operators.admin.acts import SEES
from operators.admin.base import list_url, row_url
from operators.admin.plans import show_plan
from operators.errors import Lacks
from operators.pages import base, stories, titles
from operators.pages.bars import HEIGHT, WIDTH, chart, reasons_of
from operators.pages.exports import FORMATS, export
from operators.pages.ranges import SPANS, Range
from operators.roles import sees_digests

# The most lines of the ledger that are read, stories on a page, moves and events of an unfolded story, and undone moves that a
# form names one by one.
MOST_MOVES = 10_000
MOST_STORIES = 200
MOST_LINES = 200
MOST_UNDONE = 1000
# An order may be on record this long before its first move, or after its last one.
AROUND = timedelta(minutes=1)
# A range that ended so short a time ago is one up to now.
UNTIL_NOW = timedelta(seconds=10)
UNDO = "checks.change_assignment"


class Line(NamedTuple):
    """A move of an unfolded story. why_not: why it can't be undone, empty if it can; None for users who may not undo.

    is_told: whether that is said above, of all for which it is the same.
    """

    move: Move
    name: str
    url: str
    why_not: str | None
    is_told: bool = False

    @property
    def rule(self) -> str:
        """The rule for which the config left its node; empty for other moves."""
        return scrub((self.move.why or {}).get("forbidden_by", ""))


@base.page
def changes(request: HttpRequest) -> HttpResponseBase:
    """The page of changes in a range of time, or with `?format=` an export of them."""
    span, problem = Range.asked(request.GET, clock.now())
    form = request.GET.get("format", "")
    if form in FORMATS and not problem:
        # Before: it is read while it is sent.
        record(Act.Verb.EXPORT, f"changes as {form}", after={"since": f"{span.since}", "until": f"{span.until}"})
        return export(span, form, exact=sees_digests(request.user))
    # Counted back from now. Of a range that ended before it is not known what came and went since.
    sizes = _sizes() if clock.now() - span.until <= UNTIL_NOW else None
    history, drawn = stories.read(span.since, span.until, MOST_MOVES, sizes), chart(span)
    first = None if drawn.bars else _first_record()
    context = {
        "span": span,
        "spans": [(last, duration(length)) for last, length in SPANS.items()],
        "problem": problem,
        "at": request.GET.get("at", ""),
        "zone": str(deadlines.zone_of(request.GET.get("zone", ""))),
        "chart": drawn,
        "unknown_before": first if first and span.until <= first else None,
        "legend": reasons_of(drawn.totals),
        "size": (WIDTH, HEIGHT),
        "history": history,
        "stories": titles.titled(history.stories[:MOST_STORIES]),
        "opened": _asked_for(
            history.stories[:MOST_STORIES], span, is_moment=bool(request.GET.get("at")) and not problem
        ),
        "stories_left": len(history.stories) - MOST_STORIES,
        "most_moves": MOST_MOVES,
        "may_undo": request.user.has_perm(UNDO),
        "acts_url": _acts_url(span.since, span.until) if request.user.has_perm(SEES) else "",
        "back": _back(span.last, span),
    }
    return base.render(request, "operators/changes.html", "Changes", **context)


def _asked_for(found: Sequence[stories.Story], span: Range, *, is_moment: bool) -> str:
    """The key of the story that most come for: the last one, or of a moment that nearest to it; empty if there is none."""
    middle = span.since + (span.until - span.since) / 2 if is_moment else span.until
    nearest = min(found, key=lambda story: max(story.start - middle, middle - story.end, timedelta()), default=None)
    return nearest.key if nearest else ""


def _first_record() -> datetime | None:
    """When the first move or node event happened that is on record; None if there is none."""
    times = [Move.objects.aggregate(Min("time"))["time__min"], NodeEvent.objects.aggregate(Min("time"))["time__min"]]
    return min(filter(None, times), default=None)


def _sizes() -> dict[str, int]:
    """How many nodes each pool has now that are not lost, and have not said that they leave."""
    return Counter(pool_of(name) for name in Node.objects.known().filter(leaving=False).values_list("name", flat=True))


@base.fragment
def story(request: HttpRequest) -> HttpResponse:
    """The moves and events of one story."""
    (span, _), last = Range.asked(request.GET, clock.now()), request.GET.get("back", "")
    history = stories.read(span.since, span.until, MOST_MOVES)
    found = stories.find(history.stories, request.GET.get("story", ""))
    if found is None:
        return HttpResponse("These moves are no longer in the ledger, or they are outside of this range of time.")
    moves = list(Move.objects.filter(pk__in=[step.id for step in found.steps[-MOST_LINES:]]).order_by("-id"))
    names = Config.objects.told_apart([(move.config_id, move.title, move.name, move.digest) for move in moves])
    may_undo = request.user.has_perm(UNDO)
    refused = dispatcher.undo_refusals([move.pk for move in moves]) if may_undo else {}
    often = {why: number for why, number in Counter(refused.values()).items() if number > 1}
    lines = [
        Line(move, name, row_url(Config(pk=move.config_id)), why_not, why_not in often)
        for move, name in zip(moves, names, strict=True)
        for why_not in [refused.get(move.pk, "") if may_undo else None]
    ]
    events = NodeEvent.objects.filter(pk__in=[event.id for event in found.events[-MOST_LINES:]]).order_by("-id")
    deeds = Act.objects.filter(pk__in=[deed.id for deed in found.deeds[-MOST_LINES:]]).order_by("-id")
    may_read = request.user.has_perm(SEES)
    context = {
        "around": _acts_around(found) if may_read else [],
        "lines": lines,
        "kept": [f"{grouped_count(number, 'move')} can't be undone: {why}." for why, number in often.items()],
        "deeds": [(deed, row_url(deed) if may_read else "") for deed in deeds],
        "events": events,
        # A story that is undone as a whole has its button beside it.
        "undoable": [] if found.moves_to_undo else [line.move.pk for line in lines if line.why_not == ""],
        "left": max(len(found.steps) - MOST_LINES, 0) + found.more,
        "events_left": max(len(found.events) - MOST_LINES, 0),
        "back": _back(last, span),
    }
    return base.render_part(request, "operators/story.html", "What happened", **context)


def _acts_around(story: stories.Story) -> list[tuple[str, str]]:
    """The people who did something as the story went on, each with the URL of all their acts then."""
    since, until = story.start - AROUND, story.end + AROUND
    found = Act.objects.filter(person__in=story.people, time__gte=since, time__lt=until)
    names = found.order_by("person").values_list("person", flat=True).distinct()
    return [(name, _acts_url(since, until, person=name)) for name in names]


def _acts_url(since: datetime, until: datetime, **query: str) -> str:
    return list_url(Act, since=since.isoformat(), until=until.isoformat(), **query)


def _back(last: str, span: Range) -> str:
    """The URL of the page of changes: of the span of this name, else of these times."""
    return f"{reverse('pages:changes')}?{f'last={last}' if last in SPANS else span.query}"


@base.page
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Make the plan that undoes the moves that the form names, up to MOST_UNDONE, or those of a story or of its last round."""
    if not request.user.has_perm(UNDO):
        raise Lacks(UNDO)
    last = request.POST.get("last", "")
    if key := last or request.POST.get("story", ""):
        span, _ = Range.asked(request.GET, clock.now())
        found = stories.find(stories.read(span.since, span.until, MOST_MOVES).stories, key)
        chosen = [] if found is None else found.last_round if last else found.moves_to_undo
    else:
        chosen = [int(id_) for id_ in request.POST.getlist("move") if id_.isdecimal() and len(id_) < 19][:MOST_UNDONE]
    if shown := show_plan(request, lambda: deciding.undo(chosen, as_one=bool(key)), "Nothing to undo"):
        return shown
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, request.is_secure())
    return redirect(back if safe else "pages:changes")
