"""Two sessions at once: heartbeats against expiry, and the verbs against each other. Real locks, real waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Count
from django.db.models.functions import Now

from checks import dispatcher
from checks.forms import written
from checks.models import Assignment, ClusterStore, Config, Move
from checks.tests.cast import owners, report, sent, silence
from clusteragent.lib import locks
from nodes.models import Hearing, Heartbeat, Node
from operators import sources

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20


class Session(threading.Thread):
    """Runs one function on a database session of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.error: Exception | None = None
        self.pid = 0
        self._connected = threading.Event()
        self.start()
        assert self._connected.wait(PATIENCE)

    def run(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                self.pid = cursor.fetchone()[0]
            self._connected.set()
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.error = error
        finally:
            connection.close()

    def waits(self) -> None:
        """Return once the session waits for a lock."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", (self.pid,))
                if cursor.fetchone()[0]:
                    return
            assert self.is_alive(), f"it ended without waiting: {self.result!r} {self.error!r}"
        raise AssertionError("it never waited for a lock")

    def finish(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), "it hangs"
        if self.error:
            raise self.error
        return self.result


@pytest.fixture(autouse=True)
def _two_nodes(transactional_db: None) -> None:
    Hearing.objects.update(warmup=False)
    report("ash", "birch")
    dispatcher.schedule([sent(f"c{i}") for i in range(6)])


@contextmanager
def held(work: Callable[[], Any]) -> Iterator[None]:
    """Do the work in a transaction that stays open for the block."""
    with dispatcher.as_one():
        work()
        yield


def beat(name: str, last_change: int = 5) -> Callable[[], bool]:
    return lambda: Node.objects.heartbeat(name, last_change=last_change)


def test_expiry_waits_for_a_heartbeat_in_flight_and_spares_its_node():
    silence("ash")
    with held(beat("ash")):
        expiry = Session(dispatcher.expire_nodes)
        expiry.waits()
    assert expiry.finish() == []
    assert Heartbeat.objects.filter(node__name="ash").exists()
    assert set(owners().values()) == {"ash", "birch"}


def test_a_heartbeat_that_waits_for_expiry_finds_its_node_lost_and_is_told_so():
    silence("ash")
    version = Node.objects.get(name="ash").config_version
    with held(dispatcher.expire_nodes):
        late = Session(beat("ash", last_change=version))
        late.waits()
    assert late.finish() is False
    assert Node.objects.alive().filter(name="ash").exists()
    assert not Assignment.objects.filter(node__name="ash").exists()


def test_an_extra_heartbeat_that_waits_for_expiry_revives_its_node():
    silence("ash")
    with held(dispatcher.expire_nodes):
        late = Session(beat("ash", last_change=-1))
        late.waits()
    assert late.finish() is True
    assert Node.objects.alive().filter(name="ash").exists()


def test_heartbeats_do_not_wait_for_the_store_s_lock():
    with held(ClusterStore.objects.lock):
        assert Session(beat("ash")).finish() is False
        assert Session(beat("fresh", last_change=0)).finish() is True


def test_heartbeats_do_not_wait_for_a_change_of_their_node_s_configs():
    with held(lambda: dispatcher.unschedule([("file", "c0")])):
        assert Session(beat("ash")).finish() is False


def test_two_registrations_of_one_name_make_one_node():
    with held(beat("cedar", last_change=0)):
        twin = Session(beat("cedar", last_change=0))
        twin.waits()
    assert twin.finish() is True
    assert Heartbeat.objects.filter(node__name="cedar").count() == 1


def test_schedule_waits_for_schedule_and_makes_one_config_of_the_same_origin():
    with held(lambda: dispatcher.schedule([sent("new")])):
        twin = Session(lambda: dispatcher.schedule([sent("new")]))
        twin.waits()
    assert twin.finish() == []
    assert Config.objects.filter(origins__key="new").count() == 1


def test_a_config_is_not_placed_on_a_node_that_expires_meanwhile():
    silence("ash")
    with held(dispatcher.expire_nodes):
        scheduling = Session(lambda: dispatcher.schedule([sent("new")]))
        scheduling.waits()
    scheduling.finish()
    assert owners()["new"] == "birch"


def test_a_reassignment_to_a_node_that_expires_meanwhile_is_refused():
    silence("ash")
    ids = list(Config.objects.filter(assignment__node__name="birch").values_list("pk", flat=True))
    with held(dispatcher.expire_nodes):
        steering = Session(lambda: dispatcher.reassign(ids, "ash", actor="eve"))
        steering.waits()
    with pytest.raises(LookupError, match="node ash is unknown"):
        steering.finish()


def test_a_config_that_is_reassigned_while_it_dangles_is_not_placed_twice():
    silence("ash")
    dispatcher.expire_nodes()
    ids = list(Config.objects.dangling().values_list("pk", flat=True))
    report("cedar")
    with held(lambda: dispatcher.reassign(ids, "cedar", actor="eve")):
        placing = Session(dispatcher.redispatch)
        placing.waits()
    assert placing.finish() == []
    assert Assignment.objects.filter(config_id__in=ids, node__name="cedar").count() == len(ids)


def test_a_pass_that_waits_while_its_term_ends_moves_nothing():
    silence("ash")
    term = ClusterStore.objects.get().term
    before = owners()
    with held(lambda: ClusterStore.objects.lock()):
        late = Session(lambda: dispatcher.run_pass(term))
        late.waits()
        ClusterStore.objects.update(term=term + 1)
    with pytest.raises(dispatcher.NotLeader):
        late.finish()
    assert owners() == before


def test_everything_at_once_never_deadlocks_nor_doubles_nor_loses():
    """Heartbeats, expiry, scheduling, re-dispatch and operators for a while, on eight sessions."""
    deadline = time.monotonic() + 4
    names = ["ash", "birch", "cedar", "dogwood"]
    report(*names)

    def repeat(work: Callable[[int], Any]) -> Callable[[], int]:
        def run() -> int:
            turns = 0
            while time.monotonic() < deadline:
                work(turns)
                turns += 1
            return turns

        return run

    def steer(turn: int) -> None:
        # The node expired, or the config went: the verb says so, and that is its job.
        with suppress(LookupError, ValueError):
            dispatcher.reassign(list(Config.objects.values_list("pk", flat=True)[:3]), names[turn % 4], actor="eve")

    def age(turn: int) -> None:
        old = Now() - timedelta(seconds=60)
        Heartbeat.objects.filter(node__name=names[turn % 3]).update(seen_at=old)

    sessions = [
        Session(repeat(lambda turn: report(*names))),
        Session(repeat(lambda turn: report(*reversed(names)))),
        Session(repeat(age)),
        Session(repeat(lambda turn: dispatcher.expire_nodes())),
        Session(repeat(lambda turn: dispatcher.redispatch(force=True))),
        Session(repeat(lambda turn: dispatcher.schedule([sent(f"c{i}", url=f"http://{turn}/{i}") for i in range(6)]))),
        Session(repeat(lambda turn: dispatcher.schedule([sent("come")]) and dispatcher.unschedule([("file", "come")]))),
        Session(repeat(steer)),
    ]
    turns = [session.finish() for session in sessions]
    assert all(turns), turns
    report(*names)
    dispatcher.redispatch(force=True)
    dispatcher.unschedule([("file", "come")])
    assert set(owners()) == {f"c{i}" for i in range(6)}
    assert not Config.objects.dangling().exists()
    lost_owners = Assignment.objects.filter(node__heartbeat__isnull=True)
    assert not lost_owners.exists()
    assert replayed() == dict(Assignment.objects.values_list("config_id", "node__name"))


def replayed() -> dict[int, str]:
    """The map that the ledger tells."""
    owner: dict[int, str] = {}
    for move in Move.objects.order_by("pk"):
        assert owner.get(move.config_id, "") == move.source_node, move
        if move.to_node:
            owner[move.config_id] = move.to_node
        else:
            owner.pop(move.config_id, None)
    return owner


def test_the_ledger_counts_every_config_once_a_move():
    moves = Move.objects.values("config_id").annotate(times=Count("pk"))
    assert {row["times"] for row in moves} == {1}


def test_of_two_sets_made_for_one_revision_the_second_is_refused():
    seen = sources.revision_of("api:shop")

    def put(name: str) -> Callable[[], Any]:
        desired = [written(name, "http_check", "instances: [{url: x}]", "api:shop")]
        return lambda: sources.replace("api:shop", desired, actor=name, revision=seen)

    with connection.cursor() as cursor:
        locks.acquire(cursor, locks.Lock.DESIRED)
        sessions = [Session(put("one")), Session(put("two"))]
        for session in sessions:
            session.waits()
        locks.release(cursor, locks.Lock.DESIRED)
    for session in sessions:
        session.join(PATIENCE)
    assert sorted(type(session.error).__name__ for session in sessions) == ["NoneType", "Outdated"]
    assert Config.objects.filter(origins__source="api:shop").count() == 1
