"""Every advisory lock of the program, and the only SQL that takes one."""

import enum
from typing import Any

import psycopg

from clusteragent.lib import poolers

# The first of the two keys of every lock: it keeps ours apart from another program's in the same database.
NAMESPACE = 0x636C6163


class Lock(enum.IntEnum):
    """The second key. A number is never used for another purpose."""

    LEADER = 1
    MIGRATE = 2
    SYNC = 3
    DESIRED = 4


def acquire(cursor: Any, lock: Lock) -> None:
    """Wait for the session's lock, as long as its lock_timeout allows. Raises LockNotAvailable after it, and Pooled."""
    poolers.insist_on_own_session(cursor)
    cursor.execute("SELECT pg_advisory_lock(%s, %s)", (NAMESPACE, int(lock)))


def try_acquire(cursor: Any, lock: Lock, *, timeout: str = "1s") -> bool:
    """Wait for the session's lock for the given time, and say whether it is ours. Raises Pooled.

    Many short waits instead of one without end: a waiting statement holds a snapshot, and a snapshot that stays open
    keeps the whole database from pruning dead rows.
    """
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", (timeout,))
    try:
        acquire(cursor, lock)
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def release(cursor: Any, lock: Lock) -> bool:
    """Give the session's lock back, and say whether it was held."""
    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", (NAMESPACE, int(lock)))
    return bool(cursor.fetchone()[0])


def acquire_in_transaction(cursor: Any, lock: Lock) -> None:
    """Wait for the lock until the transaction's end gives it back."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", (NAMESPACE, int(lock)))
