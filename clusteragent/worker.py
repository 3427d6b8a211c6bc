"""What works for a term: the queue of its tasks, and the only qcluster that serves it, a child of the leader."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.utils import timezone
from django_q.brokers import orm
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule
from django_q.signing import SignedPackage

from checks import tasks
from checks.models import ClusterStore
from clusteragent import webhook
from clusteragent.lib import processes
from nodes.models import Hearing

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"
PREFIX = "pass-"

# All that a worker ever runs.
TASKS = PASS, SCAN, STATS, REBALANCE, REPATCH, PRUNE, ANNOUNCE = tuple(
    f"{task.__module__}.{task.__name__}"
    for task in (
        tasks.background_pass,
        tasks.scan_sources,
        tasks.collect_stats,
        tasks.rebalance,
        tasks.repatch,
        tasks.prune,
        webhook.announce,
    )
)
# Seconds that a task may take, if not as long as others: a scan reads very many files, there may be very many runners to
# ask, much may have to be pruned, and a webhook's receiver may answer a byte at a time.
TIMEOUTS = {SCAN: 300, STATS: 300, REBALANCE: 300, PRUNE: 300, ANNOUNCE: 20}
# Names of others' rows that are logged, and how much of each.
SHOWN, SHOWN_OF_EACH = 5, 80

# Seconds without any sign of a pass after which the child is taken for wedged. Less than half of the shortest time after
# which passes that stood still make the next one believe that it was deaf.
STALE = 10.0
# Seconds that a child has to end by itself.
GRACE = 1.0

log = structlog.get_logger()


class Queue:
    """The tasks that wait for a term's worker or are with it. A row has the name of one of TASKS as its payload, no more."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.name = f"{PREFIX}{term}"

    def put(self, task: str) -> bool:
        """Enqueue the task, unless it is there already. Says whether it was enqueued. What others put there goes."""
        assert task in TASKS
        rows = OrmQ.objects.filter(key=self.name)
        # A row that is never free would keep its task from being enqueued for as long as the term.
        last = timezone.now() + timedelta(seconds=Conf.RETRY)
        foreign = rows.exclude(payload__in=TASKS, lock__lte=last)
        if names := list(foreign.values_list(Left("payload", SHOWN_OF_EACH), flat=True)[:SHOWN]):
            deleted, _ = foreign.delete()
            log.warning("tasks_refused", term=self.term, number=deleted, tasks=names)
        if rows.filter(payload=task).exists():
            return False
        OrmQ.objects.create(key=self.name, payload=task, lock=timezone.now())
        return True

    def clear(self) -> None:
        """Forget what a dead worker had: the rows would stay locked until their retry."""
        OrmQ.objects.filter(key=self.name).delete()

    @transaction.atomic
    def take_over(self) -> None:
        """Forget what earlier terms left, and say which schedules nobody will run. Raises NotLeader.

        The store's lock keeps a leader whose term is over from taking away the next one's rows.
        """
        ClusterStore.objects.lock(self.term)
        OrmQ.objects.filter(key__startswith=PREFIX).exclude(key=self.name).delete()
        if schedules := Schedule.objects.values_list(Left("func", SHOWN_OF_EACH), flat=True)[:SHOWN]:
            log.warning("schedules_ignored", term=self.term, functions=list(schedules))


class Broker(orm.ORM):  # type: ignore[misc]
    """What gives the worker its tasks: no row of the database says more than which of TASKS is due.

    Whoever can write a row must not choose what runs as the leader's user. So nothing of a row is unpickled, imported,
    or an argument; what the worker is told is made here, and its results stay in memory: a row of results holds a pickle.
    """

    @staticmethod
    def get_connection(list_key: str | None = None) -> "QuerySet[OrmQ]":
        rows: QuerySet[OrmQ] = orm.ORM.get_connection(list_key).filter(payload__in=TASKS)
        return rows

    def dequeue(self) -> list[tuple[int, str]]:
        return [(row, self._package(task)) for row, task in super().dequeue() or ()]

    def _package(self, task: str) -> str:
        """The task as django-q2 passes it on to its processes."""
        options = {"ack_failure": True, "cached": 1, **({"timeout": TIMEOUTS[task]} if task in TIMEOUTS else {})}
        call = {"func": task, "args": (int(self.list_key.removeprefix(PREFIX)),), "kwargs": {}}
        package: str = SignedPackage.dumps(
            {"id": uuid.uuid4().hex, "name": task, "started": timezone.now(), **call, **options}
        )
        return package


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
            env=os.environ | {"Q_CLUSTER_NAME": self._queue.name},
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
