"""Who makes a call, before it is authenticated: for limits of what one caller may hold."""

import hashlib
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http.cookie import parse_cookie

from clusteragent.lib import clients

# {credential: the user whose it was when it was used last}, of so many at most.
_users: dict[str, str] = {}
MOST_KNOWN = 10_000


def credential(environ: Mapping[str, Any]) -> str:
    """Return a hash of the caller's token or session, to tell callers apart before authentication; empty without either.

    It is what opens the page: of the admin the session alone, elsewhere a bearer token first. What is not looked at would make
    one caller seem many.
    """
    # As bytes: there are more blanks in a text, which REST framework takes for part of the token.
    scheme, *token = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace").split()[:2] or [b""]
    session = parse_cookie(environ.get("HTTP_COOKIE", "")).get(settings.SESSION_COOKIE_NAME, "")
    is_by_token = token and scheme.lower() == b"bearer" and not environ["PATH_INFO"].startswith("/admin/")
    shown = token[0] if is_by_token else session.encode("latin-1", "replace")
    return hashlib.blake2b(shown, digest_size=16).hexdigest() if shown else ""


def caller(environ: Mapping[str, Any]) -> str:
    """Return the user if the credential is known to be a user's, else the credential, or the address if there is none."""
    shown = credential(environ)
    return _users.get(shown, shown) or str(clients.address(environ))


def recognise(environ: Mapping[str, Any], user: str) -> None:
    """Count all calls with this credential as this user's: many sessions and tokens are one caller. Of this process alone."""
    if shown := credential(environ):
        if len(_users) >= MOST_KNOWN:
            _users.clear()
        _users[shown] = f"user {user}"
