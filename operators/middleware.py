"""What every answer of the operators' port says to browsers, and by which names it is called."""

from collections.abc import Callable

import structlog
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from clusteragent.lib import clients
from clusteragent.lib.ratelimit import RateLimit
from operators import errors

# Pages need none of it.
FEATURES = (
    "accelerometer", "autoplay", "camera", "display-capture", "fullscreen", "geolocation", "gyroscope", "hid",
    "identity-credentials-get", "magnetometer", "microphone", "midi", "payment", "publickey-credentials-get",
    "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
HEADERS = {
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in FEATURES),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Nothing of it is for a disk or a proxy, but what says so itself: scripts, styles and pictures.
    "Cache-Control": "no-store",
}

log = structlog.get_logger()
Answer = Callable[[HttpRequest], HttpResponseBase]


class Headers:
    """Adds to each answer what it does not say itself. The policy for scripts is django-csp's."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class KnownHosts:
    """Refuses calls by a name that is not ours: one line in the log now and then, instead of a traceback a call."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response
        self._limit = RateLimit(1)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            return self._refuse(request)
        return self._get_response(request)

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        more = self._limit.take()
        if more is not None:
            host, address = (
                str(request.META.get("HTTP_HOST", ""))[:255],
                str(clients.address(request.META) or "nowhere"),
            )
            log.warning("host_refused", host=host, address=address, allowed_by="CLUSTERAGENT_ADMIN_HOSTS", more=more)
        response = errors.unknown_host(request)
        # Django would write a line for each.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response
