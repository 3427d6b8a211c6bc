"""A call as Django's views know it: WSGI's environ, made of ASGI's scope."""

import hashlib
import io
from collections.abc import Mapping
from typing import Any

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


def environ_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The environ without a body. Headers of one name are joined; a name with an underscore is not taken for another's."""
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    environ: dict[str, Any] = {
        **_ALWAYS,
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
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


_keys: dict[bytes, str] = {}


def _key(name: bytes) -> str:
    """The environ's key of a header. Node agents send the same few names again and again; a rude client any number."""
    key = _keys.get(name)
    if key is None:
        word = name.decode("latin-1").upper().replace("-", "_")
        key = word if word in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{word}"
        if len(_keys) < 100:
            _keys[name] = key
    return key


def credential(environ: Mapping[str, Any]) -> str:
    """What tells callers apart before they are authenticated: a token or a session, hashed; empty without any."""
    token = environ.get("HTTP_AUTHORIZATION", "").split()[-1:]
    session = parse_cookie(environ.get("HTTP_COOKIE", "")).get(settings.SESSION_COOKIE_NAME, "")
    shown = token[0] if token else session
    return hashlib.blake2b(shown.encode("latin-1", "replace"), digest_size=16).hexdigest() if shown else ""


def caller(environ: Mapping[str, Any]) -> str:
    """The credential, or without one the address."""
    return credential(environ) or str(clients.address(environ))
