"""Simulated node agents against the program's own web server and leader, and the account that they give."""

import json
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import servers, stage
from checks import dispatcher
from checks.dispatcher import Sent
from checks.models import Move
from nodes.models import Hearing, Heartbeat

# Seconds until all nodes have reported and run their configs, and no silence of before counts.
SETTLED = 45


@dataclass(frozen=True)
class Outcome:
    """What the nodes report, and what the database was seen to do meanwhile: moves by reason, seconds with the brake on."""

    account: dict[str, Any]
    moves: dict[str, int]
    braked: float


def simulate(nodes: int, configs: int, seconds: float, *plan: str) -> Outcome:
    """So many nodes and configs for so long; the plan is in `simulatenodes --help`, by the same clock."""
    stage.fresh(0)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(servers.web())
        stack.enter_context(servers.manage("runagent", CLUSTERAGENT_CONFD=str(folder)))
        report = folder / "report.json"
        words = (f"--url={url}", f"--nodes={nodes}", f"--for={seconds}", f"--report={report}", *plan)
        simulation = stack.enter_context(servers.manage("simulatenodes", *words))
        _schedule(nodes, configs)
        braked = 0.0
        while simulation.poll() is None:
            time.sleep(0.5)
            braked += 0.5 * Hearing.objects.filter(braked_since__isnull=False).count()
        if simulation.returncode:
            raise RuntimeError(f"simulatenodes ended with {simulation.returncode}")
        reasons = list(Move.objects.values_list("reason", flat=True))
        return Outcome(
            json.loads(report.read_text()), {reason: reasons.count(reason) for reason in set(reasons)}, braked
        )


def _schedule(nodes: int, configs: int) -> None:
    """Configs of the operators, which no scan of a folder takes for removed; once all nodes are there, for an even start."""
    sent = [stage.sent(number) for number in range(configs)]
    deadline = time.monotonic() + SETTLED
    while Heartbeat.objects.count() < nodes:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{Heartbeat.objects.count()} of {nodes} nodes have reported in {SETTLED} s")
        time.sleep(0.2)
    dispatcher.schedule([Sent("admin", one.key, one.original, one.patched) for one in sent])
