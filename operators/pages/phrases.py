"""Acts as people say them in the palette: `drain clc-9`, `pause shop`, `move shop to birch`, `undo`."""

import re
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from checks import plans
from checks.models import Config, Plan, Source
from checks.models.bounds import NEEDED
from checks.models.configs import displayable
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin
from clusteragent.lib.database.natural import Natural
from nodes.models import Node
from operators.admin.base import list_url, row_url
from operators.admin.sources import scanned_names
from operators.queries import ORDERED
from operators.roles import sees_digests

# The most nodes, or configs, that a phrase offers.
MOST = 5
# An undo is looked for among so many plans that were applied last.
MOST_PLANS = 20
_OF_NODES = r"(drain|cordon|uncordon|forget)(?:\s+(\S+))?"
_OF_CONFIGS = r"(pin|move|pause|isolate)(?:\s+(?!to\s)(.*?))?(?:\s+to\s+(\S+))?"
_ENDS = r"(unpin|resume|release)\b\s*(.*)"
_THAW = "thaw"
_SCAN = r"(?:re)?scan(?:\s+(?!(?:again|now)$)(\S+))?(?:\s+(?:again|now))?"
_UNDO = r"undo(?:\s+(.*))?"
_ACCESS = r"(?:give|grant)\s+access(?:\s+to(?:\s+(\S+))?)?"
# What people end of a config, as the list's filter calls it.
_ENDED = {"unpin": "pinned", "resume": "paused", "release": "isolated"}
_FORMS: dict[str, type[Model]] = {"pin": Pin, "pause": Pause, "isolate": Isolation}


def spoken(request: HttpRequest, phrase: str) -> Iterator[tuple[str, str]]:
    """What the phrase begins, as (URL, title): the page that has the button, or a form that is filled in.

    Nothing for who may not do it, and nothing for a config that is not found.
    """
    for pattern, offers in _PHRASES.items():
        if found := re.fullmatch(pattern, phrase, re.IGNORECASE):
            yield from offers(request, *(word or "" for word in found.groups()))
            return


def _of_nodes(request: HttpRequest, verb: str, name: str) -> Iterator[tuple[str, str]]:
    if not request.user.has_perm("nodes.change_node"):
        return
    verb = verb.lower()
    is_lost = verb == "forget"
    if not name:
        which = "a lost node" if is_lost else "a node"
        yield (
            list_url(Node, **({"state": "lost"} if is_lost else {})),
            f"{verb.capitalize()} {which}: choose it in the list",
        )
        return
    for node in _nodes(Node.objects.lost() if is_lost else Node.objects.known(), name):
        yield row_url(node), f"{verb.capitalize()} {node.name}: its page has the button"


def _nodes(nodes: QuerySet[Node], name: str) -> list[Node]:
    """Those that this may name, the whole name first; if it is in no name, those that are spelt nearly like it."""
    found = list(nodes.filter(name__icontains=name).order_by("name")[:MOST])
    if not found:
        found = list(nodes.filter(name__in=Node.objects.spelt_like(name)).order_by("name")[:MOST])
    return sorted(found, key=lambda node: node.name != name)


def _of_configs(request: HttpRequest, verb: str, words: str, node: str) -> Iterator[tuple[str, str]]:
    verb = verb.lower()
    offer = _move if verb == "move" else _order
    if not (request.user.has_perm(NEEDED["reassign"]) if verb == "move" else _may_add(request, _FORMS[verb])):
        return
    aim = _meant(node) if verb in ("move", "pin") else ""
    if not words:
        yield offer(verb, [], aim)
        return
    exact = sees_digests(request.user)
    found = [_configs(part.strip(), Config.objects.dispatchable(), exact=exact) for part in words.split(",")]
    if len(found) > 1:
        # Several that are named one by one are meant together.
        if verb != "move" and all(len(one) == 1 for one in found):
            yield offer(verb, [config for [config] in found], aim)
        return
    yield from (offer(verb, [config], aim) for config in found[0])
    if len(found[0]) == MOST:
        yield list_url(Config, q=words), f"{verb.capitalize()} several of {words}: choose them in the list"


def _move(verb: str, configs: Sequence[Config], node: str) -> tuple[str, str]:
    """The page that gives a config to a node now, without a pin."""
    if not configs:
        return list_url(Config), "Move configs: choose them in the list"
    url = reverse("admin:checks_config_reassign", args=[configs[0].pk])
    title = f"Move {configs[0]}{f' to {node}' if node else ''}…"
    return (f"{url}?{urlencode({'node': node})}" if node else url), title


def _order(verb: str, configs: Sequence[Config], node: str) -> tuple[str, str]:
    """The form of an order, filled in."""
    kind = Pin.Kind.LABEL if "=" in node else Pin.Kind.PATTERN if "*" in node or "?" in node else Pin.Kind.NODE
    names = {"configs": ", ".join(config.unique_name for config in configs)} if configs else {}
    filled = names | ({"kind": kind, "aim": node} if node else {})
    url = reverse(f"admin:checks_{_FORMS[verb]._meta.model_name}_add")
    title = f"{verb.capitalize()} {', '.join(map(str, configs)) or 'configs'}{f' to {node}' if node else ''}…"
    return (f"{url}?{urlencode(filled)}" if filled else url), title


def _meant(name: str) -> str:
    """The node that this names if it is one alone, else what was said."""
    found = _nodes(Node.objects.known(), name) if name else []
    return found[0].name if found and (len(found) == 1 or found[0].name == name) else name


def _configs(words: str, among: QuerySet[Config], *, exact: bool = False) -> list[Config]:
    """The first of those that this may mean: by ID, by their whole title, by a part of it, or by their text."""
    rows = among.filter(displayable()).only("title", "name", "digest", "short_id")
    ways: Sequence[Callable[[], QuerySet[Config]]] = (
        lambda: rows.filter(pk__in=Config.objects.called(words, exact=exact)),
        lambda: rows.filter(pk__in=Config.objects.titled(words).values("pk")),
        lambda: rows.filter(pk__in=Config.objects.titled_like(words).values("pk")),
        lambda: rows.filter(pk__in=Config.objects.with_texts(words.split()).values("pk")),
    )
    found = (list(way().order_by(Natural("title"), "pk")[:MOST]) for way in ways if words)
    return next(filter(None, found), [])


def _may_add(request: HttpRequest, model: type[Model]) -> bool:
    return bool(admin.site.get_model_admin(model).has_add_permission(request))


def _of_orders(request: HttpRequest, verb: str, words: str) -> Iterator[tuple[str, str]]:
    """The pages of configs that have such an order, which have the button that ends it; without words their list."""
    verb = verb.lower()
    if not request.user.has_perm(NEEDED[verb]):
        return
    if not words:
        yield list_url(Config, order=_ENDED[verb]), f"{verb.capitalize()} configs: choose them in the list"
        return
    exact = sees_digests(request.user)
    for config in _configs(words.strip(), Config.objects.filter(ORDERED[_ENDED[verb]]), exact=exact):
        yield row_url(config), f"{verb.capitalize()} {config}: its page has the button"


def _of_freezes(request: HttpRequest) -> Iterator[tuple[str, str]]:
    if request.user.has_perm("checks.delete_freeze"):
        for freeze in Freeze.objects.in_force():
            yield row_url(freeze), "End the freeze: its page has the button"


def _of_sources(request: HttpRequest, name: str) -> Iterator[tuple[str, str]]:
    """The pages of the sources that are scanned on request."""
    if request.user.has_perm("checks.change_source"):
        for source in Source.objects.filter(name__in=scanned_names(), name__icontains=name).order_by("name"):
            yield row_url(source), f"Scan {source} now: its page has the button"


def _of_the_past(request: HttpRequest, words: str) -> Iterator[tuple[str, str]]:
    """The page of the last plan with these words in its name that was applied and has a way back, and all changes."""
    applied = Plan.objects.filter(applied_at__isnull=False).order_by("-applied_at")[:MOST_PLANS]
    wanted = words.lower().split()
    named = (plan for plan in applied if all(word in str(plan).lower() for word in wanted))
    if plan := next((plan for plan in named if plans.ways_back(request.user, plan)), None):
        yield row_url(plan), f"Undo plan {plan.pk} ({plan}): its page has the button"
    if request.user.has_perm(NEEDED["undo"]):
        yield reverse("pages:changes"), "Undo what happened: each change has the button"


def _of_access(request: HttpRequest, name: str) -> Iterator[tuple[str, str]]:
    """The page of a user, which has the roles, or the form for a new one."""
    if known := User.objects.filter(username__iexact=name).first() if name else None:
        if request.user.has_perm("auth.change_user"):
            yield row_url(known), f"Give access to {known}: the user's page has the roles"
    elif _may_add(request, User):
        url = reverse("admin:auth_user_add")
        yield (
            f"{url}?{urlencode({'username': name})}" if name else url,
            f"Give access to {name or 'a colleague'}: add a user…",
        )


_PHRASES: dict[str, Callable[..., Iterator[tuple[str, str]]]] = {
    _OF_NODES: _of_nodes,
    _OF_CONFIGS: _of_configs,
    _ENDS: _of_orders,
    _THAW: _of_freezes,
    _SCAN: _of_sources,
    _UNDO: _of_the_past,
    _ACCESS: _of_access,
}
