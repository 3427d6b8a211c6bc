"""The Handler: watches leadership, and runs the life cycle of the background pass while this process leads."""

import atexit
import enum
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Collection
from datetime import datetime
from types import FrameType
from typing import NamedTuple, Never

import django.db
import psycopg
import structlog
from django.db import connection

from checks import tasks
from checks.models import ClusterStore
from checks.models.map import Call
from clusteragent.leader import Candidate, TermOver
from clusteragent.lib import conf
from clusteragent.watch import FolderWatch
from clusteragent.worker import ANNOUNCE, PASS, PRUNE, REBALANCE, REPATCH, SCAN, STATS, Queue, Worker
from nodes.models import Hearing
from operators import fingerprints

# Seconds between two looks at what is due; also how long a call for a pass can wait behind one that runs.
STEP = 0.2
# A file is read once it stood still for a second, so the scan that a change asks for comes a little after that.
SETTLE = 1.2
# Seconds without an end of a turn of the main loop after which the database is taken for away. A server that is stopped,
# or a proxy that forgot us, answers neither yes nor no.
STALLED = 20

# Seconds that an orderly end may take.
ORDERLY_END = 2

log = structlog.get_logger()


class State(enum.StrEnum):
    """What this process is. Unknown: the database did not say yet, or does not any more."""

    UNKNOWN = enum.auto()
    LEADER = enum.auto()
    FOLLOWER = enum.auto()


class Status(NamedTuple):
    """What the database says about the background pass. Its time is the database's."""

    term: int
    leader: str
    last_pass: datetime | None


def status() -> Status:
    """Who led last, and when the last pass ended; readable in every process."""
    store = ClusterStore.objects.get()
    return Status(store.term, store.leader, Hearing.objects.get().last_pass)


class Stalled(Exception):
    """The database does not answer."""


class Handler:
    """Campaigns, leads while it holds the lock, and campaigns again: whatever becomes of the database, until a signal."""

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.term: int | None = None

    def run(self) -> Never:
        """Do so until SIGTERM or SIGINT, which raise SystemExit after the lock was given back and the worker is gone."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _stop)
        signal.signal(signal.SIGALRM, _stall)
        while True:
            try:
                with self.connect() as candidate:
                    while True:
                        self.watch(candidate)
            except (TermOver, Stalled, psycopg.Error, django.db.Error) as error:
                log.warning("session_lost", error=_line(error))
            self.state = State.UNKNOWN
            # What broke one session broke Django's too, which would only find out by failing.
            connection.close()
            # Whoever leads next should not be one that just failed to.
            time.sleep(1)

    def connect(self) -> Candidate:
        """A session, as soon as the database gives one. Says once that it is away, and when it is back."""
        for attempt in itertools.count():
            signal.alarm(STALLED)
            try:
                candidate = Candidate()
            except (Stalled, psycopg.Error) as error:
                if not attempt:
                    log.warning("database_away", error=_line(error))
                time.sleep(min(0.1 * 2**attempt, 2))
            else:
                if attempt:
                    log.warning("database_back")
                return candidate
        raise AssertionError("unreachable")

    def watch(self, candidate: Candidate) -> None:
        """Wait for the lock for a second, and lead if it is ours. Raises what ends the leadership."""
        signal.alarm(STALLED)
        if candidate.campaign():
            self._lead(candidate)
        elif self.state != State.FOLLOWER:
            self.state = State.FOLLOWER
            log.info("following", term=ClusterStore.objects.get().term)
            for secret in fingerprints.differing():
                log.error("secret_differs_from_leader", secret=secret)

    def _lead(self, candidate: Candidate) -> None:
        self.term = candidate.begin_term()
        self.state = State.LEADER
        log.info("leader_elected", term=self.term, leader=candidate.name)
        term = Term(self.term)
        try:
            while True:
                signal.alarm(STALLED)
                candidate.ping(self.term)
                term.tend(candidate.calls(STEP))
        finally:
            # First: the term fences what still runs, so a follower need not wait until it is stopped.
            candidate.resign()
            term.end()
            log.warning("leader_lost", term=self.term)
            self.state, self.term = State.UNKNOWN, None


class Term:
    """The duties of a leader: a first pass at once, then the worker, its tasks in time, and an eye on the folders."""

    def __init__(self, term: int) -> None:
        self._queue = Queue(term)
        self._worker = Worker(self._queue)
        self._agenda = Agenda(self._queue)
        self._watch = FolderWatch(conf.CONFD)
        # The first pass does not wait for a worker to start. A thread, since it may take longer than the lease lasts.
        self._opening = threading.Thread(target=self._open, name="first pass", daemon=True)
        self._opening.start()

    def tend(self, calls: Collection[str]) -> None:
        """Do what is due, and what someone called for."""
        if Call.PASS in calls:
            self._agenda.call(PASS)
        if Call.SCAN in calls or self._watch.take_change():
            self._agenda.call(SCAN, after=SETTLE)
        if not self._opening.is_alive():
            self._worker.tend()
            self._agenda.work_off()

    def end(self) -> None:
        self._watch.stop()
        self._worker.stop()

    def _open(self) -> None:
        try:
            tasks.background_pass(self._queue.term)
            self._queue.take_over()
            fingerprints.publish(self._queue.term)
        except Exception:
            log.exception("pass_failed", term=self._queue.term)
        finally:
            connection.close()


class Agenda:
    """When each task is due: regularly, and when called for. What is still in the queue is not enqueued again."""

    def __init__(self, queue: Queue) -> None:
        now = time.monotonic()
        self._queue = queue
        scan, rebalance = conf.SCAN_PERIOD.total_seconds(), conf.REBALANCE_PERIOD.total_seconds()
        # A rebalance asks for stats first.
        stats = 60.0 if rebalance > 60 else math.inf
        self._periods = {
            PASS: 1.0, SCAN: scan, STATS: stats, REBALANCE: rebalance, REPATCH: 60.0, PRUNE: 3600.0
        }  # fmt: skip
        # Not at once: leaders that follow each other quickly must not restart more checks than one would.
        late = {REBALANCE: now + max(60, rebalance), REPATCH: now + 60}
        self._due = {PASS: now, SCAN: now, STATS: now + 10, PRUNE: now + 60} | late
        if conf.WEBHOOK:
            self._periods[ANNOUNCE] = 15.0
            self._due[ANNOUNCE] = now + 15
        self._called_for: dict[str, float] = {}

    def call(self, task: str, after: float = 0.0) -> None:
        """The task is due that many seconds from now. A storm of calls makes it due once in that time, and once after it."""
        time_due = time.monotonic() + after
        self._called_for[task] = time_due
        self._due[task] = min(self._due[task], time_due)

    def work_off(self) -> None:
        """Enqueue what is due."""
        now = time.monotonic()
        for task, due in self._due.items():
            if due <= now and self._queue.put(task):
                called_for = self._called_for.pop(task, now)
                self._due[task] = called_for if called_for > now else now + self._periods[task]


def _line(error: Exception) -> str:
    """An error's message as one line: those of the database have several."""
    return " ".join(str(error).split())


def _stop(signum: int, frame: FrameType | None) -> Never:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    # A database that hangs would hold up an orderly end. The kernel ends the worker with us.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(ORDERLY_END)
    # While the interpreter itself ends, which takes a while on a busy machine, it has no handlers: the alarm would kill us.
    atexit.register(signal.alarm, 0)
    raise SystemExit(0)


def _stall(signum: int, frame: FrameType | None) -> Never:
    raise Stalled(f"the database did not answer for {STALLED} s")
