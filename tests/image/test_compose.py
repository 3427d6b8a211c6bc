"""docs/install-compose.md, command by command, with podman-compose: from `.env` to agents that have their checks.

No registry is asked: PostgreSQL and HAProxy come from `stand_ins`, under the names that compose.yaml has for theirs. Podman
starts no health checks without systemd, so this does not see them run.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.conftest import IMAGE
from tests.image.containers import PROJECT, Engine
from tests.replicas import wait_for
from tests.webserver import free_port

pytestmark = [pytest.mark.processes, pytest.mark.long]

PATIENCE = 120
PAGE = (PROJECT / "docs/install-compose.md").read_text()
# No registry is reachable, and what the page says of a file is done by the test.
NOT_HERE = re.compile(r"docker compose pull|\$EDITOR ")
CONTEXT = ssl._create_unverified_context()


def commands(section: str) -> list[str]:
    """The commands of a section of the page."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).splitlines()
    return [line.replace("docker compose", "podman-compose") for line in lines if not NOT_HERE.match(line)]


class Installation:
    """A copy of deploy/ in which the page's commands run."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = environment
        self.folder = folder / "deploy/compose"
        self.ports = {"AGENTS_PORT": free_port(), "OPERATORS_PORT": free_port()}
        for name in ("compose", "haproxy"):
            shutil.copytree(PROJECT / "deploy" / name, folder / "deploy" / name)

    def run(self, *lines: str) -> "subprocess.CompletedProcess[str]":
        """Run lines in a shell; return what they print."""
        given = ("sh", "-euc", "\n".join(lines))
        return subprocess.run(
            given, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=300
        )

    def must(self, *lines: str) -> str:
        """Run lines that must not fail; return what they print."""
        done = self.run(*lines)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def fill_in(self) -> None:
        """Set what the page says in .env, and write checks."""
        values = {
            "IMAGE": f"localhost/{IMAGE}",
            "CLUSTERAGENT_ADMIN_URL": f"https://localhost:{self.ports['OPERATORS_PORT']}",
            "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1",
            **self.ports,
        }
        with (self.folder / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in values.items())
        for number in range(12):
            text = f"cluster_check: true\ninstances: [{{host: db{number}}}]\n"
            (self.folder / f"conf.d/db{number}.yaml").write_text(text)

    def get(self, port: str, path: str, token: str = "") -> str:
        """Ask the proxy."""
        url = f"https://127.0.0.1:{self.ports[port]}{path}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=CONTEXT)
        )
        return str(opener.open(request, timeout=5).read().decode())

    def placement(self) -> dict[str, list[str]] | None:
        """Who runs what, as the proxy's servers say; None where they can't say."""
        try:
            told = self.get(
                "AGENTS_PORT", "/api/v1/clusterchecks", (self.folder / "secrets/local_token").read_text().strip()
            )
        except OSError:
            return None
        return {
            node["name"]: sorted(json.dumps(config, sort_keys=True) for config in node["configs"])
            for node in json.loads(told)["nodes"]
        }

    def is_placed(self) -> dict[str, list[str]] | None:
        """Return the placement when each check has a node."""
        placed = self.placement()
        return placed if placed and sum(map(len, placed.values())) == 12 else None

    def leader(self) -> str:
        """Return the service that leads; empty without one."""
        done = self.run("podman-compose exec -T operators-1 clusteragent leader")
        return done.stdout.partition(":")[0] if done.returncode == 0 and "runagent" in done.stdout else ""


@pytest.fixture
def installation(engine: Engine, tmp_path: Path) -> Iterator[Installation]:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    absent = [] if shutil.which("podman-compose", path=programs) else ["podman-compose (pip install podman-compose)"]
    absent += [name for name in ("netavark", "aardvark-dns") if not Path(f"/usr/lib/podman/{name}").exists()]
    # netavark calls it.
    absent += [] if shutil.which("iptables", path="/usr/sbin:/sbin") else ["iptables"]
    if absent:
        told = f"missing, of Debian's packages where nothing else is said: {', '.join(absent)}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(told)
    engine.build_stand_ins("docker.io/library/postgres:17", "docker.io/library/haproxy:3.2")
    made = Installation(tmp_path, os.environ | engine.environment() | {"PATH": programs})
    yield made
    made.run("podman-compose down --volumes --timeout 1")


def test_the_page_s_commands_lead_to_agents_that_keep_their_checks(installation: Installation, tmp_path: Path) -> None:
    installation.must(*commands("1. Settings and secrets"))
    refused = installation.run("podman-compose config")
    assert refused.returncode != 0
    assert "in .env is no " in refused.stderr
    installation.fill_in()
    installation.must(*commands("2. Start"))
    words = ("--url", f"https://127.0.0.1:{installation.ports['AGENTS_PORT']}", "--nodes", "3", "--interval", "1")
    token = ("--token-file", str(installation.folder / "secrets/node_agents_token"))
    agents = subprocess.Popen([sys.executable, "-m", "simulation", *words, *token], stdout=subprocess.DEVNULL)
    try:
        _checks_stay(installation)
    finally:
        agents.kill()
        agents.wait()


def _checks_stay(installation: Installation) -> None:
    before = wait_for("all is placed", installation.is_placed, PATIENCE)
    assert len(before) == 3
    assert "Log in" in installation.get("OPERATORS_PORT", "/admin/login/")
    assert "runagent" in installation.must(*commands("3. Look"))
    first = wait_for("somebody leads", installation.leader, PATIENCE)
    installation.must(f"podman kill clusteragent_{first}_1")
    wait_for("another leads", lambda: installation.leader() not in ("", first), PATIENCE)
    assert installation.placement() == before
    installation.must(*commands("Upgrade"))
    installation.must(*commands("Stop"))
    assert installation.placement() is None
    installation.must(*commands("2. Start"))
    wait_for("all is placed", installation.is_placed, PATIENCE)
    wait_for("somebody leads", installation.leader, PATIENCE)
    assert installation.placement() == before
