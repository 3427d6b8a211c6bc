"""Prometheus and promtool as real processes."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.proxies.programs import program
from tests.replicas import wait_for, wait_or_kill
from tests.webserver import free_port


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    """Run promtool; both of its outputs are in `stdout`."""
    command = [program("promtool", "prometheus"), *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)


class Prometheus:
    """A Prometheus that listens on this port, asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        """Return whether it answers."""
        try:
            with urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except URLError:
            return False

    def _get(self, path: str, **query: str) -> Any:
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that this expression has now."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def targets(self) -> dict[str, str]:
        """Return {address: health, with the error if there is one}."""
        found = self._get("targets")["activeTargets"]
        return {one["labels"]["instance"]: f"{one['health']} {one['lastError']}".strip() for one in found}

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def has_evaluated(self) -> bool:
        """Return whether each rule was evaluated, and without an error."""
        rules = [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
        assert not [rule for rule in rules if rule["health"] == "err"]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)


@contextmanager
def prometheus(config: Path, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with this configuration during the block; it answers at its beginning. Its data go to the folder."""
    port, log = free_port(), folder / "prometheus.log"
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    running = Prometheus(port)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        return running.is_ready()

    try:
        wait_for("Prometheus answers", answers)
        yield running
    finally:
        process.terminate()
        wait_or_kill(process, 10)
