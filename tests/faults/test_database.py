"""PostgreSQL stopped, crashed, full, without a free connection, or failed over: everything continues when it answers again."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.faults.cluster import MARGIN, Cluster
from tests.faults.database import SmallDisk
from tests.faults.load import Load
from tests.replicas import wait_for

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("cluster", "mode", "seconds"),
    [
        (3, "immediate", 3),
        pytest.param(3, "fast", 3, marks=pytest.mark.long),
        pytest.param(3, "fast", 90, marks=pytest.mark.long),
        pytest.param(1, "immediate", 90, marks=pytest.mark.long),
    ],
    indirect=["cluster"],
)
def test_a_database_that_was_down_moves_nothing_however_long(cluster: Cluster, mode: str, seconds: int) -> None:
    with cluster.record() as record, Load(cluster) as load:
        cluster.server.stop(mode)
        time.sleep(seconds / cluster.scale)
        wait_for("node agents are told", lambda: 503 in load.statuses)
        cluster.server.start()
        began = time.monotonic()
        cluster.leader()
        cluster.wait_for_pass(2)
        assert time.monotonic() - began < 10 + MARGIN
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses == {200, 503}
    assert load.slowest < 2 + MARGIN
    assert record.gap == record.double == 0


@pytest.mark.long
def test_a_database_without_a_free_connection_moves_nothing(cluster: Cluster) -> None:
    with cluster.record() as record, Load(cluster) as load, contextlib.ExitStack() as hogs:
        wait_for("no session of ours is left", lambda: _took_all(cluster, hogs))
        wait_for("node agents are told", lambda: 503 in load.statuses)
        time.sleep(20 / cluster.scale)
        hogs.close()
        cluster.leader()
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses == {200, 503}
    assert record.gap == record.double == 0


def _took_all(cluster: Cluster, hogs: contextlib.ExitStack) -> bool:
    """Take every free connection, and end those of the processes; return whether they have none left."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            hogs.enter_context(contextlib.closing(psycopg.connect(cluster.server.url)))
    ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(application_name, 'clusteragent')"
    return not cluster.server.ask(ours)


@pytest.mark.long
def test_a_full_disk_moves_nothing(make_cluster: Callable[..., Cluster], template: Path) -> None:
    """PostgreSQL stops when it can't write its log; the test frees the disk and starts it again."""
    cluster = make_cluster()
    disk = SmallDisk(template, cluster.folder)
    cluster.at_end.callback(disk.unmount)
    cluster.server = disk
    cluster.start()
    with cluster.record() as record, Load(cluster) as load:
        wait_for("calls", lambda: len(load.calls) >= 50)
        disk.fill()
        with contextlib.suppress(psycopg.Error):
            for _ in range(10):
                disk.ask("SELECT pg_switch_wal() FROM (SELECT pg_logical_emit_message(true, '', 'x')) AS x")
        wait_for("node agents are told", lambda: 503 in load.statuses)
        disk.free()
        # It has ended, goes on, or recovers for as long as it likes: whoever frees the disk starts it again.
        disk.stop("immediate")
        disk.start()
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses == {200, 503}
    assert record.gap == record.double == 0


@pytest.mark.long
def test_a_standby_that_is_promoted_goes_on_where_the_dead_server_was(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    first = cluster.server
    first.start()
    standby = first.standby(cluster.folder / "standby")
    cluster.at_end.callback(standby.stop, "immediate")
    standby.start()
    hosts = f"{first.socket.parent},{standby.socket.parent}"
    first.url = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=read-write"
    cluster.has_cables = False
    cluster.start()
    with cluster.record() as record, Load(cluster) as load:
        term = cluster.term()
        first.stop("immediate")
        wait_for("node agents are told", lambda: 503 in load.statuses)
        standby.promote()
        cluster.leader()
        assert cluster.term() > term
        cluster.wait_until_heard()
        cluster.wait_until_whole()
        assert not record.moves()
        cluster.write_check("added-later")
        wait_for("it is dispatched", lambda: cluster.account.running().get("http_check:added-later"))
        cluster.wait_until_whole()
    assert load.statuses == {200, 503}
    assert record.gap == record.double == 0
