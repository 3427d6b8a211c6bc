"""The queue of a term's tasks, and the worker that runs them: a django-q2 cluster, a child process of the leader."""

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
from clusteragent.child import Child
from nodes.models import Hearing

PREFIX = "pass-"

# All tasks that a worker runs.
TASKS = PASS, SCAN, PROVE, PORTS, STATS, REBALANCE, REPATCH, PRUNE, ANNOUNCE = tuple(
    f"{task.__module__}.{task.__name__}"
    for task in (
        tasks.background_pass,
        tasks.scan_sources,
        tasks.prove,
        tasks.ask_ports,
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
# Seconds without any progress, whatever was replaced meanwhile, after which the term ends: another replica's machine may have
# the processor time or memory that this one lacks. A worker that starts has as long to its first pass.
GIVEN_UP = 60.0

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


class Worker(Child):
    """The qcluster process of a term."""

    name = "worker"
    stale, starting = STALE, GIVEN_UP

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue.term, "runworker", environment={"Q_CLUSTER_NAME": queue.name})
        self._queue = queue

    def sign_of_life(self) -> object:
        """Return what changes with every pass that ends, and with every step of a long one."""
        last_pass = Hearing.objects.values_list("last_pass", flat=True).first()
        return last_pass, ClusterStore.objects.values_list("steps", flat=True).first()

    def left_behind(self) -> None:
        """Clear the queue: what was running would stay locked."""
        self._queue.clear()
