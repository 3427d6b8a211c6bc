"""What would the peer's rules have cost the checks in the same scenario? Both serve nodes of one plan at the same time."""

import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import fleet, servers
from bench.report import Report

NODES, CONFIGS = 100, 1500
# Seconds from the start of the simulation to what happens. By then both have placed everything, and we know what checks cost.
AFTER = 100
STATS_PORT = servers.free_port()
# Stats are asked for on the loopback address, too.
OPTIONS = {"DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(STATS_PORT), "CLUSTERAGENT_RUNNER_NETWORKS": "127.0.0.0/8"}


@dataclass(frozen=True)
class Scenario:
    """What happens to the nodes of a plan for so many seconds after AFTER, and to the leader."""

    name: str
    seconds: float
    plan: tuple[str, ...] = ()
    leader_dies: bool = False
    rebalances: bool = False


def _replace(kind: str, over: int, away: str) -> tuple[str, ...]:
    return f"--rollout={kind}", f"--rollout-after={AFTER}", f"--over={over}", f"--start-delay={away}"


SCENARIOS = (
    Scenario("rollout, one node a second", 180, _replace("rolling", 100, "5..15")),
    Scenario("loss of 5 nodes", 80, (f"--kill-after={AFTER}:5",)),
    Scenario("loss of the leader", 140, leader_dies=True),
    Scenario("loss of the leader and of 5 nodes", 170, (f"--kill-after={AFTER}:5",), leader_dies=True),
    Scenario("rebalance by force", 50, rebalances=True),
    Scenario("rolling kernel upgrade, each node away for a minute", 330, _replace("reboot", 200, "50..70")),
)


def run(report: Report) -> None:
    """Play each scenario, and report gaps and doubles in seconds a check, ours beside the peer's."""
    for scenario in SCENARIOS:
        with _peer(scenario) as accounts, servers.options(**OPTIONS):
            look = _Rebalance().look if scenario.rebalances else lambda: None
            ours = fleet.simulate(
                NODES,
                CONFIGS,
                AFTER + scenario.seconds,
                *scenario.plan,
                "--goodbye=leaving",
                f"--stats-port={STATS_PORT}",
                look=look,
                leader_dies=AFTER if scenario.leader_dies else math.inf,
            ).account
        (peers,) = accounts
        _add(report, f"{scenario.name}: without a runner, a check", ours, peers, "without_runner", "total", CONFIGS)
        _add(report, "  longest without a runner", ours, peers, "without_runner", "longest")
        _add(report, "  with two runners, a check", ours, peers, "two_runners", "total", CONFIGS)
        _add(report, "  longest with two runners", ours, peers, "two_runners", "longest")
        lost = peers["checks"]["ended"]
        report.add(
            "  checks that nobody runs at the end", ours["checks"]["ended"], "checks", floor=lost or None, most=0
        )


def _add(
    report: Report, name: str, ours: Mapping[str, Any], peers: Mapping[str, Any], spells: str, key: str, of: int = 1
) -> None:
    report.add(name, ours[spells][key] / of, "s", floor=peers[spells][key] / of or None)


@contextmanager
def _peer(scenario: Scenario) -> Iterator[list[dict[str, Any]]]:
    """Let the peer serve nodes of the same plan meanwhile. Its account is in the list when the block has ended.

    Its nodes say nothing when they go, since it listens to no goodbye.
    """
    port, accounts = servers.free_port(), list[dict[str, Any]]()
    words = [f"--port={port}", f"--configs={CONFIGS}"]
    words += [f"--crash-after={AFTER}"] if scenario.leader_dies else []
    words += [f"--rebalance-after={AFTER}"] if scenario.rebalances else []
    with tempfile.TemporaryDirectory() as folder, servers.module("simulation.peerserver", *words):
        file = Path(folder) / "report.json"
        own = (f"--url=https://127.0.0.1:{port}", f"--for={AFTER + scenario.seconds}", f"--report={file}")
        with servers.simulation(f"--nodes={NODES}", *own, *scenario.plan) as simulation:
            yield accounts
            simulation.wait()
        accounts.append(json.loads(file.read_text()))


class _Rebalance:
    """Rebalances once, when it is time."""

    def __init__(self) -> None:
        self._at = time.monotonic() + AFTER

    def look(self) -> None:
        if time.monotonic() > self._at:
            self._at = math.inf
            with servers.manage("rebalance", "--force", "--no-budget") as command:
                command.wait()
