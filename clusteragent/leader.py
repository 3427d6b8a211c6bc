"""Leadership: one advisory lock, held by a private session as a lease, and the term that fences what outlives it."""

import os
from types import TracebackType
from typing import Any, Self

import psycopg
from django.db import connection

from checks.models import ClusterStore
from clusteragent.lib import conf, locks
from clusteragent.lib.locks import Lock

# How long the lock outlives its holder's last ping. The server ends the session then, whether the holder hangs, was
# stopped, or sits behind a cut cable; keepalives find the last of these even while a statement runs.
LEASE = (
    "-c idle_session_timeout=6s -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    " -c statement_timeout=15s"
)


class TermOver(Exception):
    """Another term began."""


class Candidate:
    """A session that waits for the leader's lock, keeps it while it is pinged each second, and hears calls for a pass.

    It is none of Django's connections, which are closed and opened again as Django likes. Every method raises
    psycopg.Error when the session is lost, and with it the lock; `campaign` raises Pooled.
    """

    def __init__(self) -> None:
        parameters: dict[str, Any] = connection.get_connection_params()
        parameters["options"] = f"{parameters.get('options', '')} {LEASE}"
        parameters["application_name"] = "clusteragent leader"
        parameters["tcp_user_timeout"] = 3000
        self.name = f"{conf.REPLICA}:{os.getpid()}"
        self._session = psycopg.connect(**parameters, autocommit=True)
        self._cursor = self._session.cursor()
        try:
            # A database that is not migrated yet shows here, not when the lock is won.
            ClusterStore.objects.current_term(self._cursor)
        except psycopg.Error:
            self.resign()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resign()

    def campaign(self) -> bool:
        """Wait for the lock, a second at most, and say whether it is ours."""
        return locks.try_acquire(self._cursor, Lock.LEADER)

    def begin_term(self) -> int:
        """Begin a term, and be called for passes from now on. It waits for a change of the map that is under way."""
        self._cursor.execute("SET lock_timeout = '10s'")
        ClusterStore.objects.listen(self._cursor)
        return ClusterStore.objects.begin_term(self._cursor, self.name)

    def ping(self, term: int) -> None:
        """Keep the lease. Raises TermOver when another term began, whoever holds the lock."""
        current = ClusterStore.objects.current_term(self._cursor)
        if current != term:
            raise TermOver(f"term {term} is over, the leader's is {current}")

    def calls(self, seconds: float) -> set[str]:
        """What was called for by ClusterStore.objects.wake(); waits that long for a first call."""
        return {notice.payload for notice in self._session.notifies(timeout=seconds, stop_after=1)}

    def resign(self) -> None:
        """Give up the lock, or the wait for it: the server does both when the session ends."""
        self._session.close()
