"""Two sessions at once, with real locks: heartbeats against expiry, and the verbs against each other."""

import random
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
from checks.models import Assignment, ClusterStore, Config, Move
from checks.sources import sets
from checks.sources.authored import written
from checks.tests.cast import owners, report, sent, silence
from clusteragent.lib import locks
from nodes.declarations import canonical
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, Probe
from nodes.models.heartbeats import Report
from tests.map import tell

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
        """Wait until the session waits for a lock."""
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
    """Run the work in a transaction that stays open during the block."""
    with dispatcher.single_transaction():
        work()
        yield


def beat(name: str, last_change: int = 5) -> Callable[[], bool]:
    return lambda: note_heartbeat(name, last_change=last_change)


def test_expiry_waits_for_a_heartbeat_in_flight_and_spares_its_node():
    silence("ash")
    with held(beat("ash")):
        expiry = Session(dispatcher.expire_nodes)
        expiry.waits()
    assert expiry.finish() == []
    assert Heartbeat.objects.filter(node__name="ash").exists()
    assert set(owners().values()) == {"ash", "birch"}


def test_expiry_by_a_proof_waits_for_a_heartbeat_in_flight_and_spares_its_node():
    """The proof is of the report before."""
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - timedelta(seconds=13), client_ip="10.1.1.1")
    ash = Heartbeat.objects.get(node__name="ash")
    now = {"asked_at": Now(), "refused_at": Now(), "proven_at": Now()}
    Probe.objects.create(heartbeat=ash, seen_at=ash.seen_at, address=ash.client_ip, **now)
    with held(beat("ash")):
        expiry = Session(dispatcher.expire_nodes)
        expiry.waits()
    assert expiry.finish() == []
    assert set(owners().values()) == {"ash", "birch"}
    Heartbeat.objects.filter(pk=ash.pk).update(seen_at=ash.seen_at)
    assert {move.source_node for move in dispatcher.expire_nodes()} == {"ash"}


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


def together(*names: str, last_change: int = 5) -> Callable[[], list[Any]]:
    return lambda: tell([Report(name, last_change) for name in names])


def lose(*names: str) -> None:
    silence(*names)
    dispatcher.expire_nodes()


def test_a_batch_waits_for_no_expiry_and_leaves_its_nodes_to_be_told_alone():
    silence("ash")
    with held(dispatcher.expire_nodes):
        assert Session(together("ash", "birch", "cedar")).finish() == [None, False, False]
        late = Session(beat("ash"))
        late.waits()
    assert late.finish() is False
    assert Node.objects.alive().count() == 3


def test_an_expiry_waits_for_no_batch_that_revives_others():
    report("cedar")
    lose("ash")
    silence("birch")
    with held(together("ash", "dogwood")):
        assert {move.source_node for move in Session(dispatcher.expire_nodes).finish()} == {"birch"}
    assert set(Node.objects.known().values_list("name", flat=True)) == {"ash", "cedar", "dogwood"}


def test_of_two_batches_with_the_same_new_names_in_another_order_one_waits_and_each_name_is_one_node():
    names = [f"new-{number}" for number in range(20)]
    with held(together(*names)):
        twin = Session(together(*reversed(names), "new-20"))
        twin.waits()
    # What the other registered is told alone, and is known then.
    assert twin.finish() == [None] * 20 + [False]
    assert Node.objects.known().filter(name__startswith="new").count() == 21
    assert NodeEvent.objects.filter(node_name__startswith="new", kind="registered").count() == 21


def test_of_two_batches_that_revive_the_same_nodes_none_waits():
    report("cedar")
    lose("ash", "birch")
    with held(together("ash", "birch")):
        assert Session(together("birch", "ash", "cedar")).finish() == [None, None, False]
    assert NodeEvent.objects.filter(kind="back").count() == 2


def test_a_goodbye_waits_for_a_batch_that_notes_its_node_s_fresh_start():
    tell([Report(name, 5) for name in ("ash", "birch")])
    with held(together("ash", "birch", last_change=0)):
        farewell = Session(lambda: note_goodbye("ash", "leaving"))
        farewell.waits()
    farewell.finish()
    assert set(Node.objects.accepting().values_list("name", flat=True)) == {"birch"}


def test_a_batch_of_fresh_starts_waits_for_a_goodbye_and_ends_it():
    tell([Report(name, 5) for name in ("ash", "birch")])
    with held(lambda: note_goodbye("ash", "leaving")):
        batch = Session(together("birch", "ash", last_change=0))
        batch.waits()
    assert batch.finish() == [False, False]
    assert Node.objects.accepting().count() == 2


def test_batches_expiry_goodbyes_and_orders_at_once_never_deadlock_nor_lose_a_name():  # noqa: C901 - each session's work
    """New, lost, restarted and declaring nodes in batches, each in another order, against everything that locks nodes."""
    deadline = time.monotonic() + 4
    names = [f"n{number:02}" for number in range(24)]
    declared = [canonical(exclude=[str(number)]) for number in range(3)]
    outcomes: list[Any] = []

    def repeat(work: Callable[[random.Random, int], Any]) -> Callable[[], int]:
        def run() -> int:
            chance, turns = random.Random(), 0
            while time.monotonic() < deadline:
                work(chance, turns)
                turns += 1
            return turns

        return run

    def storm(chance: random.Random, turn: int) -> None:
        chosen = chance.sample(names, 12)
        reports = [Report(name, chance.choice((0, 5, -1)), declared=chance.choice(declared)) for name in chosen]
        outcomes.extend(tell(reports))

    def part(chance: random.Random, turn: int) -> None:
        with suppress(LookupError):
            note_goodbye(chance.choice(names), "leaving")

    def age(chance: random.Random, turn: int) -> None:
        old = Now() - timedelta(seconds=60)
        Heartbeat.objects.filter(node__name=chance.choice(names)).update(seen_at=old)

    def order(chance: random.Random, turn: int) -> None:
        Node.objects.filter(name__in=chance.sample(names, 6)).cordon(schedulable=bool(turn % 2))

    sessions = [
        *(Session(repeat(storm)) for _ in range(3)),
        Session(repeat(lambda chance, turn: note_heartbeat(chance.choice(names), last_change=0))),
        Session(repeat(age)),
        Session(repeat(part)),
        Session(repeat(order)),
        Session(repeat(lambda chance, turn: dispatcher.expire_nodes(force=True))),
        Session(repeat(lambda chance, turn: Node.objects.forget())),
        Session(
            repeat(
                lambda chance, turn: dispatcher.schedule([sent(f"c{i}", url=f"http://{turn}/{i}") for i in range(6)])
            )
        ),
    ]
    assert all(session.finish() for session in sessions)
    assert not [outcome for outcome in outcomes if not isinstance(outcome, bool | None)]
    for name in names:
        note_heartbeat(name, last_change=-1)
    assert Node.objects.known().filter(name__in=names).count() == len(names)
    assert not Heartbeat.objects.filter(node__lost_at__isnull=False).exists()


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
    ids = list(Config.objects.filter(assignment__node__name="birch").values_list("pk", flat=True))
    with held(lambda: (silence("ash"), dispatcher.expire_nodes(force=True))):
        steering = Session(lambda: dispatcher.reassign(ids, "ash", actor="eve"))
        steering.waits()
    with pytest.raises(LookupError, match="node ash is lost"):
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
        with suppress(LookupError, ValueError, dispatcher.StalePlan):
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
    """Return the map that the ledger results in."""
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
    seen = sets.revision_of("api:shop")

    def put(name: str) -> Callable[[], Any]:
        desired = [written(name, "http_check", "instances: [{url: x}]", "api:shop")]
        return lambda: sets.replace("api:shop", desired, actor=name, revision=seen)

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
