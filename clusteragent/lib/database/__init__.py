"""Calls that are answered in time whatever the database does: it may be unreachable, hang, restart or fail over."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

import psycopg
import structlog
from django.core import signals
from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    close_old_connections,
    connection,
    connections,
    reset_queries,
)
from psycopg.pq import TransactionStatus

T = TypeVar("T")

# Seconds that a call may take. A node agent gives up after three; it gets its 503 within two.
LIMIT = 1.6
# Seconds between two attempts to find out whether an outage is over.
_PAUSE = 0.25

_NOT_MIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName)

# Classes of SQLSTATE after which connecting again helps: lost connections, a server that shuts down or starts, and one that
# takes no writes, which after a failover is the wrong server.
_FAREWELLS = ("08", "57P", "25006")

_taken_over = False
_log = structlog.get_logger()
_call = threading.local()


class Away(Exception):
    """The database can't answer now."""


class Lost(Away):
    """The database does not answer."""


def remaining() -> float | None:
    """Return the seconds that this thread's call may still take; None when nothing limits it."""
    deadline = getattr(_call, "deadline", None)
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Limit the time of all that this thread asks the database in the block, connecting included: `seconds`, default LIMIT.

    Inside another limit that one holds.
    """
    outer = getattr(_call, "deadline", None)
    _call.deadline = time.monotonic() + (seconds or LIMIT) if outer is None else outer
    try:
        yield
    finally:
        _call.deadline = outer


def ask(work: Callable[[], T]) -> T:
    """Run `work`, which uses the database and may run twice. Raises Away within LIMIT seconds, and Lost if it is an outage.

    Only its use shows that an open connection has lost its server (a restart, a failover). `work` then runs once more on a new
    connection.
    """
    with _outage.turn(), limited():
        return _attempt_again(work)


def ask_aside(work: Callable[[], T]) -> T:
    """`ask` for work that no call waits for: it raises Lost during an outage, and its failure does not start one.

    So the next call asks the server at once, and may find that it has just returned.
    """
    if _outage.is_on:
        raise Lost(Lost.__doc__)
    with limited():
        return _attempt_again(work)


def take_over() -> None:
    """Let `ask` close failed connections instead of Django, which would check each before and after every call.

    For the web server of node agents, which has threads of its own.
    """
    global _taken_over
    _taken_over = True
    for signal in (signals.request_started, signals.request_finished):
        signal.disconnect(close_old_connections)
    signals.request_started.disconnect(reset_queries)


def is_taken_over() -> bool:
    """Return whether `take_over` was called: this process is a web server of node agents."""
    return _taken_over


def leave_clean() -> None:
    """Close connections of this thread on which a call left a transaction open.

    The next call of the thread would otherwise fail, or be a part of that transaction.
    """
    for wrapper in connections.all(initialized_only=True):
        raw = wrapper.connection
        is_idle = raw is None or raw.closed or raw.info.transaction_status == TransactionStatus.IDLE
        if wrapper.in_atomic_block or not is_idle:
            _log.error("transaction_left_open", alias=wrapper.alias)
            if raw is not None:
                raw.close()
            # Closing it within the atomic block would only take effect at the end of the block, which is never reached.
            del connections[wrapper.alias]


def is_away() -> bool:
    """Return whether the last call of `ask` found an outage."""
    return _outage.is_on


def in_time(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield the same chunks; the database has LIMIT seconds for each."""
    with closing(chunks):
        while True:
            with limited():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


def _attempt_again(work: Callable[[], T]) -> T:
    is_kept = connection.connection is not None
    try:
        return _attempt(work)
    except Lost:
        if not is_kept or not remaining():
            raise
        return _attempt(work)


def _attempt(work: Callable[[], T]) -> T:
    try:
        return work()
    except (DatabaseError, InterfaceError) as error:
        state = getattr(error.__cause__, "sqlstate", None) or ""
        # A server that shuts down says so in an error; the connection is still open then.
        is_closed = connection.connection is None or connection.connection.closed
        # After every error: Django would check such a connection before its next use, without a time limit.
        connection.close()
        if is_closed or state.startswith(_FAREWELLS):
            raise Lost(Lost.__doc__) from error
        if isinstance(error.__cause__, _NOT_MIGRATED):
            raise Away("the database is not migrated") from error
        if isinstance(error, (OperationalError, InterfaceError)):
            raise Away(Away.__doc__) from error
        raise


def unusable(error: DatabaseError) -> str:
    """Return in one line, without a full stop, why a command can't use the database; empty if users can do nothing about it."""
    if isinstance(error.__cause__, _NOT_MIGRATED):
        return "the database's schema is not this version's: `clusteragent migrate` brings it up to date"
    return f"the database is away: {' '.join(str(error).split())}" if isinstance(error, OperationalError) else ""


class _Outage:
    """During an outage one call at a time checks whether the database is back. The other calls fail at once.

    After each check there is a pause of _PAUSE seconds. Without it, calls that have waited for a thread while the database
    hung would each check it again and wait once more.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._next_attempt = 0.0
        self._scout = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Allow a call to ask the database. Raises Lost when another call checks, or checked within _PAUSE seconds."""
        is_scout = self.is_on
        if is_scout and (time.monotonic() < self._next_attempt or not self._scout.acquire(blocking=False)):
            raise Lost(Lost.__doc__)
        try:
            yield
        except Lost as error:
            self._next_attempt = time.monotonic() + _PAUSE
            self._note(True, error)
            raise
        else:
            self._note(False)
        finally:
            if is_scout:
                self._scout.release()

    def _note(self, is_on: bool, error: Exception | None = None) -> None:
        if is_on != self.is_on:
            self.is_on = is_on
            if error:
                _log.warning("database_away", error=" ".join(str(error.__cause__).split()))
            else:
                _log.info("database_back")


_outage = _Outage()
