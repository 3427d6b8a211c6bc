"""Calls that are answered in time whatever the database does: it may be away, hang, restart or fail over."""

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

# Seconds that a call may take. A node agent gives up after three, and is told before two that it must wait.
LIMIT = 1.6
# Seconds between two attempts to find out whether an outage is over.
_PAUSE = 0.25

_NOT_MIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName)

# Lost connections, a server that shuts down or starts, and one that takes no writes: after a failover that is the wrong
# one, and connecting again finds the right one.
_FAREWELLS = ("08", "57P", "25006")

_taken_over = False
_log = structlog.get_logger()
_call = threading.local()


class Away(Exception):
    """The database can't answer now."""


class Lost(Away):
    """The database does not answer."""


def remaining() -> float | None:
    """Seconds that this thread's call may still take; None when nothing limits it."""
    deadline = getattr(_call, "deadline", None)
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Give what this thread asks the database that long (LIMIT) altogether, connecting included; within a limit, its rest."""
    outer = getattr(_call, "deadline", None)
    _call.deadline = time.monotonic() + (seconds or LIMIT) if outer is None else outer
    try:
        yield
    finally:
        _call.deadline = outer


def ask(work: Callable[[], T]) -> T:
    """Do something that may be done twice, with the database. Raises Away within LIMIT seconds, Lost if it is an outage.

    That a kept connection has outlived its server (a restart, a failover) shows only when it is used: the work is then
    done once more on a fresh one.
    """
    with _outage.turn(), limited():
        return _attempt_again(work)


def ask_aside(work: Callable[[], T]) -> T:
    """`ask` for what no call waits for: it fails while there is an outage, and does not begin one.

    A call that comes next may find a server that has just returned, and asks it at once.
    """
    if _outage.is_on:
        raise Lost(Lost.__doc__)
    with limited():
        return _attempt_again(work)


def take_over() -> None:
    """Leave connections to `ask`, which closes those that failed: Django would look at each before and after every call.

    For a web server of node agents, which has threads of its own.
    """
    global _taken_over
    _taken_over = True
    for signal in (signals.request_started, signals.request_finished):
        signal.disconnect(close_old_connections)
    signals.request_started.disconnect(reset_queries)


def is_taken_over() -> bool:
    """Whether this process is a web server of node agents."""
    return _taken_over


def leave_clean() -> None:
    """End what a call left open on this thread's connection, so that the next one finds it as new.

    Whatever a view did or failed to do: a connection within a transaction would refuse, or change, what comes after it.
    """
    for wrapper in connections.all(initialized_only=True):
        raw = wrapper.connection
        is_idle = raw is None or raw.closed or raw.info.transaction_status == TransactionStatus.IDLE
        if wrapper.in_atomic_block or not is_idle:
            _log.error("transaction_left_open", alias=wrapper.alias)
            if raw is not None:
                raw.close()
            # Closing within an atomic block would keep both for the end of the block, which nobody reaches.
            del connections[wrapper.alias]


def is_away() -> bool:
    """Whether the last thing that was asked found an outage."""
    return _outage.is_on


def in_time(chunks: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same chunks, each within LIMIT seconds."""
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
        problem = _problem(error)
        # Whatever happened: Django would ask a connection that had an error whether it still lives, without a limit.
        connection.close()
        if problem:
            raise problem from error
        raise


def _problem(error: Exception) -> Away | None:
    """What an error says about the database; None when it says something about us."""
    if _is_lost(getattr(error.__cause__, "sqlstate", None)):
        return Lost(Lost.__doc__)
    if isinstance(error.__cause__, _NOT_MIGRATED):
        return Away("the database is not migrated")
    return Away(Away.__doc__) if isinstance(error, (OperationalError, InterfaceError)) else None


def _is_lost(state: str | None) -> bool:
    # A server's farewell comes before its connection is seen to be closed.
    is_closed = connection.connection is None or connection.connection.closed
    return is_closed or (state is not None and state.startswith(_FAREWELLS))


class _Outage:
    """While the database is away, one call at a time finds out whether it is back. The others don't wait for that.

    Nor does a call wait for it that has waited for a thread already, as many have when a hanging database is given up:
    hence the pause.
    """

    def __init__(self) -> None:
        self.is_on = False
        self._next_attempt = 0.0
        self._scout = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A call's turn to ask the database. Raises Lost when another call is finding out."""
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
