"""Reading the map of another cluster agent: the answer of its GET /api/v1/clusterchecks, now or saved to a file."""

import json
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from django.core.exceptions import ValidationError

from checks.adoption.bodies import Body
from clusteragent.lib.version import USER_AGENT
from nodes.names import validate_node_name

PATH = "/api/v1/clusterchecks"
# Seconds. Thousands of configs take some.
TIMEOUT = 60.0
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

    Raises UnreadableState.
    """
    root = url if "://" in url else f"https://{url}"
    if not root.startswith("https://"):
        raise UnreadableState(f"{url}: only https:// is spoken there")
    try:
        trust = ssl.create_default_context(cafile=str(ca)) if ca else _unverified()
        headers = {"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT}
        answer = httpx.get(root.rstrip("/") + PATH, headers=headers, verify=trust, timeout=TIMEOUT, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise UnreadableState(f"{url}: {error or type(error).__name__}") from error
    if answer.status_code != httpx.codes.OK:
        raise UnreadableState(f"{url}: {answer.status_code} {_refusal(answer.status_code)}")
    return answer.content


def read(document: bytes) -> State:
    """Return the map of a state. Raises UnreadableState for what is none, or not the leader's, or still warming up."""
    try:
        given = json.loads(document)
    except ValueError as error:
        raise UnreadableState(f"it is not JSON: {error}") from error
    if not isinstance(given, dict) or "nodes" not in given:
        raise UnreadableState(f"it is no answer of GET {PATH}")
    if "assignments" in given:
        raise UnreadableState("exportstate wrote it: importstate reads it")
    if why := given.get("not_running"):
        raise UnreadableState(f"that server does not lead ({why}): ask the leader, it forwards this call to nobody")
    if given.get("warmup"):
        raise UnreadableState("that server warms up: it has no map yet, ask again in a minute")
    nodes = {_name(node): _bodies(node.get("configs"), _name(node)) for node in _list(given["nodes"], "nodes")}
    return State(nodes, _bodies(given.get("dangling"), "dangling"), _is_scrubbed(nodes.values()))


def _unverified() -> ssl.SSLContext:
    """As node agents have it: cluster agents sign their certificates themselves."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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
        except (KeyError, TypeError, ValueError) as error:
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
