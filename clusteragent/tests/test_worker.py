"""The queue of a term, and what the worker gets of its rows."""

import os
import pickle
from datetime import timedelta

import pytest
import structlog
from django.conf import settings
from django.core.cache import caches
from django.db.models import QuerySet
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ, Schedule
from django_q.signing import SignedPackage

from checks import dispatcher
from checks.models import ClusterStore
from checks.models.map import NotLeader
from checks.tests.cast import sent
from clusteragent.worker import PASS, SCAN, TASKS, TIMEOUTS, Broker, Queue, Worker
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    """The queue of the current term, 7."""
    ClusterStore.objects.update(term=7)
    return Queue(7)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """The broker of the term's worker, which does not wait for rows."""
    monkeypatch.setattr(Conf, "POLL", 0)
    return Broker("pass-7")


def rows() -> "QuerySet[OrmQ]":
    return OrmQ.objects.order_by("key")


def keys() -> list[str]:
    return list(rows().values_list("key", flat=True))


def test_a_task_that_waits_is_not_enqueued_again(queue: Queue) -> None:
    assert queue.put(PASS)
    assert not queue.put(PASS)
    assert queue.put(SCAN)
    assert keys() == ["pass-7", "pass-7"]


def test_a_worker_is_told_the_task_the_term_and_its_time_and_keeps_results_to_itself(
    queue: Queue, broker: Broker
) -> None:
    queue.put(SCAN)
    [(row, package)] = broker.dequeue()
    task = SignedPackage.loads(package)
    assert row == OrmQ.objects.get().pk
    assert (task["func"], task["args"], task["kwargs"]) == ("checks.tasks.scan_sources", (7,), {})
    assert (task["timeout"], task["cached"]) == (TIMEOUTS[SCAN], 1)
    assert broker.dequeue() == []
    broker.acknowledge(row)
    assert keys() == []


HOSTILE = {
    "a name": "os.system",
    "a task with words after it": f"{PASS} os.system",
    "signed with our own key": SignedPackage.dumps({"id": "1", "name": "x", "func": "os.system", "args": ("id",)}),
    "one of ours with another's hook": SignedPackage.dumps(
        {"id": "1", "name": "x", "func": PASS, "args": (7,), "hook": "os.system"}
    ),
    "a pickle": pickle.dumps(os.getpid).hex(),
    "nothing": "",
    "more than anybody reads": "x" * 10_000_000,
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_what_names_none_of_our_tasks_is_not_even_read_and_goes_with_a_line(
    queue: Queue, broker: Broker, payload: str
) -> None:
    OrmQ.objects.create(key="pass-7", payload=payload, lock=timezone.now())
    assert broker.dequeue() == []
    with structlog.testing.capture_logs() as logs:
        assert queue.put(PASS)
        assert not queue.put(PASS)
    assert logs == [{"event": "tasks_refused", "log_level": "warning", "term": 7, "number": 1, "tasks": [payload[:80]]}]
    assert [row.payload for row in rows()] == [PASS]


@pytest.mark.parametrize("days", [1, 300_000, None])
def test_a_row_that_is_never_free_keeps_no_task_back(queue: Queue, broker: Broker, days: int | None) -> None:
    lock = timezone.now() + timedelta(days) if days else None
    OrmQ.objects.create(key="pass-7", payload=SCAN, lock=lock)
    assert queue.put(SCAN)
    assert len(broker.dequeue()) == 1
    # With the worker, which takes its time.
    assert not queue.put(SCAN)


def test_thousands_of_such_rows_cost_one_line(queue: Queue, broker: Broker) -> None:
    OrmQ.objects.bulk_create(
        OrmQ(key="pass-7", payload=f"os.system{number}", lock=timezone.now()) for number in range(5000)
    )
    with structlog.testing.capture_logs() as logs:
        assert queue.put(PASS)
    assert [(line["number"], len(line["tasks"])) for line in logs] == [(5000, 5)]
    assert len(broker.dequeue()) == 1


def test_a_queue_that_belongs_to_no_term_gives_nothing(queue: Queue) -> None:
    OrmQ.objects.create(key="clusteragent", payload=PASS, lock=timezone.now())
    with pytest.raises(ValueError, match="clusteragent"):
        Broker("clusteragent").dequeue()


def test_nothing_of_django_q_runs_schedules_or_reads_results() -> None:
    """A schedule would run any function that its row names, and a row of results is a pickle."""
    assert Conf.BROKER_CLASS == "clusteragent.worker.Broker"
    assert Conf.SCHEDULER is False
    assert Conf.SAVE_LIMIT < 0
    assert not Conf.ERROR_REPORTER


def test_no_other_rows_of_the_database_are_unpickled() -> None:
    """A cache in the database holds pickles, as sessions would with another serializer than Django's own."""
    assert [cache.__class__.__name__ for cache in caches.all(initialized_only=False)] == ["LocMemCache"]
    assert settings.SESSION_SERIALIZER == "django.contrib.sessions.serializers.JSONSerializer"


def test_a_new_term_forgets_what_earlier_ones_left(queue: Queue) -> None:
    Queue(6).put(PASS)
    OrmQ.objects.create(key="another program's", payload="?", lock=timezone.now())
    queue.put(PASS)
    queue.remove_earlier_terms()
    assert keys() == ["another program's", "pass-7"]


def test_a_new_term_names_the_schedules_that_nobody_runs(queue: Queue) -> None:
    Schedule.objects.create(name="of nobody", func="os.system", args="'id'", cluster="pass-7")
    with structlog.testing.capture_logs() as logs:
        queue.remove_earlier_terms()
    assert [(line["event"], line["functions"]) for line in logs] == [("schedules_ignored", ["os.system"])]


def test_a_leader_whose_term_is_over_takes_nothing_back(queue: Queue) -> None:
    queue.remove_earlier_terms()
    ClusterStore.objects.update(term=8)
    Queue(8).put(PASS)
    with pytest.raises(NotLeader):
        queue.remove_earlier_terms()
    assert keys() == ["pass-8"]


def test_a_dead_workers_tasks_are_forgotten(queue: Queue) -> None:
    queue.put(PASS)
    OrmQ.objects.update(lock=timezone.now() + timedelta(minutes=5))
    queue.clear()
    assert queue.put(PASS)


@pytest.mark.parametrize(("term", "is_sign"), [(7, True), (None, False)])
def test_only_the_leaders_own_changes_are_a_sign_of_life(queue: Queue, term: int | None, is_sign: bool) -> None:
    """A pipeline that sends a set every few seconds would keep a worker that hangs from being replaced."""
    Hearing.objects.update(warmup=False)
    note_heartbeat("ash", last_change=-1)
    worker, revision = Worker(queue), ClusterStore.objects.get().revision
    before = worker.sign_of_life()
    dispatcher.schedule([sent("a")], term=term)
    assert ClusterStore.objects.get().revision > revision
    assert (worker.sign_of_life() != before) == is_sign


def test_every_task_is_a_function_of_ours() -> None:
    assert all(task.startswith(("checks.tasks.", "clusteragent.webhook.")) for task in TASKS)
