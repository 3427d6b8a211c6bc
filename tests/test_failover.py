"""Leaders that die, hang, are ended, or lose their database: nothing moves. With real processes and signals."""

import os
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django import DjangoDbBlocker

from checks import tasks
from checks.models import Assignment, ClusterStore, Config, Move
from checks.models.orders import Rule
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, NodeRule, Runner
from tests.databases import django_uses
from tests.faults.database import Server
from tests.replicas import Cluster, Store, descendants, measured, wait_for

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def shared(
    own_server: Server, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The cluster of these tests, on a server of its own: nobody else's transactions keep dead rows there."""
    with django_db_blocker.unblock(), django_uses(own_server.url):
        cluster = Cluster(own_server.url, tmp_path_factory.mktemp("cluster"))
        try:
            cluster.store.furnish()
            yield cluster
        finally:
            cluster.end()


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    """The cluster, with nodes that have just reported and get nothing back. Replicas of the test before may still run.

    No hand-over is left either: nobody acknowledges here, so its deadline would change a node's version within the next test.
    """
    shared.store.run("UPDATE nodes_heartbeat SET seen_at = clock_timestamp()")
    shared.store.run("UPDATE checks_config SET former_node_id = NULL")
    shared.store.run("DELETE FROM checks_handover")
    return shared


def test_a_killed_leader_is_followed_at_once_and_nothing_moves(cluster: Cluster) -> None:
    before = cluster.store.assignments()
    cluster.running(2)
    taken = []
    for _ in range(3):
        leader = cluster.led()
        below = descendants(leader.pid)
        term = cluster.store.term()
        leader.signal(signal.SIGKILL)
        taken.append(cluster.succession(term))
        leader.ended()
        wait_for("its worker ended with it", lambda gone=below: not set(gone) & set(cluster.marked()))
        cluster.start()
    measured(f"SIGKILL to next pass: median {statistics.median(taken):.3f} s, worst {max(taken):.3f} s")
    assert statistics.median(taken) < 2
    assert cluster.store.assignments() == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_leader_that_is_told_to_end_hands_over_first(cluster: Cluster, how: int) -> None:
    before = cluster.store.assignments()
    leader = cluster.running(2)
    term = cluster.store.term()
    leader.signal(how)
    told = time.monotonic()
    taken = cluster.succession(term)
    assert leader.ended() == 0
    assert time.monotonic() - told < 5
    assert leader.logged("leader_lost") == 1
    measured(f"signal {how} to next pass: {taken:.3f} s")
    assert taken < 2
    assert cluster.store.assignments() == before


def test_a_stopped_leader_loses_the_lock_and_comes_back_as_a_follower(cluster: Cluster) -> None:
    before = cluster.store.assignments()
    leader = cluster.running(2)
    old = cluster.store.term()
    leader.signal(signal.SIGSTOP)
    taken = cluster.succession(old)
    measured(f"SIGSTOP to next pass: {taken:.3f} s")
    assert taken < 12

    new = cluster.store.term()
    assert tasks.background_pass(old) == tasks.NOT_LEADER
    leader.signal(signal.SIGCONT)
    wait_for("it noticed", lambda: leader.logged("leader_lost"))
    wait_for("its worker is gone", lambda: not descendants(leader.pid))
    wait_for("it follows", lambda: leader.logged("following"))
    cluster.store.next_pass()
    assert (cluster.store.term(), cluster.store.holders()) == (new, 1)
    assert cluster.store.assignments() == before


def test_a_replica_that_stops_as_a_whole_keeps_no_lock(cluster: Cluster) -> None:
    """Every process of the leader is suspended, as on a machine that freezes: one of them may be within a transaction."""
    leader = cluster.running(2)
    old = cluster.store.term()
    stopped = [leader.pid, *descendants(leader.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert cluster.succession(old) < 15
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_a_rule_moves_what_it_forbids_at_once_however_rarely_the_leader_balances(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.clear()
    monkeypatch.setenv("DD_CLUSTER_CHECKS_REBALANCE_PERIOD", "10m")
    cluster.start()
    cluster.led()
    try:
        NodeRule.objects.create(pattern="birch", labels={"zone": "a"})
        Rule.objects.create(name="zone", required={"zone": "a"})
        saved = cluster.store.now()
        wait_for("birch has all", lambda: set(Assignment.objects.values_list("node__name", flat=True)) == {"birch"})
        taken = (Move.objects.latest("pk").time - saved).total_seconds()
        measured(f"rule saved to the last move: {taken:.3f} s")
        assert taken < 10
    finally:
        Rule.objects.all().delete()
        NodeRule.objects.all().delete()
        cluster.clear()


def test_a_port_that_refuses_ends_the_wait_for_a_silent_node(cluster: Cluster) -> None:
    """The leader's worker asks for the port, and finds that nobody listens there."""
    cluster.clear()
    ash = Heartbeat.objects.filter(node__name="ash")
    with socket.socket() as port:
        port.bind(("127.2.4.1", 0))
        address, number = port.getsockname()
        cluster.start(
            DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT=str(number), CLUSTERAGENT_RUNNER_NETWORKS="127.0.0.0/8",
            DD_CLUSTER_CHECKS_REBALANCE_PERIOD="10m",
        )  # fmt: skip
        try:
            cluster.led()
            Hearing.objects.update(hearing_since=None, braked_since=None, late_since=None)
            Heartbeat.objects.update(seen_at=Now())
            Runner.objects.update_or_create(
                node=Node.objects.get(name="ash"), defaults={"address": address, "failures": 0, "stats_at": Now()}
            )
            ash.update(client_ip=address, seen_at=Now() - timedelta(seconds=13))
            fell_due = time.monotonic()
            wait_for("ash is lost", lambda: not ash.exists(), 12)
            measured(f"overdue to lost: {time.monotonic() - fell_due:.1f} s")
            lost = NodeEvent.objects.get(node_name="ash", kind=NodeEvent.Kind.EXPIRED)
            assert lost.cause == NodeEvent.REFUSES
            wait_for("others have its checks", lambda: not Config.objects.dangling().exists())
        finally:
            cluster.clear()
            note_heartbeat("ash", last_change=-1)


def test_five_replicas_and_a_qcluster_by_hand_make_one_pass_a_second(cluster: Cluster) -> None:
    cluster.clear()
    cluster.start(5)
    cluster.start(command="qcluster")
    cluster.replicas, by_hand = cluster.replicas[:-1], cluster.replicas[-1]
    try:
        cluster.led()
        ended = [cluster.store.next_pass() for _ in range(5)]
        apart = (ended[-1] - ended[0]).total_seconds() / 4
        assert 0.8 < apart < 2
        assert cluster.store.holders() == 1
        assert [one.logged("leader_elected") for one in cluster.replicas].count(1) == 1
        assert cluster.store.one("SELECT count(*) FROM django_q_task") == 0
        assert cluster.store.one("SELECT count(*) FROM django_q_schedule") == 0
    finally:
        by_hand.end()


def test_a_killed_worker_is_replaced_within_the_term(cluster: Cluster) -> None:
    leader = cluster.running(2)
    term = cluster.store.term()
    below = descendants(leader.pid)
    os.kill(below[0], signal.SIGKILL)
    wait_for("a new worker", lambda: leader.logged("worker_restarted"))
    cluster.store.next_pass(after=cluster.store.now())
    assert not set(below) & set(cluster.marked())
    assert cluster.store.term() == term


def test_a_wedged_worker_is_replaced_when_passes_stop(cluster: Cluster) -> None:
    """qcluster replaces a process that died, but can't release the lock of its task queue that the process held."""
    leader = cluster.running(2)
    term = cluster.store.term()
    _, _sentinel, *workers = descendants(leader.pid)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    killed = cluster.store.now()
    wait_for("a new worker", lambda: leader.logged("worker_restarted"))
    cluster.store.next_pass(after=killed)
    assert cluster.store.term() == term


def test_a_call_makes_a_pass_at_once(cluster: Cluster) -> None:
    cluster.running(2)
    waited = []
    for _ in range(3):
        start = cluster.store.next_pass()
        ClusterStore.objects.wake()
        waited.append((cluster.store.next_pass(after=start) - start).total_seconds())
    measured(f"call to pass: median {statistics.median(waited):.3f} s")
    assert statistics.median(waited) < 0.8, "the next regular one comes after a second"


def test_a_saved_file_is_dispatched_within_seconds_in_a_folder_that_came_later(cluster: Cluster) -> None:
    """The periodic scan comes once a minute here, so what is dispatched sooner was noticed by the watch."""
    cluster.running(2)
    taken = []
    for name in ("first", "second"):
        file = cluster.confd / "http_check.d" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"cluster_check: true\ninit_config:\ninstances:\n  - name: {name}\n    url: http://{name}\n")
        saved = time.monotonic()
        wait_for(
            "it is dispatched", Config.objects.filter(origins__key__contains=name, assignment__isnull=False).exists
        )
        taken.append(time.monotonic() - saved)
    measured(f"saved to dispatched: {', '.join(f'{seconds:.3f} s' for seconds in taken)}")
    assert max(taken) < 8


def test_heartbeats_stay_hot_while_a_second_replica_waits_for_the_lock(cluster: Cluster) -> None:
    """A wait without a time limit would keep a snapshot open: no dead row could be removed, and the table would grow."""
    cluster.running(2)
    names = [f"node-{number}" for number in range(50)]
    for name in names:
        note_heartbeat(name, last_change=-1)
    cluster.store.run("SELECT pg_stat_reset_single_table_counters('nodes_heartbeat'::regclass)")
    size = cluster.store.one("SELECT pg_relation_size('nodes_heartbeat')")

    def attempt() -> object:
        return cluster.store.one(
            "SELECT max(query_start) FROM pg_stat_activity WHERE wait_event = 'advisory'"
            " AND datname = current_database() AND application_name = 'clusteragent leader'"
        )

    for _ in range(4):
        for name in names:
            note_heartbeat(name, last_change=-1)
        this = wait_for("a candidate waits", attempt)
        wait_for("it waits anew", lambda this=this: attempt() not in (None, this))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    updates, hot = wait_for("statistics", lambda: _updates(cluster.store, 200))
    cluster.store.run(
        "DELETE FROM nodes_heartbeat WHERE node_id IN (SELECT id FROM nodes_node WHERE name LIKE 'node-%%')"
    )
    cluster.store.run("DELETE FROM nodes_node WHERE name LIKE 'node-%%'")
    assert hot == updates
    assert cluster.store.one("SELECT pg_relation_size('nodes_heartbeat')") == size


def _updates(store: Store, least: int) -> tuple[int, int] | None:
    """Return the number of updates of heartbeats, and of those that were HOT, once there are so many."""
    updates, hot = store.one(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'nodes_heartbeat'"
    )
    return (updates, hot) if updates >= least else None


def test_a_leader_that_is_told_to_end_does_so_while_the_database_hangs(cluster: Cluster, own_server: Server) -> None:
    leader = cluster.running(2)
    processes = {leader.pid, *descendants(leader.pid)}
    with own_server.paused():
        leader.signal(signal.SIGTERM)
        told = time.monotonic()
        assert leader.ended() == 0
        assert time.monotonic() - told < 5
        wait_for("its worker ended with it", lambda: not processes & set(cluster.marked()), 5)


def test_a_database_that_restarts_moves_nothing_and_needs_no_restart_of_ours(
    cluster: Cluster, own_server: Server
) -> None:
    before = cluster.store.assignments()
    cluster.running(2)
    replicas = list(cluster.replicas)
    cluster.store.close()
    connection.close()
    own_server.stop()
    try:
        wait_for("both say so", lambda: all(one.logged("database_away") for one in replicas))
    finally:
        own_server.start()
        cluster.store = Store(own_server.url)
    back = cluster.store.now()
    taken = (cluster.store.next_pass(after=back) - back).total_seconds()
    measured(f"database back to next pass: {taken:.3f} s")
    assert taken < 10
    wait_for(
        "both say so",
        lambda: all(one.logged("database_back") == one.logged("database_away") == 1 for one in replicas),
    )
    cluster.led()
    assert [one.process.poll() for one in replicas] == [None, None]
    assert [one.logged("session_lost") for one in replicas] == [1, 1]
    assert cluster.store.assignments() == before
