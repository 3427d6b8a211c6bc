"""`make run` starts everything on a machine without any preparation, and stops it."""

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clusteragent.lib import conf, postgres, sockets
from simulation.runners import named_address
from tests.replicas import MANAGE, wait_for

pytestmark = pytest.mark.processes

# As it is typed in the checkout.
PYTHON = Path(sys.executable)
PYTHON = PYTHON.relative_to(MANAGE.parent) if PYTHON.is_relative_to(MANAGE.parent) else PYTHON
UP = "Ctrl-C stops everything."


class Run:
    """A process of `manage.py start` with a folder of its own. As in a terminal, Ctrl-C reaches its whole process group."""

    def __init__(self, var: Path, ports: list[int], **options: str) -> None:
        self.var, self.ports = var, ports
        self._log = var.parent / f"{time.monotonic_ns()}.log"
        where = {
            "CLUSTERAGENT_VAR": str(var),
            "CLUSTERAGENT_BIND": f"127.0.0.1:{ports[0]}",
            "CLUSTERAGENT_ADMIN_BIND": f"127.0.0.1:{ports[1]}",
            "DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(ports[2]),
            "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1",
        }
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(MANAGE), "start"],
                cwd=MANAGE.parent,
                env=plain_environment() | where | options,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._log.read_text()

    def up(self) -> str:
        """Wait until everything runs; return the output."""
        wait_for("up", lambda: UP in self.output() or self.process.poll() is not None, 50)
        assert self.process.poll() is None, self.output()
        return self.output()

    def refused(self) -> str:
        """Wait until the start has failed; return the output. No process may be left."""
        assert self.process.wait(20) != 0
        assert left(self.var) == []
        return self.output().strip()

    def paste(self, beginning: str) -> None:
        """Run the line of the output that begins so, as in another terminal."""
        (line,) = [line for line in self.output().splitlines() if line.startswith(beginning)]
        subprocess.run(line, shell=True, cwd=MANAGE.parent, env=plain_environment(), check=True)

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for process in left(self.var):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def plain_environment() -> dict[str, str]:
    """Return the environment without the options of the tests."""
    ours = ("DD_", "CLUSTERAGENT_", "DATABASE_URL", "DJANGO_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def left(var: Path, word: str = "") -> list[psutil.Process]:
    """Return every process that was started for this folder, with this word in its command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ours = process.status() != psutil.STATUS_ZOMBIE and process.environ().get("CLUSTERAGENT_VAR") == str(var)
            if ours and word in " ".join(process.cmdline()):
                found.append(process)
    return found


def others_may(path: Path) -> bool:
    """Return whether another user has any permission for it."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def told_secrets(var: Path) -> set[str]:
    """Return the files whose secret is in the environment or the command line of a process."""
    told = "".join(str((process.environ(), process.cmdline())) for process in left(var))
    assert "runworker" in told
    secrets = ("cluster_agent.auth_token", "auth_token", "secret_key", "admin_password")
    return {name for name in secrets if (var / name).read_text().strip() in told}


def owners(var: Path) -> list[tuple[str, str]]:
    with psycopg.connect(postgres.url(var / "pgdata")) as session:
        return session.execute(
            "SELECT n.name, c.digest FROM checks_assignment a JOIN nodes_node n ON n.id = a.node_id"
            " JOIN checks_config c ON c.id = a.config_id ORDER BY 1, 2"
        ).fetchall()


def free_ports() -> list[int]:
    """Return three free ports: for node agents, for operators, and for the simulated runners."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("", 0))) for _ in range(3)]
        return [listener.getsockname()[1] for listener in listeners]


def addresses(var: Path) -> dict[str, str]:
    """Return the addresses that the nodes report."""
    with psycopg.connect(postgres.url(var / "pgdata")) as session:
        heartbeats = "SELECT n.name, host(h.client_ip) FROM nodes_heartbeat h JOIN nodes_node n ON n.id = h.node_id"
        return dict(session.execute(heartbeats).fetchall())


def workers(address: str, port: int, var: Path) -> int:
    """Return the number of workers that a runner reports."""
    url, token = f"https://{address}:{port}/api/v1/clcrunner/workers", (var / "cluster_agent.auth_token").read_text()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token.strip()}"})
    with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=5) as answer:
        return int(json.load(answer)["Count"])


def leader(var: Path) -> str:
    with psycopg.connect(postgres.url(var / "pgdata")) as session:
        return str(session.execute("SELECT leader FROM checks_clusterstore").fetchone())


@pytest.fixture
def ports() -> list[int]:
    return free_ports()


@pytest.fixture
def database_url() -> Iterator[str]:
    """An empty database of the tests' server."""
    name = f"first_run_{uuid.uuid4().hex}"
    with psycopg.connect(conf.DATABASE_URL, autocommit=True) as session:
        session.execute(f"CREATE DATABASE {name}")
        yield make_conninfo(conf.DATABASE_URL, dbname=name)
        session.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def var() -> Iterator[Path]:
    """A folder whose path is too long for a unix socket."""
    # Not pytest's folder: each pytest that starts closes it to other users, and PostgreSQL may run as one.
    with tempfile.TemporaryDirectory(prefix="clusteragent-tests-", ignore_cleanup_errors=True) as folder:
        var = Path(folder) / ("deep" * 20) / "var"
        var.parent.mkdir()
        yield var
        for path in (var, var / "pgdata"):
            shutil.rmtree(sockets.folder_of(path), ignore_errors=True)


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.end()


def test_the_first_run_serves_stops_whole_and_starts_again_with_the_same_map(
    var: Path, ports: list[int], runs: list[Run]
) -> None:
    runs.append(first := Run(var, ports))
    said = first.up()
    [line] = [line for line in said.splitlines() if "role_starts" in line]
    assert f"database=embedded listens='127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}'" in line
    assert "role=all" in line
    steps = (
        "Making an embedded PostgreSQL",
        "Starting PostgreSQL",
        "Migrating",
        "Starting the web servers",
        "Starting 3",
    )
    assert [step for step in (*steps, UP) if f"\n{step}" in f"\n{said}"] == [*steps, UP]
    assert said.index("Migrating") < said.index("Starting the web") < said.index("The cluster agent runs.")
    assert f"https://127.0.0.1:{ports[1]}/admin/" in said
    secrets = {"cluster_agent.auth_token", "auth_token", "secret_key", "admin_password", "cert.pem", "key.pem"}
    assert {stat.S_IMODE((var / name).stat().st_mode) for name in secrets} == {0o600}
    # PostgreSQL must pass through, as another user, when root runs it.
    assert stat.S_IMODE(var.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    assert {path.name for path in (*var.iterdir(), *(var / "log").iterdir()) if others_may(path)} == set()
    assert told_secrets(var) == set()

    before = owners(var)
    assert {name for name, _ in before} == {"ash", "birch", "cedar"}
    assert all(f"  {name}" in said for name in ("ash", "birch", "cedar"))
    certified = ssl.create_default_context(cafile=str(var / "cert.pem"))
    for port in ports[:2]:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", context=certified, timeout=5) as answer:
            assert answer.status == 200

    runners = {name: named_address(name) for name in ("ash", "birch", "cedar")}
    assert addresses(var) == runners
    assert [workers(address, ports[2], var) for address in runners.values()] == [4, 4, 4]

    # As an earlier version left it.
    (var / "lock").chmod(0o644)
    (var / "log" / "ash.log").chmod(0o644)
    runs.append(second := Run(var, ports))
    assert second.process.wait(10) != 0
    assert f"{var} is in use" in second.output()
    assert not others_may(var / "lock")
    assert owners(var) == before

    killed = leader(var)
    first.paste("kill -9 $(")
    wait_for("another leader", lambda: leader(var) != killed, 10)
    first.paste(f"{PYTHON} -m supervisor.supervisorctl")
    wait_for("ash is gone", lambda: not left(var, "--name ash"), 5)
    assert owners(var) == before

    first.interrupt()
    assert first.process.wait(10) == 0
    assert left(var) == []

    # What a power cut leaves, when the number became another program's: here, the tests'.
    (var / "pgdata" / "postmaster.pid").write_text(f"{os.getpid()}\n{var}/pgdata\n1\n5432\n{var}\n\n1 1\nready\n")
    runs.append(again := Run(var, ports))
    again.up()
    assert not others_may(var / "log" / "ash.log")
    assert [line for line in again.up().splitlines() if ".yaml" in line] == [
        line for line in said.splitlines() if ".yaml" in line
    ]
    assert owners(var) == before
    # Even SIGKILL, which nothing can be done about in time, leaves nothing behind.
    again.process.kill()
    wait_for("nothing is left", lambda: not left(var), 10)


def test_a_start_that_is_interrupted_half_way_leaves_nothing(var: Path, ports: list[int], runs: list[Run]) -> None:
    runs.append(run := Run(var, ports))
    wait_for("PostgreSQL is being made or served", lambda: left(var, "pginstall"))
    run.interrupt()
    assert run.process.wait(10) == 0
    wait_for("nothing is left", lambda: not left(var), 5)
    assert "Traceback" not in run.output()


def test_two_machines_that_start_at_once_share_a_database(database_url: str, tmp_path: Path, runs: list[Run]) -> None:
    for machine in ("one", "other"):
        (tmp_path / machine).mkdir()
        runs.append(Run(tmp_path / machine / "var", free_ports(), DATABASE_URL=database_url))
    for run in runs:
        assert "No node agent reports yet." in run.up()
        assert not (run.var / "pgdata").exists()
    # Only one of them made the admin, so only its password opens it.
    assert [(run.var / "admin_password").exists() for run in runs].count(True) == 1
    for run in runs:
        run.interrupt()
    for run in runs:
        assert run.process.wait(10) == 0
        assert left(run.var) == []


def test_a_taken_port_is_named(var: Path, ports: list[int], runs: list[Run]) -> None:
    with socket.create_server(("127.0.0.1", ports[1])):
        runs.append(run := Run(var, ports))
        assert run.refused() == f"CLUSTERAGENT_ADMIN_BIND: 127.0.0.1 port {ports[1]} is taken"


def test_a_taken_port_of_the_simulated_runners_is_named(var: Path, ports: list[int], runs: list[Run]) -> None:
    with socket.create_server(("", ports[2])):
        runs.append(run := Run(var, ports))
        address = named_address("ash")
        assert run.refused() == f"DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT: {address} port {ports[2]} is taken"


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("CLUSTERAGENT_DEMO_NODES", "many", "CLUSTERAGENT_DEMO_NODES is 'many', allowed is a whole number"),
        ("DD_CLUSTER_AGENT_AUTH_TOKEN", "short", "DD_CLUSTER_AGENT_AUTH_TOKEN has 5 characters, at least 32"),
        ("CLUSTERAGENT_VAR", "/dev/null", "/dev/null/cluster_agent.auth_token, in the folder of CLUSTERAGENT_VAR"),
        ("CLUSTERAGENT_VAR", "/proc/nowhere", "CLUSTERAGENT_VAR: /proc/nowhere can't be made"),
        ("DATABASE_URL", "postgresql://someone:hidden@127.0.0.1:9/none", "DATABASE_URL: connection failed"),
        ("DATABASE_URL", "mysql://someone:hidden@127.0.0.1/none", "DATABASE_URL can't be read as a PostgreSQL URL"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    var: Path, ports: list[int], runs: list[Run], option: str, value: str, line: str
) -> None:
    runs.append(run := Run(var, ports, **{option: value}))
    said = run.refused()
    assert said.startswith(line)
    assert said.count("\n") == 0
    assert "hidden" not in said
