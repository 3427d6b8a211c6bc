"""Error responses of the operators' port that no view gives: JSON below /api/, Django's pages elsewhere."""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import csrf, defaults


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400. The status is 413 if the body is too large."""
    status = 413 if isinstance(exception, RequestDataTooBig) else 400
    return _answer(request, defaults.bad_request, "This call is malformed.", status, exception)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return _answer(request, defaults.permission_denied, "This is not allowed.", 403, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    detail = "Not found: /api/operator/v1/schema/ lists all paths."
    return _answer(request, defaults.page_not_found, detail, 404, exception)


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500. Only the log says what failed."""
    return _answer(request, defaults.server_error, FAILED, 500)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    return _answer(request, csrf.csrf_failure, "The CSRF token is missing or wrong.", 403, reason)


def unknown_host(request: HttpRequest) -> HttpResponse:
    """The response to a call with an unknown Host header. Plain text: Django's page would be built with that name."""
    text = (
        "Unknown host name. CLUSTERAGENT_ADMIN_HOSTS lists the allowed ones. Behind a proxy set CLUSTERAGENT_ADMIN_URL."
    )
    return _answer(request, lambda _: HttpResponse(f"{text}\n", status=400, content_type="text/plain"), text, 400)


FAILED = "Internal error. The server's log has the details."


def _answer(
    request: HttpRequest, page: Callable[..., HttpResponse], detail: str, status: int, *args: Any
) -> HttpResponse:
    if request.path.startswith("/api/"):
        return JsonResponse({"detail": detail}, status=status)
    return page(request, *args)
