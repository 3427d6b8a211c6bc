"""A Deployment of runners is replaced, with real servers and a real leader: no check is without a runner for a moment."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from checks import dispatcher
from checks.models import Move
from checks.tests.cast import sent
from clusteragent.lib import conf
from nodes.models import Hearing, Node, NodeEvent, Pod
from simulation.client import Server, Timing
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.deployment import replaced
from tests.kubernetes.kubelet import Kubelet
from tests.replicas import Cluster as Replicas
from tests.replicas import wait_for
from tests.webserver import WebServer, database_url

pytestmark = [pytest.mark.kubernetes, pytest.mark.processes, pytest.mark.django_db(transaction=True)]

PODS, CONFIGS = 30, 150
# Five times as fast as real agents.
QUICK, SLEEP = Timing(poll=2), 5


@pytest.fixture
def leader(
    transactional_db: None, cluster: Cluster, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Replicas]:
    """A leader that watches the pods of a namespace; the warm-up is over."""
    monkeypatch.setenv("CLUSTERAGENT_KUBECONFIG", str(cluster.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setenv("CLUSTERAGENT_KUBERNETES_RUNNER_PODS", f"{namespace.name}/app=runner")
    monkeypatch.setenv("DD_CLUSTER_CHECKS_REBALANCE_PERIOD", "1h")
    Hearing.objects.update(warmup=False)
    replicas = Replicas(database_url(), tmp_path)
    try:
        replicas.start()
        replicas.led()
        yield replicas
    finally:
        replicas.end()


def give_work() -> None:
    try:
        wait_for("all pods are known", lambda: Pod.objects.count() == PODS)
        dispatcher.schedule([sent(f"check-{number}", source="admin") for number in range(CONFIGS)])
    finally:
        connection.close()


def wait_for_end() -> None:
    try:
        wait_for("all former ones are lost", lambda: Node.objects.lost().count() == PODS)
    finally:
        connection.close()


def test_pods_that_sleep_before_they_end_leave_no_check_without_a_runner(
    leader: Replicas, namespace: Namespace, web: WebServer
) -> None:
    server = Server.at(f"https://127.0.0.1:{web.port}", conf.AUTH_TOKEN)
    account = asyncio.run(
        replaced(Kubelet(namespace), server, QUICK, PODS, SLEEP, give_work=give_work, wait_for_end=wait_for_end)
    )
    assert account["without_runner"]["number"] == 0, account["without_runner"]
    assert account["checks"]["running"] == CONFIGS
    assert set(Move.objects.exclude(reason="scheduled").values_list("reason", flat=True)) == {"left"}
    causes = NodeEvent.objects.filter(kind__in=("leaving", "expired")).values_list("cause", flat=True)
    assert set(causes) == {NodeEvent.POD_DELETED, NodeEvent.ANNOUNCED_GONE}
