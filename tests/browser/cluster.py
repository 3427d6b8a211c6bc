"""A live cluster for browser tests: both web servers, a leader, simulated runners, fifty checks, a database of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from clusteragent.lib import conf, credentials
from simulation.agents import SimulatedNode, Simulation
from simulation.client import Server, Timing
from simulation.runners import RUNNER, SimulatedRunners, named_address
from tests.browser import scenery
from tests.faults.wire import Loop
from tests.replicas import MANAGE, Replica, wait_for
from tests.webserver import TLS, exchange

NODES = ("ash", "birch", "cedar")
# Seconds between two reports of a node.
POLL = 1.0
# Everything shares two busy cores.
PATIENCE = 120.0
_UPGRADE = "import django; django.setup(); from clusteragent import upgrade; upgrade.upgrade()"
_OWNER = (
    "SELECT n.name FROM checks_origin AS o JOIN checks_assignment AS a ON a.config_id = o.config_id"
    " JOIN nodes_node AS n ON n.id = a.node_id WHERE o.key = %s"
)
_ACKNOWLEDGED = (
    "SELECT 1 FROM nodes_node AS n JOIN nodes_heartbeat AS h ON h.node_id = n.id"
    " WHERE n.name = %s AND h.acknowledged = n.config_version"
)


class Cluster:
    """The cluster's processes and simulated runners. Call `end` in any case."""

    def __init__(self, nodes: Sequence[str] = NODES, errors: Mapping[str, str] = {}, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="clusteragent-browser-"))
        self.confd, self.var = self.folder / "conf.d", self.folder / "var"
        self.loop = Loop()
        self.processes: list[Replica] = []
        self._names, self._errors = nodes, errors
        self._database = f"browser_{uuid.uuid4().hex}"
        self._ports = [_free_port() for _ in range(3)]
        self.url = f"https://127.0.0.1:{self._ports[1]}"
        self._environment = {**os.environ, **self._options(), **options}

    def _options(self) -> dict[str, str]:
        agents, operators, runners = self._ports
        return {
            "DATABASE_URL": make_conninfo(conf.DATABASE_URL, dbname=self._database),
            "CLUSTERAGENT_VAR": str(self.var),
            "CLUSTERAGENT_CONFD": str(self.confd),
            "CLUSTERAGENT_BIND": f"127.0.0.1:{agents}",
            "CLUSTERAGENT_ADMIN_BIND": f"127.0.0.1:{operators}",
            "CLUSTERAGENT_WEB_WORKERS": "1",
            "CLUSTERAGENT_WEB_THREADS": "4",
            "CLUSTERAGENT_SCAN_PERIOD": "2s",
            # Draining nodes lose all their configs at once, and only tests move configs.
            "CLUSTERAGENT_REBALANCE_BUDGET": "1",
            "CLUSTERAGENT_REBALANCE_ENABLED": "false",
            # The period of collecting stats.
            "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "2s",
            "CLUSTERAGENT_RUNNER_NETWORKS": "127.0.0.0/8",
            "DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(runners),
            "DD_CLUSTER_CHECKS_WARMUP_DURATION": "1s",
        }

    def start(self) -> None:
        """Start everything, and return when every check runs."""
        self.checks = scenery.write(self.confd)
        credentials.make_missing(self.var, given=("cluster_agent.auth_token", "auth_token", "secret_key"))
        with psycopg.connect(conf.DATABASE_URL, autocommit=True) as session:
            session.execute(f'CREATE DATABASE "{self._database}"')  # type: ignore[call-overload]
        self._session = psycopg.connect(self._environment["DATABASE_URL"], autocommit=True)
        webs = [self._start("serve operators"), self._start("serve agents")]
        subprocess.run([sys.executable, "-c", _UPGRADE], env=self._environment, cwd=MANAGE.parent, check=True)
        self.password = (self.var / credentials.ADMIN_PASSWORD).read_text().strip()
        self.loop.do(self._bear())
        for port, web in zip(self._ports[1::-1], webs, strict=True):
            wait_for(f"{port} answers", lambda port=port, web=web: _answers(port) or web.process.poll(), PATIENCE)
        # A node that joined after the warm-up would get no configs.
        wait_for("every node reports", lambda: len(self.ask("SELECT id FROM nodes_node")) == len(self._names), PATIENCE)
        self._start("runagent")
        self.wait_until_whole()

    def _start(self, command: str) -> Replica:
        environment = self._environment | {"DJANGO_SETTINGS_MODULE": "clusteragent.settings"}
        self.processes.append(Replica(command, environment, self.folder / f"{command.replace(' ', '-')}.log"))
        return self.processes[-1]

    async def _bear(self) -> None:
        ready = asyncio.Event()
        self._life = asyncio.create_task(self._live(ready))
        await ready.wait()

    async def _live(self, ready: asyncio.Event) -> None:
        address = Server.at(f"https://127.0.0.1:{self._ports[0]}", conf.AUTH_TOKEN)
        async with Simulation(address, Timing(poll=POLL, longest_retry=POLL)) as self.simulation:
            self.runners = runners = SimulatedRunners(self._at, conf.AUTH_TOKEN, errors=self._errors)
            self.loop.at_end.append((await runners.listen("0.0.0.0", self._ports[2])).close)
            for name in self._names:
                self._start_node(name)
            ready.set()
            await asyncio.Event().wait()

    def _at(self, address: str) -> SimulatedNode | None:
        nodes = self.simulation.nodes.values()
        return next((node for node in nodes if named_address(node.name) == address), None)

    def _start_node(self, name: str) -> None:
        self.simulation.start(name, node_type=RUNNER, real_ip=named_address(name))

    def join(self, node: str) -> None:
        """Start another node."""

        async def start() -> None:
            self._start_node(node)

        self.loop.do(start())

    def wait_until_whole(self) -> None:
        """Wait until every check runs on some runner."""

        def is_whole() -> bool:
            dangling = self.ask("SELECT 1 FROM checks_config WHERE dangling_since IS NOT NULL")
            return not dangling and sum(len(self.runs(name)) for name in self._names) == self.checks

        wait_for("every check runs", is_whole, PATIENCE)

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement; return the first column of its rows."""
        cursor = self._session.execute(statement, values)  # type: ignore[call-overload]
        return [row[0] for row in cursor.fetchall()]

    def change(self, statements: str) -> None:
        """Run statements that change the database."""
        self._session.execute(statements)  # type: ignore[call-overload]

    def owner(self, key: str) -> str:
        """Return the node of this file's config; empty if it has none."""
        return next(iter(self.ask(_OWNER, key)), "")

    def number_of(self, key: str) -> int:
        """Return the ID of this file's config, as in the URL of its page."""
        [number] = self.ask("SELECT config_id FROM checks_origin WHERE key = %s", key)
        return int(number)

    def number_of_node(self, name: str) -> int:
        """Return the ID of the node, as in the URL of its page."""
        [number] = self.ask("SELECT id FROM nodes_node WHERE name = %s", name)
        return int(number)

    @contextlib.contextmanager
    def without_operators(self) -> Iterator[None]:
        """End the operators' web server during the block."""
        self.processes[0].end()
        try:
            yield
        finally:
            self.processes.insert(0, self._start("serve operators"))
            del self.processes[-1], self.processes[1]
            wait_for("operators are answered", lambda: _answers(self._ports[1]), PATIENCE)

    def manage(self, *arguments: str) -> str:
        """Run a command of ours; return what it prints."""
        command = [sys.executable, str(MANAGE), *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout

    def call(self, method: str, path: str, token: str, body: object = None) -> int:
        """Make a call of the operators' API with a token and without a session; return the answer's status."""
        connection = HTTPSConnection("127.0.0.1", self._ports[1], timeout=PATIENCE, context=TLS)
        headers = {"Content-Type": "application/json"}
        with contextlib.closing(connection):
            return exchange(connection, method, path, json.dumps(body), token=f"Bearer {token}", headers=headers).status

    def has_acknowledged(self, node: str) -> bool:
        """Return whether the node has reported that it has the last version of its configs."""
        return bool(self.ask(_ACKNOWLEDGED, node))

    @contextlib.contextmanager
    def another_check(self, name: str) -> Iterator[None]:
        """Add a check during the block, which begins when a node runs it."""
        key = f"http_check.d/{name}.yaml"
        scenery.write_check(self.confd / key, f"\n  - name: {name}\n    url: https://{name}.example.com")
        try:
            wait_for(f"a node runs {name}", lambda: f"http_check:{name}" in self.runs(self.owner(key)), PATIENCE)
            yield
        finally:
            (self.confd / key).unlink()
            wait_for(f"{name} is gone", lambda: not self.owner(key), PATIENCE)

    @contextlib.contextmanager
    def failing(self, errors: Mapping[str, str]) -> Iterator[None]:
        """Let checks fail during the block. errors: {beginning of a check ID: error message}."""
        self.runners.errors = {**self._errors, **errors}
        try:
            yield
        finally:
            self.runners.errors = self._errors

    @contextlib.contextmanager
    def slow(self, node: str, factor: float) -> Iterator[None]:
        """Let each run on the node take so many times as long during the block."""
        simulated = self.simulation.nodes[node]
        simulated.slowdown = factor
        try:
            yield
        finally:
            simulated.slowdown = 1.0

    def runs(self, node: str) -> set[str]:
        """Return the checks that a node runs, such as `postgres:db-07`; none if it is dead."""
        found = self.simulation.nodes.get(node)
        return {running.config.label for running in list(found.running.values())} if found else set()

    def vanish(self, node: str) -> None:
        """Let the node die."""

        async def end() -> None:
            self.simulation.vanish(node)

        self.loop.do(end())

    def logs(self) -> str:
        """Return the logs of all processes."""
        return "".join(log.read_text() for log in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        """End every process, and delete the files and the database."""
        for process in self.processes:
            process.terminate()
        with contextlib.ExitStack() as last:
            last.callback(shutil.rmtree, self.folder, ignore_errors=True)
            last.callback(self._drop)
            last.callback(self.loop.stop)
            for process in self.processes:
                last.callback(process.end)

    def _drop(self) -> None:
        if hasattr(self, "_session"):
            self._session.close()
        with psycopg.connect(conf.DATABASE_URL, autocommit=True) as session:
            session.execute(f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)')  # type: ignore[call-overload]


@contextlib.contextmanager
def living(**options: Any) -> Iterator[Cluster]:
    """Run a cluster during the block; every check runs at its beginning. options: Cluster's arguments."""
    cluster = Cluster(**options)
    try:
        try:
            cluster.start()
        except AssertionError as error:
            raise AssertionError(f"{error}: {cluster.logs()}") from error
        yield cluster
    finally:
        cluster.end()


def _answers(port: int) -> bool:
    connection = HTTPSConnection("127.0.0.1", port, timeout=5, context=TLS)
    try:
        return exchange(connection, "GET", "/healthz").status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
