"""All advisory locks of the program, and the only SQL that takes one; and which sessions keep what they lock.

A pooler gives each transaction another session: session locks and notifications get lost there.
"""

import enum
import secrets
from typing import Any

import psycopg

# The first of the two keys of every lock. It separates our locks from another program's in the same database.
NAMESPACE = 0x636C6163

_MARK = secrets.token_hex(8)

# For the parameter `options` of sessions that this process opens. A pooler shares its sessions, so it can't pass it on.
MARKED = f"-c clusteragent.mark={_MARK}"
READ_MARK = "SELECT current_setting('clusteragent.mark', true)"


class Lock(enum.IntEnum):
    """The second key of each lock. A number is never reused for another purpose."""

    LEADER = 1
    MIGRATE = 2
    SYNC = 3
    DESIRED = 4


class Pooled(Exception):
    """The database is reached through a pooler, which gives each transaction another session: name the server itself in
    CLUSTERAGENT_DIRECT_DATABASE_URL."""

    def __str__(self) -> str:
        return " ".join(str(self.__doc__).split())


def require_mark(row: Any) -> None:
    """Raise Pooled if the row is not the result of READ_MARK in a session that this process opened."""
    if row is None or row[0] != _MARK:
        raise Pooled


def require_own_session(connection: Any) -> None:
    """Raise Pooled unless this process itself opened the session that Django's connection uses."""
    with connection.cursor() as cursor:
        cursor.execute(READ_MARK)
        require_mark(cursor.fetchone())


def acquire(cursor: Any, lock: Lock) -> None:
    """Take the lock for the session; wait at most its lock_timeout. Raises LockNotAvailable after that time, and Pooled."""
    cursor.execute(READ_MARK)
    require_mark(cursor.fetchone())
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
