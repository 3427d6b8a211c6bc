"""The Handler's states and life cycle, also by the peer's cases where they apply to a server that forwards nothing."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from checks import tasks
from checks.models import Config
from checks.tests.cast import sent
from clusteragent import handler as module
from clusteragent.handler import (
    ANNOUNCE,
    PASS,
    PRUNE,
    REBALANCE,
    REPATCH,
    SCAN,
    STATS,
    Handler,
    NoPass,
    State,
    TaskSchedule,
)
from clusteragent.leader import Candidate, TermOver
from clusteragent.lib import conf
from clusteragent.worker import GIVEN_UP, TIMEOUTS
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing
from tests import peer_cases


@pytest.fixture(autouse=True)
def _no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off the alarm: only run() has a handler for it."""
    monkeypatch.setattr(module, "STALLED", 0)


def peer_case(name: str) -> dict[str, Any]:
    return peer_cases.cases("dispatch.json")[name]


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Enqueued(list[tuple[float, str]]):
    """A queue that notes when each task was enqueued, and accepts tasks unless it is `busy`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.busy: set[str] = set()

    def put(self, task: str, **options: Any) -> bool:
        if task in self.busy:
            return False
        self.append((self.clock.now - 1000, task))
        return True

    def times(self, task: str) -> list[float]:
        return [round(time, 1) for time, name in self if name == task]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def enqueued(clock: Clock) -> Enqueued:
    return Enqueued(clock)


@pytest.fixture
def schedule(enqueued: Enqueued) -> TaskSchedule:
    return TaskSchedule(enqueued)  # type: ignore[arg-type]


def run(schedule: TaskSchedule, clock: Clock, until: float, each: Callable[[float], None] = lambda now: None) -> None:
    while clock.now < 1000 + until:
        each(clock.now - 1000)
        schedule.enqueue_due()
        clock.now += 0.1


class TestTaskSchedule:
    def test_a_term_begins_with_a_pass_and_a_scan(self, schedule: TaskSchedule, enqueued: Enqueued) -> None:
        schedule.enqueue_due()
        assert enqueued == [(0, PASS), (0, SCAN)]

    def test_a_pass_each_second_a_scan_each_period_a_rebalance_each_minute_a_pruning_each_hour(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock
    ) -> None:
        run(schedule, clock, 3700)
        assert 3300 <= len(enqueued.times(PASS)) <= 3701
        assert len(enqueued.times(SCAN)) in (366, 367, 368, 369, 370)
        assert enqueued.times(REBALANCE)[:3] == [pytest.approx(60 * number, abs=0.5) for number in (1, 2, 3)]
        assert enqueued.times(PRUNE) == [pytest.approx(60, abs=0.2), pytest.approx(3660, abs=0.4)]

    def test_stats_come_first_and_where_rebalances_are_rare_each_minute(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(schedule, clock, 200)
        assert enqueued.times(STATS) == [pytest.approx(10, abs=0.2)]
        enqueued.clear()
        clock.now = 1000.0
        monkeypatch.setattr(conf, "REBALANCE_PERIOD", timedelta(minutes=10))
        run(TaskSchedule(enqueued), clock, 700)  # type: ignore[arg-type]
        assert enqueued.times(STATS)[:3] == [pytest.approx(10 + 60 * number, abs=0.5) for number in range(3)]
        assert enqueued.times(REBALANCE) == [pytest.approx(600, abs=0.2)]

    def test_a_new_leader_waits_a_minute_before_it_patches_again(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock
    ) -> None:
        """Otherwise several short-lived leaders would restart more checks than one leader may."""
        run(schedule, clock, 130)
        assert enqueued.times(REPATCH) == [pytest.approx(60, abs=0.3), pytest.approx(120, abs=0.6)]

    def test_a_webhook_is_told_each_fifteen_seconds(
        self, enqueued: Enqueued, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(conf, "WEBHOOK", "http://receiver")
        run(TaskSchedule(enqueued), clock, 40)  # type: ignore[arg-type]
        assert enqueued.times(ANNOUNCE) == [pytest.approx(15, abs=0.3), pytest.approx(30, abs=0.5)]

    def test_a_pass_finds_a_worker_while_every_long_task_runs(self) -> None:
        assert settings.Q_CLUSTER["workers"] > len(TIMEOUTS)

    def test_a_call_is_answered_at_once(self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock) -> None:
        schedule.enqueue_due()
        clock.now += 0.3
        schedule.call(PASS)
        schedule.enqueue_due()
        assert enqueued.times(PASS) == [0, 0.3]

    def test_passes_do_not_pile_up_and_a_call_waits_for_the_one_that_runs(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock
    ) -> None:
        enqueued.busy = {PASS}
        schedule.call(PASS)
        run(schedule, clock, 5)
        assert enqueued.times(PASS) == []
        enqueued.busy = set()
        schedule.enqueue_due()
        assert enqueued.times(PASS) == [5]

    def test_a_storm_of_changes_makes_few_scans_and_one_after_its_end(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock
    ) -> None:
        run(schedule, clock, 6, lambda now: schedule.call(SCAN, after=1.2) if 1 <= now < 4 else None)
        scans = enqueued.times(SCAN)[1:]
        assert len(scans) <= 4
        assert scans[-1] == pytest.approx(3.9 + 1.2, abs=0.2)

    def test_a_change_is_scanned_once_it_stood_still(
        self, schedule: TaskSchedule, enqueued: Enqueued, clock: Clock
    ) -> None:
        run(schedule, clock, 1)
        schedule.call(SCAN, after=1.2)
        run(schedule, clock, 4)
        assert enqueued.times(SCAN) == [0, pytest.approx(2.2, abs=0.2)]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log messages of a Handler whose term is over as soon as it leads."""
    messages: list[str] = []

    def lead(self: Handler, candidate: Candidate) -> None:
        messages.append("leader")
        self.state = State.LEADER

    monkeypatch.setattr(Handler, "_lead", lead)
    monkeypatch.setattr(
        module.log, "info", lambda event, **_: messages.append("follower") if event == "following" else None
    )
    return messages


@pytest.mark.django_db(transaction=True)
class TestLeaderWatch:
    """The peer forwards calls to the leader's address. Here the lock decides who leads, and all replicas answer calls."""

    @pytest.fixture
    def sessions(self) -> Iterator[tuple[Candidate, Candidate]]:
        with Candidate() as ours, Candidate() as other:
            yield ours, other

    def test_what_the_engine_answers_becomes_the_state(
        self, sessions: tuple[Candidate, Candidate], watched: list[str]
    ) -> None:
        case = peer_case("TestUpdateLeaderIP")
        ours, other = sessions
        handler = Handler()
        assert handler.state == case["input"]["fresh_state"]
        for answer, message in zip(case["input"]["engine_answers"], case["expected"]["message"], strict=True):
            watched.clear()
            if answer == "error":
                # The session is lost. The peer keeps its last state; ours can't lead without one, so it knows nothing.
                lost = Candidate()
                lost.resign()
                with pytest.raises(psycopg.Error):
                    handler.watch(lost)
                continue
            if answer and message:
                ours.resign()
                ours = Candidate()
                assert other.campaign()
            elif not answer:
                other.resign()
                other = Candidate()
            handler.watch(ours)
            # Led already, or following already: nothing new to say. A change of the leader means nothing to a follower.
            assert [word for word in watched if message or word != "leader"] == ([message] if message else [])
            assert handler.state == ("follower" if answer else "leader")
        other.resign()
        ours.resign()

    def test_unknown_stays_unknown_while_the_database_is_away(
        self, monkeypatch: pytest.MonkeyPatch, clock: Clock, watched: list[str]
    ) -> None:
        case = peer_case("TestUpdateLeaderIP unknown stays unknown on errors")
        answers = iter(case["input"]["engine_answers"])
        handler = Handler()
        states = []

        class Session(Candidate):
            def __init__(self) -> None:
                if next(answers) == "error":
                    states.append(str(handler.state))
                    raise psycopg.OperationalError("no server")
                super().__init__()

        warnings: list[str] = []
        monkeypatch.setattr(module.log, "warning", lambda event, **_: warnings.append(event))
        monkeypatch.setattr(module, "Candidate", Session)
        with handler.connect() as session:
            handler.watch(session)
        assert [*states, str(handler.state)] == case["expected"]["state"]
        assert watched == ["leader"]
        assert warnings == ["database_away", "database_back"], "said once each, however many attempts"

    def test_it_waits_until_its_migrations_are_applied_and_works_on_newer_ones(
        self, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        recorder = MigrationRecorder(connection)
        recorder.record_applied("checks", "9999_later")
        [(_, last)] = MigrationLoader(None).graph.leaf_nodes("checks")
        recorder.record_unapplied("checks", last)

        def sleep(seconds: float) -> None:
            [(event, error)] = said
            assert event == "schema_older"
            assert error.endswith(f"run `clusteragent migrate` for checks.{last}")
            recorder.record_applied("checks", last)

        said: list[tuple[str, str]] = []
        monkeypatch.setattr(clock, "sleep", sleep)
        monkeypatch.setattr(module.log, "warning", lambda event, **rest: said.append((event, *rest.values())))
        try:
            Handler().connect().resign()
            assert [event for event, *_ in said] == ["schema_older", "schema_newer", "database_back"]
        finally:
            recorder.record_unapplied("checks", "9999_later")


@pytest.mark.django_db(transaction=True)
class TestLifeCycle:
    """The peer's TestHandlerRun. Ours differs: no call depends on leadership, and a change of it moves nothing."""

    @pytest.fixture
    def led(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What a term did that runs its first pass in this thread and ends at the first step."""
        done: list[str] = []

        class ShortTerm:
            def __init__(self, term: int) -> None:
                done.append("begun")
                self.term = term

            def step(self, calls: set[str]) -> None:
                done.append(tasks.background_pass(self.term))
                raise TermOver

            def end(self) -> None:
                done.append("ended")

        monkeypatch.setattr(module, "Term", ShortTerm)
        monkeypatch.setattr(module, "STEP", 0.01)
        return done

    def lead_once(self, handler: Handler) -> None:
        with Candidate() as session, pytest.raises(TermOver):
            handler.watch(session)

    def test_leadership_comes_and_goes_and_the_map_stays(self, led: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        case = peer_case("TestHandlerRun")["expected"]
        handler = Handler()
        assert handler.state == State.UNKNOWN
        # "unknown: refused with 503" and "follower: forwarded": here every replica answers, whoever leads.
        assert case["unknown"].startswith("requests refused")
        assert note_heartbeat("ash", last_change=-50), case["leader_in_warmup"]

        with ExitStack() as others:
            leader = others.enter_context(Candidate())
            assert leader.campaign()
            with Candidate() as session:
                handler.watch(session)
            assert handler.state == State.FOLLOWER
            assert led == []
            assert note_heartbeat("ash", last_change=-50)

        tasks.dispatcher.schedule([sent("a")])
        self.lead_once(handler)
        assert led == ["begun", "Pass(expired=0, placed=0)", "ended"]
        assert note_heartbeat("ash", last_change=-50), case["leader_in_warmup"]

        Hearing.objects.update(warmup=False)
        self.lead_once(handler)
        assert Config.objects.get().assignment.node.name == "ash", case["after_warmup"]
        assert not note_heartbeat("ash", last_change=-50), case["after_warmup"]
        assert (handler.state, handler.term) == (State.UNKNOWN, None)

        # "leader again: state empty": here the state is a table, and outlives every leader.
        self.lead_once(handler)
        assert Config.objects.get().assignment.node.name == "ash"
        assert led.count("begun") == led.count("ended") == 3

    def test_the_lock_is_free_before_the_worker_is_stopped(
        self, led: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = []

        def end(self: object) -> None:
            with Candidate() as follower:
                free.append(follower.campaign())

        monkeypatch.setattr(module.Term, "end", end)
        self.lead_once(Handler())
        assert free == [True]


@pytest.mark.django_db(transaction=True)
def test_a_leader_whose_worker_runs_no_pass_leaves_the_lead_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(module.Worker):
        def keep_alive(self) -> None:
            """Nothing lives."""

        def silence(self) -> float:
            return GIVEN_UP + 1

    monkeypatch.setattr(module, "Worker", Silent)
    with Candidate() as session:
        with pytest.raises(NoPass, match="no pass ended for 60 s"):
            Handler().watch(session)
        with Candidate() as other:
            assert other.campaign()


@pytest.mark.django_db(transaction=True)
def test_a_leader_whose_first_pass_hangs_leaves_the_lead_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(module, "GIVEN_UP", 1)
    monkeypatch.setattr(tasks, "background_pass", lambda term: over.wait())
    handler = Handler()
    try:
        with Candidate() as session:
            with pytest.raises(NoPass, match="no pass ended for 1 s"):
                handler.watch(session)
            with Candidate() as other:
                assert other.campaign()
    finally:
        over.set()
        for thread in threading.enumerate():
            if thread.name == "first pass":
                thread.join()


LONG_FAREWELL = """
import os, signal, time
import django
django.setup()
from clusteragent import handler

class Slow:
    def __del__(self):
        time.sleep(2)

slow, handler.ORDERLY_END = Slow(), 1
signal.signal(signal.SIGTERM, handler._stop)
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.processes
def test_an_orderly_end_is_one_however_long_the_interpreter_takes_to_end() -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "clusteragent.settings"}
    assert subprocess.run([sys.executable, "-c", LONG_FAREWELL], env=environment, check=False).returncode == 0
