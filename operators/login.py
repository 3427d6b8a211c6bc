"""Login by name and password, and how long a session lasts."""

from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

import structlog
from django.contrib import admin, auth
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.views import PasswordChangeView
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from unfold.forms import AdminOwnPasswordChangeForm, AuthenticationForm

from acts.models import Act
from acts.recording import known_as, record
from clusteragent.lib import clients, clock, conf
from clusteragent.lib.words import escape_controls
from operators import bounds, identities, lockout, returning
from operators.hashing import TooBusy
from operators.lockout import LockedOut

# The session's values: when it began, and when its user last did something. The latter is written once a minute at most.
BEGAN, SEEN = "began", "seen"
NOTED_EACH = 60
# The most ended sessions that one login deletes.
MOST_CLEARED = 1000

log = structlog.get_logger()


class Backend(ModelBackend):
    """Django's names and passwords, with counted failures. Raises LockedOut and TooBusy.

    Whoever has a role may use the admin: its users count as staff, whether Django's box is ticked or not.
    """

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if username is None or password is None:
            return None
        with lockout.Attempt(username, request) as attempt:
            user = super().authenticate(request, username, password, **kwargs)
            attempt.is_right = user is not None
        return self._admitted(user.pk) if user else None

    def _admitted(self, user_id: int) -> Any:
        """The user whose password was right; None if it may not act. It is on record whom a right password did not let in."""
        user, refusal = identities.found(user_id)
        lets_in = not refusal and self.lets_in(user)
        why = refusal or ("" if lets_in else "it logs in by no password") or ("" if user.is_staff else "it has no role")
        if why:
            with known_as(user.get_username() if user else ""):
                record(Act.Verb.REFUSE, "log in to the admin, with the right password", reason=why)
        return user if lets_in else None

    def get_group_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """What the groups give, without what their bounds take altogether."""
        if obj is not None or not user_obj.is_active or user_obj.is_anonymous or user_obj.is_superuser:
            return super().get_group_permissions(user_obj, obj)
        return bounds.permissions(user_obj)

    def get_user(self, user_id: int) -> Any:
        user, refusal = identities.found(user_id)
        return None if refusal or not self.lets_in(user) else user

    def lets_in(self, user: Any) -> bool:
        """Whether a session by password goes on: it ends when passwords are switched off."""
        return identities.logs_in_by_password(user)


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """The login form. It says why a password was not checked."""

    # Django's speaks of staff accounts. Which of it is the case is told to nobody.
    error_messages: ClassVar[Any] = AuthenticationForm.error_messages | {
        "invalid_login": "The name or the password is wrong, or the user has no role. Capital letters count."
    }

    def clean(self) -> Any:
        try:
            return super().clean()
        except (LockedOut, TooBusy) as refusal:
            self.request.login_refusal = refusal
            raise ValidationError(str(refusal)) from None


class OwnPasswordForm(AdminOwnPasswordChangeForm):  # type: ignore[misc]
    """The form to change one's own password. Wrong old ones count like failed logins, so that nobody guesses faster."""

    def clean_old_password(self) -> str:
        try:
            with lockout.Attempt(self.user.get_username(), None) as attempt:
                attempt.is_right = self.user.check_password(self.cleaned_data["old_password"])
        except (LockedOut, TooBusy) as refusal:
            raise ValidationError(str(refusal)) from None
        if not attempt.is_right:
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return str(self.cleaned_data["old_password"])

    @transaction.atomic
    def save(self, commit: bool = True) -> Any:
        user = super().save(commit)
        record(Act.Verb.CHANGE, f"login of user {user}", after="by password, a new one")
        return user


def own_password(request: HttpRequest) -> HttpResponseBase:
    """The admin's page to change one's own password."""
    form = PasswordChangeView.as_view(
        form_class=OwnPasswordForm,
        success_url=reverse("admin:password_change_done"),
        extra_context=admin.site.each_context(request),
    )
    return form(request)


def view(request: HttpRequest) -> HttpResponse:
    """The admin's login page. A refusal has its status; a login sets the cookie of a known browser."""
    context = {"has_provider": bool(conf.OIDC_ISSUER), "has_passwords": conf.LOCAL_LOGIN, "why_out": why_out(request)}
    response = admin.site.login(request, extra_context=context)
    refusal = getattr(request, "login_refusal", None)
    if refusal:
        response.status_code = refusal.status
        response["Retry-After"] = str(refusal.retry_after)
    elif request.method == "POST" and response.status_code == 302:
        lockout.remember(response, request.user)
    return response


def why_out(request: HttpRequest) -> str:
    """Return why the user of this session may not act any more; empty if there is none, or if it may."""
    user_id = request.session.get(auth.SESSION_KEY)
    return "" if user_id is None or request.user.is_authenticated else identities.found(int(user_id))[1]


def begin(sender: Any, request: HttpRequest, user: Any, **kwargs: Any) -> None:
    """Receiver of Django's user_logged_in: a session begins. It also deletes up to MOST_CLEARED ended sessions."""
    log.info(
        "logged_in", name=escape_controls(user.get_username()), address=str(clients.address(request.META) or "nowhere")
    )
    record(Act.Verb.LOG_IN, "to the admin")
    request.session[BEGAN] = request.session[SEEN] = _now()
    ended = Session.objects.filter(expire_date__lt=Now()).order_by("expire_date")
    Session.objects.filter(pk__in=ended.values("pk")[:MOST_CLEARED]).delete()


def end(sender: Any, user: Any, **kwargs: Any) -> None:
    """Receiver of Django's user_logged_out: a session ends, by its user or by its age."""
    if user is not None:
        record(Act.Verb.LOG_OUT, "of the admin")


def _now() -> int:
    """Seconds since 1970 by the database's clock: another replica goes on with the session."""
    return int(clock.now().timestamp())


def polls(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for views that pages call by themselves: such a call does not count as an action of the user."""
    view.is_polled = True  # type: ignore[attr-defined]
    return view


@polls
@never_cache
def session(request: HttpRequest) -> HttpResponse:
    """For pages that look whether their session stands: 401 if not, else whose it is, the time, and the token that forms need."""
    if not admin.site.has_permission(request):
        return HttpResponse(status=401)
    told = {"user": request.user.get_username(), "time": f"{timezone.now():%H:%M:%S} UTC", "token": get_token(request)}
    return JsonResponse(told)


class Sessions:
    """Middleware that ends sessions: SESSION_AGE after their start, or SESSION_IDLE after the user's last action.

    Who sends a form after that is told at the login that nothing was done, and led back to the page of the form.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if request.method == "POST" and isinstance(response, HttpResponseRedirect):
            login = reverse("admin:login")
            if urlsplit(response.url).path == login != request.path:
                query = {"undone": "1", auth.REDIRECT_FIELD_NAME: returning.sent_from(request)}
                return HttpResponseRedirect(f"{login}?{urlencode(query)}")
        return response

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        if not request.user.is_authenticated:
            return
        now = _now()
        began, seen = (request.session.get(name, 0) for name in (BEGAN, SEEN))
        if now - began >= conf.SESSION_AGE.total_seconds() or now - seen >= conf.SESSION_IDLE.total_seconds():
            auth.logout(request)
        elif now - seen >= NOTED_EACH and not getattr(view, "is_polled", False):
            request.session[SEEN] = now

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer TooBusy from any view: passwords are also hashed when they are changed."""
        if isinstance(error, TooBusy):
            headers = {"Retry-After": str(error.retry_after)}
            return HttpResponse(str(error), status=error.status, content_type="text/plain", headers=headers)
        return None
