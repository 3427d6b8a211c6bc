"""Containers of the image: read-only, as a user that nobody foresaw, and without any right."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.image.conftest import IMAGE
from tests.image.containers import Container, Engine, EngineError
from tests.replicas import Store, wait_for
from tests.webserver import free_port

pytestmark = pytest.mark.processes

SECRETS = ("DD_CLUSTER_AGENT_AUTH_TOKEN", "CLUSTERAGENT_LOCAL_TOKEN", "CLUSTERAGENT_SECRET_KEY")
# Seconds that a cluster gives a container to end; by default 30.
GRACE = 20
# Seconds that containers may take to start on a busy machine.
PATIENCE = 120


class Here:
    """Containers of roles on ports of the test's own, with one database."""

    def __init__(self, engine: Engine, database: str, confd: Path) -> None:
        self._engine, self._confd = engine, confd
        self.ports = {"agents": free_port(), "operators": free_port()}
        self.env = {
            "DATABASE_URL": database,
            **{name: os.environ[name] for name in SECRETS},
            "CLUSTERAGENT_BIND": f"127.0.0.1:{self.ports['agents']}",
            "CLUSTERAGENT_ADMIN_BIND": f"127.0.0.1:{self.ports['operators']}",
            "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1",
        }

    def start(self, role: str, **env: str) -> Container:
        """Start a container of a role."""
        volume = ("--volume", f"{self._confd}:/etc/clusteragent/conf.d:ro")
        return self._engine.run(IMAGE, role, env=self.env | env, options=volume)

    def get(self, port: str, path: str) -> httpx.Response:
        """Ask a web server."""
        return httpx.get(f"https://127.0.0.1:{self.ports[port]}{path}", verify=False, trust_env=False)

    def answers(self, *ports: str) -> bool:
        """Whether these web servers are ready."""
        try:
            return all(self.get(port, "/readyz").status_code == 200 for port in ports)
        except httpx.HTTPError:
            return False


@pytest.fixture
def here(engine: Engine, database: str, tmp_path: Path) -> Iterator[Here]:
    confd = tmp_path / "conf.d"
    confd.mkdir()
    for number in range(20):
        (confd / f"db{number}.yaml").write_text(
            f"cluster_check: true\ninstances: [{{host: db{number}, name: db{number}}}]\n"
        )
    # pytest's folders are for their owner alone, and containers run as somebody else.
    for folder in (confd, *confd.relative_to("/").parents):
        (Path("/") / folder).chmod((Path("/") / folder).stat().st_mode | 0o011)
    yield Here(engine, database, confd)
    engine.end()


@pytest.fixture
def agents(here: Here) -> Iterator[None]:
    """Three simulated node agents that report each second."""
    words = ("--url", f"https://127.0.0.1:{here.ports['agents']}", "--nodes", "3", "--interval", "1")
    process = subprocess.Popen([sys.executable, "-m", "simulation", *words], stdout=subprocess.DEVNULL)
    yield
    process.kill()
    process.wait()


def test_the_roles_serve_dispatch_end_in_time_and_lose_nothing(here: Here, store: Store, agents: None) -> None:
    assert here.start("migrate").wait() == 0
    roles = {role: here.start(role) for role in ("agents", "operators", "runagent")}
    wait_for("both servers are ready", lambda: here.answers("agents", "operators"), PATIENCE)
    wait_for("all is dispatched", lambda: store.one("SELECT count(*) FROM checks_assignment") == 20, PATIENCE)
    for container in roles.values():
        wait_for("it is healthy", container.is_healthy, PATIENCE)
    before = store.assignments()
    assert {role: container.stop(GRACE) for role, container in roles.items()} == dict.fromkeys(roles, 0)
    again = [here.start(role) for role in roles]
    wait_for("the server is ready", lambda: here.answers("agents"), PATIENCE)
    store.next_pass(patience=PATIENCE)
    assert [container.stop(GRACE) for container in again] == [0, 0, 0]
    assert store.assignments() == before


def test_all_is_everything_in_one_container(here: Here) -> None:
    container = here.start("all")
    wait_for("both servers are ready", lambda: here.answers("agents", "operators"), PATIENCE)
    wait_for("it is healthy", container.is_healthy, PATIENCE)
    assert container.stop(GRACE) == 0


def test_operators_have_pages_and_commands(here: Here) -> None:
    here.env["CLUSTERAGENT_SECRET_KEY"] = secrets.token_hex(32)
    assert here.start("migrate").wait() == 0
    container = here.start("operators")
    wait_for("it is ready", lambda: here.answers("operators"), PATIENCE)
    page = here.get("operators", "/admin/login/")
    assert "Log in" in page.text
    # A template of a library, one of ours, and a static file of ours.
    [style] = re.findall(r"/static/clusteragent/admin[^\"]*\.css", page.text)
    assert here.get("operators", style).headers["content-type"].startswith("text/css")
    assert "DATABASE_URL is reached" in container.call("clusteragent", "doctor")
    with pytest.raises(EngineError, match=r"Not healthy|Needs attention"):
        container.call("clusteragent", "status")


def test_a_server_that_starts_or_hangs_is_not_healthy(here: Here) -> None:
    assert here.start("migrate").wait() == 0
    container = here.start("operators")
    # The first process is not the server yet.
    wait_for("it is healthy", container.is_healthy, PATIENCE)
    assert here.get("operators", "/healthz").status_code == 200
    for process in psutil.Process(container.pid).children(recursive=True):
        process.suspend()
    assert not container.is_healthy()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_missing_is_named(here: Here, name: str) -> None:
    del here.env[name]
    container = here.start("agents")
    assert container.wait() == 1
    assert name in container.log()
