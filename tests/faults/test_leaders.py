"""Leaders that die, hang or are cut off, and their workers: nothing moves, and no check stops."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.cluster import MARGIN, Cluster
from tests.replicas import Replica, wait_for

pytestmark = pytest.mark.processes


@contextmanager
def nothing_moves(cluster: Cluster) -> Iterator[Replica]:
    """Something happens to the leader, and once it is over everything is as it was."""
    with cluster.record() as record:
        yield cluster.leader()
        cluster.wait_for_pass(2)
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0


def test_a_killed_leader_is_followed_within_a_second(cluster: Cluster) -> None:
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        leader.signal(signal.SIGKILL)
        assert cluster.succession(term) < 1 + MARGIN
        cluster.start_agent()


@pytest.mark.long
def test_a_stopped_leader_is_followed_within_ten_seconds_and_returns_as_a_follower(cluster: Cluster) -> None:
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        leader.signal(signal.SIGSTOP)
        assert cluster.succession(term) < 10 + MARGIN
        later = cluster.term()
        leader.signal(signal.SIGCONT)
        wait_for("it noticed", lambda: leader.logged("leader_lost"))
        wait_for("it follows", lambda: leader.logged("following"))
        assert cluster.term() == later


@pytest.mark.long
@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_a_leader_that_loses_the_database_is_followed_within_ten_seconds(cluster: Cluster, how: str) -> None:
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        cable = cluster.cables[leader.pid]
        getattr(cable, how)()
        assert cluster.succession(term) < 10 + MARGIN
        wait_for("it noticed", lambda: leader.logged("session_lost"))
        cable.heal()
        wait_for("it follows", lambda: leader.logged("following"))


@pytest.mark.long
def test_a_killed_worker_is_replaced_within_the_term(cluster: Cluster) -> None:
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        os.kill(cluster.worker_of(leader)[0], signal.SIGKILL)
        wait_for("a new worker", lambda: leader.logged("worker_restarted"))
        cluster.wait_for_pass()
        assert cluster.term() == term


@pytest.mark.long
def test_a_wedged_worker_is_replaced_when_passes_stop(cluster: Cluster) -> None:
    """It lives, and does nothing any more."""
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        restarts = leader.logged("worker_restarted")
        for pid in cluster.worker_of(leader):
            os.kill(pid, signal.SIGSTOP)
        wait_for("a new worker", lambda: leader.logged("worker_restarted") > restarts)
        cluster.wait_for_pass()
        assert cluster.term() == term
