"""Conversion of ASGI's scope to WSGI's environ, the form of a call that Django's views take."""

import hashlib
import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings
from django.http.cookie import parse_cookie

from clusteragent.lib import clients

_ALWAYS = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


# {credential: the user whose it was when it was used last}, of so many at most.
_users: dict[str, str] = {}
MOST_KNOWN = 10_000


def environ_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environ, without a body. Headers of the same name are joined; names with an underscore are dropped, as they
    would become the same key as names with a hyphen."""
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    environ: dict[str, Any] = {
        **_ALWAYS,
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": _path(scope).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": client[0],
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(),
    }
    for name, value in scope["headers"]:
        if b"_" not in name:
            key, text = _key(name), value.decode("latin-1")
            joint = "; " if key == "HTTP_COOKIE" else ","
            environ[key] = f"{environ[key]}{joint}{text}" if key in environ else text
    return environ


def _path(scope: Mapping[str, Any]) -> bytes:
    """Return the bytes of the path. The server's text of it has the same character for all bytes that are not UTF-8."""
    raw = scope.get("raw_path")
    return str(scope["path"]).encode("utf-8", "surrogateescape") if raw is None else unquote_to_bytes(raw)


@lru_cache(100)  # node agents always send the same headers
def _key(name: bytes) -> str:
    """Return the environ's key of a header."""
    word = name.decode("latin-1").upper().replace("-", "_")
    return word if word in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{word}"


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
