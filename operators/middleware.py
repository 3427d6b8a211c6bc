"""Security headers of the operators' port, and the host names by which it may be called."""

from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from django.core.exceptions import DisallowedHost, MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from knox.models import AuthToken

from acts.models import Act
from acts.recording import entered, record
from checks.dispatcher import Outside
from checks.dispatcher.acting import is_on_record
from checks.models.bounds import within
from clusteragent.lib import clients, conf
from clusteragent.lib.callers import recognise
from clusteragent.lib.logs import RateLimit
from operators import bounds, errors, tokens
from operators.wanted import wanted

# Browser features that no page needs.
FEATURES = (
    "accelerometer", "autoplay", "camera", "display-capture", "fullscreen", "geolocation", "gyroscope", "hid",
    "identity-credentials-get", "magnetometer", "microphone", "midi", "payment", "publickey-credentials-get",
    "screen-wake-lock", "serial", "usb", "xr-spatial-tracking",
)  # fmt: skip
HEADERS = {
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in FEATURES),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Browsers and proxies store no answer, except those that allow it: scripts, styles and pictures.
    "Cache-Control": "no-store",
}

# How many refusals of a user are on record, each hour and process.
MOST_REFUSED = 10
# What begins like this is the operators' API.
API = "/api/"

log = structlog.get_logger()
Answer = Callable[[HttpRequest], HttpResponseBase]


class Headers:
    """Middleware that adds our security headers unless a response sets them itself. The policy for scripts is django-csp's."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class PublicURL:
    """Middleware that takes the host and scheme of CLUSTERAGENT_ADMIN_URL, if set, for those of every call.

    So a proxy may send any Host and end TLS, and links, redirects and the check of a form's origin are by the URL that
    browsers show. What a caller sends as Host has no effect then.
    """

    def __init__(self, get_response: Answer) -> None:
        if not conf.ADMIN_URL:
            raise MiddlewareNotUsed
        self._get_response = get_response
        self._url = urlsplit(conf.ADMIN_URL)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # In place: a WSGIRequest reads the scheme from the same dictionary.
        request.META.update({"HTTP_HOST": self._url.netloc, "wsgi.url_scheme": self._url.scheme})
        return self._get_response(request)


class KnownHosts:
    """Middleware that refuses unknown Host headers, with a log line now and then instead of a traceback for each call."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response
        self._limit = RateLimit(1)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            if (more := self._limit.take()) is not None:
                host = str(request.META.get("HTTP_HOST", ""))[:255]
                address = str(clients.address(request.META) or "nowhere")
                log.warning(
                    "host_refused", host=host, address=address, allowed_by="CLUSTERAGENT_ADMIN_HOSTS", more=more
                )
            response = errors.unknown_host(request)
            # Otherwise Django would log each of them.
            response._has_been_logged = True  # type: ignore[attr-defined]
            return response
        return self._get_response(request)


class Readable:
    """Middleware that leaves NULs out of queries: no text of the database has one."""

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # The API says what is wrong with it.
        while "%00" in request.META["QUERY_STRING"] and not request.path.startswith(API):
            # What is left may be another one.
            request.META["QUERY_STRING"] = request.META["QUERY_STRING"].replace("%00", "")
        return self._get_response(request)


class Entrances:
    """Middleware that says who acts, for what is recorded: the user of the session or of the token, and the client's address.

    What a user may not do (403) is on record, MOST_REFUSED times an hour for each; what strangers may not is in the log alone.
    """

    def __init__(self, get_response: Answer) -> None:
        self._get_response = get_response
        self._refused: dict[str, RateLimit] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        how = Act.How.API if request.path.startswith(API) else Act.How.ADMIN
        # Asked late: a token's user is known once the call is in its view.
        with (
            entered(how, str(clients.address(request.META) or ""), lambda: named(request), lambda: known_by(request)),
            within(lambda permission: bounds.limits(request.user, permission)),
        ):
            response = self._get_response(request)
            refusal = getattr(request, "refusal", None)
            if response.status_code == 403 and (name := named(request)) and not is_on_record(refusal):
                more = self._refused.setdefault(name, RateLimit(MOST_REFUSED, seconds=3600)).take()
                if more is not None:
                    what, configs, nodes = wanted(request)
                    after, why = {"more": more} if more else None, _why(request, refusal)
                    record(Act.Verb.REFUSE, what, after=after, reason=why, configs=configs, nodes=nodes)
            if name := named(request):
                recognise(request.META, name)
            return response


def _why(request: HttpRequest, refusal: object) -> str:
    """Why a call was answered 403."""
    if isinstance(refusal, Outside):
        return str(refusal)
    if hasattr(request, "caller"):
        return "the call had no CSRF token of the session"
    return "the form was out of date" if hasattr(request, "csrf_failed") else "no permission"


def known_by(request: HttpRequest) -> str:
    """By what the user of a call is known: which token, or a session; empty for a stranger."""
    token = getattr(request, "auth", None)
    if isinstance(token, AuthToken):
        return tokens.credential(token)
    return "session" if named(request) else ""


def named(request: HttpRequest) -> str:
    """The name of the user who makes a call, or made it without the CSRF token of its session; empty for a stranger."""
    name = request.user.get_username() if getattr(request, "user", None) else ""
    return name or getattr(request, "caller", "")
