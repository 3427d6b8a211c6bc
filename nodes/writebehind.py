"""Writes heartbeats shortly after they were answered.

Nearly every report repeats the node's last one and acknowledges the latest version. Such a report is answered from memory and
written together with all others of that moment. Notifications keep the memory right: a trigger sends one with each transaction
that changes a config version or loses a node. If notifications were not received up to the last tenth of a second, or if
writing lags, the report is written before its answer, as all others are.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

import structlog
from django.db import DatabaseError, connection

from clusteragent.lib import database
from clusteragent.lib.database.listening import Listener, notify
from nodes.models.heartbeats import EXTRA_HEARTBEAT, Beat, Report

T = TypeVar("T")
Write = Callable[[Sequence[Report]], Sequence[Beat | Exception | None]]
Read = Callable[[], Sequence[tuple[int, Report]]]

# A trigger notifies of the ids of nodes that were lost or whose versions changed, separated by blanks.
CHANNEL = "clusteragent_nodes"

# Seconds between two writes.
EVERY = 0.05
# In seconds: how long ago the listener may have heard something to count as up to date, and how long a report may have waited
# for its write while more are taken.
FRESH, PROMPT = 0.1, 0.25
# In seconds: the time between two words that prove that we listen on the database where heartbeats are written, and how long
# each of them counts.
SEND_EVERY, PROVED = 1.0, 2.5
# In seconds. A report that waited longer is dropped: a process that was stopped for a while must not revive lost nodes.
TOO_LATE = 1.0
# The longest declaration, in characters, that is remembered, and the most nodes whose changes are.
LONG, MANY = 4096, 100_000

_WORD = "#"

log = structlog.get_logger()


class _Taken(NamedTuple):
    """A report that was answered, and when it came, by the monotonic clock."""

    report: Report
    came: float


class WriteBehind:
    """What this process knows of the nodes, and the reports that were answered but not written yet. It belongs to one event
    loop.
    """

    def __init__(self, write: Write, read: Read) -> None:
        """write: writes reports and returns an outcome for each. read: returns [(node id, the report that the node repeats
        while nothing changes)].
        """
        self._write, self._read = write, read
        # The memory is empty, and must be read from the database.
        self._is_blank = True
        # {node name: the report that it repeats while nothing changes}.
        self._known: dict[str, Report] = {}
        self._names: dict[int, str] = {}
        self._listener = Listener(CHANNEL, heard=self._hear, missed=self._forget)
        # Notifications are counted, so that what was read before a notification is not learnt after it.
        self._serial = self._forgotten = 0
        self._changed: dict[int, int] = {}
        self._waiting: dict[str, _Taken] = {}
        # When the first report came of those that wait for their first write, and of those that are being written.
        self._waits_since: float | None = None
        self._written_since: float | None = None
        # Whether the last write failed.
        self._fails = False
        # The last word that was sent through the database where heartbeats are written; when it was sent; when the last word that
        # was heard had been sent.
        self._word = ""
        self._sent_at = self._proved_at = self._asked_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "behind")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to listen and to write, unless that was done before."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listener.run()), asyncio.create_task(self._run())]

    def takes(self, report: Report) -> bool:
        """Take the report to be written later and return True, if it is known to change nothing. Its node is then up to date."""
        now = time.monotonic()
        self._asked_at = now
        since = self._written_since or self._waits_since or now
        may_wait = now - self._proved_at <= PROVED and now - since <= PROMPT and not self._fails
        # The listener is asked of known reports alone: it listens more often while it is asked.
        if self._known.get(report.name) != report or not self._listener.has_heard(now, FRESH) or not may_wait:
            if report.last_change != EXTRA_HEARTBEAT:
                # This report is written at once. The waiting one is older and must not undo it.
                self._waiting.pop(report.name, None)
            return False
        if not self._waiting or self._waits_since is None:
            self._waits_since = now
        self._waiting[report.name] = _Taken(report, now)
        return True

    def mark(self) -> int:
        """A mark for `learn`: what is read after it may be learnt, unless a notification about it came since."""
        return self._serial

    def learn(self, report: Report, beat: Beat, mark: int) -> None:
        """Remember what writing this report found. mark: taken before it was written and read."""
        self._note(None)
        if beat.is_late or report.last_change == EXTRA_HEARTBEAT:
            return  # a late one is outdated; an extra heartbeat is incomplete
        if beat.warmup:
            self._known.pop(report.name, None)
        else:
            self._remember(beat.node_id, report._replace(last_change=beat.config_version), mark)

    def _remember(self, node_id: int, report: Report, mark: int) -> None:
        """Remember that the node repeats this report while nothing changes, unless it was notified of after the mark."""
        is_old = max(self._forgotten, self._changed.get(node_id, 0)) > mark
        # A node without a version reports like a node that has just started.
        if is_old or report.last_change == 0 or len(report.declared) > LONG:
            self._known.pop(report.name, None)
        else:
            self._names[node_id] = report.name
            self._known[report.name] = report

    def _hear(self, payload: str) -> None:
        if payload.startswith(_WORD):
            if payload == self._word:
                self._proved_at = self._sent_at
            return
        if len(self._changed) > MANY:
            self._forget()
        self._serial += 1
        for number in map(int, payload.split()):
            self._changed[number] = self._serial
            if name := self._names.pop(number, None):
                self._known.pop(name, None)

    def _forget(self) -> None:
        self._serial += 1
        self._forgotten = self._serial
        self._is_blank = True
        for memory in (self._known, self._names, self._changed):
            memory.clear()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            if now - self._asked_at < SEND_EVERY <= now - self._sent_at:
                # Sent through the connection that writes heartbeats: hearing it proves that we listen on the same database.
                self._word, self._sent_at = f"{_WORD}{secrets.token_hex(8)}", now
                # A word that could not be sent is not heard either.
                with suppress(database.Away, DatabaseError):
                    await self._ask(partial(notify, CHANNEL, self._word))
            if self._is_blank and self._listener.has_heard(now, FRESH):
                await self._recall()
            if self._waiting:
                await self._flush()
            else:
                self._waits_since = None

    async def _recall(self) -> None:
        """Read from the database what every node's next report would teach."""
        self._is_blank, mark = False, self.mark()
        try:
            found = await self._ask(self._read)
        except (database.Away, DatabaseError):
            self._is_blank = True
            return
        for node_id, report in found:
            if report.name not in self._known:
                self._remember(node_id, report, mark)

    async def _flush(self) -> None:
        """Write what waits. What could not be written keeps waiting."""
        taken, self._waiting = self._waiting, {}
        self._written_since, self._waits_since = self._waits_since, None
        mark = self.mark()
        try:
            outcomes = await self._ask(partial(self._write_in_time, taken))
        except Exception as error:  # noqa: BLE001 - any error is logged, and the write is tried again
            self._note(error)
            outcomes = dict.fromkeys(taken)
        else:
            if not any(isinstance(outcome, Beat) for outcome in outcomes.values()):
                self._note(database.Away("nothing of it was written"))
        for name, outcome in outcomes.items():
            if isinstance(outcome, Beat):
                self.learn(taken[name].report, outcome, mark)
            elif outcome is None:
                # Another transaction holds the node's row.
                self._waiting.setdefault(name, taken[name])
            else:
                self._known.pop(name, None)
        self._written_since = None

    def _note(self, error: Exception | None) -> None:
        """Note whether heartbeats could be written. While they can't, each is written before it is answered."""
        if self._fails != bool(error):
            self._fails = bool(error)
            if error:
                is_bug = not isinstance(error, database.Away)
                problem = " ".join(str(error).split()) or repr(error)
                log.warning("heartbeats_not_written", error=problem, exc_info=error if is_bug else None)
            else:
                log.info("heartbeats_written_again")

    def _write_in_time(self, taken: Mapping[str, _Taken]) -> dict[str, Beat | Exception | None]:
        """Write these reports, except those that came too long ago. Returns {node name: outcome}."""
        # Connect first: that may take as long as all the rest.
        connection.ensure_connection()
        now = time.monotonic()
        reports = [report._replace(age=now - came) for report, came in taken.values() if now - came <= TOO_LATE]
        if len(reports) < len(taken):
            log.warning("heartbeats_too_late", number=len(taken) - len(reports))
        return dict(zip((report.name for report in reports), self._write(reports), strict=True)) if reports else {}

    async def _ask(self, work: Callable[[], T]) -> T:
        """Run the work in the one thread that asks the database for this object."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(database.ask_aside, work))
