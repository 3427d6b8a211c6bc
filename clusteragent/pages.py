"""The admin's first page, with what only the roof knows."""

from typing import Any

from django.http import HttpRequest

from clusteragent import fingerprints
from operators.pages import now

fragment = now.Fragment.as_view(differing=fingerprints.differing)


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the template of unfold's first page is given."""
    return context | now.context(request, fingerprints.differing())
