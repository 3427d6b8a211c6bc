"""Reading the map of another cluster agent: the answer of its GET /api/v1/clusterchecks, now or saved to a file."""

import json
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
from django.core.exceptions import ValidationError

from checks.adoption.bodies import Body
from clusteragent.lib import bounded, tls
from clusteragent.lib.version import USER_AGENT
from clusteragent.lib.words import escape_controls
from nodes.names import validate_node_name

PATH = "/api/v1/clusterchecks"
# Seconds without a byte, and for the whole answer. Thousands of configs take some.
TIMEOUT, DEADLINE = 60.0, 300.0
MAX_BYTES = 256 * 2**20
# What stands in a scrubbed state in place of a secret.
_HIDDEN = "********"


class UnreadableState(ValueError):
    """There is no map to read, or it may not be believed. The message says why, without secrets."""


class State(NamedTuple):
    """The map of another cluster agent: {node's name: its configs}, and the configs that no node has there.

    is_scrubbed: secrets were taken out, so that configs with some can't be compared.
    """

    nodes: Mapping[str, list[Body]]
    dangling: list[Body]
    is_scrubbed: bool = False


def fetch(url: str, token: str, *, ca: Path | None = None) -> bytes:
    """Return the state that the server at this URL answers. ca: what its certificate is verified by; unverified without.

    Raises UnreadableState, which names neither the token nor what else is secret.
    """
    root = url if "://" in url else f"https://{url}"
    parts = urlsplit(root)
    if parts.scheme != "https" or "@" in parts.netloc:
        raise UnreadableState(f"{parts.hostname or url}: give it as https://host:port, without a user")
    if not (token.isascii() and token.isprintable()):
        raise UnreadableState("its token is not one line of plain characters")
    try:
        trust = ssl.create_default_context(cafile=str(ca)) if ca else tls.unverified()
        # Nothing compressed: a small answer could expand without limit.
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        with (
            httpx.Client(verify=trust, timeout=TIMEOUT, trust_env=False) as client,
            client.stream("GET", root.rstrip("/") + PATH, headers=headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise UnreadableState(f"{root}: {answer.status_code} {_refusal(answer.status_code)}")
            return _body(answer, root)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as error:
        raise UnreadableState(f"{root}: {error or type(error).__name__}") from error


def _body(answer: httpx.Response, root: str) -> bytes:
    """The whole answer. Raises UnreadableState for one that is too large, or takes too long."""
    try:
        return bounded.read(answer.iter_raw(), most=MAX_BYTES, until=time.monotonic() + DEADLINE)
    except bounded.TooMuch:
        raise UnreadableState(f"{root}: it answers more than {MAX_BYTES >> 20} MiB") from None
    except bounded.TooSlow:
        raise UnreadableState(f"{root}: it did not answer within {DEADLINE:g} s") from None


def read(document: bytes) -> State:
    """Return the map of a state. Raises UnreadableState for what is none, or not the leader's, or still warming up."""
    try:
        given = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise UnreadableState(f"it is not JSON: {error}") from error
    if not isinstance(given, dict) or "nodes" not in given:
        raise UnreadableState(f"it is no answer of GET {PATH}")
    if "assignments" in given:
        raise UnreadableState("exportstate wrote it: importstate reads it")
    if why := given.get("not_running"):
        raise UnreadableState(
            f"that server does not lead ({escape_controls(str(why)[:200])}): ask the leader, it forwards this call to nobody"
        )
    if given.get("warmup"):
        raise UnreadableState("that server warms up: it has no map yet, ask again in a minute")
    nodes: dict[str, list[Body]] = {}
    for node in _list(given["nodes"], "nodes"):
        name = _name(node)
        if name in nodes:
            raise UnreadableState(f"node {name} is there twice")
        nodes[name] = _bodies(node.get("configs"), name)
    return State(nodes, _bodies(given.get("dangling"), "dangling"), _is_scrubbed(nodes.values()))


def _refusal(status: int) -> str:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return "- it wants its local token (its file auth_token), not that of node agents"
    if status == httpx.codes.NOT_FOUND:
        return "- cluster checks are not enabled there, or it is no cluster agent"
    return httpx.codes.get_reason_phrase(status)


def _name(node: Any) -> str:
    try:
        name = node["name"]
        validate_node_name(name)
    except (KeyError, TypeError) as error:
        raise UnreadableState("a node has no name") from error
    except ValidationError as error:
        raise UnreadableState(f"node {name!r}: {' '.join(error.messages)}") from error
    return str(name)


def _bodies(items: Any, place: str) -> list[Body]:
    """The configs of a list. Newer servers put each beside its check IDs."""
    found = []
    for number, item in enumerate(_list(items, place), 1):
        try:
            found.append(Body.of(item["config"] if "check_name" not in item else item))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableState(f"{place}: config {number} can't be read") from error
    return found


def _list(value: Any, place: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableState(f"{place}: it is no list")
    return value


def _is_scrubbed(lists: Iterable[list[Body]]) -> bool:
    texts = (text for bodies in lists for body in bodies for text in (*body.instances, body.init_config, body.logs))
    return any(_HIDDEN in text for text in texts)
