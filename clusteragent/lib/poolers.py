"""Whether a session is one of our own: a pooler that gives each transaction another session loses locks and notifications."""

import secrets
from typing import Any

_MARK = secrets.token_hex(8)

# Of `options`, for sessions that this process opens. A pooler shares its sessions, so it can't pass on what is one client's.
MARKED = f"-c clusteragent.mark={_MARK}"
READ_MARK = "SELECT current_setting('clusteragent.mark', true)"


class Pooled(Exception):
    """The database is reached through a pooler, which gives each transaction another session: name the server itself in
    CLUSTERAGENT_DIRECT_DATABASE_URL."""

    def __str__(self) -> str:
        return " ".join(str(self.__doc__).split())


def insist_on_own_session(cursor: Any) -> None:
    """Raises Pooled if the session is not one that this process opened."""
    cursor.execute(READ_MARK)
    insist_on_mark(cursor.fetchone())


def insist_on_mark(row: Any) -> None:
    """Raises Pooled if this is not what READ_MARK finds in a session that this process opened."""
    if row is None or row[0] != _MARK:
        raise Pooled
