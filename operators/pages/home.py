"""The admin's own pages, with what only the roof knows. The agents' port imports none of it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from operators import fingerprints, login
from operators.admin import cluster
from operators.pages import base, now

_OWN = (("Now", "home", "admin:index"), ("Changes", "timeline", "pages:changes"))


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages that the operator may see: ours, then those of the models."""
    own = _OWN if base.may_see(request) else _OWN[:1]
    items = [{"title": title, "icon": icon, "link": reverse(name)} for title, icon, name in own]
    [models] = cluster.navigation(request)
    return [{"items": items + models["items"]}]


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the template of unfold's first page is given."""
    return context | now.context(request, fingerprints.differing())


@login.polls
@base.fragment
def fragment(request: HttpRequest) -> HttpResponse:
    """The part of the first page that changes."""
    return TemplateResponse(request, "operators/now.html", now.context(request, fingerprints.differing()))
