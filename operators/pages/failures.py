"""What fails, by what it says: the same error of many checks is one line."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse

from checks.explain import failures as failing
from checks.explain.failures import Failure
from checks.models import Config
from checks.models.tags import TEAM
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.words import grouped, plain_count
from nodes.models import Node, Runner
from operators.admin.base import aged, list_url, row_url
from operators.pages import base
from operators.terms import Term, written

# The most configs and nodes that each failure names.
MOST_NAMED = 5


@base.page
def failures(request: HttpRequest) -> HttpResponse:
    """The failures by the last stats."""
    found = failing.read()
    now = clock.now()
    ids = _nodes(found.told)
    rows = [
        {
            "failure": one,
            "check": scrub(one.check),
            "since": aged(one.since, now),
            "last_good": aged(one.last_good, now),
            "nodes": [(name, row_url(Node(pk=ids[name])) if name in ids else "") for name in _first(one)],
            "more_nodes": max(0, len(one.nodes) - MOST_NAMED),
            "teams": [(scrub(team), _of_team(team)) for team in one.teams],
            "named": [(one.named(config), row_url(config)) for config in one.configs[:MOST_NAMED]],
            "more": max(0, len(one.configs) - MOST_NAMED),
        }
        for one in found.told
    ]
    unseen, tells = _unseen()
    context = {
        "rows": rows, "configs": found.configs, "number": found.number, "most": failing.MOST_TOLD,
        "unseen": unseen, "tells": tells,
        "is_cut": found.is_cut, "looked_at": failing.MOST, "list": list_url(Config, trouble="failing"),
        "at": now,
    }  # fmt: skip
    return base.render(request, "operators/failures.html", "Failures", **context)


def _unseen() -> tuple[str, bool]:
    """(of how many nodes it is not known what fails there, and why; empty if of none, whether any node tells)."""
    tells = Q(runner__failures=0, runner__stats_at__isnull=False)
    known, telling = Node.objects.known().aggregate(known=Count("pk"), telling=Count("pk", filter=tells)).values()
    silent = Runner.objects.filter(node__heartbeat__isnull=False, failures__gt=0).select_related("node")
    longest = silent.order_by("failing_since", "pk").first()
    if telling == known:
        return "", True
    untold = (
        f"Of {grouped(known - telling)} of {plain_count(known, 'node')} no stats are" if telling else "No stats are"
    )
    why = f" {longest.node.name}: {scrub(longest.error)}." if longest else ""
    return f"{untold} told, so failures there are not seen here.{why}", telling > 0


def _first(failure: Failure) -> list[str]:
    """The names of the nodes on which most of it fails."""
    return [name for name, _ in failure.nodes.most_common(MOST_NAMED)]


def _nodes(told: Iterable[Failure]) -> Mapping[str, Any]:
    """{name: id} of the nodes that these failures name."""
    names = {name for failure in told for name in _first(failure)}
    return dict(Node.objects.filter(name__in=names).values_list("name", "pk"))


def _of_team(team: str) -> str:
    """The URL of the list of a team's failing configs; empty where its name shows a secret, which would stand in the URL."""
    terms = [Term("team", team), Term("state", "failing")]
    return list_url(Config, q=written(terms)) if scrub(TEAM + team) == TEAM + team else ""
