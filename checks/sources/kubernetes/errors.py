"""What can go wrong between us and the API server. Each message is for people: what, where, and what to do."""

import re

from checks.sources.kubernetes.resources import Call, Object
from clusteragent.lib.words import escape_controls

MAX_MESSAGE = 500
# How the API server says that a role is missing. Others say 403 for other reasons.
_UNALLOWED = re.compile(r"\bcannot [a-z]+ (resource|path) ").search
_USER = re.compile(r'User "([^"]{1,300})"')


class ApiError(Exception):
    """A call failed. retry_after: the seconds that the server asks us to wait."""

    retry_after = 0.0


class BadAccess(ApiError):
    """What says how the API server is reached (kubeconfig, token, certificates) can't be used. No secret is quoted."""


class Away(ApiError):
    """The API server can't be reached, broke off, or says that it can't answer now. is_answer: it said so."""

    is_answer = False


class Slow(Away):
    """The API server did not answer in time, or a watch was silent for too long."""


class Unreadable(ApiError):
    """The answer is not what an API server says."""


class TooLarge(Unreadable):
    """The answer is larger than what is read."""


class Unauthorized(ApiError):
    """The API server does not accept our credentials (401)."""


class Forbidden(ApiError):
    """RBAC does not allow the call (403). The message says what is missing."""

    def __init__(self, message: str, call: Call) -> None:
        super().__init__(message)
        self.call = call


class NotFound(ApiError):
    """There is no such object, or the API server has no such resource (404)."""


class Gone(ApiError):
    """The version to go on from is too old (410), or is none of this server's: list again."""


class Rejected(ApiError):
    """The API server does not accept what was sent (400, 409, 422 and the like; 403 for a quota, or a namespace that ends)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def refusal(code: int, status: Object, call: Call, wait: str = "") -> ApiError:
    """Return the error that an HTTP status and the API's Status object mean. wait: the header Retry-After."""
    message = escape_controls(str(status.get("message") or "")[:MAX_MESSAGE])
    said = f": {message}" if message else ""
    if code == 401:
        return Unauthorized("the API server does not accept our credentials (401): they expired or were revoked")
    if code == 403 and _UNALLOWED(message):
        return _forbidden(call, message)
    if code == 404:
        return NotFound(f"{call}: not there{said}")
    if code == 410 or _is_ahead(status):
        return Gone(f"{call}: {message or 'the version is too old'}")
    if 400 <= code < 500 and code not in {408, 429}:
        return Rejected(f"{call}: refused ({code}){said}", code)
    away = Away(f"{call}: the API server answers {code}{said}")
    away.is_answer = True
    away.retry_after = float(wait) if re.fullmatch("[0-9]{1,3}", wait) else 0.0
    return away


def _forbidden(call: Call, message: str) -> Forbidden:
    user = _USER.search(message)
    where = f"in namespace {call.namespace}" if call.namespace else "in all namespaces"
    rule = f'apiGroups: ["{call.resource.group}"], resources: ["{call.names}"], verbs: ["{call.verb}"]'
    return Forbidden(f"{user[1] if user else 'our user'} may not {call} {where}: it needs a role with {rule}", call)


def _is_ahead(status: Object) -> bool:
    """Whether our version is newer than the server's newest: it was restored from a copy, or has not caught up yet."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    reasons = [cause.get("reason") for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    return "ResourceVersionTooLarge" in reasons
