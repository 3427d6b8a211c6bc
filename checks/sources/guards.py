"""What every sync is guarded by: one at a time, and what looks like an accident is held until someone accepts it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, OperationalError, connection
from psycopg.errors import LockNotAvailable

from clusteragent.lib import locks

# A sync that would remove at least so many configs, and more than half of its source's, is held.
HELD_FROM = 10


class SyncUnderWay(Exception):
    """Another sync is under way, and did not end while we waited."""


def look_lost(removed: int, known: int) -> bool:
    """Whether the removal of so many of the configs that a source sent looks like an accident."""
    return removed >= HELD_FROM and removed * 2 > known


@contextmanager
def alone(lock: locks.Lock) -> Iterator[None]:
    """One at a time, reading included: else one that read earlier could undo what a later one sent. Raises SyncUnderWay.

    The session's lock and not a transaction's: the dispatcher commits each chunk by itself.
    """
    with connection.cursor() as cursor:
        try:
            locks.acquire(cursor, lock)
        except OperationalError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                raise SyncUnderWay from error
            raise
        # Of a replica that freezes meanwhile the lock comes free; reading very many files takes less.
        cursor.execute("SET idle_session_timeout = '5min'")
        try:
            yield
        finally:
            # A session that broke has lost its locks, and what broke it is the error to tell.
            with suppress(Error):
                locks.release(cursor, lock)
                cursor.execute("RESET idle_session_timeout")
