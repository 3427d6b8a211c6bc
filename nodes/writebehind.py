"""Heartbeats that are written a moment after their answer.

Nearly every report says what its node said before, and that it has the last version. Such a report is answered from what the
process knows, and written with all others of the moment. What the process knows is kept right by notifications: a trigger
sends one with each transaction that changes a config version or loses a node. When they have not been heard up to the last
tenth of a second, or writing lags, the report is written before its answer, as all others are.
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

# Ids of nodes, in texts with blanks between, whose versions changed or that were lost. A trigger sends them.
CHANNEL = "clusteragent_nodes"

# Seconds between two writes.
EVERY = 0.05
# How old, in seconds, what was heard may be when it counts, and how long a report may have waited when more are taken.
FRESH, PROMPT = 0.1, 0.25
# Seconds between two words by which it is proved that we listen where heartbeats are written, and how long each counts.
SAY_EVERY, PROVED = 1.0, 2.5
# A report that waited for longer says nothing any more: whoever was stopped for a while must not revive the dead.
TOO_LATE = 1.0
# Letters of a declaration up to which it is known by heart, and nodes whose changes are.
LONG, MANY = 4096, 100_000

_WORD = "#"

log = structlog.get_logger()


class _Taken(NamedTuple):
    """A report that was answered, and the moment of the monotonic clock at which it came."""

    report: Report
    came: float


class Behind:
    """What a process knows of its nodes, and the reports that it has answered and not written yet. Lives on one event loop."""

    def __init__(self, write: Write, read: Read) -> None:
        """write: heartbeats. read: what all nodes report while nothing changes, with their ids."""
        self._write, self._read = write, read
        # What was to be known is still to be read.
        self._is_blank = True
        # What nodes report while nothing changes.
        self._known: dict[str, Report] = {}
        self._names: dict[int, str] = {}
        self._listener = Listener(CHANNEL, heard=self._hear, missed=self._forget)
        # Notifications are counted, so that what was read before one is not learnt after it.
        self._serial = self._forgotten = 0
        self._changed: dict[int, int] = {}
        self._waiting: dict[str, _Taken] = {}
        # When the first of those came that wait for their first write, and of those that are being written.
        self._waits_since: float | None = None
        self._written_since: float | None = None
        # The last thing that was tried could not be written.
        self._fails = False
        # The word that was notified last by where heartbeats are written, when that was, and when that was of the last one heard.
        self._word = ""
        self._said_at = self._proved_at = self._asked_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "behind")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Listen and write from now on, if that was not begun yet."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._listener.run()), asyncio.create_task(self._run())]

    def takes(self, report: Report) -> bool:
        """Take a report that says that nothing changed, if that is known to be so: its node is up to date."""
        now = time.monotonic()
        self._asked_at = now
        if self._known.get(report.name) != report or not self._is_fresh(now):
            if report.last_change != EXTRA_HEARTBEAT:
                # What it says now is written before what it said before, which must not undo that.
                self._waiting.pop(report.name, None)
            return False
        if not self._waiting or self._waits_since is None:
            self._waits_since = now
        self._waiting[report.name] = _Taken(report, now)
        return True

    def mark(self) -> int:
        """A moment: what is read after it may be learnt, unless it was notified of since."""
        return self._serial

    def learn(self, report: Report, beat: Beat, mark: int) -> None:
        """Know what this report's heartbeat found, which was written and read after the mark."""
        self._note(None)
        if beat.is_late or report.last_change == EXTRA_HEARTBEAT:
            return  # others know better; it leaves out what others say
        if beat.warmup:
            self._known.pop(report.name, None)
        else:
            self._know(beat.node_id, report._replace(last_change=beat.config_version), mark)

    def _know(self, node_id: int, report: Report, mark: int) -> None:
        """That the node reports this while nothing changes, if it was so at the mark and nothing was heard of it since."""
        is_old = max(self._forgotten, self._changed.get(node_id, 0)) > mark
        # A node without a version yet always reports as one does that starts anew.
        if is_old or report.last_change == 0 or len(report.declared) > LONG:
            self._known.pop(report.name, None)
        else:
            self._names[node_id] = report.name
            self._known[report.name] = report

    def _is_fresh(self, now: float) -> bool:
        since = self._written_since or self._waits_since or now
        is_proved = self._listener.has_heard(now, FRESH) and now - self._proved_at <= PROVED
        return is_proved and not self._fails and now - since <= PROMPT

    def _hear(self, payload: str) -> None:
        if payload.startswith(_WORD):
            if payload == self._word:
                self._proved_at = self._said_at
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
            if now - self._asked_at < SAY_EVERY <= now - self._said_at:
                await self._say(now)
            if self._is_blank and self._listener.has_heard(now, FRESH):
                await self._recall()
            if self._waiting:
                await self._flush()
            else:
                self._waits_since = None

    async def _say(self, now: float) -> None:
        """Notify of a word, which is heard by whoever listens where heartbeats are written, and not elsewhere."""
        self._word, self._said_at = f"{_WORD}{secrets.token_hex(8)}", now
        # Who can't say it does not hear it.
        with suppress(database.Away, DatabaseError):
            await self._ask(partial(notify, CHANNEL, self._word))

    async def _recall(self) -> None:
        """Know at once what else each node's next report would teach."""
        self._is_blank, mark = False, self.mark()
        try:
            found = await self._ask(self._read)
        except (database.Away, DatabaseError):
            return
        for node_id, report in found:
            if report.name not in self._known:
                self._know(node_id, report, mark)

    async def _flush(self) -> None:
        """Write what waits; what could not be written waits on."""
        taken, self._waiting = self._waiting, {}
        self._written_since, self._waits_since = self._waits_since, None
        mark = self.mark()
        try:
            outcomes = await self._ask(partial(self._write_in_time, taken))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and tried again
            self._note(error)
            outcomes = dict.fromkeys(taken)
        else:
            if not any(isinstance(outcome, Beat) for outcome in outcomes.values()):
                self._note(database.Away("nothing of it was written"))
        for name, outcome in outcomes.items():
            if isinstance(outcome, Beat):
                self.learn(taken[name].report, outcome, mark)
            elif outcome is None:
                # Somebody holds its row.
                self._waiting.setdefault(name, taken[name])
            else:
                self._known.pop(name, None)
        self._written_since = None

    def _note(self, error: Exception | None) -> None:
        """Heartbeats could be written, or not. While they can't, none is answered before it is."""
        if self._fails != bool(error):
            self._fails = bool(error)
            if error:
                is_bug = not isinstance(error, database.Away)
                told = " ".join(str(error).split()) or repr(error)
                log.warning("heartbeats_not_written", error=told, exc_info=error if is_bug else None)
            else:
                log.info("heartbeats_written_again")

    def _write_in_time(self, taken: Mapping[str, _Taken]) -> dict[str, Beat | Exception | None]:
        """Write these, but for those that came too long ago: what became of each."""
        # First: that may take as long as all the rest.
        connection.ensure_connection()
        now = time.monotonic()
        reports = [report._replace(age=now - came) for report, came in taken.values() if now - came <= TOO_LATE]
        if len(reports) < len(taken):
            log.warning("heartbeats_too_late", number=len(taken) - len(reports))
        return dict(zip((report.name for report in reports), self._write(reports), strict=True)) if reports else {}

    async def _ask(self, work: Callable[[], T]) -> T:
        """Ask the database, in the one thread that does so for all of this."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(database.ask_aside, work))
