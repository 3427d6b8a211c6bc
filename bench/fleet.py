"""Simulated node agents against the program's own web server and leader, and the account that they give."""

import json
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

# Seconds until all nodes have reported and run their configs, and no silence of before counts; ten thousand take longer.
SETTLED = 45
PATIENCE = 120
PROBE = "probe"


@dataclass(frozen=True)
class Outcome:
    """What the nodes report, how long heartbeats beside theirs took and how many failed, how long the brake was on; in s."""

    account: dict[str, Any]
    waits: list[float]
    failed: int
    braked: float


def simulate(
    nodes: int, configs: int, seconds: float, *plan: str, probe: bool = True, look: Callable[[], None] = lambda: None
) -> Outcome:
    """So many nodes and configs for so long; the plan is in `python -m simulation --help`, by the same clock.

    probe: a node beside theirs reports all the time. look: is called all the time.
    """
    stage.fresh(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(servers.web())
        # What moves must move because of what happens to nodes.
        options = {"CLUSTERAGENT_CONFD": str(folder), "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "1h"}
        stack.enter_context(servers.manage("runagent", **options))
        report = folder / "report.json"
        words = (f"--url={url}", f"--nodes={nodes}", f"--for={seconds}", f"--report={report}", *plan)
        simulation = stack.enter_context(servers.simulation(*words))
        schedule(nodes, configs)
        braked, failed, waits = 0.0, 0, []
        connection = stack.enter_context(closing(_connect(url))) if probe else None
        while simulation.poll() is None:
            time.sleep(0.1)
            braked += 0.1 * Hearing.objects.filter(braked_since__isnull=False).count()
            look()
            if connection:
                began = perf_counter()
                failed += _heartbeat(connection) != HTTPStatus.OK
                waits.append(perf_counter() - began)
        if simulation.returncode:
            raise RuntimeError(f"the simulation ended with {simulation.returncode}")
        return Outcome(json.loads(report.read_text()), waits, failed, braked)


def _connect(url: str) -> HTTPSConnection:
    """A connection of a node that is cordoned, so that it gets no work."""
    connection = HTTPSConnection(url.removeprefix("https://"), context=servers.TLS)
    _heartbeat(connection)
    Node.objects.filter(name=PROBE).cordon()
    return connection


def _heartbeat(connection: HTTPSConnection) -> int:
    """The status of its answer."""
    headers = {"Authorization": f"Bearer {conf.AUTH_TOKEN}"}
    connection.request("POST", f"/api/v1/clusterchecks/status/{PROBE}", '{"last_change":-1}', headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def schedule(nodes: int, configs: int) -> None:
    """Configs of the operators, which no scan of a folder takes for removed; once all nodes are there, for an even start."""
    sent = [stage.sent(number) for number in range(configs)]
    deadline = time.monotonic() + PATIENCE
    while Heartbeat.objects.count() < nodes:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{Heartbeat.objects.count()} of {nodes} nodes have reported in {PATIENCE} s")
        time.sleep(0.2)
    dispatcher.schedule([Sent("admin", one.key, one.original, one.patched) for one in sent])


def moved() -> int:
    """How often a config came to another node, by the ledger."""
    return Move.objects.exclude(to_node="").exclude(reason="scheduled").count()
