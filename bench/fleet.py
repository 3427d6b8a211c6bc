"""Simulated node agents with the real web server and leader, and the simulation's report."""

import json
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from time import perf_counter
from typing import Any

from bench import servers, stage
from checks import dispatcher
from checks.dispatcher import Sent
from checks.models import Move
from clusteragent.lib import conf
from nodes.models import Hearing, Heartbeat, Node

# Seconds until all nodes have reported and run their configs, and silence counts again; 10 000 nodes need more.
SETTLED = 45
PATIENCE = 120
PROBE = "probe"


@dataclass(frozen=True)
class Outcome:
    """account: the simulation's report; waits, failed: seconds and failures of an extra node's heartbeats; braked: seconds."""

    account: dict[str, Any]
    waits: list[float]
    failed: int
    braked: float


def simulate(
    nodes: int,
    configs: int,
    seconds: float,
    *plan: str,
    probe: bool = True,
    look: Callable[[], None] = lambda: None,
    leader_dies: float = math.inf,
) -> Outcome:
    """Simulate nodes and configs for `seconds`. Raises RuntimeError when the simulation fails.

    plan: arguments of `python -m simulation`, whose times begin at its start. probe: an extra node reports all the time.
    look: called about ten times a second. leader_dies: after so many seconds the leader is killed, and another one is there.
    """
    stage.fresh(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(servers.web())
        # Configs must move only because of what happens to nodes.
        options = {"CLUSTERAGENT_CONFD": str(folder), "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "1h"}
        leader = stack.enter_context(servers.manage("runagent", **options))
        report = folder / "report.json"
        words = (f"--url={url}", f"--nodes={nodes}", f"--for={seconds}", f"--report={report}", *plan)
        simulation = stack.enter_context(servers.simulation(*words))
        began_at = time.monotonic()
        schedule(nodes, configs)
        if leader_dies < math.inf:
            stack.enter_context(servers.manage("runagent", **options))
        braked, failed, waits = 0.0, 0, []
        connection = stack.enter_context(closing(_connect(url))) if probe else None
        while simulation.poll() is None:
            time.sleep(0.1)
            braked += 0.1 * Hearing.objects.filter(braked_since__isnull=False).count()
            look()
            if time.monotonic() - began_at > leader_dies:
                leader.kill()
            if connection:
                began = perf_counter()
                failed += _heartbeat(connection) != HTTPStatus.OK
                waits.append(perf_counter() - began)
        if simulation.returncode:
            raise RuntimeError(f"the simulation ended with {simulation.returncode}")
        return Outcome(json.loads(report.read_text()), waits, failed, braked)


def _connect(url: str) -> HTTPSConnection:
    """Connect as the extra node, and cordon it, so that it gets no configs."""
    connection = HTTPSConnection(url.removeprefix("https://"), context=servers.TLS)
    _heartbeat(connection)
    Node.objects.filter(name=PROBE).cordon()
    return connection


def _heartbeat(connection: HTTPSConnection) -> int:
    """Send a heartbeat; return the answer's status."""
    headers = {"Authorization": f"Bearer {conf.AUTH_TOKEN}"}
    connection.request("POST", f"/api/v1/clusterchecks/status/{PROBE}", '{"last_change":-1}', headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def schedule(nodes: int, configs: int) -> None:
    """Schedule configs once all nodes have reported, so that all get the same number. Raises RuntimeError after PATIENCE seconds.

    Their source is `admin`: a scan of the folder would remove configs of files.
    """
    sent = [stage.sent(number) for number in range(configs)]
    deadline = time.monotonic() + PATIENCE
    while Heartbeat.objects.count() < nodes:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{Heartbeat.objects.count()} of {nodes} nodes have reported in {PATIENCE} s")
        time.sleep(0.2)
    dispatcher.schedule([Sent("admin", one.key, one.original, one.patched) for one in sent])


def moved() -> int:
    """Return the number of moves to another node in the ledger."""
    return Move.objects.exclude(to_node="").exclude(reason="scheduled").count()
