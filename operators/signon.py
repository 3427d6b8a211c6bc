"""Login by the OpenID provider: the way to it, and the answer that comes back. And login by what an authenticating proxy says."""

from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.contrib import auth
from django.core import signing
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme

from acts.models import Act
from acts.recording import known_as, record
from clusteragent.lib import clients, conf
from clusteragent.lib.logs import RateLimit
from clusteragent.lib.words import escape_controls
from operators import errors, identities, login, provider
from operators.provider import MOST_OF_NAME, Denied, Pending, Person, Unreachable

# What a login that began keeps is in the browser: strangers who begin many cost no row. It holds for ten minutes.
COOKIE = f"{settings.COOKIE_PREFIX}signon"
COOKIE_AGE = 600
_SALT = "operators.signon"

# Titles and advice of pages.
OUT_OF_DATE = (
    "This login is out of date", "It began more than ten minutes ago, twice, or in another browser: log in again."
)  # fmt: skip
AWAY = (
    "The login's provider can't be reached",
    "Try again in a moment. Until it is back, `clusteragent breakglass` on a machine of ours lets an admin in.",
)

log = structlog.get_logger()
_failures = RateLimit(10)
# The most logins of people who are not let in that are put on record, in an hour, by each process.
MOST_REFUSED = 60
_refused = RateLimit(MOST_REFUSED, seconds=3600)


class Backend(login.Backend):
    """Users who came by the provider. It takes no password."""

    def authenticate(self, request: HttpRequest | None, *args: object, **kwargs: object) -> None:
        return None

    def lets_in(self, user: Any) -> bool:
        return True


class ByProxy(Backend):
    """Users for whom an authenticating proxy vouches with each call."""


class ProxyLogin:
    """Middleware for pages behind an authenticating proxy: who it names is in, and out once it names nobody or another.

    What the headers say counts from the addresses of CLUSTERAGENT_LOGIN_PROXIES alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        if not conf.LOGIN_PROXIES:
            raise MiddlewareNotUsed
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_by_proxy = request.session.get(auth.BACKEND_SESSION_KEY) == _path(ByProxy)
        try:
            person = _vouched(request)
            if person is not None and (is_by_proxy or request.path.startswith("/admin/")):
                # Elsewhere a script with a token is nobody's session.
                self._let_in(request, person, is_by_proxy=is_by_proxy)
        except Denied as error:
            _log_failure(request, error)
            _note_refused(escape_controls(_header(request, "USER").strip())[:MOST_OF_NAME], str(error))
            return _failed(error)
        if person is None and is_by_proxy:
            auth.logout(request)
        return self._get_response(request)

    def _let_in(self, request: HttpRequest, person: Person, *, is_by_proxy: bool) -> None:
        """Log the person in, if it is another than before, and give it the roles of its groups. Raises Denied."""
        is_in = is_by_proxy and request.user.is_authenticated and request.session.get(_SUBJECT) == person.subject
        # What the user has now, whichever of its sessions told it last.
        identity = identities.of(request.user) if is_in else None
        if identity is not None and identity.groups == list(person.groups):
            identities.still_vouched(request.user)
            return
        if is_by_proxy and not is_in:
            auth.logout(request)
        user, refusal = identities.enter(person, identities.PROXY)
        if refusal:
            raise Denied(refusal)
        if not is_in:
            auth.login(request, user, backend=_path(ByProxy))
        request.session[_SUBJECT] = person.subject


_SUBJECT = "whom the proxy named"


def _vouched(request: HttpRequest) -> Person | None:
    """The person whom a proxy of ours names; None without one, and for a call that did not come from such a proxy."""
    # The socket's own peer: what a proxy says of addresses does not make a call the proxy's.
    peer = clients.peer(request.META)
    name = _header(request, "USER").strip()
    if not name or peer is None or not any(peer in one for one in conf.LOGIN_PROXIES):
        return None
    groups = {group.strip() for group in _header(request, "GROUPS").split(",")} - {""}
    return provider.person(name, name, _header(request, "EMAIL"), groups)


def _header(request: HttpRequest, name: str) -> str:
    """A header of the proxy, which writes it in UTF-8; WSGI reads headers as Latin-1."""
    return str(request.META.get(f"HTTP_X_FORWARDED_{name}", "")).encode("latin-1", "replace").decode("utf-8", "replace")


def _path(backend: type[Backend]) -> str:
    return f"{__name__}.{backend.__name__}"


def begin(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider. `next`: where it goes afterwards."""
    if not conf.OIDC_ISSUER:
        return errors.not_found(request, Exception())
    try:
        url, pending = provider.begin(request.build_absolute_uri(reverse("signon-answer")))
    except (Denied, Unreachable) as error:
        return _failed(error)
    response = HttpResponseRedirect(url)
    kept = signing.dumps({**pending, "next": request.GET.get("next", "")}, salt=_SALT)
    response.set_cookie(COOKIE, kept, max_age=COOKIE_AGE, secure=settings.SECURE_COOKIES, httponly=True, samesite="Lax")
    return response


def answer(request: HttpRequest) -> HttpResponse:
    """The provider's answer, which the browser brings: a session begins, or a page says why not."""
    if not conf.OIDC_ISSUER:
        return errors.not_found(request, Exception())
    response = _answered(request)
    # It opens one login, whatever came of it.
    response.delete_cookie(COOKIE, samesite="Lax")
    return response


def _answered(request: HttpRequest) -> HttpResponse:
    try:
        kept = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=COOKIE_AGE)
    except signing.BadSignature:
        kept = None
    if kept is None or not constant_time_compare(kept["state"], request.GET.get("state", "")):
        return errors.page(400, *OUT_OF_DATE)
    try:
        user = _user(request, Pending(kept))
    except (Denied, Unreachable) as error:
        _log_failure(request, error)
        return _failed(error)
    auth.login(request, user, backend=_path(Backend))
    where = kept["next"]
    is_ours = url_has_allowed_host_and_scheme(where, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(where if is_ours else reverse(settings.LOGIN_REDIRECT_URL))


def _user(request: HttpRequest, pending: Pending) -> Any:
    """The user of the person for whom the provider answered. Raises Denied and Unreachable."""
    if request.GET.get("iss", conf.OIDC_ISSUER) != conf.OIDC_ISSUER:
        raise Denied("another provider answered")
    if "code" not in request.GET:
        raise Denied(request.GET.get("error", "")[:100] or "no code came")
    person = provider.finish(pending, request.GET["code"])
    try:
        user, refusal = identities.enter(person)
    except Denied as error:
        user, refusal = None, str(error)
    if refusal:
        _note_refused(user.get_username() if user else person.name, refusal)
        raise Denied(refusal)
    return user


def _note_refused(name: str, refusal: str) -> None:
    """Put on record that a person was not let in, MOST_REFUSED times an hour: everybody whom the provider knows can come."""
    more = _refused.take()
    if more is not None:
        with known_as(name):
            record(Act.Verb.FAIL, "to the admin", after={"more": more} if more else None, reason=refusal)


def _log_failure(request: HttpRequest, error: Exception) -> None:
    """Log a login that failed, ten a minute: anybody can begin one."""
    more = _failures.take()
    if more is not None:
        address = str(clients.address(request.META) or "nowhere")
        log.warning("signon_failed", address=address, reason=escape_controls(str(error))[:300], more=more)


def _failed(error: Exception) -> HttpResponse:
    if isinstance(error, Denied):
        return errors.page(403, "You are not logged in", f"Your login was refused: {escape_controls(str(error))}.")
    response = errors.page(503, *AWAY)
    response["Retry-After"] = "30"
    return response
