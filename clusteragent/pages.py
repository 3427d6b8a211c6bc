"""The admin's first page, with what only the roof knows."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from clusteragent import fingerprints
from operators.pages import base, now


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the template of unfold's first page is given."""
    return context | now.context(request, fingerprints.differing())


@base.fragment
def fragment(request: HttpRequest) -> HttpResponse:
    """The part of the first page that changes."""
    return TemplateResponse(request, "operators/now.html", now.context(request, fingerprints.differing()))
