"""What works for a term: the queue of its tasks, and the only qcluster that serves it, a child of the leader."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django_q.models import OrmQ, Schedule
from django_q.tasks import async_task

from checks.models import ClusterStore
from clusteragent.lib import processes
from nodes.models import Hearing

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
PREFIX = "pass-"
BACKSTOP = "background pass"

# Seconds without any sign of a pass after which the child is taken for wedged. Less than half of the shortest time after
# which passes that stood still make the next one believe that it was deaf.
STALE = 10.0
# Seconds that a child has to end by itself.
GRACE = 1.0

log = structlog.get_logger()


class Queue:
    """The tasks that wait for a term's worker or are with it."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.name = f"{PREFIX}{term}"

    def put(self, task: str, **options: Any) -> bool:
        """Enqueue the task with the term as its argument, unless it is there already. Says whether it was enqueued."""
        if task in {row.func() for row in OrmQ.objects.filter(key=self.name)}:
            return False
        async_task(task, self.term, cluster=self.name, save=False, **options)
        return True

    def clear(self) -> None:
        """Forget what a dead worker had: the rows would stay locked until their retry."""
        OrmQ.objects.filter(key=self.name).delete()

    @transaction.atomic
    def take_over(self, backstop: str) -> None:
        """Forget what earlier terms left, and point the visible schedule, a task a minute, at this queue. Raises NotLeader.

        The store's lock keeps two leaders from making the schedule twice (names are not unique) and one whose term is
        over from taking it back.
        """
        ClusterStore.objects.lock(self.term)
        OrmQ.objects.filter(key__startswith=PREFIX).exclude(key=self.name).delete()
        schedule = {"func": backstop, "args": f"{self.term},", "schedule_type": Schedule.MINUTES, "minutes": 1}
        here = {"cluster": self.name, "next_run": Now() + timedelta(minutes=1)}
        Schedule.objects.update_or_create(name=BACKSTOP, defaults=schedule | here)


class Worker:
    """The qcluster of a term: started, watched and ended by its leader. All of it from the process's main thread."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._child: subprocess.Popen[bytes] | None = None
        self._sign_of_life: object = None
        self._seen_alive = 0.0

    def tend(self) -> None:
        """Start the child when none runs; start another when it exited or shows no sign of a pass for STALE seconds."""
        if self._child is None:
            self._start()
        elif reason := self._failing(self._child):
            log.error("worker_restarted", term=self._queue.term, reason=reason)
            self.stop()
            self._queue.clear()
            self._start()

    def stop(self) -> None:
        """End the child, and whatever is left of its process group. SIGTERM goes to its main process alone."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            log.warning("worker_killed", term=self._queue.term)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._child = None

    def _start(self) -> None:
        # A fork that is not followed by exec would keep the socket of the leader's lock open. A session of its own, so
        # that a Ctrl-C meant for us does not reach it.
        self._child = subprocess.Popen(  # noqa: S603
            [sys.executable, str(MANAGE), "runworker", "--parent", str(os.getpid())],
            env=os.environ | {"Q_CLUSTER_NAME": self._queue.name, "CLUSTERAGENT_SECRET_KEY": settings.SECRET_KEY},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._seen_alive = time.monotonic()

    def _failing(self, child: subprocess.Popen[bytes]) -> str:
        """Why the child must be replaced; empty when it does well."""
        if child.poll() is not None:
            return f"it exited with {child.returncode}"
        sign = self._passes_seen()
        if sign != self._sign_of_life:
            self._sign_of_life, self._seen_alive = sign, time.monotonic()
        stale = time.monotonic() - self._seen_alive > STALE
        return f"no pass for {STALE:g} s" if stale else ""

    @staticmethod
    def _passes_seen() -> object:
        """Changes with every pass that ends, and with every step of a long one."""
        last_pass = Hearing.objects.values_list("last_pass", flat=True).first()
        return last_pass, ClusterStore.objects.values_list("revision", flat=True).first()


def end_with(parent: int) -> None:
    """End this process when `parent`, which started it, ends, and all that it forks from now on when their parents end.

    By SIGKILL: qcluster's own end waits for a worker that may never answer, and what a transaction has not committed, the
    next leader does.
    """
    processes.end_with(parent)
    os.register_at_fork(after_in_child=lambda: processes.end_with(os.getppid()))
