"""How a call to the operators' API names its user: by a bearer token, or by the session of the admin."""

from typing import Any

import structlog
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.auth import TokenAuthentication
from knox.settings import knox_settings
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from checks.models.bounds import Reach
from clusteragent.lib import clients, clock
from clusteragent.lib.logs import RateLimit
from operators import identities
from operators.models import Bound

log = structlog.get_logger()
# Log lines a minute about refused tokens.
_refusals = RateLimit(10)


class OperatorToken(TokenAuthentication):
    """Takes `Authorization: Bearer <token>` with an operator's token; those of node agents and the local one are refused."""

    def authenticate(self, request: Request) -> Any:
        try:
            return super().authenticate(request)
        except AuthenticationFailed as error:
            more = _refusals.take()
            if more is not None:
                address = str(clients.address(request.META) or "nowhere")
                log.warning("token_refused", address=address, reason=str(error.detail), more=more)
            raise

    def authenticate_credentials(self, token: bytes) -> Any:
        if not (token.isascii() and token.decode("ascii").isprintable()):
            raise AuthenticationFailed(_NONE)
        try:
            user, row = super().authenticate_credentials(token)
        except AuthenticationFailed as error:
            # The library's message does not say what to do.
            raise AuthenticationFailed(_INACTIVE if "inactive" in str(error.detail) else _NONE) from None
        # As for a session: a token outlives what the provider says of its user, or an emergency.
        user, refusal = identities.found(user.pk)
        if refusal:
            raise AuthenticationFailed(f"The user of this token may not act: {refusal}.")
        user.token_reach = _reach(row)
        return user, row

    def _cleanup_token(self, auth_token: Any) -> bool:
        """Whether the token has expired, by the database's clock. It isn't deleted here: a replica's clock may be wrong."""
        return auth_token.expiry is not None and auth_token.expiry < clock.now()


class AdminSession(SessionAuthentication):
    """Takes the session of the admin, for the pages of the API's documentation. A call without its CSRF token is on record."""

    def enforce_csrf(self, request: Any) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            # Such a call has no user afterwards.
            request._request.caller = request._request.user.get_username()
            raise


def _reach(row: Any) -> Reach | None:
    """What a token is bound to; None if it is not bound."""
    bound = Bound.objects.filter(token=row).first()
    return Reach(f"the token {row.token_key}…", tuple(bound.sources), tuple(bound.checks)) if bound else None


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes OperatorToken in the OpenAPI schema."""

    target_class = OperatorToken
    name = "token"
    priority = 1

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": knox_settings.AUTH_HEADER_PREFIX.lower()}


class AdminSessionScheme(SessionScheme):  # type: ignore[no-untyped-call]
    """Describes AdminSession in the OpenAPI schema."""

    target_class: Any = AdminSession


_NONE = "This token is invalid or has expired. Create one in the admin or with `manage.py createtoken`."
_INACTIVE = "The user of this token is inactive. An admin can activate it."
