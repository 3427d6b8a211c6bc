"""What a refused call wanted, for the record: in words, with the row that it was about."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.apps import apps
from django.contrib.admin.utils import unquote
from django.contrib.admindocs.views import simplify_regex
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import ResolverMatch

from checks.models import Config
from nodes.models import Node

# What is wanted of the admin's pages of rows: by sending a form, and by looking; then of those of one row that is known.
_PAGES = {
    "add": ("add to the {}", "see the form that adds to the {}"),
    "change": ("change one of the {}", "see one of the {}"),
    "delete": ("delete one of the {}", "see what deleting one of the {} does"),
    "changelist": ("act on the list of {}", "see the list of {}"),
}
_ROWS = {"change": ("change {}", "see {}"), "delete": ("delete {}", "see what deleting {} does")}
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
    if found := _of_api(match, request.method or "") or _of_page(match, request.method in ("GET", "HEAD")):
        return found
    return Wanted(f"{request.method} {simplify_regex(match.route)}")


def _of_api(match: ResolverMatch, method: str) -> Wanted | None:
    """What a call wanted to do to a row; None if it is none of the operators' API, or only looked."""
    view: Any = getattr(match.func, "cls", None)
    action = getattr(match.func, "actions", {}).get(method.lower(), "")
    row = None
    if action and method not in ("GET", "HEAD") and view.lookup_field in match.kwargs:
        row = _row(view.queryset.model, view.lookup_field, match.kwargs[view.lookup_field])
    if row is None:
        return None
    # As done ones are recorded, which name nodes and configs alone.
    name = str(row) if isinstance(row, Node | Config) and action not in _CALLS else _named(row)
    return _about(f"{_CALLS.get(action, action.replace('_', ' '))} {name}", row)


def _of_page(match: ResolverMatch, is_looking: bool) -> Wanted | None:
    """What a call of a row's page or of a list wanted; None if it is none."""
    name = match.url_name or ""
    for model in apps.get_models():
        kind, _, page = name.partition(f"{model._meta.app_label}_{model._meta.model_name}_")
        if kind or page not in _PAGES:
            continue
        row = _row(model, "pk", unquote(str(match.kwargs["object_id"]))) if page in _ROWS else None
        if row is not None:
            return _about(_ROWS[page][is_looking].format(_named(row)), row)
        return Wanted(_PAGES[page][is_looking].format(model._meta.verbose_name_plural))
    return None


def _row(model: type[Model], field: str, key: str) -> Model | None:
    """The row of this key; None if there is none."""
    try:
        return None if "\0" in key else model._default_manager.filter(**{field: key}).first()
    except (ValueError, ValidationError):
        return None


def _named(row: Model) -> str:
    kind = str(row._meta.verbose_name)
    return str(row) if str(row).startswith(f"{kind} ") else f"{kind} {row}"


def _about(what: str, row: Model) -> Wanted:
    configs = [row.pk] if isinstance(row, Config) else []
    return Wanted(what, configs, [row.name] if isinstance(row, Node) else [])
