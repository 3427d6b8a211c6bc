"""Hashes passwords as Django does, but few at once: each takes a core for a good part of a second."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.contrib.auth.hashers import PBKDF2PasswordHasher

# How many passwords a process hashes at once, for strangers and for known browsers each; how many callers wait, and for how
# many seconds.
MOST_AT_ONCE = 1
MOST_WAITING = 4
PATIENCE = 3.0


class TooBusy(Exception):
    """Too many passwords are being checked. Try again in a few seconds."""

    status = 503
    retry_after = 3

    def __str__(self) -> str:
        return str(self.__doc__)


class HashingSlots:
    """Limits how many callers run, and how many wait for how many seconds, since each holds a thread. Refuses all others."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._admitted = threading.BoundedSemaphore(at_once + waiting)
        self._running = threading.BoundedSemaphore(at_once)
        self._patience = patience

    @contextmanager
    def take(self) -> Iterator[None]:
        """A context that holds a turn. Raises TooBusy if no turn comes free in time."""
        if not self._admitted.acquire(blocking=False):
            raise TooBusy
        try:
            if not self._running.acquire(timeout=self._patience):
                raise TooBusy
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._admitted.release()


# A flood of strangers' passwords must not keep out users whose browsers logged in before.
strangers, known = (HashingSlots(MOST_AT_ONCE, MOST_WAITING, PATIENCE) for _ in range(2))
slots = ContextVar("slots", default=strangers)


class PatientHasher(PBKDF2PasswordHasher):
    """Django's own hasher, under the same name, so that each can verify the other's hashes. Raises TooBusy."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        with slots.get().take():
            return super().encode(password, salt, iterations)
