"""Processes replaced one after the other while node agents call, and old code on a newer schema."""

import signal

import pytest

from tests.faults.cluster import NODES, PATIENCE, Cluster
from tests.faults.load import Load
from tests.faults.record import sources
from tests.replicas import wait_for

pytestmark = pytest.mark.processes


@pytest.mark.long
def test_a_rolling_restart_of_all_our_processes_under_load(cluster: Cluster) -> None:
    with cluster.record() as record, Load(cluster) as load:
        for port in cluster.ports:
            cluster.nodes.way.backends = [other for other in cluster.ports if other != port]
            cluster.stop_web(port)
            cluster.start_web(port)
            wait_for("it answers", lambda port=port: cluster.answers(port))
            cluster.nodes.way.backends = cluster.ports
        for agent in [agent for agent in cluster.agents if agent.process.poll() is None]:
            agent.signal(signal.SIGTERM)
            assert agent.ended() == 0
            fresh = cluster.start_agent()
            wait_for("it takes part", lambda fresh=fresh: fresh.logged("following") or fresh.logged("leader_elected"))
        cluster.wait_for_pass(2)
        assert cluster.is_whole()
        assert not record.moves()
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"
    assert load.broken <= 2 * load.CONNECTIONS, "a connection broke more than once for each server"
    assert record.gap == record.double == 0


# What an expanding migration does: tables get columns that old code never names, an index comes, the migration is noted.
_TABLES = "SELECT tablename FROM pg_tables WHERE tablename ~ '^(nodes|checks|django_q)_'"
_MIGRATED = "INSERT INTO django_migrations (app, name, applied) VALUES ('nodes', '9999_later', now())"


@pytest.mark.long
def test_old_code_works_on_a_schema_that_was_expanded_meanwhile(cluster: Cluster) -> None:
    """Old and new replicas serve side by side: processes that run and ones that start now bear what they don't know."""
    server = cluster.server
    with cluster.record() as record, Load(cluster) as load:
        wait_for("calls", lambda: len(load.calls) >= 50)
        for table in server.ask(_TABLES):
            server.ask(f"ALTER TABLE {table} ADD COLUMN later text")
        server.ask("CREATE INDEX CONCURRENTLY later ON nodes_heartbeat (node_type) WHERE node_type > 2")
        server.ask(_MIGRATED)
        cluster.write_check("added-later")
        wait_for("it is dispatched", lambda: cluster.account.running().get("http_check:added-later"))
        # Not one that calls all the time, nor one that runs nothing.
        victim = cluster.busiest(NODES[load.CONNECTIONS :])
        cluster.nodes.vanish(victim)
        wait_for("its checks go to others", lambda: record.moves("redispatched"), PATIENCE)
        cluster.wait_until_whole()
        cluster.stop_web(cluster.ports[0])
        cluster.start_web(cluster.ports[0])
        wait_for("a web server that starts now is ready", lambda: cluster.answers(cluster.ports[0]))
        assert sources(record.moves()) == {victim}
    assert load.statuses <= {200, 503}, "a busy machine may answer late, but never wrongly"
