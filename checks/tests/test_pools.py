"""The snapshot of nodes is kept for the chunks of a verb, and read again when nodes may have changed."""

import itertools
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.dispatcher import transaction
from checks.dispatcher.transaction import Pools
from checks.models import ClusterStore, Config
from checks.models.orders import Rule
from checks.tests.cast import lead, report, sent, silence
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


class Clock:
    """This module's monotonic clock."""

    now = 100.0
    tick = 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(transaction, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_a_node_that_is_cordoned_meanwhile_gets_nothing_after_a_second(clock: Clock) -> None:
    report("ash", "birch")
    pools = Pools()
    revision = itertools.count(ClusterStore.objects.get().revision)
    assert len(pools.at(next(revision))) == 2
    Node.objects.filter(name="ash").cordon()
    clock.now += 1
    assert len(pools.at(next(revision))) == 2
    clock.now += 0.01
    assert len(pools.at(next(revision))) == 1


def test_where_counting_takes_long_they_are_kept_ten_times_as_long(clock: Clock) -> None:
    report("ash", "birch")
    pools, clock.tick = Pools(), 0.5
    pools.look()
    clock.tick = 0
    Node.objects.filter(name="ash").cordon()
    revision = ClusterStore.objects.get().revision
    clock.now += 5
    assert len(pools.at(revision)) == 2
    clock.now += 0.01
    assert len(pools.at(revision + 1)) == 1


def test_they_are_counted_anew_when_others_changed_the_map(clock: Clock) -> None:
    report("ash", "birch")
    pools = Pools()
    revision = ClusterStore.objects.get().revision
    pools.at(revision)
    Node.objects.filter(name="ash").cordon()
    assert len(pools.at(revision + 1)) == 2, "the last chunk's own change"
    assert len(pools.at(revision + 3)) == 1


@pytest.mark.parametrize("later", [0, 1.01])
def test_a_chunk_that_was_prepared_counts_nothing_under_the_lock(clock: Clock, later: float) -> None:
    report("ash", "birch")
    pools, revision = Pools(), ClusterStore.objects.get().revision
    pools.prepare()
    clock.now += later
    with CaptureQueriesContext(connection) as before:
        pools.prepare()
    assert (len(before) > 1) is bool(later)
    with CaptureQueriesContext(connection) as under:
        pools.at(revision)
    assert len(under) == 0


def test_a_leader_whose_term_is_over_forgets_nobodys_former_node() -> None:
    report("ash", "birch")
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    Rule.objects.create(name="near", required={"zone": "a"})
    dispatcher.schedule([sent("one")])
    silence("ash")
    dispatcher.expire_nodes()
    Node.objects.filter(name="ash").update(labels={})
    report("ash")
    Config.objects.update(dangling_since=Now() - dispatcher.NO_PILE_UP - timedelta(seconds=1))
    waiting = Config.objects.filter(former_node__name="ash")
    over, term = lead(), lead()
    with pytest.raises(dispatcher.NotLeader):
        dispatcher.redispatch(term=over)
    assert waiting.count() == 1
    dispatcher.redispatch(term=term)
    assert waiting.count() == 0
