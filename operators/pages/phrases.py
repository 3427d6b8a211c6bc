"""Acts as people say them in the palette: `drain clc-9`, `pause shop`, `move shop to birch`."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from checks.models import Config, Source
from checks.models.bounds import NEEDED
from checks.models.configs import displayable
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin
from clusteragent.lib.database.natural import Natural
from nodes.models import Node
from operators.admin.base import list_url, row_url
from operators.admin.sources import scanned_names
from operators.queries import ORDERED

# The most nodes that a phrase offers.
MOST = 5
_OF_NODES = re.compile(r"(drain|cordon|uncordon|forget)(?:\s+(\S+))?", re.IGNORECASE)
_OF_CONFIGS = re.compile(r"(pin|move|pause|isolate)\b\s*(.*?)(?:\s+to\s+(\S+))?", re.IGNORECASE)
_ENDS = re.compile(r"(unpin|resume|release)\b\s*(.*)", re.IGNORECASE)
_OF_ALL = re.compile(r"(thaw|scan)(?:\s+(\S+))?", re.IGNORECASE)
# What people end of a config, as the list's filter calls it.
_ENDED = {"unpin": "pinned", "resume": "paused", "release": "isolated"}
_FORMS: dict[str, type[Model]] = {"pin": Pin, "move": Pin, "pause": Pause, "isolate": Isolation}


def spoken(request: HttpRequest, phrase: str) -> Iterator[tuple[str, str]]:
    """What the phrase begins, as (URL, title): the page of a node, which has the button, or a form that is filled in.

    Nothing for who may not do it.
    """
    if found := _OF_NODES.fullmatch(phrase):
        yield from _of_nodes(request, found[1].lower(), found[2] or "")
    elif found := _OF_CONFIGS.fullmatch(phrase):
        yield from _of_configs(request, found[1].lower(), found[2], found[3] or "")
    elif found := _ENDS.fullmatch(phrase):
        yield from _of_orders(request, found[1].lower(), found[2].strip())
    elif found := _OF_ALL.fullmatch(phrase):
        yield from (_of_freezes(request) if found[1].lower() == "thaw" else _of_sources(request, found[2] or ""))


def _of_nodes(request: HttpRequest, verb: str, name: str) -> Iterator[tuple[str, str]]:
    if not request.user.has_perm("nodes.change_node"):
        return
    is_lost = verb == "forget"
    if not name:
        which = "a lost node" if is_lost else "a node"
        yield (
            list_url(Node, **({"state": "lost"} if is_lost else {})),
            f"{verb.capitalize()} {which}: choose it in the list",
        )
        return
    # The whole name first.
    nodes = Node.objects.lost() if is_lost else Node.objects.known()
    found = nodes.filter(name__icontains=name).order_by("name")[:MOST]
    for node in sorted(found, key=lambda node: node.name != name):
        yield row_url(node), f"{verb.capitalize()} {node.name}: its page has the button"


def _of_configs(request: HttpRequest, verb: str, configs: str, node: str) -> Iterator[tuple[str, str]]:
    model = _FORMS[verb]
    if not admin.site.get_model_admin(model).has_add_permission(request):
        return
    aim = {"kind": Pin.Kind.NODE, "aim": node} if node and model is Pin else {}
    filled = {"configs": configs, **aim} if configs else aim
    url = reverse(f"admin:checks_{model._meta.model_name}_add")
    title = f"{verb.capitalize()} {configs or 'configs'}{f' to {node}' if aim else ''}…"
    yield (f"{url}?{urlencode(filled)}" if filled else url), title


def _of_orders(request: HttpRequest, verb: str, words: str) -> Iterator[tuple[str, str]]:
    """The pages of configs that have such an order, which have the button that ends it; without words their list."""
    if not request.user.has_perm(NEEDED[verb]):
        return
    if not words:
        yield list_url(Config, order=_ENDED[verb]), f"{verb.capitalize()} configs: choose them in the list"
        return
    # The whole title first.
    known = Config.objects.filter(ORDERED[_ENDED[verb]], displayable(), title__icontains=words)
    found = known.only("title", "name", "digest").order_by(Natural("title"), "pk")[:MOST]
    for config in sorted(found, key=lambda config: str(config) != words):
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
