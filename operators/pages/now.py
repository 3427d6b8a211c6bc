"""The admin's first page: is the cluster healthy, alerts, the load of nodes, the last hour. Also alerts on every page."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.html import format_html

from checks.dispatcher import costs
from checks.explain import alerts, headroom
from checks.explain.alerts import Alert
from checks.explain.headroom import Headroom
from checks.models import Assignment
from clusteragent.lib import clock
from clusteragent.lib.clock import ago
from clusteragent.lib.words import grouped, grouped_count
from nodes.models import Node
from operators import fingerprints, login
from operators.admin.base import list_url, row_url
from operators.pages import base, stories, titles
from operators.pages.pools import STATES, Member, NodePool, pools
from operators.pages.remedies import GRAVE, Line, lines
from operators.pages.shared import Shared

REFRESH_SECONDS = 5
_SAFE = {"GET", "HEAD", "OPTIONS"}
# The most pools and stories on the page.
MOST_POOLS = 40
MOST_STORIES = 8
# The stories cover this time, and at most this many lines of the ledger.
SPAN = timedelta(hours=1)
MOST_MOVES = 8_000
# A node is joining for so long after it was first heard.
JOINING = timedelta(minutes=2)
_LEAVING = {"draining", "leaving", "restarting"}


@dataclass(frozen=True)
class Contents:
    """The contents of the page at one moment, by the database's clock."""

    at: datetime
    alerts: list[Alert]
    pools: list[NodePool]
    history: stories.StoryList
    headroom: Headroom | None

    @property
    def is_healthy(self) -> bool:
        """Whether no alert is a grave one."""
        return not any(alert.kind in GRAVE for alert in self.alerts)

    @property
    def room(self) -> str:
        """What the worst loss would mean, and of when that is; empty if nothing is to be said."""
        return self.headroom.dated(self.at) if self.headroom else ""

    @property
    def sentence(self) -> str:
        """The summary: `Healthy. 5 000 configs on 300 nodes, 3 need you.`"""
        checks = sum(pool.configs for pool in self.pools)
        nodes = sum(pool.known for pool in self.pools)
        state = "Healthy." if self.is_healthy else "Not healthy."
        number = len(self.alerts)
        needing = "nothing needs you" if not number else f"{grouped(number)} {'needs' if number == 1 else 'need'} you"
        return f"{state} {grouped_count(checks, 'config')} on {grouped_count(nodes, 'node')}, {needing}."


def snapshot() -> Contents:
    """The present contents of the page. They are the same for every user."""
    now = clock.now()
    groups = pools(members())
    sizes = {pool.name: pool.known for pool in groups}
    history = stories.read(now - SPAN, now, MOST_MOVES, sizes)
    return Contents(now, alerts.current(fingerprints.differing()), groups, history, headroom.worst())


# Valid for a little less than the time between a tab's requests, some of which come a moment early.
_shared = Shared(snapshot, REFRESH_SECONDS - 0.5)


def members() -> list[Member]:
    """Every node, with its state, its number of configs and its load."""
    counts, loads = Assignment.objects.counts(), costs.loads()
    nodes = Node.objects.with_state().annotate(young=Q(first_seen__gte=ago(JOINING))).order_by()
    found = []
    for id_, name, state, intake, young in nodes.values_list("pk", "name", "state", "intake", "young"):
        if state != "lost" and intake in _LEAVING:
            state = "leaving"
        elif state == "alive" and young:
            state = "joining"
        found.append(Member(id_, name, state, counts.get(id_, 0), loads.get(id_, 0.0)))
    return found


def every_page(request: HttpRequest) -> dict[str, Any]:
    """unfold's GLOBAL_CALLBACK: the gravest alerts, for users who may see the first page. `colors` is empty, so unfold writes
    no style into the page; the colours come from a file.
    """
    found = alerts.cluster_wide(fingerprints.differing()) if base.may_see(request) else []
    return {"cluster_warnings": [_warning(Line(alert, None)) for alert in found], "colors": {}}


def _warning(line: Line) -> str:
    cause = format_html('<a href="{}">{}{}</a>', line.url, line.alert.cause, f" ({line.age})" if line.age else "")
    return format_html('{} <a class="underline" href="{}">What to do</a>', cause, line.advice) if line.advice else cause


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK: the context of the first page's template."""
    return context | _context(request, _shared.anew)


@login.polls
@base.fragment
def fragment(request: HttpRequest) -> HttpResponse:
    """The part of the first page that changes. All tabs of this process share it for a while."""
    return TemplateResponse(request, "operators/now.html", _context(request, _shared.get))


class FreshAfterChange:
    """Middleware: after a user changed something in this process, all tabs show it when they next fetch the page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        # Unauthenticated calls of the API have no user at all.
        if request.method not in _SAFE and request.user is not None and request.user.is_authenticated:
            _shared.forget()
        return response


def _context(request: HttpRequest, take: Callable[[], Contents]) -> dict[str, Any]:
    """The context of the page's template; empty for users who may not see it."""
    if not base.may_see(request):
        return {}
    now = take()
    return {
        "title": "Now",
        "now": now,
        "lines": lines(now.alerts, request.user),
        "pools": [(pool, _url(pool)) for pool in now.pools[:MOST_POOLS]],
        "pools_left": len(now.pools) - MOST_POOLS,
        "stories": titles.titled(now.history.stories[:MOST_STORIES]),
        "said": request.GET.get("said", ""),
        "states": STATES,
        "most_moves": MOST_MOVES,
        "refresh": REFRESH_SECONDS,
    }


def _url(pool: NodePool) -> str:
    """The URL of a single node's page, or of the list of nodes whose names begin like the pool's."""
    if len(pool.members) == 1:
        return row_url(Node(pk=pool.members[0].id))
    return list_url(Node, q=pool.name.partition("*")[0])
