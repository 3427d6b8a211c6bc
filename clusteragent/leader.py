"""Leadership: an advisory lock that a session of its own holds as a lease, and a term that fences earlier leaders' work."""

import os
from typing import Any, Self

import psycopg
from django.db import connection

from checks.models import ClusterStore
from clusteragent.lib import conf, locks
from clusteragent.lib.locks import Lock
from clusteragent.lib.processes import SESSIONS

# The server ends the session this long after the holder's last ping, and the lock with it: when the holder hangs, was stopped,
# or lost its network. Keepalives notice the last of these even while a statement runs.
LEASE = (
    "-c idle_session_timeout=6s -c tcp_keepalives_idle=2 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    " -c statement_timeout=15s"
)


class TermOver(Exception):
    """Another term began."""


class Candidate:
    """A session that waits for the leader's lock, keeps it while `ping` is called each second, and receives calls for a pass.

    It is not one of Django's connections, which Django closes and opens again at any time. Every method raises psycopg.Error
    when the session is lost, and with it the lock; `campaign` raises Pooled.
    """

    def __init__(self) -> None:
        parameters: dict[str, Any] = connection.get_connection_params()
        parameters["options"] = f"{parameters.get('options', '')} {LEASE}"
        parameters["application_name"] = f"{SESSIONS}leader"
        parameters["tcp_user_timeout"] = 3000
        self.name = f"{conf.REPLICA}:{os.getpid()}"
        self._session = psycopg.connect(**parameters, autocommit=True)
        self._cursor = self._session.cursor()
        try:
            # A database that is not migrated yet fails here, not when the lock is won.
            ClusterStore.objects.current_term(self._cursor)
        except psycopg.Error:
            self.resign()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.resign()

    def campaign(self) -> bool:
        """Wait for the lock for at most a second; return whether this session holds it."""
        return locks.try_acquire(self._cursor, Lock.LEADER)

    def begin_term(self) -> int:
        """Begin a term and return its number; from now on `calls` receives. Waits for a transaction that changes the map."""
        self._cursor.execute("SET lock_timeout = '10s'")
        ClusterStore.objects.listen(self._cursor)
        return ClusterStore.objects.begin_term(self._cursor, self.name)

    def ping(self, term: int) -> None:
        """Renew the lease. Raises TermOver when another term began, whoever holds the lock."""
        current = ClusterStore.objects.current_term(self._cursor)
        if current != term:
            raise TermOver(f"term {term} is over, the leader's is {current}")

    def calls(self, seconds: float) -> set[str]:
        """Return what ClusterStore.objects.wake() called for; wait at most that long for a first call."""
        return {notice.payload for notice in self._session.notifies(timeout=seconds, stop_after=1)}

    def resign(self) -> None:
        """End the session, and with it the lock or the wait for it."""
        self._session.close()
