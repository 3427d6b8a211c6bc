"""Proof of death among real processes: a dead runner's checks go elsewhere soon, and no node that lives is taken for dead."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from clusteragent.lib import conf
from simulation.runners import named_address
from tests.faults.cluster import MARGIN, Cluster
from tests.faults.record import Record, sources
from tests.replicas import MANAGE, measured, wait_for, wait_or_kill

pytestmark = pytest.mark.processes

STEADY = [f"steady-{number:02}" for number in range(40)]
# How long each of them is silent, in seconds.
RESTARTED = {f"restarted-{seconds:02}": float(seconds) for seconds in range(1, 31)}
CHECKS = 150
# A report is overdue after a poll and LATE; the port is asked twice, two seconds apart, by the pass of each second.
OVERDUE, PROVEN = 12.0, 12.0 + 2 + 3
# For so long after a report nodes that live say nothing: longer than a proof takes, and less than two polls, so that the next one
# comes before the timeout.
MUTE = 19.0
REFUSES = "SELECT node_name FROM nodes_nodeevent WHERE kind = 'expired' AND cause = 'its port refuses connections'"
OWNERS = """
    SELECT o.key, n.name FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id
    JOIN checks_origin AS o ON o.config_id = a.config_id
"""


@pytest.fixture(scope="module")
def runners(shared: list[Cluster], template: Path) -> Iterator[tuple[Cluster, int]]:
    """A cluster of runners with production's times, and the port of their stats."""
    while shared:
        shared.pop().end()
    # An address of no node, so that no other process takes the number.
    with socket.create_server(("127.2.0.254", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT": str(port), "CLUSTERAGENT_RUNNER_NETWORKS": "127.0.0.0/8"}
        # All report before checks are placed, so that each gets some.
        options["DD_CLUSTER_CHECKS_WARMUP_DURATION"] = "12s"
        cluster = Cluster(template, scale=1, **options)
        try:
            for number in range(CHECKS):
                cluster.write_check(f"check-{number:03}")
            cluster.start_servers()
            cluster.nodes = cluster.make_group(stats_port=port)
            cluster.nodes.join(*STEADY, *RESTARTED)
            cluster.wait_until_whole()
            yield cluster, port
        finally:
            cluster.end()


@pytest.fixture
def cluster(runners: tuple[Cluster, int]) -> Cluster:
    """The cluster of runners, in which each has told its stats and silence counts."""
    cluster, _ = runners
    cluster.wait_until_heard()
    cluster.wait_until_whole()
    return cluster


def collect_stats(cluster: Cluster) -> None:
    """Ask all runners for their stats, as the leader does each minute."""
    code = "import django; django.setup(); from checks.dispatcher import costs; costs.measure()"
    environment = cluster.environment() | {"DJANGO_SETTINGS_MODULE": "clusteragent.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=MANAGE.parent, env=environment, check=True, timeout=60)
    silent = (
        "SELECT node_id FROM nodes_heartbeat WHERE node_id NOT IN (SELECT node_id FROM nodes_runner WHERE failures = 0)"
    )
    assert not cluster.server.ask(silent)


def owners(cluster: Cluster) -> dict[str, str]:
    """Who has which check, by the label that simulated nodes give it."""
    return {f"http_check:{Path(key).stem}": name for key, name in cluster.server.ask(OWNERS)}


def labels(cluster: Cluster) -> dict[int, str]:
    """The labels of checks by the ids of their configs."""
    rows = cluster.server.ask("SELECT config_id, key FROM checks_origin")
    return {config: f"http_check:{Path(key).stem}" for config, key in rows}


def returns(cluster: Cluster, record: Record) -> dict[str, float]:
    """When checks first went back to each node that was lost, by `time.monotonic()`."""
    statement = """
        SELECT to_node, extract(epoch FROM clock_timestamp() - min(time))::float FROM checks_move
        WHERE id = ANY(%s) GROUP BY to_node
    """
    rows = cluster.server.ask(statement, [[move.id for move in record.moves("returned")]])
    return {name: time.monotonic() - age for name, age in rows}


def refused(cluster: Cluster) -> set[str]:
    return set(cluster.server.ask(REFUSES))


@pytest.mark.long
def test_agents_that_are_back_before_their_checks_were_fetched_elsewhere_have_the_same_checks(cluster: Cluster) -> None:
    """Thirty agents restart without a word, each for another length of time."""
    collect_stats(cluster)
    before = owners(cluster)
    assert set(before.values()) == {*STEADY, *RESTARTED}
    with cluster.record() as record:
        spans = cluster.nodes.bounce(RESTARTED)
        cluster.wait_until_heard()
        cluster.wait_until_whole(cluster.timeout + 2 * cluster.poll + 6 * MARGIN)
        after = owners(cluster)
    moved = sources(record.moves())
    assert moved <= RESTARTED.keys()
    assert not moved & {name for name, silence in RESTARTED.items() if silence <= OVERDUE + 1}
    assert refused(cluster) & RESTARTED.keys() >= {name for name, silence in RESTARTED.items() if silence > PROVEN + 3}
    returned_at = returns(cluster, record)
    fetched = {
        (change.check, died)
        for died, (since, until) in spans.items()
        for change in cluster.account.changes
        # Fetched before the node's checks went back; a busy machine's pass that finds nothing to give back may be late.
        if change.step > 0 and change.node != died and since < change.moment < returned_at.get(died, until + 5)
    }
    # Of two nodes that were lost one after the other, the second one gets the check back.
    given = Counter(move.config_id for move in record.moves("redispatched"))
    twice = {label for config, label in labels(cluster).items() if given[config] > 1}
    lost = {check for check, owner in before.items() if owner in RESTARTED and (check, owner) not in fetched} - twice
    assert lost
    assert {check: after[check] for check in lost} == {check: before[check] for check in lost}
    assert {check: after[check] for check, owner in before.items() if owner in STEADY} == {
        check: owner for check, owner in before.items() if owner in STEADY
    }
    returned = record.moves("returned")
    assert returned
    measured(f"{len(moved)} of {len(RESTARTED)} lost checks, {len(returned)} of which went back")


@contextlib.contextmanager
def agent(cluster: Cluster, name: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A node agent that is a process of its own."""
    token = cluster.folder / "token"
    token.write_text(conf.AUTH_TOKEN)
    words = (f"--url=https://127.0.0.1:{cluster.nodes.way.port}", f"--name={name}", f"--stats-port={port}")
    command = [sys.executable, "-m", "simulation", *words, f"--token-file={token}"]
    process = subprocess.Popen(command, cwd=MANAGE.parent, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        wait_or_kill(process, 20)


@contextlib.contextmanager
def full(address: str, port: int) -> Iterator[None]:
    """A port whose backlog is full and from which nobody takes: what a firewall that drops looks like from outside."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            caller = held.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((address, port))
        yield


def silence(cluster: Cluster, name: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
    """Let a node that lives be silent for MUTE after its next report."""
    heard = "SELECT h.seen_at FROM nodes_heartbeat AS h JOIN nodes_node AS n ON n.id = h.node_id WHERE n.name = %s"
    before = cluster.server.ask(heard, [name])
    wait_for(f"{name} reports", lambda: cluster.server.ask(heard, [name]) != before)
    begin()
    try:
        time.sleep(MUTE)
    finally:
        end()


@pytest.mark.long
def test_a_killed_agent_is_dead_soon_and_none_that_lives_is(runners: tuple[Cluster, int], cluster: Cluster) -> None:
    """One is killed. The others live, report nothing for longer than a proof takes, and their ports are odd."""
    _, port = runners
    nodes, shared = cluster.nodes, named_address("shared")
    # Other tests lose theirs.
    before = refused(cluster) | lost(cluster)
    with contextlib.ExitStack() as stack:
        killed, stopped = (stack.enter_context(agent(cluster, name, port)) for name in ("killed", "stopped"))
        nodes.join("dropped", "moved")
        nodes.join("left", "right", address=shared)
        wait_for("all are known", lambda: cluster.known_nodes() == len(STEADY) + len(RESTARTED) + 6)
        for number, name in enumerate(("killed", "moved")):
            give_work(cluster, name, number)
        # What the dead one leaves must go to those that fetch it.
        cordon(cluster, "stopped", "dropped", "moved", "left", "right")
        cluster.wait_until_heard()
        collect_stats(cluster)
        # Another start of the agent, which has its port elsewhere now.
        nodes.vanish("moved")
        nodes.join("moved")
        wait_for("it started anew", lambda: has_restarted(cluster, "moved"))
        nodes.vanish("right")
        for name in ("dropped", "moved"):
            nodes.close_port(name)
        stack.enter_context(full(named_address("dropped"), port))
        mute = ("dropped", "moved", "left")
        ways = {name: (partial(nodes.cut, name), partial(nodes.mend, name)) for name in mute}
        ways["stopped"] = (partial(stopped.send_signal, signal.SIGSTOP), partial(stopped.send_signal, signal.SIGCONT))
        pool = stack.enter_context(ThreadPoolExecutor(len(ways)))
        silences = [pool.submit(silence, cluster, name, *way) for name, way in ways.items()]
        checks = {check for check, owner in owners(cluster).items() if owner == "killed"}
        killed.send_signal(signal.SIGKILL)
        died = time.monotonic()
        wait_for("it is known to be dead", lambda: "killed" in refused(cluster), PROVEN + cluster.poll + MARGIN)
        measured(f"killed to lost: {time.monotonic() - died:.1f} s")
        wait_for("others run its checks", lambda: fetched_since(cluster, died) >= checks, cluster.poll + MARGIN)
        measured(f"killed to its checks elsewhere: {time.monotonic() - died:.1f} s")
        assert time.monotonic() - died < cluster.timeout
        for one in silences:
            one.result()
        wait_for("all are heard again", lambda: not set(cluster.silent()) - {"right"})
        assert refused(cluster) - before - RESTARTED.keys() == {"killed"}
        assert lost(cluster) - before - RESTARTED.keys() <= {"killed", "right"}
        for name in mute:
            nodes.vanish(name)
    wait_for("they are lost", lambda: cluster.known_nodes() == len(STEADY) + len(RESTARTED), 2 * cluster.timeout)


@contextlib.contextmanager
def barred(cluster: Cluster) -> Iterator[str]:
    """A node with checks that lives, and whose port begins to refuse."""
    name, known = "barred", cluster.known_nodes()
    cluster.nodes.join(name)
    wait_for("it is known", lambda: cluster.known_nodes() == known + 1)
    give_work(cluster, name, 2)
    cluster.wait_until_heard()
    collect_stats(cluster)
    cluster.nodes.close_port(name)
    yield name
    cluster.nodes.vanish(name)
    wait_for("it is lost", lambda: cluster.known_nodes() == known, 2 * cluster.timeout)


@pytest.mark.long
def test_a_firewall_that_rejects_both_ways_looks_like_a_death(cluster: Cluster) -> None:
    """The limit of the proof: a node that lives is lost early. When the way is open again, it takes part again."""
    with barred(cluster) as name:
        before = refused(cluster)
        checks = {check for check, owner in owners(cluster).items() if owner == name}
        cluster.nodes.cut(name)
        wait_for("it is taken for dead", lambda: refused(cluster) - before == {name}, PROVEN + cluster.poll + MARGIN)
        assert checks
        assert name not in owners(cluster).values()
        cluster.nodes.mend(name)
        wait_for("it reports again", lambda: name not in lost_now(cluster))
        cluster.wait_until_whole()


@pytest.mark.long
@pytest.mark.parametrize("fault", ["answers nobody", "is away"])
def test_while_the_database_fails_for_longer_than_the_timeout_nobody_is_lost(cluster: Cluster, fault: str) -> None:
    """Our own web servers answer 503 to all, the nodes' ports answer, and one of them refuses."""
    with barred(cluster):
        before = lost(cluster)
        with cluster.record() as record:
            failing = cluster.nodes.simulation.nodes[STEADY[0]]
            began = time.monotonic()
            with cluster.server.paused() if fault == "answers nobody" else away(cluster):
                wait_for("reports fail", lambda: failing.failure)
                assert "503" in failing.failure
                time.sleep(max(0.0, began + cluster.timeout + cluster.poll - time.monotonic()))
            cluster.wait_until_heard()
            cluster.wait_until_whole()
            assert not record.moves()
        assert lost(cluster) == before
        assert record.gap == record.double == 0


@contextlib.contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    cluster.server.stop("immediate")
    try:
        yield
    finally:
        cluster.server.start()


def give_work(cluster: Cluster, name: str, number: int) -> None:
    """Give the node two checks of a steady node, and wait until it has taken them over."""
    statement = """
        SELECT c.short_id FROM checks_config AS c JOIN checks_assignment AS a ON a.config_id = c.id
        JOIN nodes_node AS n ON n.id = a.node_id WHERE n.name = %s
    """
    words = ("reassign", *cluster.server.ask(statement, [STEADY[number]])[:2], "--to", name)
    subprocess.run([sys.executable, MANAGE, *words], env=cluster.environment(), check=True, timeout=60)
    wait_for("it has taken them over", lambda: not cluster.server.ask("SELECT config_id FROM checks_handover"), 60)


def cordon(cluster: Cluster, *names: str) -> None:
    cluster.server.ask("UPDATE nodes_node SET schedulable = false WHERE name = ANY(%s) RETURNING id", [list(names)])


def has_restarted(cluster: Cluster, name: str) -> bool:
    return bool(
        cluster.server.ask("SELECT id FROM nodes_nodeevent WHERE node_name = %s AND kind = 'restarted'", [name])
    )


def lost(cluster: Cluster) -> set[str]:
    return set(cluster.server.ask("SELECT node_name FROM nodes_nodeevent WHERE kind = 'expired'"))


def lost_now(cluster: Cluster) -> set[str]:
    return set(cluster.server.ask("SELECT name FROM nodes_node WHERE lost_at IS NOT NULL"))


def fetched_since(cluster: Cluster, moment: float) -> set[str]:
    return {change.check for change in list(cluster.account.changes) if change.step > 0 and change.moment > moment}


@pytest.mark.long
def test_what_is_our_own_fault_proves_nobodys_death(cluster: Cluster) -> None:
    """No web server answers for longer than a proof takes; then the leader dies, and web servers are replaced."""
    collect_stats(cluster)
    before = refused(cluster)
    with cluster.record() as record:
        cluster.nodes.way.cut()
        time.sleep(20)
        cluster.nodes.way.heal()
        leader = cluster.leader()
        leader.signal(signal.SIGKILL)
        for port in cluster.ports:
            cluster.replace_web(port)
        cluster.start_agent()
        cluster.wait_until_heard()
        assert cluster.is_whole()
        assert not record.moves()
    assert refused(cluster) == before
    assert record.gap == record.double == 0
