"""How passwords are hashed: as Django does, and few at once, since each takes a core for a good part of a second."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# Hashed at once by a process, for strangers and for others; waiting for it, and for how many seconds.
MOST_AT_ONCE = 1
MOST_WAITING = 4
PATIENCE = 3.0


class TooBusy(Exception):
    """Too many passwords are being looked at. Try again in a few seconds."""

    status = 503
    retry_after = 3

    def __str__(self) -> str:
        return str(self.__doc__)


class Turns:
    """So many at once, so many who wait for so long; the others are turned away at once: each who waits takes a thread."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._room = threading.BoundedSemaphore(at_once + waiting)
        self._turn = threading.BoundedSemaphore(at_once)
        self._patience = patience

    @contextmanager
    def take(self) -> Iterator[None]:
        """Raises TooBusy."""
        if not self._room.acquire(blocking=False):
            raise TooBusy
        try:
            if not self._turn.acquire(timeout=self._patience):
                raise TooBusy
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._room.release()


# A flood of strangers' passwords must not keep out those who logged in by their browser before.
strangers, known = (Turns(MOST_AT_ONCE, MOST_WAITING, PATIENCE) for _ in range(2))
turns = ContextVar("turns", default=strangers)


class PatientHasher(PBKDF2PasswordHasher):
    """Django's own, by the same name, so that each finds the other's hashes. Raises TooBusy."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with turns.get().take():
            return super().encode(password, salt, iterations)
