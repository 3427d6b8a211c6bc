"""Web servers that die, one or all: node agents keep their checks, and none expires because it could not report."""

import os
import signal
import time

import pytest

from tests.faults.cluster import Cluster
from tests.faults.load import Load
from tests.replicas import descendants, wait_for

pytestmark = pytest.mark.processes


@pytest.mark.long
def test_a_web_worker_killed_under_load_is_replaced(cluster: Cluster) -> None:
    port = cluster.ports[0]
    server = cluster.webs[port]
    with cluster.record() as record, Load(cluster) as load:
        [worker] = descendants(server.pid)
        wait_for("calls", lambda: len(load.calls) >= 50)
        os.kill(worker, signal.SIGKILL)
        wait_for("another worker", lambda: descendants(server.pid) not in ([], [worker]))
        wait_for("it answers", lambda: cluster.answers(port))
        done = len(load.calls)
        wait_for("more calls", lambda: len(load.calls) >= done + 50)
        assert not record.moves()
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"
    assert load.broken <= load.CONNECTIONS, "a connection broke more than once"
    assert record.gap == record.double == 0


@pytest.mark.parametrize(
    ("cluster", "seconds"),
    [
        (3, 20),
        pytest.param(3, 40, marks=pytest.mark.long),
        pytest.param(3, 90, marks=pytest.mark.long),
        pytest.param(1, 90, marks=pytest.mark.long),
    ],
    indirect=["cluster"],
)
def test_all_web_servers_down_moves_nothing_however_long(cluster: Cluster, seconds: int) -> None:
    with cluster.record() as record:
        for port in cluster.ports:
            cluster.stop_web(port)
        time.sleep(seconds / cluster.scale)
        for port in cluster.ports:
            cluster.start_web(port)
        cluster.wait_until_heard()
        cluster.wait_for_pass(2)
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0
