"""What who stole a node token can do, on a running server: what its pool may, and nothing else."""

import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from nodes import tokens
from nodes.models import Node, NodeEvent, NodeToken
from tests.map import register, store
from tests.replicas import wait_for
from tests.table import table
from tests.webserver import TLS, Answer, WebServer, database_url, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

API = "/api/v1/clusterchecks"
NOT_ITS = 'the node token of "runners" opens nodes runner-*, not {}\n'


@pytest.fixture
def stolen(warm: None) -> str:
    """A token of runners, which was stolen. ash is no runner, and it has a config."""
    for name in ("ash", "runner-1"):
        store(f'{{"name":"of {name}"}}', owner=register(name, 7))
    return made()


def made(**fields: Any) -> str:
    return f"Bearer {tokens.make(NodeToken(**{'note': 'runners', 'pattern': 'runner-*'} | fields))}"


def calls(web: WebServer, token: str, name: str, **headers: str) -> list[Answer]:
    """The answers to all calls that name the node."""
    return [
        web.call("POST", f"{API}/status/{name}", '{"last_change":0}', token=token, headers=headers),
        web.call("GET", f"{API}/configs/{name}", token=token, headers=headers),
        web.call("POST", f"{API}/goodbye/{name}", '{"kind":"leaving"}', token=token, headers=headers),
        web.call("GET", f"/api/v1/endpointschecks/configs/{name}", token=token, headers=headers),
    ]


def test_it_reads_and_reports_for_its_pool(web: WebServer, stolen: str) -> None:
    status, configs, goodbye, endpoints = calls(web, stolen, "runner-1")
    assert (status.status, configs.status, goodbye.status) == (200, 200, 200)
    assert json.loads(configs.body)["configs"] == [{"name": "of runner-1"}]
    assert endpoints.status == 403
    assert endpoints.body == 'the node token of "runners" opens endpoint checks: none, not of runner-1\n'
    assert web.call("GET", "/version", token=stolen).status == 200
    assert web.call("GET", "/api/v1/cluster/id", token=stolen).status == 404


def test_where_a_name_has_one_address_its_thief_is_not_a_node_of_the_pool_that_reports(
    stolen: str, tmp_path: Path
) -> None:
    options = {"CLUSTERAGENT_ONE_ADDRESS": "refuse", "CLUSTERAGENT_AGENT_PROXIES": "127.0.0.1/32"}
    with serving(database_url(), tmp_path, **options) as web:
        ours, theirs = ({"X-Forwarded-For": f"192.0.2.{number}"} for number in (1, 2))
        status = f"{API}/status/runner-1", '{"last_change":7}'
        assert web.call("POST", *status, token=stolen, headers=ours).status == 200
        answers = calls(web, stolen, "runner-1", **theirs, **{"X-Real-Ip": "192.0.2.1"})[:3]
        assert {(answer.status, answer.body) for answer in answers} == {
            (403, "runner-1 reports from another address\n")
        }
        assert web.call("POST", *status, token=stolen, headers=ours).status == 200
    assert not Node.objects.get(name="runner-1").leaving
    assert NodeEvent.objects.get(kind=NodeEvent.Kind.TWO_ADDRESSES).cause == "192.0.2.1 and 192.0.2.2"


@table(
    ("path", "shown"),
    [
        ("ash", "ash"),
        ("%61sh", "ash"),
        ("nobody", "nobody"),
        ("Runner-1", "Runner-1"),
        ("r%D1%83nner-1", "rуnner-1"),  # noqa: RUF001 - a Cyrillic letter is what this is about
        ("%20runner-1", " runner-1"),
        ("ash%00runner-1", None),
        ("..", ".."),
        ("ash?name=runner-1", "ash"),
        ("ash;runner-1", "ash;runner-1"),
        ("ash%23runner-1", "ash#runner-1"),
        ("%FFrunner-1", None),
    ],
)  # fmt: skip
def test_it_opens_no_other_name_however_that_is_written(
    web: WebServer, stolen: str, path: str, shown: str | None
) -> None:
    before = known()
    for answer in calls(web, stolen, path):
        assert answer.status == 403
        assert shown is None or answer.body.endswith(f"not of {shown}\n") or answer.body == NOT_ITS.format(shown)
    assert known() == before


@pytest.mark.parametrize(
    "path", ["runner-1/../ash", "runner-1%2F..%2Fash", "runner-1/ash", "", "%2E%2E/configs/ash", "//ash", "ash/"]
)
def test_it_leads_nowhere_by_paths_that_are_odd(web: WebServer, stolen: str, path: str) -> None:
    before = known()
    for answer in calls(web, stolen, path):
        assert answer.status in (403, 404)
        assert "configs" not in answer.body
    assert known() == before


def known() -> tuple[Any, ...]:
    return tuple(Node.objects.order_by("name").values_list("name", "leaving")), NodeEvent.objects.count()


def test_it_opens_no_local_route(web: WebServer, stolen: str) -> None:
    local = [
        ("GET", API), ("GET", f"{API}?scrub=true"), ("GET", "/api/v1/endpointschecks/configs"),
        ("POST", f"{API}/rebalance"), ("POST", f"{API}/isolate/check/ntp:1f"),
    ]  # fmt: skip
    for method, path in local:
        answer = web.call(method, path, "{}" if method == "POST" else None, token=stolen)
        assert (answer.status, answer.body) == (403, "invalid session token\n")


@table(
    ("form", "status"),
    [
        ("bearer {}", 401),
        ("Bearer  {}", 403),
        ("Bearer {} x", 403),
        ("Bearer {},", 403),
        ("Bearer {}, Bearer {}", 403),
        ("{}", 401),
        ("Token {}", 401),
        ("Bearer {}\u00a0", 403),
    ],
)
def test_a_token_in_another_form_opens_nothing(web: WebServer, stolen: str, form: str, status: int) -> None:
    token = stolen.removeprefix("Bearer ")
    for answer in calls(web, form.replace("{}", token), "runner-1"):
        assert answer.status == status
        assert token not in answer.body or status == 401


def test_two_headers_are_no_token(web: WebServer, stolen: str) -> None:
    lines = [f"GET {API}/configs/runner-1 HTTP/1.1", "Host: x", f"Authorization: {stolen}", f"Authorization: {stolen}"]
    with (
        socket.create_connection(("127.0.0.1", web.port), timeout=30) as plain,
        TLS.wrap_socket(plain, server_hostname="localhost") as caller,
    ):
        caller.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        assert caller.recv(4096).startswith(b"HTTP/1.1 403 ")


def test_it_stops_within_seconds_when_it_is_revoked(web: WebServer, stolen: str) -> None:
    assert calls(web, stolen, "runner-1")[0].status == 200
    tokens.revoke(NodeToken.objects.all())
    wait_for("the token opens nothing", lambda: calls(web, stolen, "runner-1")[0].status == 403, 3)
    for answer in calls(web, stolen, "runner-1"):
        assert (answer.status, answer.body) == (403, "invalid session token\n")


def test_it_stops_when_it_ends(web: WebServer, stolen: str) -> None:
    assert calls(web, stolen, "runner-1")[0].status == 200
    NodeToken.objects.update(expires_at=Now() - timedelta(seconds=1))
    wait_for("the token opens nothing", lambda: calls(web, stolen, "runner-1")[0].status == 403, 3)
    assert {answer.body for answer in calls(web, stolen, "runner-1")} == {'the node token of "runners" has ended\n'}


def test_it_opens_nothing_elsewhere_whatever_its_headers_say(web: WebServer, warm: None) -> None:
    register("runner-1")
    elsewhere = made(networks="10.1.0.0/16")
    for headers in ({}, {"X-Real-Ip": "10.1.0.1"}, {"X-Forwarded-For": "10.1.0.1"}, {"Forwarded": "for=10.1.0.1"}):
        for answer in calls(web, elsewhere, "runner-1", **headers):
            assert answer.status == 403
            assert answer.body == 'the node token of "runners" is not for the address 127.0.0.1\n'
    assert calls(web, made(networks="127.0.0.0/8"), "runner-1")[0].status == 200


@pytest.fixture(scope="module")
def behind_a_proxy(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder: Path = tmp_path_factory.mktemp("web")
    with serving(database_url(), folder, CLUSTERAGENT_AGENT_PROXIES="127.0.0.1/32") as server:
        yield server


def test_what_a_trusted_proxy_says_counts_and_what_came_to_it_does_not(behind_a_proxy: WebServer, warm: None) -> None:
    register("runner-1")
    token, path = made(networks="10.1.0.0/16"), f"{API}/status/runner-1"
    for forwarded, status in (("10.1.0.1", 200), ("10.1.0.1, 10.2.0.1", 403), ("10.2.0.1, 10.1.0.1", 200), ("x", 403)):
        headers = {"X-Forwarded-For": forwarded}
        answer = behind_a_proxy.call("POST", path, '{"last_change":0}', token=token, headers=headers)
        assert answer.status == status, forwarded


def test_refusals_do_not_tell_which_nodes_there_are(web: WebServer, stolen: str) -> None:
    there, not_there = calls(web, stolen, "ash"), calls(web, stolen, "elm")
    for one, other in zip(there, not_there, strict=True):
        assert one.status == other.status
        assert one.body.replace("ash", "elm") == other.body


def test_refusals_are_logged_without_the_token(web: WebServer, stolen: str) -> None:
    calls(web, stolen, "ash")
    assert "node_agent_refused" in web.log()
    assert stolen.removeprefix("Bearer ")[:11] not in web.log()
