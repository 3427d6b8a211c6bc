"""What a refused call wanted, for the record: in words, with the row that it was about."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admindocs.views import simplify_regex
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import Model
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.urls import ResolverMatch

from checks.models import Config, Plan
from clusteragent.lib.words import listed
from nodes.models import Node

# What is wanted of the admin's pages of rows: by sending a form, and by looking; then of those of one row that is known. What is
# sent to a list is one of its actions: see `_of_action`.
_PAGES = {
    "add": ("add to the {}", "see the form that adds to the {}"),
    "change": ("change one of the {}", "see one of the {}"),
    "delete": ("delete one of the {}", "see what deleting one of the {} does"),
    "changelist": ("", "see the list of {}"),
}
_ROWS = {"change": ("change {}", "see {}"), "delete": ("delete {}", "see what deleting {} does")}
# So many rows of a list are named.
MOST_NAMED = 3
# The operators' API's calls that have no name of their own.
_CALLS = {"update": "change", "partial_update": "change", "destroy": "delete"}


class Wanted(NamedTuple):
    """What a call wanted, in words, and the configs and nodes on whose pages that is shown.

    It names a row only if there is one, and never an address: anybody can make one up and have a user open it.
    """

    what: str
    configs: Sequence[int] = ()
    nodes: Sequence[str] = ()


def wanted(request: HttpRequest) -> Wanted:
    """What this call wanted: `cordon ash`, `see user eve`, `add to the pins`; else its method and its route."""
    match = request.resolver_match
    if not match:
        return Wanted(f"{request.method} an unknown page")
    if found := _of_api(match, request.method or "") or _of_page(match, request):
        return found
    return Wanted(f"{request.method} {simplify_regex(match.route)}")


def _of_api(match: ResolverMatch, method: str) -> Wanted | None:
    """What a call wanted to do to a row; None if it is none of the operators' API, or only looked."""
    view: Any = getattr(match.func, "cls", None)
    action = getattr(match.func, "actions", {}).get(method.lower(), "")
    row = None
    if action and method not in ("GET", "HEAD") and view.lookup_field in match.kwargs:
        key = f"{view.lookup_prefix}{match.kwargs[view.lookup_field]}"
        row = _row(view.queryset.model, view.lookup_field, key)
    if row is None:
        return None
    # As done ones are recorded, which name nodes and configs alone.
    name = str(row) if isinstance(row, Node | Config) and action not in _CALLS else _named(row)
    return _about(f"{_CALLS.get(action, action.replace('_', ' '))} {name}", row)


def _of_page(match: ResolverMatch, request: HttpRequest) -> Wanted | None:
    """What a call of a row's page or of a list wanted; None if it is none."""
    name, is_looking = match.url_name or "", request.method in ("GET", "HEAD")
    for model in apps.get_models():
        kind, _, page = name.partition(f"{model._meta.app_label}_{model._meta.model_name}_")
        if kind or not page:
            continue
        if page == "changelist" and not is_looking:
            return _of_action(model, request)
        key = match.kwargs.get("object_id", match.kwargs.get("pk"))
        row = None if key is None else _row(model, "pk", unquote(str(key)))
        if row is not None:
            return _about(_ROWS.get(page, (f"{page} {{}}",) * 2)[is_looking].format(_named(row)), row)
        if page in _PAGES:
            return Wanted(_PAGES[page][is_looking].format(model._meta.verbose_name_plural))
    return None


def _of_action(model: type[Model], request: HttpRequest) -> Wanted:
    """What a call of a list's action wanted: which action, if the list has it, and the first rows that are there."""
    try:
        sent = request.POST
    except (SuspiciousOperation, UnreadablePostError, MultiPartParserError):
        # Nobody read it before: the call was refused for its headers.
        sent = QueryDict()
    action = sent.get("action")
    what = action if action and action in (admin.site.get_model_admin(model).actions or ()) else "act on"
    keys = list(dict.fromkeys(sent.getlist("_selected_action")))
    rows = [row for key in keys[:MOST_NAMED] if (row := _row(model, "pk", key)) is not None]
    which = listed([str(row) for row in rows]) + (" and more" if rows and len(keys) > MOST_NAMED else "")
    about = which or f"the list of {model._meta.verbose_name_plural}"
    configs = [row.pk for row in rows if isinstance(row, Config)]
    return Wanted(f"{what.replace('_', ' ')} {about}", configs, [row.name for row in rows if isinstance(row, Node)])


def _row(model: type[Model], field: str, key: str) -> Model | None:
    """The row of this key; None if there is none."""
    try:
        return None if "\0" in key else model._default_manager.filter(**{field: key}).first()
    except (ValueError, ValidationError):
        return None


def _named(row: Model) -> str:
    kind = str(row._meta.verbose_name)
    if isinstance(row, Plan):
        return f"{kind} {row.pk}: {row}"
    return str(row) if str(row).startswith(f"{kind} ") else f"{kind} {row}"


def _about(what: str, row: Model) -> Wanted:
    configs = [row.pk] if isinstance(row, Config) else []
    return Wanted(what, configs, [row.name] if isinstance(row, Node) else [])
