"""Authentication on the agents' port: each route accepts one of two bearer tokens."""

import hmac

from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from clusteragent.lib import conf


class BearerToken:
    """`Authorization: Bearer <token>`, with the protocol's errors. A subclass names the tokens that its routes accept."""

    def tokens(self) -> tuple[str, ...]:
        """The accepted tokens. An empty one is never accepted."""
        raise NotImplementedError

    def authenticate(self, request: HttpRequest) -> None:
        """Return if the call bears an accepted token. Raises NotAuthenticated or PermissionDenied."""
        words = request.META.get("HTTP_AUTHORIZATION", "").split(" ")
        if words == [""]:
            raise NotAuthenticated("no session token provided")
        if words[0] != "Bearer":
            raise NotAuthenticated(f"unsupported authorization scheme: {words[0]}")
        # WSGI passes a header's bytes as Latin-1.
        given = words[-1].encode("latin-1", "replace")
        if len(words) != 2 or not any(hmac.compare_digest(given, token.encode()) for token in self.tokens() if token):
            raise PermissionDenied("invalid session token")


class AgentToken(BearerToken):
    """For node agents' routes."""

    def tokens(self) -> tuple[str, ...]:
        """The node agents' token."""
        return (conf.AUTH_TOKEN,)


class LocalToken(BearerToken):
    """For local routes: state, all endpoint configs, and what changes the map."""

    def tokens(self) -> tuple[str, ...]:
        """The local token."""
        return (conf.LOCAL_TOKEN,)


class AnyToken(BearerToken):
    """For paths that do not exist: only callers with a token learn that."""

    def tokens(self) -> tuple[str, ...]:
        """Both tokens."""
        return (conf.AUTH_TOKEN, conf.LOCAL_TOKEN)
