"""Guards of every sync: only one runs at a time, and removals that look like an accident are held until accepted."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error, OperationalError, connection
from psycopg.errors import LockNotAvailable

from clusteragent.lib import locks

# Removals are held when they are at least so many, and more than half of the source's configs.
HELD_FROM = 10


class SyncUnderWay(Exception):
    """Another sync was under way and did not end in time."""


def look_accidental(removed: int, known: int) -> bool:
    """Return whether removing so many of a source's `known` configs looks like an accident."""
    return removed >= HELD_FROM and removed * 2 > known


@contextmanager
def exclusively(lock: locks.Lock) -> Iterator[None]:
    """Hold the lock of a sync while reading and sending. Raises SyncUnderWay when another sync does not release it in time.

    Reading is included: else a sync that read earlier could undo what a later one sent. It is a lock of the session, since
    the dispatcher commits each chunk by itself.
    """
    with connection.cursor() as cursor:
        try:
            locks.acquire(cursor, lock)
        except OperationalError as error:
            if isinstance(error.__cause__, LockNotAvailable):
                raise SyncUnderWay from error
            raise
        # Frees the lock of a replica that freezes. Reading very many files takes less.
        cursor.execute("SET idle_session_timeout = '5min'")
        try:
            yield
        finally:
            # A broken session has lost its locks already, and its first error is the one to raise.
            with suppress(Error):
                locks.release(cursor, lock)
                cursor.execute("RESET idle_session_timeout")
