"""Node agents that die, are cut off, flap, or share a name: only necessary moves happen, and the brake stops expiry of many."""

import random
import time

import pytest

from tests.faults.cluster import MARGIN, NODES, PATIENCE, PILE_UP, Cluster
from tests.faults.record import sources
from tests.replicas import wait_for

pytestmark = pytest.mark.processes

MAJORITY = NODES[1::2] + NODES[:1]


def test_a_node_that_dies_loses_its_checks_to_others_within_timeout_and_poll(cluster: Cluster) -> None:
    with cluster.record() as record:
        victim = cluster.busiest()
        cluster.nodes.vanish(victim)
        wait_for("it expires", lambda: record.moves("expired"), cluster.timeout + 1 + MARGIN)
        cluster.wait_until_whole()
        assert sources(record.moves()) == {victim}
        assert {move.reason for move in record.moves()} == {"expired", "redispatched"}
        cluster.wait_until_acknowledged()
        cluster.nodes.join(victim)
        cluster.wait_until_heard()
    assert record.gap < cluster.timeout + 1 + cluster.poll + MARGIN
    assert record.double == 0


@pytest.mark.long
@pytest.mark.parametrize("cluster", [3, 1], indirect=True)
def test_most_nodes_cut_off_for_less_than_the_brake_lose_nothing(cluster: Cluster) -> None:
    """Sixty percent of the nodes are cut off for longer than the timeout."""
    with cluster.record() as record:
        cluster.nodes.cut(*MAJORITY)
        wait_for("the brake", lambda: cluster.hearing()["braked"], cluster.timeout)
        time.sleep(40 / cluster.scale - cluster.timeout / 2)
        assert not record.moves()
        cluster.nodes.mend(*MAJORITY)
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0


@pytest.mark.long
def test_most_nodes_gone_for_good_lose_their_checks_to_the_others_in_the_end(cluster: Cluster) -> None:
    with cluster.record() as record:
        cluster.nodes.vanish(*MAJORITY)
        died = time.monotonic()
        wait_for("they expire", lambda: record.moves("expired"), 2 * cluster.timeout + 1 + MARGIN)
        assert time.monotonic() - died > 2 * cluster.timeout - cluster.poll
        cluster.wait_until_whole(PILE_UP + PATIENCE)
        assert sources(record.moves()) <= set(MAJORITY)
        cluster.nodes.join(*MAJORITY)
        cluster.wait_until_heard()
    assert record.gap < 2 * cluster.timeout + 1 + PILE_UP + cluster.poll + MARGIN
    assert record.double == 0


@pytest.mark.long
@pytest.mark.parametrize("seconds", [40, 120])
def test_all_nodes_cut_off_lose_nothing_however_long(cluster: Cluster, seconds: int) -> None:
    with cluster.record() as record:
        cluster.nodes.way.cut()
        time.sleep(seconds / cluster.scale)
        cluster.nodes.way.heal()
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0


@pytest.mark.long
def test_nodes_that_flap_lose_their_own_checks_alone_and_stop_what_others_run(cluster: Cluster) -> None:
    """Two of ten nodes are connected and cut off for 25 to 40 s in turn, six times; then, if none expired, until one does."""
    dice, flapping = random.Random(7), ("ash", "birch")  # one sequence, so that a failure can be had again
    with cluster.record() as record:
        for _ in range(6):
            for act in (cluster.nodes.cut, cluster.nodes.mend):
                act(*flapping)
                time.sleep(dice.uniform(25, 40) / cluster.scale)
        if not record.moves("expired"):
            cluster.nodes.cut(*flapping)
            wait_for("they expire", lambda: record.moves("expired"), 3 * cluster.timeout + MARGIN)
            cluster.nodes.mend(*flapping)
        cluster.wait_until_heard()
        cluster.wait_until_whole()
        assert sources(record.moves()) <= set(flapping)
    # A check may be given to a node that is cut off before it could fetch it: it waits for that node to expire then.
    assert record.gap < cluster.timeout + 1 + cluster.poll + MARGIN


@pytest.mark.long
def test_a_minority_cut_off_for_longer_than_the_timeout_is_taken_for_dead_and_both_run_its_checks(
    cluster: Cluster,
) -> None:
    with cluster.record() as record:
        victim = cluster.busiest()
        checks = cluster.account.loads()[victim]
        cluster.nodes.cut(victim)
        wait_for("others run its checks", lambda: cluster.account.doubled() == checks, PATIENCE)
        cluster.nodes.mend(victim)
        cluster.wait_until_whole()
        assert sources(record.moves()) == {victim}
    assert record.gap == 0
    assert record.double > 0


@pytest.mark.long
def test_two_nodes_of_one_name_are_one_node_that_runs_twice(cluster: Cluster) -> None:
    """Both get the same answers, and neither has to stop and start checks; the admin shows the conflict."""
    with cluster.record() as record:
        name = cluster.busiest()
        checks = cluster.account.loads()[name]
        twins = [cluster.make_group(), cluster.make_group()]
        for number, twin in enumerate(twins, 1):
            twin.join(name, address=f"10.0.0.{number}")
        wait_for("all run the same", lambda: cluster.account.loads()[name] == 3 * checks)
        changes = len(cluster.account.changes)
        wait_for("it is shown", lambda: _two_addresses(cluster, name) == ["10.0.0.1 and 10.0.0.2"])
        cluster.wait_until_heard()
        assert len(cluster.account.changes) == changes
        for twin in twins:
            twin.vanish(name)
        cluster.wait_until_whole()
        assert not record.moves()
    assert record.gap == 0


def _two_addresses(cluster: Cluster, name: str) -> list[str]:
    statement = "SELECT cause FROM nodes_nodeevent WHERE node_name = %s AND kind = 'two addresses'"
    return cluster.server.ask(statement, [name])
