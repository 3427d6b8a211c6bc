"""While the database is away node agents get 503 in time, never an empty list; afterwards answers are right at once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from clusteragent.lib import postgres
from tests.faults.database import Server
from tests.webserver import AGENT, LOCAL, Answer, WebServer, exchange, serving

pytestmark = pytest.mark.processes

STATUS = "/api/v1/clusterchecks/status/ash"
CONFIGS = "/api/v1/clusterchecks/configs/ash"
BEAT = '{"last_change":7}'
STATE = "/api/v1/clusterchecks"
RIGHT = {
    STATUS: '{"isuptodate":true}',
    CONFIGS: '{"last_change":7,"configs":[{"check_name":"ntp"}]}',
    STATE: '{"not_running":"","warmup":false,"nodes":[{"name":"ash","configs":'
    '[{"instance_ids":[],"config":{"check_name":"ntp"}}],"stats":null}],"dangling":[]}',
}


@pytest.fixture(scope="module")
def database(own_server: Server) -> Server:
    for statement in (
        "UPDATE nodes_hearing SET warmup = false",
        "INSERT INTO nodes_node (name, labels, config_version) VALUES ('ash', '{}', 7)",
        "INSERT INTO nodes_heartbeat (node_id) SELECT id FROM nodes_node",
        "INSERT INTO checks_config (digest, name, original, wire, scrubbed, text)"
        """ VALUES ('0', 'ntp', '{}', '{"check_name":"ntp"}', '{}', '')""",
        "INSERT INTO checks_assignment (config_id, node_id, reason)"
        " SELECT c.id, n.id, '' FROM checks_config AS c, nodes_node AS n",
    ):
        own_server.ask(statement)
    return own_server


@pytest.fixture(scope="module")
def server(database: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(database.url, tmp_path_factory.mktemp("server"), threads=4) as server:
        yield server


class Timed(NamedTuple):
    path: str
    began: float
    seconds: float
    answer: Answer

    def is_right(self) -> bool:
        return self.answer.status == 200 and self.answer.body == RIGHT[self.path]


def call(connection: HTTPSConnection, path: str) -> Timed:
    began = time.monotonic()
    method, body = ("POST", BEAT) if path == STATUS else ("GET", None)
    answer = exchange(connection, method, path, body, token=LOCAL if path == STATE else AGENT)
    return Timed(path, began, time.monotonic() - began, answer)


class Clients:
    """Node agents that call again and again, each over a connection of its own, until the test stops them."""

    def __init__(self, server: WebServer, number: int = 8) -> None:
        self._server, self._stopped = server, False
        self._pool = ThreadPoolExecutor(number)
        self._calls: list[Timed] = []
        self._runs = [self._pool.submit(self._run) for _ in range(number)]

    def _run(self) -> None:
        connection = self._server.connect()
        while not self._stopped:
            for path in RIGHT:
                self._calls.append(call(connection, path))
            time.sleep(0.02)
        connection.close()

    def since(self, moment: float) -> list[Timed]:
        return [timed for timed in list(self._calls) if timed.began >= moment]

    def wait_for(self, condition: str, since: float, number: int = 40) -> None:
        """Wait until that many calls were made since a moment, the last of them all `right` or all `refused`."""
        deadline = since + 2
        while True:
            calls = self.since(since)[-number:]
            is_met = all(timed.is_right() if condition == "right" else timed.answer.status == 503 for timed in calls)
            if len(calls) == number and is_met:
                return
            assert time.monotonic() < deadline, (condition, calls[-3:])
            time.sleep(0.01)

    def stop(self) -> list[Timed]:
        self._stopped = True
        self._pool.shutdown()
        for run in self._runs:
            run.result()
        return self._calls


@pytest.fixture
def clients(server: WebServer) -> Iterator[Clients]:
    began = time.monotonic()
    clients = Clients(server)
    try:
        clients.wait_for("right", began)
        yield clients
    finally:
        calls = clients.stop()
    wrong = [timed for timed in calls if not timed.is_right() and timed.answer.status != 503]
    assert not wrong
    assert max(timed.seconds for timed in calls) < 2
    assert {timed.answer.body.count("\n") for timed in calls if timed.answer.status == 503} <= {1}


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_stopped_database_is_a_503_in_time_and_right_within_two_seconds_of_its_return(
    database: Server, clients: Clients, mode: str
) -> None:
    database.stop(mode)
    clients.wait_for("refused", time.monotonic())
    database.start()
    clients.wait_for("right", time.monotonic())


def test_a_hanging_database_is_a_503_in_time_and_right_within_two_seconds_of_its_return(
    database: Server, clients: Clients
) -> None:
    with database.paused():
        clients.wait_for("refused", time.monotonic())
        paused_for = time.monotonic()
        while time.monotonic() < paused_for + 3:  # past every limit on the way
            time.sleep(0.05)
    clients.wait_for("right", time.monotonic())


def test_the_first_calls_after_a_restart_of_the_database_are_right(database: Server, server: WebServer) -> None:
    connections = [server.connect() for _ in range(4)]
    assert all(call(connection, STATUS).is_right() for connection in connections)
    database.stop()
    database.start()
    assert all(call(connection, CONFIGS).is_right() for connection in connections)
    for connection in connections:
        connection.close()


def test_a_server_that_takes_no_writes_is_left_for_one_that_does(database: Server, server: WebServer) -> None:
    connection = server.connect()
    database.ask("ALTER DATABASE postgres SET default_transaction_read_only = on")
    database.stop()
    database.start()
    refused = call(connection, STATUS)
    database.ask("SET default_transaction_read_only = off")
    database.ask("ALTER DATABASE postgres RESET ALL")
    assert refused.answer.status == 503
    deadline = time.monotonic() + 2
    while not call(connection, STATUS).is_right():
        assert time.monotonic() < deadline
    connection.close()


def test_a_locked_heartbeat_that_must_be_written_first_is_a_503_in_time(database: Server, server: WebServer) -> None:
    with psycopg.connect(database.url) as other:
        other.execute("SELECT FROM nodes_heartbeat FOR UPDATE")
        began = time.monotonic()
        locked = server.call("POST", STATUS, '{"last_change":0}')
        seconds = time.monotonic() - began
    assert locked.status == 503
    assert seconds < 2
    assert server.call("POST", STATUS, BEAT).body == RIGHT[STATUS]


def test_a_database_without_our_schema_is_a_503(database: Server, tmp_path: Path) -> None:
    database.ask("CREATE DATABASE bare")
    with serving(postgres.url(database.pgdata, "bare"), tmp_path) as server:
        assert server.call("POST", STATUS, BEAT).status == 503
        assert server.call("GET", CONFIGS).status == 503
        ready = server.call("GET", "/readyz", token=None)
        assert ready.status == 503
        assert "migrations are missing: acts.0001" in ready.body
        assert server.call("GET", "/healthz", token=None).status == 200
