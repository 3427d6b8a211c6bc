"""Rehearsals: something is done, looked at and taken back. A dry run that is one can't differ from the real run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog
from django.db import transaction

# A rehearsal keeps the locks of what it does until its end. Others wait for the map's lock so many seconds at most.
LONGEST = 5.0


class TooLong(Exception):
    """A rehearsal kept others from changing the map for LONGEST seconds, and was given up: nothing was changed."""

    def __init__(self) -> None:
        super().__init__(f"there is too much to try out: others would wait for it longer than {LONGEST:.0f} s")


@dataclass
class _Rehearsal:
    locked_at: float | None = None


_present: ContextVar[_Rehearsal | None] = ContextVar("rehearsal", default=None)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Take back all that is written to the database within it, acts too, when it ends. Log lines within say `dry_run`.

    It must be in no other transaction. What it read may be shown afterwards.
    """
    token = _present.set(_Rehearsal())
    try:
        with structlog.contextvars.bound_contextvars(dry_run=True), transaction.atomic(durable=True):
            yield
            transaction.set_rollback(True)
    finally:
        _present.reset(token)


def outermost() -> transaction.Atomic:
    """A transaction that is committed at its end: it must not be in another one, other than a rehearsal."""
    return transaction.atomic(durable=_present.get() is None)


def require_short() -> None:
    """Call before each step that locks the map. Raises TooLong in a rehearsal that has it locked for too long."""
    if (present := _present.get()) is None:
        return
    now = time.monotonic()
    present.locked_at = present.locked_at or now
    if now - present.locked_at > LONGEST:
        raise TooLong
