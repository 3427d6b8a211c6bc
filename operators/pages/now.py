"""The admin's first page: is the cluster healthy, alerts, the load of nodes, the last hour. Also alerts on every page."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Count, Max, Min
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.functional import SimpleLazyObject
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from checks.dispatcher import costs
from checks.explain import alerts, headroom
from checks.explain.alerts import Alert, Word
from checks.explain.headroom import Headroom
from checks.models import Cost
from checks.models.orders import Pause
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.words import grouped, grouped_count, listed, utc
from nodes.models import Node
from operators import fingerprints, login
from operators.admin.base import list_url, row_url, told
from operators.pages import base, stories, titles
from operators.pages.pools import GOING, STATES, Member, NodePool, pools
from operators.pages.remedies import Line, lines
from operators.pages.shared import Shared

REFRESH_SECONDS = 5
_SAFE = {"GET", "HEAD", "OPTIONS"}
# The most pools and stories on the page.
MOST_POOLS = 40
MOST_STORIES = 8
# The stories cover this time, and at most this many lines of the ledger.
SPAN = timedelta(hours=1)
MOST_MOVES = 2_000


class Mark(NamedTuple):
    """What shows a word beside its text: an icon and a class."""

    icon: str
    style: str


MARKS = {
    Word.HEALTHY: Mark("check_circle", "pages-healthy"),
    Word.NEEDS_ATTENTION: Mark("warning", "pages-attention"),
    Word.NOT_HEALTHY: Mark("error", "pages-unhealthy"),
}


@dataclass(frozen=True)
class Contents:
    """The contents of the page at one moment, by the database's clock. paused: what is paused, as a sentence, or empty."""

    at: datetime
    alerts: list[Alert]
    pools: list[NodePool]
    history: stories.StoryList
    headroom: Headroom | None
    paused: str
    # That loads are guesses, as a sentence, or empty.
    assumed: str
    # How many nodes were lost within an hour, and neither came back nor were replaced.
    lost: int

    @property
    def word(self) -> Word:
        """How the cluster is."""
        return alerts.word(self.alerts)

    @property
    def mark(self) -> Mark:
        """The word's icon and class."""
        return MARKS[self.word]

    @property
    def tab(self) -> str:
        """What the browser's tab says: `(3) Needs attention`."""
        return f"({grouped(len(self.alerts))}) {self.word}" if self.alerts else str(self.word)

    @property
    def room(self) -> str:
        """What the worst loss would mean, and of when that is; empty if nothing is to be said."""
        return self.headroom.dated(self.at) if self.headroom else ""

    @property
    def sentence(self) -> str:
        """The summary: `Needs attention. 5 000 configs on 300 nodes, 3 things need you.`"""
        return f"{self.word}. {self.figures}"

    @property
    def document(self) -> dict[str, Any]:
        """As JSON data, for the command `status` and the operators' API."""
        room = self.headroom.document if self.headroom else None
        needs = [told(alert) for alert in self.alerts]
        return {"state": str(self.word), "sentence": self.sentence, "headroom": room, "needs": needs}

    @cached_property
    def figures(self) -> str:
        """The summary after its word, with what is paused."""
        configs = sum(pool.configs for pool in self.pools)
        nodes = sum(pool.known for pool in self.pools)
        number = len(self.alerts)
        needing = (
            "nothing needs you"
            if not number
            else f"{grouped_count(number, 'thing')} {'needs' if number == 1 else 'need'} you"
        )
        idle = sum(pool.idle for pool in self.pools) if configs else 0
        none = f" ({grouped(idle)} {'has' if idle == 1 else 'have'} none)" if idle else ""
        lost = f", {grouped(self.lost)} lost" if self.lost else ""
        counts = f"{grouped_count(configs, 'config')} on {grouped_count(nodes, 'node')}{none}{lost}, {needing}."
        return " ".join(filter(None, (counts, self.paused)))


def snapshot() -> Contents:
    """The present contents of the page. They are the same for every user."""
    now = clock.now()
    groups = pools(members())
    sizes = {pool.name: pool.staying for pool in groups}
    history = stories.read(now - SPAN, now, MOST_MOVES, sizes)
    losses = alerts.not_replaced()
    found = alerts.current(fingerprints.differing(), losses)
    return Contents(now, found, groups, history, headroom.worst(), paused(now), costs.assumed(), losses.missing)


def latest() -> Contents:
    """The contents as all tabs of this process share them, a few seconds old at most."""
    return _shared.get()


def paused(now: datetime) -> str:
    """Return how many configs are paused, by whom and until when, as a sentence; empty if none is."""
    pauses = Pause.objects.filter(config__isnull=False)
    count, first, last, ending = pauses.aggregate(Count("pk"), Min("until"), Max("until"), Count("until")).values()
    if not count:
        return ""
    people = pauses.exclude(author="").order_by("author").values_list("author", flat=True).distinct()
    by = f" by {listed([scrub(person) for person in people])}" if people else ""
    end = " until resumed"
    if first:
        is_same = ending == count and first == last
        end = f"{' until' if is_same else ', the first until'} {utc(first, now)}"
    return f"{grouped_count(count, 'config')} {'is' if count == 1 else 'are'} paused{by}{end}."


# Valid for a little less than the time between a tab's requests, some of which come a moment early.
_shared = Shared(snapshot, REFRESH_SECONDS - 0.5)


def members() -> list[Member]:
    """Every node, with its state, its number of configs, its load and its failure domain."""
    held = Cost.objects.held()
    loads, assumed = costs.told(held)
    found = []
    columns = ("pk", "name", "state", "intake", "domain")
    for id_, name, state, intake, domain in Node.objects.with_state().order_by().values_list(*columns):
        going = intake if state != "lost" and intake in GOING else ""
        configs = held[id_].configs if id_ in held else 0
        found.append(Member(id_, name, state, configs, loads.get(id_, 0.0), domain, id_ in assumed, going))
    return found


def every_page(request: HttpRequest) -> dict[str, Any]:
    """unfold's GLOBAL_CALLBACK: the gravest alerts, for users who may see the first page. `colors` is empty, so unfold writes
    no style into the page; the colours come from a file.
    """

    def warnings() -> list[SafeString]:
        found = alerts.cluster_wide(fingerprints.differing()) if base.may_see(request) else []
        return [_warning(Line(alert, None)) for alert in found]

    # Lazy: the first page has all alerts and shows none of these.
    return {"cluster_warnings": SimpleLazyObject(warnings), "colors": {}}


def _warning(line: Line) -> SafeString:
    links = [(line.url, "Show"), (line.advice, "What to do")]
    shown = format_html_join(" ", '<a class="underline" href="{}">{}</a>', [link for link in links if link[0]])
    return format_html("{}{} {}", line.alert.cause, f" ({line.age})" if line.age else "", shown)


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK: the context of the first page's template."""
    return context | _context(request, _shared.anew)


@login.polls
@base.fragment
def fragment(request: HttpRequest) -> HttpResponse:
    """The part of the first page that changes. All tabs of this process share it for a while."""
    return TemplateResponse(request, "operators/now.html", _context(request, latest))


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
    shown = now.pools[:MOST_POOLS]
    return {
        "title": "Now",
        "site_title": settings.UNFOLD["SITE_TITLE"],
        "now": now,
        "lines": lines(now.alerts, request.user),
        "pools": [(pool, pool_url(pool)) for pool in shown],
        "pools_left": len(now.pools) - MOST_POOLS,
        "stories": titles.titled(now.history.stories[:MOST_STORIES]),
        "said": request.GET.get("said", ""),
        # Columns of nothing but zeros would hide the others on a phone.
        "states": [state for state in STATES if state == "alive" or any(pool.count(state) for pool in shown)],
        "most_moves": MOST_MOVES,
        "refresh": REFRESH_SECONDS,
    }


def pool_url(pool: NodePool) -> str:
    """The URL of a single node's page, or of the list of nodes whose names begin like the pool's."""
    if len(pool.members) == 1:
        return row_url(Node(pk=pool.members[0].id))
    return list_url(Node, q=pool.name.partition("*")[0])
