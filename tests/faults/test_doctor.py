"""`clusteragent doctor` tells a pooler and a standby from the server that it needs."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.faults.cluster import Cluster
from tests.faults.pooler import PROGRAM, Pooler
from tests.replicas import MANAGE

pytestmark = pytest.mark.processes


def found(cluster: Cluster, **environment: str) -> list[tuple[str, str]]:
    """Return level and text of what it finds of the database."""
    line = [sys.executable, MANAGE, "doctor", "--json"]
    done = subprocess.run(line, env=cluster.environment() | environment, capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"]
    return [(one["level"], one["text"]) for one in findings if one["topic"] == "database"]


@pytest.mark.skipif(not PROGRAM, reason="pgbouncer is missing: apt-get install pgbouncer")
def test_a_pooler_is_found_where_the_server_itself_is_needed(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    cluster.server.start()
    pooler = Pooler(cluster.server)
    cluster.at_end.callback(pooler.stop)
    [(level, text)] = found(cluster, DATABASE_URL=pooler.url, CLUSTERAGENT_DIRECT_DATABASE_URL="")
    assert level == "fail"
    assert "pooler" in text
    both = found(cluster, DATABASE_URL=pooler.url, CLUSTERAGENT_DIRECT_DATABASE_URL=cluster.server.url)
    assert [level for level, _ in both] == ["ok", "ok"]


def test_a_standby_is_found(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    cluster.server.start()
    standby = cluster.server.standby(cluster.server.pgdata.parent / "standby")
    cluster.at_end.callback(standby.stop)
    standby.start()
    [(level, text)] = found(cluster, DATABASE_URL=standby.url, CLUSTERAGENT_DIRECT_DATABASE_URL="")
    assert level == "fail"
    assert "standby" in text
