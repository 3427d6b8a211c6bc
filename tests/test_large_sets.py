"""The largest sets of configs that the manual allows, sent to a real web server: it accepts them with bounded memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from knox.models import AuthToken

from checks.models import Origin
from operators.api.desired import MOST_CONFIGS
from operators.roles import Role
from operators.tests.cast import user
from tests.replicas import descendants, measured
from tests.webserver import Answer, WebServer, database_url, serving

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PATH = "/api/operator/v1/sources/shop"
MOST_BYTES = 32 * 1024 * 1024
# Of memory for one set, in MiB. The manual says 0.3 GB.
MOST_MEMORY = 400


@pytest.fixture(scope="module")
def server(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(database_url(), tmp_path_factory.mktemp("web"), whom="operators") as server:
        yield server


@pytest.fixture
def token() -> str:
    return f"Bearer {AuthToken.objects.create(user('ci', Role.AUTHOR))[1]}"


def put(server: WebServer, token: str, body: bytes, query: str = "") -> Answer:
    connection = server.connect(timeout=300)
    try:
        connection.request("PUT", PATH + query, body, {"Authorization": token, "Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode())
    finally:
        connection.close()


def refused(answer: Answer) -> int:
    assert answer.headers["Content-Type"] == "application/json", answer.body
    assert json.loads(answer.body)
    return answer.status


def memory(server: WebServer, what: str = "VmRSS") -> int:
    """Return the memory of its largest process in MiB, now or at most."""
    statuses = (Path(f"/proc/{pid}/status").read_text() for pid in descendants(server.process.pid))
    lines = (line for status in statuses for line in status.splitlines() if line.startswith(what))
    return max(int(line.split()[1]) for line in lines) // 1024


@contextmanager
def bounded_memory(server: WebServer, what: str) -> Iterator[None]:
    """Assert that the server takes at most MOST_MEMORY more during the block."""
    for pid in descendants(server.process.pid):
        # From now on the kernel counts the peak anew.
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = memory(server)
    yield
    more = memory(server, "VmHWM") - before
    measured(f"{what}: {more} MiB more")
    assert more < MOST_MEMORY


def of_texts(number: int, size: int) -> bytes:
    texts = (
        {"name": f"c{one}", "check": "http_check", "yaml": f"instances:\n- a: {one}{'x' * size}\n"}
        for one in range(number)
    )
    return json.dumps({"configs": list(texts)}).encode()


def of_parts(number: int) -> bytes:
    parts = (
        {
            "name": f"c{one}",
            "check": "http_check",
            "instances": [{"url": f"http://h{one}", "tags": ["a:b"], "timeout": 5}],
        }
        for one in range(number)
    )
    return json.dumps({"configs": list(parts)}).encode()


def test_as_many_bytes_as_are_allowed_and_no_more(server: WebServer, token: str) -> None:
    body = of_texts(37, 900_000)
    with bounded_memory(server, "32 MiB"):
        answer = put(server, token, body.ljust(MOST_BYTES))
        assert answer.status == 200, answer.body[:1000]
        assert Origin.objects.filter(source="api:shop").count() == 37
        assert refused(put(server, token, body.ljust(MOST_BYTES + 1))) == 413
        small = b'{"configs": [' + b"{}," * (MOST_BYTES // 3 - 100) + b"{}]}"
        assert refused(put(server, token, small)) == 413
    assert server.call("GET", "/readyz").status == 200
    assert "Traceback" not in server.log()


def test_as_many_configs_as_are_allowed_and_no_more(server: WebServer, token: str) -> None:
    with bounded_memory(server, f"{MOST_CONFIGS} configs"):
        answer = put(server, token, of_parts(MOST_CONFIGS), "?dry_run=1")
        assert answer.status == 200, answer.body[:1000]
        assert len(json.loads(answer.body)["added"]) == MOST_CONFIGS
        assert refused(put(server, token, of_parts(MOST_CONFIGS + 1), "?dry_run=1")) == 400


def test_what_is_odd_or_ends_early_is_refused_and_the_server_lives_on(server: WebServer, token: str) -> None:
    for body in (b"{", b"\xff", b"[" * 100_000, b'{"configs": ["\\ud800"]}', b'{"configs": [NaN]}', b"7"):
        assert refused(put(server, token, body)) == 400
    assert refused(put(server, "Bearer nobody's", of_parts(10))) == 401
    for _ in range(20):
        client = server.connect()
        client.putrequest("PUT", PATH)
        client.putheader("Authorization", token)
        client.putheader("Content-Type", "application/json")
        client.putheader("Content-Length", "1000000")
        client.endheaders(b"{" * 1000)
        client.close()
    assert put(server, token, of_parts(10)).status == 200


def test_what_was_made_of_a_set_is_not_kept(server: WebServer, token: str) -> None:
    def tried(times: int) -> int:
        for _ in range(times):
            assert put(server, token, of_parts(4_000), "?dry_run=1").status == 200
        return memory(server)

    before = tried(1)
    after = tried(4)
    measured(f"{before} MiB after one set, {after} MiB after five")
    assert after - before < 13, "each made some 5 MiB of circles"
