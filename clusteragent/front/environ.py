"""Conversion of ASGI's scope to WSGI's environ, the form of a call that Django's views take."""

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

_ALWAYS = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


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
