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

    name: for the log. stale: seconds without a new sign of life after which it is replaced. starting: seconds that it has to its
    first one: on a machine without processor time a start takes long, and each one more would take that of the next. pause: the
    least number of seconds between two starts.
    """

    name: str
    stale: float
    starting: float
    pause = 0.0

    def __init__(self, term: int, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.term = term
        self._words, self._environment = words, environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sign: object = None
        self._started = 0.0
        # When a sign of life was new, of any process of the term; and whether the present process gave one.
        self._alive: float | None = None
        self._has_begun = False

    def sign_of_life(self) -> object:
        """Return what changes while the process makes progress."""
        raise NotImplementedError

    def left_behind(self) -> None:
        """Clear up what a process left that ended before its term."""

    def look(self) -> bool:
        """Look for a sign of life; return whether there is a new one. The leader may give it, too, before the first start."""
        sign = self.sign_of_life()
        if self._alive is not None and sign == self._sign:
            return False
        self._sign, self._alive = sign, time.monotonic()
        return True

    def silence(self) -> float:
        """Return the seconds since the last sign of life that was seen, or since the first look before that."""
        return 0.0 if self._alive is None else time.monotonic() - self._alive

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
        self.look()
        self._has_begun = False
        # A new program, not a fork, which would keep the socket of the leader's lock open. In a session of its own it does not
        # get the SIGINT of a Ctrl-C.
        self._process = subprocess.Popen(  # noqa: S603
            manage(*self._words, "--parent", str(os.getpid())),
            env=os.environ | self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started = time.monotonic()

    def _failing(self, process: subprocess.Popen[bytes]) -> str:
        """Return why the process must be replaced; empty when it works."""
        if process.poll() is not None:
            return f"it exited with {process.returncode}"
        self._has_begun |= self.look()
        if not self._has_begun:
            is_late = time.monotonic() - self._started > self.starting
            return f"no sign of life in {self.starting:g} s since its start" if is_late else ""
        return f"no sign of life for {self.stale:g} s" if self.silence() > self.stale else ""
