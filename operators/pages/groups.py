"""Configs in groups, by check, team or source: how many, how many of them fail or have no node, and their load."""

from typing import Any

from django.db.models import Count, Exists, F, Func, OuterRef, Q, QuerySet, Sum, TextField, Value
from django.http import HttpRequest, HttpResponse

from checks.models import Config, Origin
from checks.models.configs import displayable
from checks.models.troubles import Trouble
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from operators.admin.base import list_url
from operators.pages import base
from operators.queries import CONFIG_WORDS, matching
from operators.roles import sees_digests
from operators.terms import BadQuery, Term, written

# The most groups on the page: the largest ones.
MOST = 200
WAYS = {"check": "By check", "team": "By team", "source": "By source"}
NUMBERS = ("configs", "failing", "dangling", "load")
# The first tag `team:…` in a config's text.
_TEAM = Func(F("text"), Value("\n  - team:([^\n]*)"), function="substring", output_field=TextField())


@base.page
def groups(request: HttpRequest) -> HttpResponse:
    """The groups. `?by=check|team|source`, and `?q=` for those configs alone that the bar above their list would show."""
    by = request.GET.get("by", "check")
    by = by if by in WAYS else "check"
    query, error = request.GET.get("q", "").replace("\0", ""), ""
    exact = sees_digests(request.user)
    try:
        configs = matching(
            Config.objects.order_by(), query, CONFIG_WORDS, lambda rows, text: rows.containing(text, exact=exact)
        )
    except BadQuery as refused:
        configs, error = Config.objects.none(), scrub(str(refused))
    found = list(_grouped(configs, by)[: MOST + 1])
    rows = [(scrub(row["group"] or ""), row, *_urls(query, by, row["group"])) for row in found[:MOST]]
    # Groups by source may share configs.
    is_whole = len(found) <= MOST and by != "source"
    total = {name: sum(row[name] or 0 for row in found) for name in NUMBERS} if is_whole else None
    context = {
        "rows": rows, "total": total, "is_cut": len(found) > MOST, "most": MOST, "ways": WAYS, "by": by, "query": query,
        "error": error, "at": clock.now(), "list": list_url(Config, q=query) if query else list_url(Config),
    }  # fmt: skip
    return base.render(request, "operators/groups.html", "Groups of configs", **context)


def _grouped(configs: QuerySet[Config], by: str) -> QuerySet[Any, dict[str, Any]]:
    """The groups with their numbers, the largest first. A config that several sources send is in each of their groups."""
    if by == "source":
        same = Origin.objects.filter(config=OuterRef("config"), source=OuterRef("source"), pk__lt=OuterRef("pk"))
        once = Origin.objects.filter(~Exists(same), config__in=configs.values("pk")).order_by()
        return _numbers(once.values(group=F("source")), "config__")
    if by == "team":
        return _numbers(configs.filter(displayable()).values(group=_TEAM), "")
    return _numbers(configs.values(group=F("name")), "")


def _numbers(rows: Any, config: str) -> QuerySet[Any, dict[str, Any]]:
    """Add the numbers to grouped rows. config: the path from a row to its config."""
    failing = Trouble.objects.current().filter(kind=Trouble.Kind.FAILING).values("config")
    counted: QuerySet[Any, dict[str, Any]] = rows.annotate(
        configs=Count("pk"),
        failing=Count("pk", filter=Q(**{f"{config}pk__in": failing})),
        dangling=Count("pk", filter=Q(**{f"{config}dangling_since__isnull": False})),
        load=Sum(f"{config}cost__workers_needed"),
    ).order_by("-configs", "group")
    return counted


def _urls(query: str, by: str, group: str | None) -> tuple[str, str]:
    """The URLs of the lists of a group's configs, and of its failing ones; of configs without a team there is none."""
    if not group:
        return "", ""
    mine = f"{query} {written([Term(by, group)])}".strip()
    return list_url(Config, q=mine), list_url(Config, q=f"{mine} state:failing")
