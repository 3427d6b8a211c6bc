"""Leaders that die, hang or are cut off, and their workers: nothing moves, and no check stops."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from clusteragent.worker import GIVEN_UP
from tests.faults.cluster import MARGIN, Cluster
from tests.replicas import Replica, descendants, wait_for

pytestmark = pytest.mark.processes


@contextmanager
def nothing_moves(cluster: Cluster) -> Iterator[Replica]:
    """A block in which something happens to the leader; at its end nothing may have moved."""
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
    """The worker is alive, but does nothing."""
    term = cluster.term()
    with nothing_moves(cluster) as leader:
        restarts = leader.logged("worker_restarted")
        for pid in cluster.worker_of(leader):
            os.kill(pid, signal.SIGSTOP)
        wait_for("a new worker", lambda: leader.logged("worker_restarted") > restarts)
        cluster.wait_for_pass()
        assert cluster.term() == term


@pytest.mark.long
def test_a_leader_whose_worker_never_starts_gives_up_and_another_leads(cluster: Cluster) -> None:
    """As on a machine that has no processor time, or no memory for a process more."""
    term = cluster.term()
    with nothing_moves(cluster) as leader, suspending_all_below(leader):
        wait_for("it gave up", lambda: leader.logged("leadership_given_up"), GIVEN_UP * 2)
        assert cluster.succession(term) < 10 + MARGIN
        assert cluster.leader().pid != leader.pid


@contextmanager
def suspending_all_below(leader: Replica) -> Iterator[None]:
    """A block in which each process that a leader starts is suspended at once."""
    over = threading.Event()

    def suspend() -> None:
        while not over.wait(0.02):
            for pid in descendants(leader.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)

    thread = threading.Thread(target=suspend)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
