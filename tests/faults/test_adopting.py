"""Coming over from another cluster agent, and back: the address that node agents call changes, and their checks run on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusteragent.lib import conf
from tests.faults.cluster import CHECKS, NODES, PATIENCE, Cluster
from tests.faults.group import Group
from tests.replicas import MANAGE, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.long]

_MAP = (
    "SELECT n.name || ' ' || c.digest FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id"
    " JOIN checks_config AS c ON c.id = a.config_id ORDER BY 1"
)


@pytest.fixture
def there(make_cluster: Callable[..., Cluster]) -> Cluster:
    """The cluster agent from which everything comes over. Every check runs."""
    there = make_cluster()
    there.start()
    there.wait_until_silence_counts()
    return there


@pytest.fixture
def here(make_cluster: Callable[..., Cluster]) -> Cluster:
    """A new one with the same configs, to which no node has reported."""
    here = make_cluster()
    here.start_servers(agents=1)
    are_read = "SELECT count(*) FROM checks_config"
    wait_for("the sources are read", lambda: here.server.ask(are_read)[0] == CHECKS, 2 * PATIENCE)
    wait_for("it answers", lambda: all(map(here.answers, here.ports)), PATIENCE)
    return here


def adopt(here: Cluster, there: Cluster, *more: str) -> str:
    """Let `here` adopt what runs at `there`, and return what the command says. It must end with status 0."""
    token = Path(here.folder / "their.token")
    token.write_text(conf.LOCAL_TOKEN)
    where = ["--from", f"https://127.0.0.1:{there.ports[0]}", "--token-file", str(token)]
    ended = subprocess.run(
        [sys.executable, str(MANAGE), "adopt", *where, *more],
        env=here.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def switch(nodes: Group, to: Cluster) -> None:
    """Let the address of the nodes lead to other servers."""
    nodes.way.backends[:] = to.ports
    nodes.way.cut()
    nodes.way.heal()


def test_all_come_over_and_go_back_and_no_check_stops(there: Cluster, here: Cluster) -> None:
    before = there.server.ask(_MAP)
    assert f"{CHECKS} configs run on without a restart" in adopt(here, there)
    assert here.server.ask("SELECT count(*) FROM nodes_node") == [0]
    adopt(here, there, "--apply")
    assert here.server.ask(_MAP) == before
    changes: list[Any] = list(there.account.changes)

    switch(there.nodes, here)
    here.wait_until_acknowledged()
    here.wait_until_silence_counts()
    here.wait_for_pass(2)
    assert here.server.ask(_MAP) == before
    assert there.account.changes == changes

    switch(there.nodes, there)
    there.wait_until_heard()
    assert there.server.ask(_MAP) == before
    assert there.account.changes == changes


def test_what_a_node_ran_that_never_comes_is_placed_elsewhere_and_nothing_else_moves(
    there: Cluster, here: Cluster
) -> None:
    lost = there.busiest()
    adopt(here, there, "--apply")
    meant = set(here.server.ask(_MAP))
    there.nodes.vanish(lost)
    changes = len(there.account.changes)

    switch(there.nodes, here)
    here.wait_until_acknowledged(but=1)
    assert set(here.server.ask(_MAP)) == meant
    wait_for("it is lost", lambda: here.known_nodes() == len(NODES) - 1, 2 * PATIENCE)
    here.account = there.account
    here.wait_until_whole()
    moved = {change.check for change in there.account.changes[changes:]}
    assert {change.step for change in there.account.changes[changes:]} == {1}
    assert len(moved) == len([one for one in meant if one.startswith(f"{lost} ")])
    assert {one for one in meant if not one.startswith(f"{lost} ")} <= set(here.server.ask(_MAP))
