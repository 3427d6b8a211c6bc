"""Configs in groups, by check, team or source: how many, in which states, their load, and the newest error."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from django.db.models import Exists, F, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse

from checks.explain.instances import Written
from checks.models import Config, Origin
from checks.models.originkeys import source_in_words
from checks.models.tags import first_team, team_of
from checks.models.troubles import Trouble, put_handles_back, whole_error
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from operators.admin.base import list_url, shortened
from operators.pages import base
from operators.queries import CONFIG_WORDS, States, matching
from operators.roles import sees_digests
from operators.terms import BadQuery, Term, parse, written

# The most groups on the page: the largest ones.
MOST = 200
WAYS = {"check": "By check", "team": "By team", "source": "By source"}
# The states, and the words of the bar that find the configs of a group which are in them.
STATES = {
    "assigned": [Term("state", "assigned"), Term("state", "failing", is_not=True)],
    "failing": [Term("state", "failing")],
    "paused": [Term("state", "paused")],
    "dangling": [Term("state", "dangling")],
}
# How the page calls them.
TITLES = {
    "assigned": "On a node, not failing",
    "failing": "Failing",
    "paused": "Paused",
    "dangling": "Without a node",
}
UNKNOWN = "not known: it is being read anew"


class Group(NamedTuple):
    """A group. url: of the list of its configs; empty if no filter finds them.

    states: [(state, its title, number, URL of their list)].
    """

    name: str
    url: str
    numbers: States
    states: Sequence[tuple[str, str, int, str]]
    error: str


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
    errors = _newest_errors(configs, by, [row["group"] for row in found if row["failing"]])
    rows = [_group(query, by, row, errors.get(row["group"], "")) for row in found[:MOST]]
    # Groups by source may share configs.
    is_whole = len(found) <= MOST and by != "source"
    total = _total(found) if is_whole else None
    context = {
        "rows": rows, "total": total, "totals": [(TITLES[state], getattr(total, state)) for state in STATES if total],
        "is_cut": len(found) > MOST, "most": MOST, "ways": WAYS,
        "titles": list(TITLES.values()), "by": by, "query": query, "error": error, "at": clock.now(),
        "list": list_url(Config, q=query) if query else list_url(Config),
    }  # fmt: skip
    return base.render(request, "operators/groups.html", "Groups of configs", **context)


def _key(by: str, config: str = "") -> Any:
    """Expression: what a row is grouped by. config: the path to its config."""
    return first_team(config) if by == "team" else F(f"{config}name")


def _grouped(configs: QuerySet[Config], by: str) -> QuerySet[Any, dict[str, Any]]:
    """The groups with their numbers, the largest first. A config that several sources send is in each of their groups."""
    rows: Any = configs.values(group=_key(by))
    if by == "source":
        same = Origin.objects.filter(config=OuterRef("config"), source=OuterRef("source"), pk__lt=OuterRef("pk"))
        once = Origin.objects.filter(~Exists(same), config__in=configs.values("pk")).order_by()
        rows = once.values(group=F("source"))
    found: QuerySet[Any, dict[str, Any]] = rows.annotate(**States.aggregates("config__" if by == "source" else ""))
    return found.order_by("-configs", "group")


def _newest_errors(configs: QuerySet[Config], by: str, groups: Collection[str | None]) -> dict[str | None, str]:
    """{group: what the config of it that failed last says, of several instances after the name of the one that fails}."""
    failing = Trouble.objects.current().filter(kind=Trouble.Kind.FAILING, config__in=configs.values("pk"))
    key = F("config__origins__source") if by == "source" else _key(by, "config__")
    newest: Any = failing.annotate(group=key).order_by("group", "-since", "-pk").distinct("group") if groups else ()
    told = [one for one in newest if one.group in groups]
    put_handles_back(told)
    texts = Written.of({one.config_id for one in told})
    return {one.group: texts[one.config_id].told_by(one.check_id, whole_error(one.last_error)) for one in told}


def _group(query: str, by: str, row: dict[str, Any], error: str) -> Group:
    numbers, name = States.of(row), row["group"]
    if by == "team":
        name = UNKNOWN if name is None else team_of(name)
    # A name that is a secret, or shows one, leads nowhere: it would stand in the URL.
    is_found = name and name != UNKNOWN and scrub(name) == name
    url = _list(query, Term(by, name)) if is_found else ""
    states = [
        (state, TITLES[state], getattr(numbers, state), url and _list(query, Term(by, name), *terms))
        for state, terms in STATES.items()
    ]
    shown = source_in_words(name) if by == "source" else name
    return Group(scrub(shown), url, numbers, states, shortened(error))


def _list(query: str, *terms: Term) -> str:
    """The URL of the list of these configs; empty if that is more than the bar takes."""
    asked = f"{query} {written(terms)}".strip()
    try:
        parse(asked, CONFIG_WORDS)
    except BadQuery:
        return ""
    return list_url(Config, q=asked)


def _total(rows: Sequence[dict[str, Any]]) -> States | None:
    return (
        States.of({name: sum(row[name] or 0 for row in rows) for name in rows[0] if name != "group"}) if rows else None
    )
