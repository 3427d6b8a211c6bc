"""Wrong clocks: only the database's clock counts, and even that may be set back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.cluster import MARGIN, Cluster
from tests.faults.database import Server
from tests.faults.record import sources
from tests.replicas import wait_for

pytestmark = [pytest.mark.processes, pytest.mark.long]

HOUR = 3600


def faked(**more: str) -> dict[str, str]:
    """The environment of a process with a wrong clock."""
    [library] = list(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")) or [None]
    assert library, "libfaketime is missing: apt-get install faketime"
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"} | more


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_a_database_whose_clock_was_set_moves_nothing(make_cluster: Callable[..., Cluster], seconds: int) -> None:
    cluster = make_cluster()
    clock = cluster.folder / "clock"
    clock.write_text("+0")
    environment = faked(FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1")
    cluster.server = Server(cluster.server.pgdata, environment=environment)
    cluster.start()
    with cluster.record() as record:
        before = cluster.now()
        clock.write_text(f"{seconds:+}")
        assert abs(cluster.now() - before - seconds) < 60
        cluster.wait_for_pass(2)
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0
    _one_dies(cluster)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_replicas_whose_clocks_are_an_hour_off_do_as_others(make_cluster: Callable[..., Cluster], seconds: int) -> None:
    cluster = make_cluster()
    cluster.start()
    wrong = faked(FAKETIME=f"{seconds:+}", PYTHONPATH=str(Path(__file__).parent / "faked"))
    with cluster.record() as record:
        for agent in [agent for agent in cluster.agents if agent.process.poll() is None]:
            agent.end()
            cluster.start_agent(**wrong)
        for port in cluster.ports:
            cluster.stop_web(port)
            cluster.start_web(port, **wrong)
        cluster.wait_until_heard()
        assert cluster.is_whole()
        cluster.wait_for_scan()
        assert not record.moves()
    assert record.gap == record.double == 0
    _one_dies(cluster)


def _one_dies(cluster: Cluster) -> None:
    """Let a node die; its checks go to other nodes within the usual time."""
    with cluster.record() as record:
        victim = cluster.busiest()
        cluster.nodes.vanish(victim)
        wait_for("it expires", lambda: record.moves("expired"), cluster.timeout + 1 + MARGIN)
        cluster.wait_until_whole()
        assert sources(record.moves()) == {victim}
    assert record.gap < cluster.timeout + 1 + cluster.poll + MARGIN
