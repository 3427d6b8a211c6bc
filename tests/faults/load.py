"""Node agents that call all the time, so that calls are running whenever something breaks."""

import threading
import time
from http.client import HTTPException, HTTPSConnection
from types import TracebackType
from typing import Self

from tests.faults.cluster import NODES, Cluster
from tests.webserver import TLS, exchange

# An extra heartbeat: it says only that the node is alive.
BEAT = '{"last_change":-1}'


class Load:
    """Sends heartbeats of the cluster's nodes over some connections during the block.

    calls: (status, seconds) of each; broken: the number of calls without an answer.
    """

    CONNECTIONS = 4

    def __init__(self, cluster: Cluster) -> None:
        self._port = cluster.nodes.way.port
        self._ended = False
        self._threads = [threading.Thread(target=self._run, args=[name]) for name in NODES[: self.CONNECTIONS]]
        self.calls: list[tuple[int, float]] = []
        self.broken = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> set[int]:
        """All statuses that were answered."""
        return {status for status, _ in self.calls}

    @property
    def slowest(self) -> float:
        """The longest time that a call took, in seconds."""
        return max(seconds for _, seconds in self.calls)

    def _run(self, node: str) -> None:
        connection = self._connect()
        while not self._ended:
            began = time.monotonic()
            try:
                status = exchange(connection, "POST", f"/api/v1/clusterchecks/status/{node}", BEAT).status
                self.calls.append((status, time.monotonic() - began))
            except (OSError, HTTPException):
                self.broken += 1
                connection.close()
                connection = self._connect()
            time.sleep(0.02)
        connection.close()

    def _connect(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self._port, timeout=10, context=TLS)
