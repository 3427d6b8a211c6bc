"""All advisory locks of the program, and the only SQL that takes one."""

import enum
from typing import Any

import psycopg

from clusteragent.lib import poolers

# The first of the two keys of every lock. It separates our locks from another program's in the same database.
NAMESPACE = 0x636C6163


class Lock(enum.IntEnum):
    """The second key of each lock. A number is never reused for another purpose."""

    LEADER = 1
    MIGRATE = 2
    SYNC = 3
    DESIRED = 4


def acquire(cursor: Any, lock: Lock) -> None:
    """Take the lock for the session; wait at most its lock_timeout. Raises LockNotAvailable after that time, and Pooled."""
    poolers.require_own_session(cursor)
    cursor.execute("SELECT pg_advisory_lock(%s, %s)", (NAMESPACE, int(lock)))


def try_acquire(cursor: Any, lock: Lock, *, timeout: str = "1s") -> bool:
    """Wait at most `timeout` for the session's lock; return whether it is held now. Raises Pooled.

    Callers repeat short waits: a waiting statement holds a snapshot, and an old snapshot keeps the whole database from
    removing dead rows.
    """
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", (timeout,))
    try:
        acquire(cursor, lock)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def release(cursor: Any, lock: Lock) -> bool:
    """Release the session's lock; return whether it was held."""
    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (NAMESPACE, int(lock)))
    return bool(cursor.fetchone()[0])


def acquire_in_transaction(cursor: Any, lock: Lock) -> None:
    """Wait for the lock; the end of the transaction releases it."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (NAMESPACE, int(lock)))
