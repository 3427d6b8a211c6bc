"""Ten thousand node agents that join within ten seconds, and storms of calls, which must end."""

import asyncio
import ssl
import subprocess
import sys
import time

import pytest

from clusteragent.lib import conf
from tests.faults.cluster import PATIENCE, Cluster
from tests.replicas import MANAGE, measured, wait_for
from tests.webserver import AGENT

pytestmark = [pytest.mark.processes, pytest.mark.long]

NUMBER = 10_000
STORM = 3_000
# One server gets them all, so it is as large as it is by default.
SIZE = {"CLUSTERAGENT_WEB_WORKERS": "2", "CLUSTERAGENT_WEB_THREADS": "16"}


@pytest.mark.parametrize("cluster", [1], indirect=True)
def test_ten_thousand_nodes_that_come_within_ten_seconds_move_nothing(cluster: Cluster) -> None:
    cluster.stop_web(cluster.ports[0])
    cluster.start_web(cluster.ports[0], **SIZE)
    cluster.wait_until_heard()
    with cluster.record() as record:
        began = time.monotonic()
        crowd = subprocess.Popen(_simulate(cluster), cwd=MANAGE.parent)
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


@pytest.mark.parametrize("kind", ["unknown", "lost"])
def test_a_storm_of_nodes_that_give_up_and_try_again_ends(cluster: Cluster, kind: str) -> None:
    """More calls than the server can answer in time: it must not spend most of its time on calls that clients have given up."""
    names = [f"storm-{kind}-{number}" for number in range(STORM)]
    if kind == "lost":
        columns = "(name, labels, lost_at) SELECT unnest(%s::text[]), '{}', now()"
        cluster.server.ask(f"INSERT INTO nodes_node {columns} RETURNING id", [names])
    with cluster.record() as record:
        storm = Storm(cluster.ports[0])
        asyncio.run(storm.blow(names))
        known = f"SELECT n.name FROM nodes_node n JOIN nodes_heartbeat h ON h.node_id = n.id WHERE n.name LIKE 'storm-{kind}-%%'"
        assert len(cluster.server.ask(known)) == STORM
        measured(f"{STORM} {kind} nodes in {storm.seconds:.1f} s, {storm.attempts} attempts, {storm.given_up} given up")
        # Each that was given up was tried again; far fewer were than succeeded.
        assert storm.given_up < STORM / 2
        assert storm.statuses == {200}
        assert not record.moves()
    cluster.server.ask(
        f"DELETE FROM nodes_heartbeat USING nodes_node n WHERE n.id = node_id AND n.name LIKE 'storm-{kind}-%%' RETURNING 1"
    )


class Storm:
    """Clients that report once each, all at the same time: over a connection of their own, for three seconds, again and again."""

    GIVE_UP, AT_ONCE = 3.0, 500

    def __init__(self, port: int) -> None:
        self._port = port
        self._tls = ssl._create_unverified_context()
        self.attempts = self.given_up = 0
        self.seconds = 0.0
        self.statuses: set[int] = set()

    async def blow(self, names: list[str]) -> None:
        """Return when all clients have been answered."""
        began = time.monotonic()
        room = asyncio.Semaphore(self.AT_ONCE)

        async def live(name: str) -> None:
            async with room:
                while not await self._reported(name):
                    assert time.monotonic() < began + 5 * PATIENCE, f"{self.given_up} of {self.attempts} given up"

        await asyncio.gather(*map(live, names))
        self.seconds = time.monotonic() - began

    async def _reported(self, name: str) -> bool:
        self.attempts += 1
        try:
            async with asyncio.timeout(self.GIVE_UP):
                status = await self._report(name)
        except (TimeoutError, OSError, EOFError):
            self.given_up += 1
            return False
        self.statuses.add(status)
        return status == 200

    async def _report(self, name: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
        try:
            body = '{"last_change":0}'
            writer.write(
                f"POST /api/v1/clusterchecks/status/{name} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {AGENT}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            return int((await reader.readline()).split()[1])
        finally:
            writer.transport.abort()


def _simulate(cluster: Cluster) -> list[str]:
    token = cluster.folder / "token"
    token.write_text(conf.AUTH_TOKEN)
    where = ["--url", f"https://127.0.0.1:{cluster.ports[0]}", "--token-file", str(token)]
    return [sys.executable, "-m", "simulation", "--nodes", str(NUMBER), "--prefix", "crowd-", *where]
