"""Ten thousand node agents that all come within ten seconds."""

import subprocess
import sys
import time

import pytest

from clusteragent.lib import conf
from tests.faults.cluster import PATIENCE, Cluster
from tests.replicas import MANAGE, measured, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.long]

NUMBER = 10_000
# One server gets them all, so it is as large as it is by default.
SIZE = {"CLUSTERAGENT_WEB_WORKERS": "2", "CLUSTERAGENT_WEB_THREADS": "16"}


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_ten_thousand_nodes_that_come_within_ten_seconds_move_nothing(cluster: Cluster) -> None:
    cluster.stop_web(cluster.ports[0])
    cluster.start_web(cluster.ports[0], **SIZE)
    cluster.wait_until_heard()
    with cluster.record() as record:
        began = time.monotonic()
        crowd = subprocess.Popen(_simulate(cluster))
        try:
            # They and the servers share the processors, so late answers are as likely to be their fault.
            wait_for("all are known", lambda: cluster.known_nodes() >= NUMBER, 10 * PATIENCE)
            measured(f"{NUMBER} nodes known after {time.monotonic() - began:.1f} s")
            assert cluster.is_whole()
        finally:
            crowd.terminate()
            crowd.wait()
        assert not record.moves()
    assert record.gap == record.double == 0


def _simulate(cluster: Cluster) -> list[str]:
    token = cluster.folder / "token"
    token.write_text(conf.AUTH_TOKEN)
    where = ["--url", f"https://127.0.0.1:{cluster.ports[0]}", "--token-file", str(token)]
    return [
        sys.executable,
        str(MANAGE),
        "simulatenodes",
        "--nodes",
        str(NUMBER),
        "--prefix",
        "crowd-",
        *where,
    ]
