"""PgBouncer, which gives each transaction another session: before the web servers of node agents it goes unnoticed; nothing
that holds a lock goes through it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPSConnection
from typing import Any

import pytest

from tests.faults.cluster import MARGIN, Cluster
from tests.faults.load import Load
from tests.faults.pooler import NAME, PROGRAM, Pooler, sample
from tests.replicas import MANAGE, wait_for
from tests.webserver import LOCAL, TLS, Answer, exchange

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not PROGRAM, reason="pgbouncer is missing: apt-get install pgbouncer"),
]
# Sources that pipelines own, and how often each is told a whole set.
SETS, ROUNDS = ("blog", "shop", "wiki"), 5


@pytest.fixture
def pooled(make_cluster: Callable[..., Cluster]) -> tuple[Cluster, Pooler]:
    """A cluster, not started yet, with the pooler as DATABASE_URL and the server as direct URL."""
    cluster = make_cluster()
    cluster.server.start()
    pooler = Pooler(cluster.server)
    cluster.at_end.callback(pooler.stop)
    cluster.pooled_url, cluster.has_cables = pooler.url, False
    return cluster, pooler


@pytest.mark.long
def test_the_whole_program_runs_behind_a_pooler(pooled: tuple[Cluster, Pooler]) -> None:
    cluster, pooler = pooled
    cluster.start()
    port = cluster.start_operators()
    made = manage(cluster, "createtoken", "--user", "deploy", "--role", "author")
    assert not made.returncode, made.stderr
    token = made.stdout.strip()
    with cluster.record() as record, Load(cluster) as load, ThreadPoolExecutor() as threads:
        for number in range(ROUNDS):
            cluster.write_check(f"file-{number}")
            scan = threads.submit(manage, cluster, "syncconfigs")
            answers = list(threads.map(lambda name, n=number: put(port, token, name, n), SETS))
            assert [answer.status for answer in answers] == [200] * len(SETS), answers
            assert not scan.result().returncode, scan.result().stderr
            state = call(cluster.ports[0], "GET", "/api/v1/clusterchecks", LOCAL)
            assert len(json.loads(state.body)["nodes"]) == len(cluster.nodes.simulation.nodes)
        cluster.wait_until_whole()
        expected = {f"{name}-{number}" for name in ("file", *SETS) for number in range(ROUNDS)}
        assert expected <= {label.partition(":")[2] for label in cluster.account.running()}
        before, term = record.moves(), cluster.term()
        cluster.leader().signal(signal.SIGKILL)
        assert cluster.succession(term) < 1 + MARGIN
        cluster.start_agent()
        cluster.wait_for_pass(2)
        assert cluster.is_whole()
        assert record.moves() == before
        assert pooler.clients() == {"clusteragent agents"}
    assert load.statuses == {200}
    assert record.gap == record.double == 0
    assert not cluster.logged("not_listening", "Traceback", "transaction_left_open", "prepared statement")


@contextmanager
def hanging(cluster: Cluster, pooler: Pooler) -> Iterator[None]:
    pooler.signal(signal.SIGSTOP)
    yield
    pooler.signal(signal.SIGCONT)


@contextmanager
def without_a_server(cluster: Cluster, pooler: Pooler) -> Iterator[None]:
    cluster.server.stop("immediate")
    yield
    cluster.server.start()


@pytest.mark.long
@pytest.mark.parametrize("broken", [hanging, without_a_server])
def test_a_pooler_that_is_of_no_use_for_a_while_moves_nothing(
    pooled: tuple[Cluster, Pooler], broken: Callable[..., AbstractContextManager[None]]
) -> None:
    cluster, pooler = pooled
    cluster.start()
    with cluster.record() as record, Load(cluster) as load:
        with broken(cluster, pooler):
            wait_for("node agents are told", lambda: 503 in load.statuses)
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses == {200, 503}
    assert load.slowest < 2 + MARGIN
    assert record.gap == record.double == 0


@pytest.mark.parametrize("command", ["runagent", "syncconfigs", "start"])
def test_what_holds_a_lock_refuses_a_pooler(pooled: tuple[Cluster, Pooler], command: str) -> None:
    cluster, pooler = pooled
    ports = dict.fromkeys(("CLUSTERAGENT_BIND", "CLUSTERAGENT_ADMIN_BIND"), "127.0.0.1:0")
    done = manage(cluster, command, DATABASE_URL=pooler.url, CLUSTERAGENT_DIRECT_DATABASE_URL="", **ports)
    assert done.returncode == 1
    # What a person began says so on record, too.
    *_, line = [line for line in done.stderr.splitlines() if "CLUSTERAGENT_DIRECT_DATABASE_URL" in line]
    assert "pooler" in line


def test_the_sample_sets_what_web_servers_of_node_agents_ask_for() -> None:
    """Web servers set it in connection parameters, which PgBouncer does not pass on."""
    code = "from clusteragent.settings import DATABASES; print(DATABASES['default']['OPTIONS']['options'])"
    environment = os.environ | {"CLUSTERAGENT_PORT": "agents"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    asked = {word for word in done.stdout.split() if word != "-c" and not word.startswith("clusteragent.mark=")}
    _, query = sample()["databases"][NAME].split(" connect_query=")
    assert {word.removeprefix("SET ").replace(" = ", "=") for word in query.strip("'").split("; ")} == asked


def manage(cluster: Cluster, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a management command with the environment of the cluster's processes."""
    return subprocess.run(
        [sys.executable, str(MANAGE), *words],
        env=cluster.environment() | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def put(port: int, token: str, source: str, last: int) -> Answer:
    """Replace a source's whole set by a config for each number up to `last`."""
    configs = [
        {
            "name": f"check-{number}",
            "check": "http_check",
            "instances": [{"name": f"{source}-{number}", "url": "http://x"}],
        }
        for number in range(last + 1)
    ]
    return call(port, "PUT", f"/api/operator/v1/sources/{source}", f"Bearer {token}", {"configs": configs})


def call(port: int, method: str, path: str, token: str, body: Any = None) -> Answer:
    with closing(HTTPSConnection("127.0.0.1", port, timeout=30, context=TLS)) as connection:
        text = None if body is None else json.dumps(body)
        return exchange(connection, method, path, text, token=token, headers={"Content-Type": "application/json"})
