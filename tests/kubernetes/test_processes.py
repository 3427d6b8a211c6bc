"""The leader's process that watches Kubernetes: it ends with its leader, the next one goes on, and nothing moves."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from checks.models import Move
from checks.tests.cast import owners
from tests.databases import django_uses
from tests.faults.database import Server
from tests.kubernetes.cluster import Cluster, Namespace
from tests.replicas import Cluster as Replicas
from tests.replicas import descendants, wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.processes]

SERVICE = "ad.datadoghq.com/service.checks"


def http(path: str) -> str:
    return json.dumps({"http_check": {"instances": [{"url": f"http://%%host%%/{path}"}]}})


@pytest.fixture(scope="module")
def replicas(
    cluster: Cluster,
    own_server: Server,
    django_db_blocker: DjangoDbBlocker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replicas]:
    """Replicas whose leader watches the cluster, with nodes that live long."""
    folder = tmp_path_factory.mktemp("replicas")
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        django_db_blocker.unblock(),
        django_uses(own_server.url),
    ):
        monkeypatch.setenv("CLUSTERAGENT_KUBECONFIG", str(cluster.kubeconfig(folder / "kubeconfig")))
        monkeypatch.setenv("DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT", "1h")
        replicas = Replicas(own_server.url, folder)
        try:
            replicas.store.furnish()
            yield replicas
        finally:
            replicas.end()


def watcher(leader: int) -> int:
    """Wait for the process that watches for this leader, and return its process ID."""

    def found() -> int | None:
        return next((pid for pid in descendants(leader) if b"watchkubernetes" in words(pid)), None)

    return wait_for("a process that watches", found)


def words(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return []


def wait_for_text(text: str) -> None:
    def found() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM checks_config WHERE text LIKE %s", [f"%{text}%"])
            return bool(cursor.fetchone()[0])

    wait_for(text, found)


def test_the_next_leader_goes_on_where_the_last_one_was_and_nothing_moves(
    replicas: Replicas, namespace: Namespace
) -> None:
    namespace.service("web", {SERVICE: http("one")})
    key = f"service/{namespace.name}/web/http_check"
    leader = replicas.running(2)
    wait_for_text("/one")
    owner, moves = owners()[key], Move.objects.count()
    before = watcher(leader.pid)
    leader.signal(signal.SIGKILL)
    namespace.annotate("web", {SERVICE: http("two")})
    wait_for_text("/two")
    assert owners()[key] == owner
    assert [move.reason for move in Move.objects.order_by("pk")[moves:]] == ["changed"]
    wait_for("its process ended with it", lambda: not words(before))


def test_a_process_that_dies_is_replaced(replicas: Replicas, namespace: Namespace) -> None:
    leader = replicas.running(1)
    before = watcher(leader.pid)
    os.kill(before, signal.SIGKILL)
    namespace.service("web", {SERVICE: http("three")})
    wait_for_text("/three")
    assert watcher(leader.pid) != before
    assert leader.logged("watcher_restarted") == 1
