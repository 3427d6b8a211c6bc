"""A runner whose checks take four times as long gets a notice, then less in steps, and all back when it is quick again."""

import socket
from collections.abc import Callable

import pytest

from nodes.slowness import LEAST
from simulation.runners import works
from tests.faults.cluster import CHECKS, Cluster
from tests.replicas import wait_for

pytestmark = [pytest.mark.processes, pytest.mark.long]

NODES, SLOW, KINDS, EACH = ("ash", "birch", "cedar", "elm", "fir"), "ash", 6, 25
# Rounds of stats are two seconds apart.
PATIENCE = 120.0
SHARE = "SELECT coalesce(max(s.share), 1) FROM nodes_slowness AS s JOIN nodes_node AS n ON n.id = s.node_id WHERE n.name = %s"
LEVEL = "SELECT coalesce(max(s.level), 0) FROM nodes_slowness AS s JOIN nodes_node AS n ON n.id = s.node_id WHERE n.name = %s"
EVENTS = "SELECT kind FROM nodes_nodeevent WHERE node_name = %s AND kind IN ('slow', 'no longer slow') ORDER BY id"


@pytest.fixture
def runners(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A cluster of five runners in which the costs of all checks are known."""
    # An address of no node, so that no other process takes the number.
    with socket.create_server(("127.2.0.253", 0)) as taken:
        port = taken.getsockname()[1]
    options = {
        "DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(port),
        "CLUSTERAGENT_RUNNER_NETWORKS": "127.0.0.0/8",
        "DD_CLUSTER_CHECKS_REBALANCE_PERIOD": "2s",
        "DD_CLUSTER_CHECKS_REBALANCE_MIN_PERCENTAGE_IMPROVEMENT": "2",
        "CLUSTERAGENT_REBALANCE_COOLDOWN": "2s",
        "CLUSTERAGENT_REBALANCE_SETTLING": "2s",
        # Execution times differ by a factor of ten and more: of 30 checks a node the factor of four is found as 3 to 5.
        "CLUSTERAGENT_SLOW_NOTICE": "1.8",
        "CLUSTERAGENT_SLOW_RELIEF": "2.4",
        # All report before checks are placed, so that each gets some.
        "DD_CLUSTER_CHECKS_WARMUP_DURATION": "6s",
    }
    cluster = make_cluster(**options)
    for number in range(KINDS * EACH):
        cluster.write_check(f"more-{number:03}", check=f"check_{number % KINDS}")
    cluster.start_servers()
    cluster.nodes = cluster.make_group(stats_port=port)
    cluster.nodes.join(*NODES)
    cluster.wait_until_whole(PATIENCE)
    return cluster


def part(cluster: Cluster) -> float:
    """The slow node's part of all work, by what its checks would take elsewhere."""
    done = {
        name: sum(one.workers for running in node.running.values() for one in works(running.config, 0))
        for name, node in cluster.nodes.simulation.nodes.items()
    }
    return done[SLOW] / sum(done.values())


def wait_for_share(cluster: Cluster, wanted: float) -> list[float]:
    """Wait until the slow node is given this share; return all shares on the way."""
    shares: list[float] = cluster.server.ask(SHARE, [SLOW])

    def look() -> bool:
        [share] = cluster.server.ask(SHARE, [SLOW])
        if share != shares[-1]:
            shares.append(share)
        return bool(share == wanted)

    wait_for(f"it is given {wanted} of its share", look, PATIENCE)
    return shares


def test_a_slow_runner_gets_less_in_steps_and_all_of_it_back_when_it_is_quick(runners: Cluster) -> None:
    cluster, checks = runners, KINDS * EACH + CHECKS
    known = "SELECT count(*) FROM checks_cost"
    wait_for("all costs are known", lambda: cluster.server.ask(known) == [checks], PATIENCE)
    usual = part(cluster)
    with cluster.record() as record:
        cluster.nodes.simulation.nodes[SLOW].slowdown = 4
        wait_for("a notice", lambda: cluster.server.ask(EVENTS, [SLOW]), PATIENCE)
        shares = wait_for_share(cluster, LEAST)
        assert shares == sorted(shares, reverse=True)
        # No step is longer than a fifth.
        assert len(shares) > 5
        wait_for("it does clearly less", lambda: part(cluster) < usual * 0.6, PATIENCE)
        assert cluster.server.ask(SHARE, [SLOW]) == [LEAST]

        cluster.nodes.simulation.nodes[SLOW].slowdown = 1
        shares = wait_for_share(cluster, 1)
        assert shares == sorted(shares)
        assert len(shares) > 5
        wait_for("it does as much again", lambda: part(cluster) > usual * 0.7, PATIENCE)
        wait_for("it is not slow", lambda: cluster.server.ask(LEVEL, [SLOW]) == [0])
        cluster.wait_until_whole()
    assert record.gap == 0
    assert {move.reason for move in record.moves()} == {"rebalanced"}
    assert not any(cluster.server.ask(LEVEL, [name])[0] for name in NODES)
    assert cluster.server.ask(EVENTS, [SLOW]) == ["slow", "no longer slow"]
