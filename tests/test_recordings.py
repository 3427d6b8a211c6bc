"""Exchanges recorded with an unmodified node agent, and with the peer's server, replayed against the running server."""

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from checks.models import Assignment, Config
from clusteragent.lib import conf
from nodes.models import Hearing, Node
from tests.map import compact, register, store
from tests.webserver import TOLD_AFTER, Answer, WebServer, exchange

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

GOLDEN = Path(__file__).parent / "data" / "golden"
AGENTS = ["agent_startup", "agent_node_agent", "agent_endpoints", "agent_outage_same"]

# Not compared: what moves depends on what the node agents did before.
BALANCED = "[{…}]"
# Where we follow newer releases, or differ on purpose: {note: (status, body)}.
DIFFERENT = {
    # An empty list would stop what the node agent runs.
    "warm-up: configs of a known node": (503, "warming up: nothing is dispatched yet\n"),
    # Authentication comes first, and its error stands alone.
    "path: unknown path, no token": (401, "no session token provided\n"),
    "path: double slash, no token": (401, "no session token provided\n"),
    "path: query with slash, no token": (401, "no session token provided\n"),
    "admin route with the shared token: rebalance": (403, "invalid session token\n"),
    "path: wrong method": (405, "Method Not Allowed\n"),
    "path: GET on status": (405, "Method Not Allowed\n"),
    # A node agent among runners, or none at all, does not switch balancing off.
    "local token: rebalance": (200, BALANCED),
}
# The texts are the JSON parser's own.
PARSER_ERRORS = {"float version", "exponent", "array", "not JSON"}


def recorded(name: str) -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text())
    return exchanges


def replay(connection: Any, request: dict[str, Any]) -> Answer:
    """Send the recorded request, with the tests' tokens."""
    headers = dict(request["headers"])
    for name in ("Host", "Content-Length"):
        headers.pop(name, None)
    if "Authorization" in headers:
        tokens = headers["Authorization"].replace("<local token>", conf.LOCAL_TOKEN)
        headers["Authorization"] = tokens.replace("<token>", conf.AUTH_TOKEN)
    return exchange(connection, request["method"], request["path"], request["body"], token=None, headers=headers)


def give(name: str, answer: str) -> None:
    """Assign to the node the configs of this recorded answer to GET configs."""
    content = json.loads(answer)
    node = register(name, content["last_change"])
    Assignment.objects.all().delete()
    Config.objects.filter(node_name="").delete()
    for config in content["configs"]:
        store(compact(config), owner=node)
    time.sleep(TOLD_AFTER)


def next_configs(exchanges: list[dict[str, Any]]) -> str | None:
    """Return the recorded answer to the next GET configs."""
    answers = (
        item["response"]["body"]
        for item in exchanges
        if item["request"]["path"].startswith("/api/v1/clusterchecks/configs")
    )
    return next(answers, None)


@pytest.mark.parametrize("name", AGENTS)
def test_a_recorded_node_agent_gets_the_same_bytes_over_its_one_connection(
    web: WebServer, warm: None, name: str
) -> None:
    exchanges = recorded(name)
    node = exchanges[1]["request"]["path"].rsplit("/")[-1]
    if endpoints := next((e for e in exchanges if "endpointschecks" in e["request"]["path"]), None):
        for config in json.loads(endpoints["response"]["body"])["configs"]:
            store(compact(config), node_name=node)
    connection = web.connect()
    connection.connect()
    socket = connection.sock
    for number, item in enumerate(exchanges):
        if item["response"]["body"] == '{"isuptodate":false}':
            give(node, next_configs(exchanges[number:]) or "")
        answer = replay(connection, item["request"])
        assert (answer.status, answer.body) == (item["response"]["status"], item["response"]["body"]), item
        assert answer.headers["Content-Length"] == item["response"]["headers"]["Content-Length"]
        assert connection.sock is socket
    connection.close()


def test_the_peers_server_was_answered_alike(web: WebServer, db: None) -> None:
    exchanges = recorded("peer_server_probe")
    assert set(DIFFERENT) <= {item["note"] for item in exchanges}
    for item in exchanges:
        note, response = item["note"], item["response"]
        if note == "old version: stale":
            Hearing.objects.update(warmup=False)
            register("n2")
            give("n1", next(item["response"]["body"] for item in exchanges if item["note"] == "path: query"))
        status, body = DIFFERENT.get(note, (response["status"], response["body"]))
        # A server may close a connection whose request's body it did not need to read.
        with closing(web.connect()) as connection:
            answer = replay(connection, item["request"])
        assert answer.status == status, note
        if body == BALANCED:
            assert {move["source_node_name"] for move in json.loads(answer.body)} == {"n1"}, note
        elif note.removeprefix("status body: ") in PARSER_ERRORS:
            assert answer.body.count("\n") == 1
        else:
            # The recorded release told no stats in its state.
            assert answer.body.replace(',"stats":null', "") == body, note
        for header in ("Www-Authenticate", "X-Content-Type-Options"):
            expected = response["headers"].get(header)
            assert note in DIFFERENT or status == 405 or answer.headers.get(header) == expected, note
    assert set(Node.objects.values_list("name", flat=True)) == {"n1", "n2", "n3", "a b"}
