"""The Handler: campaigns for leadership, and runs the background tasks while this process leads."""

import atexit
import enum
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Collection
from types import FrameType
from typing import Never

import django.db
import psycopg
import structlog
from django.db import connection

from checks import tasks
from checks.models import ClusterStore
from checks.models.map import Call
from checks.sources.kubernetes import options as kubernetes
from checks.sources.kubernetes.following import note_unwatched
from clusteragent import schema
from clusteragent.child import Child
from clusteragent.leader import Candidate, TermOver
from clusteragent.lib import conf
from clusteragent.lib.words import listed
from clusteragent.schema import NotMigrated
from clusteragent.watch import FolderWatch
from clusteragent.watcher import Watcher
from clusteragent.worker import (
    ANNOUNCE,
    GIVEN_UP,
    PASS,
    PORTS,
    PROVE,
    PRUNE,
    REBALANCE,
    REPATCH,
    SCAN,
    STATS,
    Queue,
    Worker,
)
from operators import fingerprints

# Seconds between two checks of what is due; also the longest time that a call for a pass waits behind a running pass.
STEP = 0.2
# A file is read only when it has not changed for a second, so the scan after a change comes a little later than that.
SETTLE = 1.2
# Seconds that one round of the main loop may take. After that the database counts as away: a server that was stopped, or a
# proxy that lost the connection, returns no error.
STALLED = 20

# Seconds that an orderly end may take.
ORDERLY_END = 2

log = structlog.get_logger()


class State(enum.StrEnum):
    """The role of this process. UNKNOWN: it has no session in the database."""

    UNKNOWN = enum.auto()
    LEADER = enum.auto()
    FOLLOWER = enum.auto()


class Stalled(Exception):
    """The database does not answer."""


class NoPass(Exception):
    """No pass ends: the first one hangs, or the worker runs none, however often it is started."""


class Handler:
    """Campaigns, leads while it holds the lock, and then campaigns again, until a signal. It survives every database error."""

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.term: int | None = None

    def run(self) -> Never:
        """Run until SIGTERM or SIGINT, then release the lock, end the worker and raise SystemExit."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _stop)
        signal.signal(signal.SIGALRM, _stall)
        while True:
            try:
                with self.connect() as candidate:
                    while True:
                        self.watch(candidate)
            except NoPass as error:
                log.warning("leadership_given_up", reason=str(error))
            except (TermOver, Stalled, psycopg.Error, django.db.Error) as error:
                log.warning("session_lost", error=_line(error))
            self.state = State.UNKNOWN
            # Django's session is probably lost too, and would notice it only by failing.
            connection.close()
            # Another replica, whose session and worker work, should lead next.
            time.sleep(1)

    def connect(self) -> Candidate:
        """Return a session as soon as the database accepts one and has our schema. Logs once what it waits for, and its end."""
        said = ""
        for attempt in itertools.count():
            signal.alarm(STALLED)
            try:
                require_schema()
                candidate = Candidate()
            except (Stalled, NotMigrated, psycopg.Error, django.db.Error) as error:
                # A session that failed once may never work again.
                connection.close()
                event = "schema_older" if isinstance(error, NotMigrated) else "database_away"
                if event != said:
                    log.warning(event, error=_line(error))
                said = event
                time.sleep(min(0.1 * 2**attempt, 2))
            else:
                if said:
                    log.warning("database_back")
                return candidate
        raise AssertionError("unreachable")

    def watch(self, candidate: Candidate) -> None:
        """Wait for the lock for at most a second, and lead if it is won. Raises the error that ends the leadership."""
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
                term.step(candidate.calls(STEP))
        finally:
            # First: the term fences tasks that still run, so a follower need not wait until they are stopped.
            candidate.resign()
            term.end()
            log.warning("leader_lost", term=self.term)
            self.state, self.term = State.UNKNOWN, None


class Term:
    """The duties of a leader: a first pass at once, then the worker, its tasks on schedule, and the watch of the folders."""

    def __init__(self, term: int) -> None:
        self._queue = Queue(term)
        self._worker = Worker(self._queue)
        self._children: list[Child] = [self._worker]
        if kubernetes.is_watched():
            self._children.append(Watcher(term))
        self._schedule = TaskSchedule(self._queue)
        self._watch = FolderWatch(conf.CONFD)
        # The first pass does not wait for a worker to start. It runs in a thread, since it may take longer than the lease.
        self._opening = threading.Thread(target=self._open, name="first pass", daemon=True)
        self._opening.start()

    def step(self, calls: Collection[str]) -> None:
        """Enqueue the tasks that are due or called for, and keep the worker alive. Called every STEP seconds. Raises NoPass."""
        if Call.PASS in calls:
            self._schedule.call(PASS)
        if Call.PROVE in calls:
            self._schedule.call(PROVE)
        if Call.PORTS in calls:
            self._schedule.call(PORTS)
        if Call.SCAN in calls or self._watch.take_change():
            self._schedule.call(SCAN, after=SETTLE)
        if self._opening.is_alive():
            self._worker.look()
        else:
            for child in self._children:
                child.keep_alive()
            self._schedule.enqueue_due()
        if self._worker.silence() > GIVEN_UP:
            raise NoPass(f"no pass ended for {GIVEN_UP:g} s")

    def end(self) -> None:
        """End the watch of the folders and the processes of the term."""
        self._watch.stop()
        for child in self._children:
            child.stop()

    def _open(self) -> None:
        try:
            tasks.background_pass(self._queue.term)
            self._queue.remove_earlier_terms()
            fingerprints.publish(self._queue.term)
            if not kubernetes.is_watched():
                note_unwatched()
        except Exception:
            log.exception("pass_failed", term=self._queue.term)
        finally:
            connection.close()


class TaskSchedule:
    """When each task is due: periodically, and when called for. A task that is still in the queue is not enqueued again."""

    def __init__(self, queue: Queue) -> None:
        now = time.monotonic()
        self._queue = queue
        scan, rebalance = conf.SCAN_PERIOD.total_seconds(), conf.REBALANCE_PERIOD.total_seconds()
        # A rebalance collects stats first, so they have a period of their own only when rebalances are rare.
        stats = 60.0 if rebalance > 60 else math.inf
        self._periods = {
            PASS: 1.0, SCAN: scan, PROVE: math.inf, PORTS: math.inf, STATS: stats, REBALANCE: rebalance, REPATCH: 60.0,
            PRUNE: 3600.0,
        }  # fmt: skip
        # Not at once: several leaders in quick succession must not restart more checks than one leader would.
        late = {REBALANCE: now + max(60, rebalance), REPATCH: now + 60}
        self._due = {PASS: now, SCAN: now, PROVE: math.inf, PORTS: math.inf, STATS: now + 10, PRUNE: now + 60} | late
        if conf.WEBHOOK:
            self._periods[ANNOUNCE] = 15.0
            self._due[ANNOUNCE] = now + 15
        self._called_for: dict[str, float] = {}

    def call(self, task: str, after: float = 0.0) -> None:
        """Make the task due `after` seconds from now. Many calls within that time make it due once in it and once after it."""
        time_due = time.monotonic() + after
        self._called_for[task] = time_due
        self._due[task] = min(self._due[task], time_due)

    def enqueue_due(self) -> None:
        """Enqueue the tasks that are due."""
        now = time.monotonic()
        for task, due in self._due.items():
            if due <= now and self._queue.put(task):
                called_for = self._called_for.pop(task, now)
                self._due[task] = called_for if called_for > now else now + self._periods[task]


def require_schema() -> None:
    """Raise NotMigrated if migrations of this version are missing: as a leader it would fail, while an older one still works."""
    missing, newer = schema.compare()
    if missing:
        raise NotMigrated(f"the database is older than this version: run `clusteragent migrate` for {listed(missing)}")
    if newer:
        log.warning("schema_newer", migrations=listed(newer))


def _line(error: Exception) -> str:
    """Return an error's message as one line: the database's have several."""
    return " ".join(str(error).split())


def _stop(signum: int, frame: FrameType | None) -> Never:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    # A database that hangs must not delay the end for longer. The kernel ends the worker with this process.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(ORDERLY_END)
    # The interpreter's own end may take a while on a busy machine. It has no signal handlers then: the alarm would kill us.
    atexit.register(signal.alarm, 0)
    raise SystemExit(0)


def _stall(signum: int, frame: FrameType | None) -> Never:
    raise Stalled(f"the database did not answer for {STALLED} s")
