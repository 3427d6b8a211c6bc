"""How long does it take until what a large Kubernetes cluster annotates is dispatched, and what does a change cost there?

With a real API server, beside which nothing else of Kubernetes runs. Without its programs (`make kube-apiserver`) nothing is
measured.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from django.db.models import F

from bench import stage
from bench.report import Report, quantile
from checks.models import ClusterStore, Config, Move, Origin, Source
from checks.models.configs import KUBERNETES
from tests.kubernetes import programs
from tests.kubernetes.cluster import Cluster
from tests.replicas import wait_for

SERVICES, ENDPOINTS, CHANGES, FLOOD = 5000, 4, 50, 1000
MANAGE = Path(__file__).parent.parent / "manage.py"
AD, NAMESPACE = "ad.datadoghq.com", "shop"
PORT: dict[str, Any] = {"name": "http", "port": 80, "protocol": "TCP"}
PATIENCE = 300.0
HTTP = '{"http_check": {"instances": [{"name": "web", "url": "http://%%host%%:%%port%%/%s"}]}}'


def run(report: Report) -> None:
    """Measure the first list, changes, a new term and the memory of the process that watches."""
    if not programs.KUBERNETES.are_there():
        print(f"kubernetes: not measured; `{programs.KUBERNETES.command}` builds the API server for it")
        return
    with tempfile.TemporaryDirectory() as name:
        cluster = Cluster(programs.KUBERNETES.folder(), Path(name))
        try:
            cluster.start()
            measure(report, cluster)
        finally:
            cluster.stop()


def measure(report: Report, cluster: Cluster) -> None:
    """Measure with a cluster that is empty yet."""
    stage.fresh(100)
    os.environ["CLUSTERAGENT_KUBECONFIG"] = str(cluster.kubeconfig(cluster.folder / "config"))
    with watching() as process:
        seconds(has_read())
        base = process.memory_info().rss
    furnish(cluster)
    number = SERVICES * (1 + ENDPOINTS)
    size = f"{SERVICES} Services with {SERVICES * ENDPOINTS} endpoints"
    with watching() as process:
        took = seconds(lambda: Origin.objects.count() == number)
        report.add(f"start of the process to all dispatched: {size}", took, "s", most=60)
        changes = [change(cluster, each) for each in range(CHANGES)]
        report.add("  kubectl's answer to dispatched: median of a change", statistics.median(changes), "s", most=1)
        report.add("  kubectl's answer to dispatched: p99 of a change", quantile(changes, 0.99), "s", most=2)
        report.add(f"  {FLOOD} changes at once: from the last answer to all dispatched", flood(cluster), "s", most=10)
        grown = (process.memory_info().rss - base) / 2**20
        report.add("  memory of the process, more than for an empty cluster", grown, "MiB", most=150)
    before = Move.objects.count()
    with watching():
        report.add("start of the next term's process to all compared", seconds(has_read()), "s", most=60)
    report.add("  moves of a new term", Move.objects.count() - before, "moves", most=0)


@contextmanager
def watching() -> Iterator[psutil.Process]:
    """Let a process watch for a new term, as the leader does, while the block runs."""
    ClusterStore.objects.update(term=F("term") + 1)
    words = ["watchkubernetes", "--parent", str(os.getpid()), "--term", str(ClusterStore.objects.get().term)]
    process = subprocess.Popen([sys.executable, str(MANAGE), *words])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def furnish(cluster: Cluster) -> None:
    """Make the Services, each with a slice of its endpoints."""
    cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    services, slices = [], []
    for number in range(SERVICES):
        annotations = {f"{AD}/service.checks": HTTP % 0, f"{AD}/endpoints.checks": HTTP % 0}
        metadata = {"namespace": NAMESPACE, "name": f"web-{number}", "annotations": annotations}
        address = {"clusterIP": f"10.96.{number // 250}.{number % 250 + 1}", "type": "ClusterIP"}
        services.append({"metadata": metadata, "spec": {"ports": [PORT], **address}})
        labels = {"kubernetes.io/service-name": f"web-{number}"}
        addresses = [f"10.{each}.{number // 250}.{number % 250 + 1}" for each in range(ENDPOINTS)]
        endpoints = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
        metadata = {"namespace": NAMESPACE, "name": f"web-{number}-x", "labels": labels}
        slices.append({"metadata": metadata, "addressType": "IPv4", "ports": [PORT], "endpoints": endpoints})
    cluster.store("Service", services)
    cluster.store("EndpointSlice", slices)


def change(cluster: Cluster, number: int) -> float:
    """Annotate a Service; return the seconds from the server's answer until the change is dispatched."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/web-{number}"
    cluster.call("PATCH", path, {"metadata": {"annotations": {f"{AD}/service.checks": HTTP % "changed"}}})
    key = f"service/{NAMESPACE}/web-{number}/http_check"
    return seconds(lambda: Config.objects.filter(origins__key=key, text__contains="/changed").exists())


def flood(cluster: Cluster) -> float:
    """Annotate many Services as fast as it goes; return the seconds from the last answer until all is dispatched."""
    paths = [f"/api/v1/namespaces/{NAMESPACE}/services/web-{CHANGES + number}" for number in range(FLOOD)]
    body = {"metadata": {"annotations": {f"{AD}/service.checks": HTTP % "flood"}}}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda path: cluster.call("PATCH", path, body), paths))
    return seconds(lambda: Config.objects.filter(text__contains="/flood").count() == FLOOD)


def has_read() -> Callable[[], bool]:
    """Return what says whether the cluster was read after now."""
    before = Source.objects.filter(name=KUBERNETES).values_list("read_at", flat=True).first()
    fresh = Source.objects.filter(name=KUBERNETES, read_at__isnull=False).exclude(read_at=before)
    return fresh.exists


def seconds(is_so: Callable[[], bool]) -> float:
    """Return the seconds until something is so."""
    began = time.monotonic()
    wait_for("it is so", is_so, PATIENCE)
    return time.monotonic() - began
