"""Planned moves keep their promise, whatever happens to leaders and nodes meanwhile."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.faults.cluster import MARGIN, NODES, Cluster
from tests.faults.record import Record
from tests.replicas import MANAGE, wait_for

pytestmark = pytest.mark.processes


@pytest.fixture(params=["overlap", "strict"])
def promise(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """What moves promise: by a rule about all checks."""
    rule = "INSERT INTO checks_rule (name, check_pattern, source_pattern, required, forbidden, author, note, handover)"
    cluster.server.ask(f"{rule} VALUES ('all', '*', '*', '{{}}', '{{}}', '', '', %s) RETURNING id", [request.param])
    yield request.param
    cluster.server.ask("DELETE FROM checks_rule RETURNING id")


def call(cluster: Cluster, *words: str, patience: float = 60) -> None:
    subprocess.run(
        [sys.executable, MANAGE, *words], env=cluster.environment(), check=True, capture_output=True, timeout=patience
    )


def held(cluster: Cluster, node: str) -> int:
    return int(
        cluster.server.ask(
            "SELECT count(*) FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id WHERE n.name = %s",
            [node],
        )[0]
    )


def under_way(cluster: Cluster) -> int:
    return int(cluster.server.ask("SELECT count(*) FROM checks_handover")[0])


@pytest.fixture
def drained(cluster: Cluster, promise: str) -> Iterator[str]:
    """A node that is drained by the test, and gets work again after it."""
    victim = cluster.busiest()
    yield victim
    call(cluster, "drain", victim, "--undo")


def drain(cluster: Cluster, victim: str, record: Record) -> None:
    """Begin to drain the node, and return when moves are under way."""
    call(cluster, "drain", victim)
    # The drains of earlier tests may have used up the pace of this minute.
    wait_for("it is drained", lambda: record.moves("drained") and under_way(cluster), 60 + 2 * MARGIN)


def test_a_drain_keeps_its_promise(cluster: Cluster, promise: str, drained: str) -> None:
    with cluster.record() as record:
        drain(cluster, drained, record)
        wait_for("nothing is left", lambda: not held(cluster, drained), 60 + 2 * MARGIN)
        wait_for("all is handed over", lambda: not under_way(cluster), 3 * cluster.poll + MARGIN)
        cluster.wait_until_whole()
        assert not cluster.account.loads()[drained]
    if promise == "overlap":
        assert record.gap == 0
        assert record.double < 2 * cluster.poll + 2 + MARGIN
    else:
        assert record.double == 0
        assert record.gap < 2 * cluster.poll + 2 + MARGIN


@pytest.mark.long
def test_nodes_are_empty_by_their_deadline_and_say_so(cluster: Cluster, promise: str) -> None:
    """Half of all checks, twice as many as the pace of a minute."""
    names = sorted(NODES, key=lambda name: cluster.account.loads()[name])[-len(NODES) // 2 :]
    try:
        with cluster.record() as record:
            # It ends with an error if they are not empty by then.
            call(cluster, "drain", *names, "--by", "1m", "--wait", patience=60 + MARGIN)
            assert not under_way(cluster)
            # What they really run: the command says that they may be stopped.
            assert not any(cluster.account.loads()[name] for name in names)
            assert len(record.moves("drained")) > 5
            cluster.wait_until_whole()
    finally:
        call(cluster, "drain", *names, "--undo")
    assert (record.gap if promise == "overlap" else record.double) == 0


@pytest.mark.long
def test_a_leader_that_dies_meanwhile_changes_no_promise(cluster: Cluster, promise: str, drained: str) -> None:
    with cluster.record() as record:
        leader = cluster.leader()
        drain(cluster, drained, record)
        leader.signal(signal.SIGKILL)
        cluster.wait_until_whole()
        cluster.start_agent()
        wait_for("all is handed over", lambda: not under_way(cluster), 3 * cluster.poll + MARGIN)
    assert (record.gap if promise == "overlap" else record.double) == 0


@pytest.mark.long
@pytest.mark.parametrize("promise", ["overlap"], indirect=True)
def test_a_new_node_that_dies_meanwhile_leaves_the_check_where_it_runs(
    cluster: Cluster, promise: str, drained: str
) -> None:
    with cluster.record() as record:
        drain(cluster, drained, record)
        move = record.moves("drained")[0]
        cluster.nodes.cut(move.to)
        wait_for("it expires", lambda: record.moves("expired"), cluster.timeout + 1 + MARGIN)
        back = [one for one in record.moves("expired") if one.config_id == move.config_id]
        if back:
            # The node had not acknowledged it when it was cut off.
            assert (back[0].source, back[0].to) == (move.to, drained)
        cluster.nodes.mend(move.to)
        cluster.wait_until_heard()
        cluster.wait_until_whole()
    assert record.gap == 0


@pytest.mark.long
def test_web_servers_that_are_away_for_longer_than_the_deadline_change_no_promise(
    cluster: Cluster, promise: str, drained: str
) -> None:
    with cluster.record() as record:
        drain(cluster, drained, record)
        cluster.nodes.way.cut()
        time.sleep(1.5 * cluster.timeout)
        cluster.nodes.way.heal()
        cluster.wait_until_heard()
        wait_for("all is handed over", lambda: not under_way(cluster), 4 * cluster.poll + MARGIN)
        cluster.wait_until_whole()
    assert (record.gap if promise == "overlap" else record.double) == 0
