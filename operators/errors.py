"""Error responses of the operators' port that no view gives: JSON below /api/, pages of our own elsewhere."""

from typing import NamedTuple

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string


class ErrorPage(NamedTuple):
    """The words of a page: what is wrong, and what to do. Nothing of the call is in them. is_searched: with a search box."""

    title: str
    advice: str
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
    """Django's handler403."""
    return _answer(request, "This is not allowed.", 403, FORBIDDEN)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    detail = "Not found: /api/operator/v1/schema/ lists all paths."
    return _answer(request, detail, 404, NOT_FOUND)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500. Only the log says what failed."""
    return _answer(request, FAILED, 500, BROKEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW. It leaves a mark for what is recorded of the answer."""
    request.csrf_failed = True  # type: ignore[attr-defined]
    return _answer(request, "The CSRF token is missing or wrong.", 403, OUT_OF_DATE)


def unknown_host(request: HttpRequest) -> HttpResponse:
    """The response to a call with an unknown Host header. Plain text: Django's page would be built with that name."""
    text = (
        "Unknown host name. CLUSTERAGENT_ADMIN_HOSTS lists the allowed ones. Behind a proxy set CLUSTERAGENT_ADMIN_URL."
    )
    if _is_api(request):
        return JsonResponse({"detail": text}, status=400)
    return HttpResponse(f"{text}\n", status=400, content_type="text/plain")


FAILED = "Internal error. The server's log has the details."


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def _answer(request: HttpRequest, detail: str, status: int, page: ErrorPage) -> HttpResponse:
    if _is_api(request):
        return JsonResponse({"detail": detail}, status=status)
    # Without the request nothing asks the database, which may be why the call failed.
    return HttpResponse(render_to_string("operators/error.html", page._asdict()), status=status)
