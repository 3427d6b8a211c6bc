"""Detection of poolers that give each transaction another session: session locks and notifications get lost there."""

import secrets
from typing import Any

_MARK = secrets.token_hex(8)

# For the parameter `options` of sessions that this process opens. A pooler shares its sessions, so it can't pass it on.
MARKED = f"-c clusteragent.mark={_MARK}"
READ_MARK = "SELECT current_setting('clusteragent.mark', true)"


class Pooled(Exception):
    """The database is reached through a pooler, which gives each transaction another session: name the server itself in
    CLUSTERAGENT_DIRECT_DATABASE_URL."""

    def __str__(self) -> str:
        return " ".join(str(self.__doc__).split())


def require_own_session(cursor: Any) -> None:
    """Raise Pooled if this process did not open the session itself."""
    cursor.execute(READ_MARK)
    require_mark(cursor.fetchone())


def require_mark(row: Any) -> None:
    """Raise Pooled if the row is not the result of READ_MARK in a session that this process opened."""
    if row is None or row[0] != _MARK:
        raise Pooled
