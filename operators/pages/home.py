"""The admin's own pages, with what only the roof knows. The agents' port imports none of it."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse

from operators import fingerprints, login
from operators.admin import cluster
from operators.pages import base, now
from operators.pages.shared import Shared

_SAFE = {"GET", "HEAD", "OPTIONS"}
_OWN = (("Now", "home", "admin:index"), ("Changes", "timeline", "pages:changes"))


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages that the operator may see: ours, then those of the models."""
    own = _OWN if base.may_see(request) else _OWN[:1]
    items = [{"title": title, "icon": icon, "link": reverse(name)} for title, icon, name in own]
    [models] = cluster.navigation(request)
    return [{"items": items + models["items"]}]


def _take() -> now.Snapshot:
    return now.snapshot(fingerprints.differing())


# Good for a little less than the time after which a tab asks again, which comes a moment early at times.
_shared = Shared(_take, now.REFRESH_SECONDS - 0.5)


class Changes:
    """Middleware: whoever changes something here sees it in all tabs the next time that they are read."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        # Calls of the API that nobody was found to make have no user at all.
        if request.method not in _SAFE and request.user is not None and request.user.is_authenticated:
            _shared.forget()
        return response


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the template of unfold's first page is given: what is so now."""
    return context | now.context(request, _shared.anew)


@login.polls
@base.fragment
def fragment(request: HttpRequest) -> HttpResponse:
    """The part of the first page that changes, which all tabs of this process share for a while."""
    return TemplateResponse(request, "operators/now.html", now.context(request, _shared.get))
