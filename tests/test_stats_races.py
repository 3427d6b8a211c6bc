"""Stats and costs are written while everything else runs, and nothing waits for them."""

import pytest
from django.db import transaction

from checks import dispatcher, pruning
from checks.models import Assignment, Config, Cost, Instance
from checks.tests.cast import report, sent
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Node, Runner, RunnerStats
from nodes.models.runners import Answer, CheckStats
from tests.test_races import Session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nodes() -> None:
    Hearing.objects.update(warmup=False)
    report("ash", "birch")


def answer(check_id: str, milliseconds: float) -> Answer:
    return Answer([CheckStats(check_id, milliseconds)], 4)


def note(milliseconds: float, *names: str) -> None:
    ids = dict(Node.objects.values_list("name", "pk"))
    Runner.objects.note({ids[name]: answer("ntp:1", milliseconds) for name in names})


def test_two_rounds_at_once_wait_for_each_other_and_the_later_one_stays() -> None:
    note(1, "ash", "birch")
    with transaction.atomic():
        note(2, "ash", "birch")
        other = Session(lambda: note(3, "birch", "ash"))
        other.waits()
    other.finish()
    assert list(RunnerStats.objects.values_list("execution_ms", flat=True)) == [3, 3]


def test_heartbeats_and_moves_do_not_wait_for_a_round_that_is_being_written() -> None:
    with transaction.atomic():
        note(1, "ash", "birch")
        Session(lambda: note_heartbeat("ash", last_change=0)).finish()
        Session(lambda: dispatcher.schedule([sent("a"), sent("b")])).finish()
    assert Assignment.objects.count() == 2


def test_a_config_is_removed_while_its_cost_is_being_written() -> None:
    dispatcher.schedule([sent("a")])
    owner = Assignment.objects.get().node_id
    Runner.objects.note({owner: answer(Instance.objects.get().check_id, 1500)})
    with transaction.atomic():
        assert Cost.objects.measure() == 1
        Session(lambda: dispatcher.unschedule([("file", "a")])).finish()
    assert not Config.objects.exists()
    assert pruning.KINDS["costs"](2) == 1
