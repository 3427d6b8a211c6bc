"""Authentication on the agents' port: each route accepts one of two bearer tokens."""

import hmac
from collections.abc import Callable

from django.http import HttpRequest
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from clusteragent.lib import conf


class BearerToken:
    """`Authorization: Bearer <token>`, with the protocol's errors."""

    def __init__(self, *tokens: Callable[[], str]) -> None:
        """tokens: return the accepted tokens. An empty one is never accepted."""
        self._tokens = tokens

    def authenticate(self, request: HttpRequest) -> None:
        """Return if the call bears an accepted token. Raises NotAuthenticated or PermissionDenied."""
        words = request.META.get("HTTP_AUTHORIZATION", "").split(" ")
        if words == [""]:
            raise NotAuthenticated("no session token provided")
        if words[0] != "Bearer":
            raise NotAuthenticated(f"unsupported authorization scheme: {words[0]}")
        # WSGI passes a header's bytes as Latin-1.
        given, accepted = words[-1].encode("latin-1", "replace"), [token() for token in self._tokens]
        if len(words) != 2 or not any(hmac.compare_digest(given, token.encode()) for token in accepted if token):
            raise PermissionDenied("invalid session token")


# For node agents' routes; for local routes (state, all endpoint configs, what changes the map); and for paths that do not
# exist, since only callers with a token learn that.
AGENT_TOKEN = BearerToken(lambda: conf.AUTH_TOKEN)
LOCAL_TOKEN = BearerToken(lambda: conf.LOCAL_TOKEN)
ANY_TOKEN = BearerToken(lambda: conf.AUTH_TOKEN, lambda: conf.LOCAL_TOKEN)
