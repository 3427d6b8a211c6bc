"""Processes replaced one after the other while node agents call, by a newer version and back, and old code on a newer schema."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests import older
from tests.faults.cluster import NODES, PATIENCE, Cluster
from tests.faults.database import make_template
from tests.faults.load import Load
from tests.faults.record import sources
from tests.replicas import MANAGE, wait_for
from tests.webserver import TLS, exchange

pytestmark = pytest.mark.processes


@pytest.mark.long
def test_a_rolling_restart_of_all_our_processes_under_load(cluster: Cluster) -> None:
    with cluster.record() as record, Load(cluster) as load:
        for port in cluster.ports:
            cluster.replace_web(port)
        cluster.replace_agents()
        cluster.wait_for_pass(2)
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"
    assert load.broken <= 2 * load.CONNECTIONS, "a connection broke more than once for each server"
    assert record.gap == record.double == 0


# What an expanding migration does: tables get columns that old code never names, an index comes, the migration is noted.
_TABLES = "SELECT tablename FROM pg_tables WHERE tablename ~ '^(nodes|checks|django_q)_'"
_MIGRATED = "INSERT INTO django_migrations (app, name, applied) VALUES ('nodes', '9999_later', now())"


@pytest.mark.long
def test_old_code_works_on_a_schema_that_was_expanded_meanwhile(cluster: Cluster) -> None:
    """Old and new replicas run side by side: old code, running or starting now, must ignore new tables and columns."""
    server = cluster.server
    with cluster.record() as record, Load(cluster) as load:
        wait_for("calls", lambda: len(load.calls) >= 50)
        for table in server.ask(_TABLES):
            server.ask(f"ALTER TABLE {table} ADD COLUMN later text")
        server.ask("CREATE INDEX CONCURRENTLY later ON nodes_heartbeat (node_type) WHERE node_type > 2")
        server.ask(_MIGRATED)
        cluster.write_check("added-later")
        wait_for("it is dispatched", lambda: cluster.account.running().get("http_check:added-later"))
        # Not one that calls all the time, nor one that runs nothing.
        victim = cluster.busiest(NODES[load.CONNECTIONS :])
        cluster.nodes.vanish(victim)
        wait_for("its checks go to others", lambda: record.moves("redispatched"), PATIENCE)
        cluster.wait_until_whole()
        cluster.stop_web(cluster.ports[0])
        cluster.start_web(cluster.ports[0])
        wait_for("a web server that starts now is ready", lambda: cluster.answers(cluster.ports[0]))
        assert sources(record.moves()) == {victim}
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"


@pytest.fixture
def older_program(tmp_path: Path) -> Path:
    """The `manage.py` of the older version."""
    return older.write(tmp_path)


@pytest.fixture
def older_version(make_cluster: Callable[..., Cluster], older_program: Path) -> Iterator[Cluster]:
    """A cluster of the older version, on a database that it made. Every check runs."""
    # Not pytest's folder: PostgreSQL may run as another user.
    with tempfile.TemporaryDirectory(prefix="clusteragent-older-") as folder:
        Path(folder).chmod(0o755)
        cluster = make_cluster(template=make_template(Path(folder), older_program))
        cluster.manage = older_program
        cluster.start()
        yield cluster


def migrate(cluster: Cluster) -> None:
    subprocess.run([sys.executable, str(MANAGE), "migrate", "-v0"], env=cluster.environment(), check=True)


def metrics(cluster: Cluster) -> str:
    """What a web server of operators tells, which reads almost all tables for it."""
    port = cluster.start_operators(CLUSTERAGENT_METRICS_PUBLIC="true")
    with closing(HTTPSConnection("127.0.0.1", port, timeout=10, context=TLS)) as connection:
        answer = exchange(connection, "GET", "/metrics", token=None)
    cluster.webs.pop(port).end()
    assert answer.status == 200
    return answer.body


def replace_all(cluster: Cluster, by: Path, check: str) -> None:
    """Replace all processes by those of another version. Each role works beside one of the other version for a while."""
    cluster.manage = by
    first, second = cluster.ports
    cluster.replace_web(first)
    cluster.wait_for_pass(2)
    cluster.replace_agents()
    worker, *_ = cluster.worker_of(cluster.leader())
    assert str(by) in Path(f"/proc/{worker}/cmdline").read_text()
    cluster.write_check(check)
    wait_for("it is dispatched", lambda: cluster.account.running().get(f"http_check:{check}"))
    cluster.replace_web(second)
    assert "\nclusteragent_brake{" in metrics(cluster)
    cluster.wait_for_pass(2)


@pytest.mark.long
def test_a_newer_version_comes_and_goes_again(older_version: Cluster, older_program: Path) -> None:
    """No migration is taken back: the older version must work on what the newer made of the database."""
    cluster = older_version
    before = len(cluster.account.changes)
    with cluster.record() as record, Load(cluster) as load:
        migrate(cluster)
        replace_all(cluster, MANAGE, "by-the-newer")
        replace_all(cluster, older_program, "by-the-older")
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert {move.reason for move in record.moves()} == {"scheduled"}
    changes = [(change.check, change.step) for change in cluster.account.changes[before:]]
    assert changes == [("http_check:by-the-newer", 1), ("http_check:by-the-older", 1)]
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"
    assert load.broken <= 4 * load.CONNECTIONS, "a connection broke more than once for each server"
