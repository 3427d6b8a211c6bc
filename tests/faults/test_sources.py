"""A conf.d that disappears, is emptied, or differs between replicas: what may be an accident stops no check."""

import shutil
from collections.abc import Callable

import pytest

from tests.faults.cluster import Cluster
from tests.replicas import wait_for

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("how", ["is emptied", pytest.param("vanishes", marks=pytest.mark.long)])
def test_a_folder_of_configs_that_is_gone_stops_no_check(cluster: Cluster, how: str) -> None:
    aside = cluster.folder / "aside"
    with cluster.record() as record:
        cluster.confd.rename(aside)
        if how == "is emptied":
            cluster.confd.mkdir()
        wait_for("operators are told", lambda: _findings(cluster)[how == "is emptied"])
        cluster.wait_for_scan()
        if how == "is emptied":
            cluster.confd.rmdir()
        aside.rename(cluster.confd)
        wait_for("it is over", lambda: not any(_findings(cluster)))
        assert cluster.is_whole()
        assert not record.moves()
    assert record.gap == record.double == 0


@pytest.mark.long
def test_folders_that_differ_between_replicas_add_up(make_cluster: Callable[..., Cluster]) -> None:
    """The next leader lacks one file and has another one: what only the former leader had is kept for ten minutes."""
    cluster = make_cluster()
    cluster.start()
    other = cluster.folder / "other"
    shutil.copytree(cluster.confd, other)
    (other / "http_check.d" / "check-00.yaml").unlink()
    cluster.write_check("extra", other)
    with cluster.record() as record:
        for agent in list(cluster.agents):
            agent.end()
        cluster.start_agent(CLUSTERAGENT_CONFD=str(other))
        wait_for("the other's file is dispatched", lambda: cluster.account.running().get("http_check:extra"))
        cluster.wait_for_scan()
        cluster.wait_for_scan()
        # The folder's path is in the bytes, so they changed; a check's instances did not, and it goes on where it was.
        assert [move.reason for move in record.moves() if move.source != move.to] == ["scheduled"]
        cluster.wait_until_whole()
    assert record.gap == record.double == 0


def _findings(cluster: Cluster) -> tuple[bool, bool]:
    """Whether the source shows errors, and whether it holds removals."""
    [row] = cluster.server.ask("SELECT errors <> '[]', held_removals <> '[]' FROM checks_source WHERE name = 'file'")
    return bool(row[0]), bool(row[1])
