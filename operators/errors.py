"""Error responses of the operators' port that no view gives: JSON below /api/, pages of our own elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple

from django.apps import apps
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DatabaseError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.text import capfirst

from checks.dispatcher import Outside
from checks.wire.scrub import scrub
from clusteragent.lib.words import listed
from operators import bounds, roles


class Lacks(PermissionDenied):
    """The user lacks one of these permissions, all of which are needed."""

    def __init__(self, *permissions: str) -> None:
        super().__init__()
        self.permissions = permissions


class NoSuchRow(Http404):
    """No row of this model has the address. url: of the list of its rows."""

    def __init__(self, model: type[Model], url: str) -> None:
        super().__init__()
        self.model, self.url = model, url


class ErrorPage(NamedTuple):
    """The words of a page: what is wrong, what to do, and where to go on. Nothing of the call is in them.

    is_searched: with a search box.
    """

    title: str
    advice: str
    url: str = "/admin/"
    to: str = "the first page"
    is_searched: bool = False


MALFORMED = ErrorPage("This call can't be understood", "Go back, and try it from the page that you came from.")
FORBIDDEN = ErrorPage(
    "You may not do this",
    "Your roles don't allow it. Ask a user with the role admin for one that does, then log in again.",
)
NOT_FOUND = ErrorPage(
    "There is no such page",
    "What it was about may be gone, or the address has an error. Search for it, or start anew.",
    is_searched=True,
)
OUT_OF_DATE = ErrorPage(
    "This form is out of date",
    "Nothing was changed. Go back, load the page anew and send it again. If that does not help, let the browser keep cookies.",
)
BROKEN = ErrorPage(
    "Something failed here",
    "Try again in a moment. If it goes on, look into this server's log, and at clusteragent status: the database may be away.",
)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400. The status is 413 if the body is too large."""
    status = 413 if isinstance(exception, RequestDataTooBig) else 400
    return _answer(request, "This call is malformed.", status, MALFORMED)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403. What was refused is left for what is recorded of the answer."""
    request.refusal = exception  # type: ignore[attr-defined]
    return _answer(request, "This is not allowed.", 403, _forbidden(request, exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    detail = "Not found: /api/operator/v1/schema/ lists all paths."
    page = NOT_FOUND
    if isinstance(exception, NoSuchRow):
        names = exception.model._meta
        title, to = f"There is no such {names.verbose_name}", f"the {names.verbose_name_plural} that there are"
        page = ErrorPage(title, "It may have been deleted, or the address has an error.", exception.url, to)
    return _answer(request, detail, 404, page)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500. Only the log says what failed."""
    return _answer(request, FAILED, 500, BROKEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW. It leaves a mark for what is recorded of the answer."""
    request.csrf_failed = True  # type: ignore[attr-defined]
    return _answer(request, "The CSRF token is missing or wrong.", 403, OUT_OF_DATE)


def page(status: int, title: str, advice: str) -> HttpResponse:
    """A page that says what is wrong and what to do, for who has no session."""
    return HttpResponse(render_to_string("operators/error.html", ErrorPage(title, advice)._asdict()), status=status)


def unknown_host(request: HttpRequest) -> HttpResponse:
    """The response to a call with an unknown Host header. Plain text: Django's page would be built with that name."""
    text = (
        "Unknown host name. CLUSTERAGENT_ADMIN_HOSTS lists the allowed ones. Behind a proxy set CLUSTERAGENT_ADMIN_URL."
    )
    if _is_api(request):
        return JsonResponse({"detail": text}, status=400)
    return HttpResponse(f"{text}\n", status=400, content_type="text/plain")


FAILED = "Internal error. The server's log has the details."


# What the pages of a row and of its list need, by the end of their URL's name.
_NEEDED = {"changelist": "view", "change": "view", "history": "view", "add": "add", "delete": "delete"}


def _forbidden(request: HttpRequest, exception: Exception) -> ErrorPage:
    """The page for who lacks a permission: which one, where, and which roles have it."""
    if isinstance(exception, Outside):
        return ErrorPage(FORBIDDEN.title, f"Not yours to do: {scrub(str(exception))}.")
    match, user = request.resolver_match, getattr(request, "user", None)
    if match is None or user is None:
        return FORBIDDEN
    where, _, page = (match.url_name or "").rpartition("_")
    model = next((one for one in apps.get_models() if one._meta.label_lower == where.replace("_", ".", 1)), None)
    needed: Sequence[str] = getattr(exception, "permissions", ())
    if model and not needed and page in _NEEDED:
        action = "change" if page == "change" and request.method == "POST" else _NEEDED[page]
        needed = [f"{model._meta.app_label}.{action}_{model._meta.model_name}"]
    lacked = [one for one in needed if not user.has_perm(one)]
    try:
        having = [name for name in roles.Role.values if all(name in roles.with_permission(one) for one in lacked)]
    except DatabaseError:
        return FORBIDDEN
    if not lacked:
        return FORBIDDEN
    if why := next(filter(None, (bounds.refusal(user, one) for one in lacked)), ""):
        return ErrorPage(FORBIDDEN.title, f"Not yours to do: {scrub(why)}.")
    place = capfirst(str(model._meta.verbose_name_plural) if model else page.replace("-", " "))
    advice = (
        f"{place}: this needs the permission to {listed([roles.in_words(one) for one in lacked], None)}, which"
        f" {roles.comes_with(having)}. Ask a user with the role admin for it, then log in again."
    )
    return ErrorPage(FORBIDDEN.title, advice)


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _answer(request: HttpRequest, detail: str, status: int, page: ErrorPage) -> HttpResponse:
    if _is_api(request):
        return JsonResponse({"detail": detail}, status=status)
    # Without the request nothing asks the database, which may be why the call failed.
    return HttpResponse(render_to_string("operators/error.html", page._asdict()), status=status)
