"""What does a rollout of pods cost the checks, with a preStop hook that only sleeps, and without one?

With a real API server, beside which nothing else of Kubernetes runs. Without its programs (`make kube-apiserver`) nothing is
measured. PODS in the environment says how many pods there are.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection

from bench import servers, stage
from bench.report import Report
from checks import dispatcher
from checks.dispatcher import Sent
from clusteragent.lib import conf
from nodes.models import Node, Pod
from simulation.client import Server, Timing
from tests.kubernetes import programs
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.deployment import replaced
from tests.kubernetes.kubelet import Kubelet
from tests.replicas import wait_for

PODS = int(os.environ.get("PODS", "300"))
CONFIGS_OF_EACH = 5
# As long as a node agent needs to fetch what it was given: a poll, and some for a pass.
SLEEP = 15
PATIENCE = 300.0


def run(report: Report) -> None:
    """Replace all pods, as a Deployment does, with and without the sleep."""
    if not programs.KUBERNETES.are_there():
        print(f"pods: not measured; `{programs.KUBERNETES.command}` builds the API server for it")
        return
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(programs.KUBERNETES.folder(), Path(name))
        try:
            cluster.start()
            for sleep in (SLEEP, 0):
                add(report, sleep, measure(cluster, sleep))
        finally:
            cluster.stop()


def add(report: Report, sleep: float, account: dict[str, Any]) -> None:
    """Report what became of the checks."""
    gaps = account["without_runner"]
    most = 0 if sleep else None
    report.add(f"{PODS} pods replaced, sleep {sleep}: moves that a node noticed", account["restarts"]["moved"], "moves")
    report.add("  times that a check was without a runner", gaps["number"], "times", most=most)
    report.add("  longest without a runner", gaps["longest"], "s", most=most)
    report.add("  without a runner, mean of those that were", gaps["mean"], "s")
    report.add("  longest with two runners", account["two_runners"]["longest"], "s")
    report.add("  checks that nobody runs at the end", account["checks"]["ended"], "checks", most=0)


def measure(cluster: Cluster, sleep: float) -> dict[str, Any]:
    """Return the account of a rollout."""
    stage.fresh(0)
    namespace = cluster.namespace()
    options = {
        "CLUSTERAGENT_KUBECONFIG": str(cluster.kubeconfig(cluster.folder / "config")),
        "CLUSTERAGENT_KUBERNETES_RUNNER_PODS": f"{namespace.name}/app=runner",
        "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "1h",
    }
    with (
        tempfile.TemporaryDirectory() as confd,
        servers.web() as url,
        servers.manage("runagent", CLUSTERAGENT_CONFD=confd, **options),
    ):
        return asyncio.run(
            replaced(
                Kubelet(namespace),
                Server.at(url, conf.AUTH_TOKEN),
                Timing(),
                PODS,
                sleep,
                give_work=lambda: _in_thread(_give_work),
                wait_for_end=lambda: _in_thread(_wait_for_end),
            )
        )


def _give_work() -> None:
    wait_for("all pods are known", lambda: Pod.objects.count() == PODS, PATIENCE)
    sent = [stage.sent(number) for number in range(PODS * CONFIGS_OF_EACH)]
    dispatcher.schedule([Sent("admin", one.key, one.original, one.patched) for one in sent])


def _wait_for_end() -> None:
    wait_for("all former ones are lost", lambda: Node.objects.lost().count() == PODS, PATIENCE)
    # Until a check that was taken away from a dead node is fetched elsewhere.
    time.sleep(SLEEP)


def _in_thread(do: Callable[[], None]) -> None:
    try:
        do()
    finally:
        connection.close()
