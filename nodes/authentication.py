"""Who may call a route of the agents' port: bearers of one of two tokens, and each route takes one of them."""

import hmac

from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from clusteragent.lib import conf


class BearerToken:
    """`Authorization: Bearer <token>`, by the protocol's rules. A subclass names the tokens that open its routes."""

    def tokens(self) -> tuple[str, ...]:
        raise NotImplementedError

    def authenticate(self, request: HttpRequest) -> None:
        """Return if the call bears one of the tokens. Raises NotAuthenticated or PermissionDenied."""
        words = request.META.get("HTTP_AUTHORIZATION", "").split(" ")
        if words == [""]:
            raise NotAuthenticated("no session token provided")
        if words[0] != "Bearer":
            raise NotAuthenticated(f"unsupported authorization scheme: {words[0]}")
        if len(words) != 2 or not self._opens(words[1]):
            raise PermissionDenied("invalid session token")

    def _opens(self, given: str) -> bool:
        # WSGI hands a header's bytes over as Latin-1. An unset token opens nothing.
        header = given.encode("latin-1", "replace")
        return any(hmac.compare_digest(header, token.encode()) for token in self.tokens() if token)


class AgentToken(BearerToken):
    """Node agents' routes."""

    def tokens(self) -> tuple[str, ...]:
        return (conf.AUTH_TOKEN,)


class LocalToken(BearerToken):
    """The local routes: state, all endpoint configs, and what acts on the map."""

    def tokens(self) -> tuple[str, ...]:
        return (conf.LOCAL_TOKEN,)


class AnyToken(BearerToken):
    """Paths that lead nowhere, which only those who may call something are told."""

    def tokens(self) -> tuple[str, ...]:
        return (conf.AUTH_TOKEN, conf.LOCAL_TOKEN)
