"""Prometheus HTTP service discovery with real processes: a web server that tells targets, and a leader that dispatches them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.database import Server
from tests.replicas import Cluster, wait_for
from tests.webserver import free_port

pytestmark = pytest.mark.processes

TEMPLATE = {"name": "openmetrics", "instances": [{"openmetrics_endpoint": "http://%%host%%:%%port%%/metrics"}]}


class Targets:
    """A web server that tells targets."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}/targets.json"

    def tell(self, *targets: str, **labels: str) -> None:
        new = self._folder / "targets.new"
        new.write_text(json.dumps([{"targets": targets, "labels": labels}]))
        new.rename(self._folder / "targets.json")

    def start(self) -> None:
        command = [sys.executable, "-m", "http.server", str(self._port), "--bind", "127.0.0.1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[Targets]:
    targets = Targets(tmp_path)
    targets.start()
    yield targets
    targets.end()


@pytest.fixture
def cluster(own_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(own_server.url, tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster
    finally:
        cluster.end()


def told(cluster: Cluster) -> dict[str, str]:
    """What is dispatched of targets: {target: text}."""
    found = cluster.store.rows(
        "SELECT o.key, c.text FROM checks_origin o JOIN checks_config c ON c.id = o.config_id"
        " WHERE o.source = 'prometheus_http_sd'"
    )
    return {key.rpartition("/")[2]: text for key, text in found}


def errors(cluster: Cluster) -> list[str]:
    [(found,)] = cluster.store.rows("SELECT errors FROM checks_source WHERE name = 'prometheus_http_sd'")
    return [one["error"] for one in found]


def test_targets_are_dispatched_while_they_are_told_and_stay_while_nobody_tells(
    cluster: Cluster, targets: Targets
) -> None:
    targets.tell("10.0.0.1:9100", "10.0.0.2:9100", __meta_zone="a")
    discoveries = json.dumps([{"url": targets.url, "check_template": TEMPLATE}])
    cluster.start(CLUSTERAGENT_SCAN_PERIOD="1", DD_PROMETHEUS_HTTP_SD_CONFIGS=discoveries)
    both = wait_for("both targets", lambda: len(found := told(cluster)) == 2 and found)
    assert "openmetrics_endpoint: http://10.0.0.1:9100/metrics" in both["10.0.0.1:9100"]
    assert "zone:a" in both["10.0.0.1:9100"]
    targets.end()
    wait_for("it is away", lambda: errors(cluster) == ["it does not answer: ConnectError"])
    assert told(cluster) == both
    targets.tell("10.0.0.2:9100", "10.0.0.3:9100", __meta_zone="a")
    targets.start()
    after = {"10.0.0.2:9100", "10.0.0.3:9100"}
    wait_for("one went, and one came", lambda: told(cluster).keys() == after)
    assert told(cluster)["10.0.0.2:9100"] == both["10.0.0.2:9100"]
    wait_for("nothing is wrong", lambda: not errors(cluster))
