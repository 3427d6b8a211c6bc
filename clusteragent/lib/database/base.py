"""Django's PostgreSQL backend, with connections that keep the time limit of a call (see the package)."""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql import base
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus

from clusteragent.lib.database import remaining

T = TypeVar("T")

_connecting = ThreadPoolExecutor(thread_name_prefix="connecting")


class Connection(psycopg.Connection[Any]):
    """A connection that gives up a server that hangs: a stopped process or a stuck disk can't enforce its statement_timeout."""

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        """psycopg's `wait`, for at most `remaining()` seconds unless a timeout is given. Raises OperationalError."""
        try:
            return super().wait(gen, interval, remaining() if timeout is None else timeout)
        except psycopg.OperationalError:
            # The statement still runs: its answer must not be read as the next statement's.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper, which opens connections within the time limit of a call."""

    _attempt: Future[Connection] | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        """Connect within the time limit of the call, if it has one. Raises OperationalError.

        An attempt that takes longer continues, and the thread's next call uses its result: the first of several hosts may be
        down, which takes connect_timeout (at least two seconds) to notice. The attempt runs in a thread of its own, since the
        time of a name lookup can't be limited.
        """
        self.isolation_level = IsolationLevel.READ_COMMITTED
        limit = remaining()
        attempt, self._attempt = self._attempt, None
        if attempt is None or (attempt.done() and attempt.exception()):
            if limit is None:
                return Connection.connect(**conn_params)
            attempt = _connecting.submit(Connection.connect, **conn_params)
        try:
            return attempt.result(timeout=limit)
        except TimeoutError:
            self._attempt = attempt
            raise OperationalError("connecting takes too long") from None
