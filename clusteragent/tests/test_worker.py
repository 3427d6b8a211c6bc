"""The queue of a term, and the schedule that shows it."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler
from django_q.tasks import async_task

from checks.models import ClusterStore
from checks.querysets import NotLeader
from clusteragent.handler import PASS, SCAN
from clusteragent.worker import BACKSTOP, Queue

pytestmark = pytest.mark.django_db


@pytest.fixture
def queue() -> Queue:
    """The queue of the current term, 7."""
    ClusterStore.objects.update(term=7)
    return Queue(7)


def keys() -> list[str]:
    return sorted(OrmQ.objects.values_list("key", flat=True))


def test_a_task_that_waits_is_not_enqueued_again(queue: Queue) -> None:
    assert queue.put(PASS)
    assert not queue.put(PASS)
    assert queue.put(SCAN, timeout=300)
    assert keys() == ["pass-7", "pass-7"]


def test_a_task_gets_the_term_and_leaves_no_result(queue: Queue) -> None:
    queue.put(PASS)
    task = OrmQ.objects.get().task
    assert (task["func"], task["args"], task["save"]) == ("checks.tasks.background_pass", (7,), False)


def test_a_new_term_forgets_what_earlier_ones_left(queue: Queue) -> None:
    Queue(6).put(PASS)
    async_task("some.program", cluster="clusteragent")
    queue.put(PASS)
    queue.take_over(backstop=PASS)
    assert keys() == ["clusteragent", "pass-7"]


def test_the_schedule_points_at_the_newest_term_and_stays_one_row(queue: Queue) -> None:
    queue.take_over(backstop=PASS)
    first = Schedule.objects.get(name=BACKSTOP)
    ClusterStore.objects.update(term=8)
    Queue(8).take_over(backstop=PASS)
    second = Schedule.objects.get(name=BACKSTOP)
    assert second.pk == first.pk
    assert (first.cluster, first.args) == ("pass-7", "7,")
    assert (second.cluster, second.args, second.minutes) == ("pass-8", "8,", 1)
    assert second.next_run > timezone.now()


def test_a_leader_whose_term_is_over_takes_nothing_back(queue: Queue) -> None:
    queue.take_over(backstop=PASS)
    ClusterStore.objects.update(term=8)
    Queue(8).put(PASS)
    with pytest.raises(NotLeader):
        queue.take_over(backstop=PASS)
    assert keys() == ["pass-8"]


@pytest.mark.django_db(transaction=True)
def test_a_qcluster_started_by_hand_leaves_the_schedule_to_the_leader(queue: Queue) -> None:
    queue.take_over(backstop=PASS)
    Schedule.objects.create(name="of nobody", func="some.program", schedule_type=Schedule.MINUTES, minutes=1)
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=5))
    scheduler()
    assert [row.func() for row in OrmQ.objects.all()] == ["some.program"]


def test_a_dead_workers_tasks_are_forgotten(queue: Queue) -> None:
    queue.put(PASS)
    OrmQ.objects.update(lock=timezone.now() + timedelta(minutes=5))
    queue.clear()
    assert queue.put(PASS)
