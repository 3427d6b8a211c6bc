"""A process that the leader starts, watches and ends."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping

import structlog

from clusteragent.lib.processes import manage

# Seconds that a child has to end by itself.
GRACE = 1.0

log = structlog.get_logger()


class Child:
    """A process of a term, which ends with the leader. Its methods are always called from the leader's main thread.

    name: for the log. stale: seconds without a new sign of life after which it is replaced. pause: the least number of seconds
    between two starts.
    """

    name: str
    stale: float
    pause = 0.0

    def __init__(self, term: int, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.term = term
        self._words, self._environment = words, environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sign: object = None
        self._seen_alive = self._started = 0.0

    def sign_of_life(self) -> object:
        """Return what changes while the process makes progress."""
        raise NotImplementedError

    def left_behind(self) -> None:
        """Clear up what a process left that ended before its term."""

    def keep_alive(self) -> None:
        """Start the process if there is none; replace it when it has exited or gives no sign of life any more."""
        if self._process and (reason := self._failing(self._process)):
            log.error(f"{self.name}_restarted", term=self.term, reason=reason)
            self.stop()
            self.left_behind()
        if self._process is None and time.monotonic() - self._started >= self.pause:
            self._start()

    def stop(self) -> None:
        """End the process by SIGTERM, after GRACE seconds by SIGKILL, and by SIGKILL what is left of its process group."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            log.warning(f"{self.name}_killed", term=self.term)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _start(self) -> None:
        # A new program, not a fork, which would keep the socket of the leader's lock open. In a session of its own it does not
        # get the SIGINT of a Ctrl-C.
        self._process = subprocess.Popen(  # noqa: S603
            manage(*self._words, "--parent", str(os.getpid())),
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started = self._seen_alive = time.monotonic()

    def _failing(self, process: subprocess.Popen[bytes]) -> str:
        """Return why the process must be replaced; empty when it works."""
        if process.poll() is not None:
            return f"it exited with {process.returncode}"
        sign = self.sign_of_life()
        if sign != self._sign:
            self._sign, self._seen_alive = sign, time.monotonic()
        is_stale = time.monotonic() - self._seen_alive > self.stale
        return f"no sign of life for {self.stale:g} s" if is_stale else ""
