"""Guards of every sync: only one runs at a time, and removals that look like an accident are held until accepted."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from django.db import Error, OperationalError, connection
from psycopg.errors import LockNotAvailable

from checks.models import Origin
from checks.sources.origins import Known
from clusteragent.lib import locks

# Removals are held when they are at least so many, and more than half of the source's configs.
HELD_FROM = 10


class SyncUnderWay(Exception):
    """Another sync was under way and did not end in time."""


def held_removals(
    source: str, gone: Collection[str], known: Mapping[str, Known], held_before: Collection[str] = ()
) -> set[str]:
    """Return those of the keys that send nothing any more whose removal looks like an accident, so that it has to wait.

    held_before: keys that were held already. They stay held, even when new configs make them less than half, until they are
    sent again or somebody accepts the removal. A key whose config another origin sends too, such as a renamed file, does not
    count: its removal loses no config.
    """
    lost = set(gone)
    if len(gone) >= HELD_FROM or held_before:
        keys = {origin: key for key in gone for origin in known[key].origins}
        lost = {keys[origin] for origin in Origin.objects.sole_senders(source, keys)}
    return lost if len(lost) >= HELD_FROM and len(lost) * 2 > len(known) else lost & set(held_before)


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
