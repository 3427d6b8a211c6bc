"""The queue of a term's tasks, and the worker that runs them: a django-q2 cluster, a child process of the leader."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from datetime import timedelta

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
from clusteragent.lib.processes import manage
from nodes.models import Hearing

PREFIX = "pass-"

# All tasks that a worker runs.
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
# Seconds that a task may take if the default does not fit: there may be very many files to scan, runners to call or rows to
# prune, and a webhook's receiver may answer one byte at a time.
TIMEOUTS = {SCAN: 300, STATS: 300, REBALANCE: 300, PRUNE: 300, ANNOUNCE: 20}
# How many names of rejected rows are logged, and how many characters of each.
SHOWN, SHOWN_OF_EACH = 5, 80

# Seconds without any progress of a pass after which the worker is replaced. Less than half of the shortest pause between
# passes after which the next pass does not count silence.
STALE = 10.0
# Seconds that the worker has to end by itself.
GRACE = 1.0

log = structlog.get_logger()


class Queue:
    """The tasks of a term that wait or run. The payload of a row is the name of one of TASKS, nothing else."""

    def __init__(self, term: int) -> None:
        self.term = term
        self.name = f"{PREFIX}{term}"

    def put(self, task: str) -> bool:
        """Enqueue the task unless it waits or runs; return whether it was enqueued. Rows that are not ours are deleted."""
        assert task in TASKS
        rows = OrmQ.objects.filter(key=self.name)
        # A row with a later lock is not ours either: it would keep its task from being enqueued for the whole term.
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
        """Delete the rows of a worker that has ended: they would stay locked until their retry."""
        OrmQ.objects.filter(key=self.name).delete()

    @transaction.atomic
    def remove_earlier_terms(self) -> None:
        """Delete the rows of earlier terms, and log which of django-q2's schedules will never run. Raises NotLeader.

        The store's lock keeps a leader whose term is over from deleting the next leader's rows.
        """
        ClusterStore.objects.lock(self.term)
        OrmQ.objects.filter(key__startswith=PREFIX).exclude(key=self.name).delete()
        if schedules := Schedule.objects.values_list(Left("func", SHOWN_OF_EACH), flat=True)[:SHOWN]:
            log.warning("schedules_ignored", term=self.term, functions=list(schedules))


class Broker(orm.ORM):  # type: ignore[misc]
    """django-q2's broker: gives the worker its tasks. A row of the database only says which of TASKS is due.

    Whoever can write a row must not choose what runs as the leader's user. So nothing of a row is unpickled, imported or used
    as an argument: the package for the worker is made here. Results stay in memory, as a row of results holds a pickle.
    """

    @staticmethod
    def get_connection(list_key: str | None = None) -> "QuerySet[OrmQ]":
        """Return the queue's rows, as django-q2 asks for them, but only those with one of TASKS."""
        rows: QuerySet[OrmQ] = orm.ORM.get_connection(list_key).filter(payload__in=TASKS)
        return rows

    def dequeue(self) -> list[tuple[int, str]]:
        """Take due rows as (row's ID, package for the worker)."""
        return [(row, self._package(task)) for row, task in super().dequeue() or ()]

    def _package(self, task: str) -> str:
        """Return the task as django-q2 passes it to its processes."""
        options = {"ack_failure": True, "cached": 1, **({"timeout": TIMEOUTS[task]} if task in TIMEOUTS else {})}
        call = {"func": task, "args": (int(self.list_key.removeprefix(PREFIX)),), "kwargs": {}}
        package: str = SignedPackage.dumps(
            {"id": uuid.uuid4().hex, "name": task, "started": timezone.now(), **call, **options}
        )
        return package


class Worker:
    """The qcluster process of a term: started, watched and ended by the leader, always from its main thread."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._child: subprocess.Popen[bytes] | None = None
        self._sign_of_life: object = None
        self._seen_alive = 0.0

    def keep_alive(self) -> None:
        """Start the child if there is none; replace it when it has exited or no pass has made progress for STALE seconds."""
        if self._child is None:
            self._start()
        elif reason := self._failing(self._child):
            log.error("worker_restarted", term=self._queue.term, reason=reason)
            self.stop()
            self._queue.clear()
            self._start()

    def stop(self) -> None:
        """End the child by SIGTERM, after GRACE seconds by SIGKILL, and by SIGKILL what is left of its process group."""
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
        # A new program, not a fork, which would keep the socket of the leader's lock open. In a session of its own it does not
        # get the SIGINT of a Ctrl-C.
        self._child = subprocess.Popen(  # noqa: S603
            manage("runworker", "--parent", str(os.getpid())),
            env=os.environ | {"Q_CLUSTER_NAME": self._queue.name},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._seen_alive = time.monotonic()

    def _failing(self, child: subprocess.Popen[bytes]) -> str:
        """Return why the child must be replaced; empty when it works."""
        if child.poll() is not None:
            return f"it exited with {child.returncode}"
        # It changes with every pass that ends, and with every step of a long one.
        last_pass = Hearing.objects.values_list("last_pass", flat=True).first()
        sign = last_pass, ClusterStore.objects.values_list("revision", flat=True).first()
        if sign != self._sign_of_life:
            self._sign_of_life, self._seen_alive = sign, time.monotonic()
        stale = time.monotonic() - self._seen_alive > STALE
        return f"no pass for {STALE:g} s" if stale else ""
