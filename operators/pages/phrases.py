"""Acts as people say them in the palette: `drain clc-9`, `pause shop`, `move shop to birch`."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from checks.models.orders import Isolation, Pause, Pin
from nodes.models import Node
from operators.admin.base import list_url, row_url

# The most nodes that a phrase offers.
MOST = 5
_OF_NODES = re.compile(r"(drain|cordon|uncordon)(?:\s+(\S+))?", re.IGNORECASE)
_OF_CONFIGS = re.compile(r"(pin|move|pause|isolate)\b\s*(.*?)(?:\s+to\s+(\S+))?", re.IGNORECASE)
_FORMS: dict[str, type[Model]] = {"pin": Pin, "move": Pin, "pause": Pause, "isolate": Isolation}


def spoken(request: HttpRequest, phrase: str) -> Iterator[tuple[str, str]]:
    """What the phrase begins, as (URL, title): the page of a node, which has the button, or a form that is filled in.

    Nothing for who may not do it.
    """
    if found := _OF_NODES.fullmatch(phrase):
        yield from _of_nodes(request, found[1].lower(), found[2] or "")
    elif found := _OF_CONFIGS.fullmatch(phrase):
        yield from _of_configs(request, found[1].lower(), found[2], found[3] or "")


def _of_nodes(request: HttpRequest, verb: str, name: str) -> Iterator[tuple[str, str]]:
    if not request.user.has_perm("nodes.change_node"):
        return
    if not name:
        yield list_url(Node), f"{verb.capitalize()} a node: choose it in the list"
        return
    # The whole name first.
    known = Node.objects.known().filter(name__icontains=name).order_by("name")[:MOST]
    for node in sorted(known, key=lambda node: node.name != name):
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
