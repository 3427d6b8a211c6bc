"""Expiry and re-dispatch: a dead node's configs move, and nothing else does."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from checks import dispatcher
from checks.dispatcher import transaction
from checks.models import Config, Move, Source
from checks.models.orders import Rule
from checks.tests.cast import counts, dangling, lead, ledger, owners, report, sent, silence, versions
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def schedule(number: int) -> None:
    dispatcher.schedule([sent(f"c{i:03}") for i in range(number)])


def test_only_the_dead_node_s_configs_move():
    report("ash", "birch", "cedar")
    schedule(9)
    before, told = owners(), versions()
    silence("birch")
    done = dispatcher.run_pass(lead())
    assert done == (3, 3)
    after = owners()
    assert set(counts()) == {"ash", "cedar"}
    assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == "birch"}
    assert all(versions()[name] > told[name] for name in ("ash", "birch", "cedar"))


@pytest.mark.parametrize("change", [{"labels": {}}, {"schedulable": False}, {"max_configs": 0}])
def test_a_node_that_came_back_is_told_what_it_has_though_it_may_not_have_back_what_it_lost(change: dict[str, Any]):
    report("ash", "birch")
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    Rule.objects.create(name="near", required={"zone": "a"})
    schedule(2)
    silence("ash")
    dispatcher.run_pass(lead())
    Node.objects.filter(name="ash").update(**change)
    Heartbeat.objects.create(node=Node.objects.get(name="ash"))
    share = Config.objects.shares_of(["ash"])[0]
    assert share is not None
    assert share.unsure
    Config.objects.update(dangling_since=Now() - dispatcher.NO_PILE_UP - timedelta(seconds=1))
    dispatcher.run_pass(lead())
    share = Config.objects.shares_of(["ash"])[0]
    assert share is not None
    assert (share.unsure, share.configs, len(dangling())) == ("", "", 2)


def test_what_nobody_may_take_locks_nothing():
    """There may be very many such configs, and each pass tries them."""
    report("ash")
    Rule.objects.create(name="nowhere", check_pattern="ntp", required={"zone": "a"})
    dispatcher.schedule([sent(f"ntp-{number}", name="ntp") for number in range(3)])
    with CaptureQueriesContext(connection) as queries:
        assert dispatcher.redispatch() == []
    assert len(dangling()) == 3
    assert not [query for query in queries if "FOR NO KEY UPDATE" in query["sql"]]
    Rule.objects.all().delete()
    assert len(dispatcher.redispatch()) == 3


def test_work_does_not_go_to_a_node_that_may_have_died_with_its_owner():
    report("ash", "birch", "cedar", "dogwood", "elm", "fir", "gum")
    schedule(14)
    silence("birch")
    Heartbeat.objects.filter(node__name="cedar").update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT * 0.6)
    dispatcher.run_pass(lead())
    dispatcher.schedule([sent("new")])
    assert counts()["cedar"] == 2


def test_after_our_deafness_a_node_not_yet_heard_again_may_get_work():
    report("ash", "birch")
    Heartbeat.objects.update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT * 2)
    Hearing.objects.update(hearing_since=Now())
    schedule(2)
    assert counts() == {"ash": 1, "birch": 1}


def test_a_node_silent_for_long_after_our_deafness_gets_no_work():
    report("ash", "birch")
    Heartbeat.objects.filter(node__name="birch").update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT * 2)
    Hearing.objects.update(hearing_since=Now() - conf.NODE_EXPIRATION_TIMEOUT * 0.6)
    schedule(2)
    assert counts() == {"ash": 2}


def test_every_move_is_in_the_ledger_with_its_term():
    report("ash", "birch")
    schedule(2)
    silence("ash")
    term = lead()
    dispatcher.run_pass(term)
    assert ledger()[-2:] == [("ash", "", "expired"), ("", "birch", "redispatched")]
    assert set(Move.objects.order_by("-pk")[:2].values_list("term", flat=True)) == {term}


def test_a_node_that_returns_while_its_configs_dangle_gets_them_back():
    report("ash", "birch")
    schedule(4)
    before = owners()
    # birch alone could take ash's work, so ash expires; then birch is cordoned before the work is given out.
    silence("ash")
    dispatcher.expire_nodes()
    Node.objects.filter(name="birch").cordon()
    assert dispatcher.redispatch() == []
    assert len(dangling()) == 2
    Node.objects.filter(name="birch").cordon(schedulable=True)
    assert not note_heartbeat("ash", last_change=0)
    dispatcher.redispatch()
    assert owners() == before


def test_a_node_that_returns_after_its_configs_were_fetched_elsewhere_gets_none_of_them_back():
    report("ash", "birch")
    schedule(4)
    silence("ash")
    dispatcher.run_pass(lead())
    note_heartbeat("birch", last_change=versions()["birch"])
    report("ash")
    assert dispatcher.run_pass(lead()) == (0, 0)
    assert counts() == {"birch": 4}


def test_a_pass_with_nothing_to_do_moves_and_writes_nothing():
    report("ash", "birch")
    schedule(4)
    before = owners(), versions(), Move.objects.count()
    assert dispatcher.run_pass(lead()) == (0, 0)
    assert (owners(), versions(), Move.objects.count()) == before
    assert Hearing.objects.get().last_pass is not None


def test_while_much_is_lost_no_node_gets_more_than_twice_its_share_for_a_minute():
    names = [f"node-{i}" for i in range(10)]
    report(*names)
    schedule(100)
    silence(*names[3:])
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch()
    assert counts() == dict.fromkeys(names[:3], 20)
    assert len(dangling()) == 40
    # Nothing more while the minute lasts.
    assert dispatcher.redispatch() == []
    Config.objects.dangling().update(dangling_since=F("dangling_since") - timedelta(seconds=61))
    dispatcher.redispatch()
    assert not dangling()


def test_force_ignores_the_rule_against_piling_up():
    report("ash", "birch", "cedar", "dogwood")
    schedule(40)
    silence("birch", "cedar", "dogwood")
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch(force=True)
    assert counts() == {"ash": 40}


def test_what_dangles_beyond_the_threshold_is_flagged_once_and_cleared_when_placed():
    dispatcher.schedule([sent("one")])
    term = lead()
    dispatcher.run_pass(term)
    assert not Config.objects.get().unscheduled
    Config.objects.update(dangling_since=Now() - conf.UNSCHEDULED_CHECK_THRESHOLD - timedelta(seconds=1))
    dispatcher.run_pass(term)
    assert Config.objects.get().unscheduled
    report("ash")
    dispatcher.run_pass(term)
    assert not Config.objects.get().unscheduled


class TestWarmUp:
    """A new database places nothing before the warm-up is over, however long that takes."""

    @pytest.fixture(autouse=True)
    def _cold(self, warm: None) -> None:
        Hearing.objects.update(warmup=True)

    def elapse(self) -> None:
        Hearing.objects.update(warm_until=F("warm_until") - conf.WARMUP_DURATION)

    def read_sources(self) -> None:
        Source.objects.update(read_at=Now())

    def test_nothing_is_placed_before_it_is_over_and_everything_in_the_pass_that_ends_it(self):
        self.read_sources()
        report("ash", "birch")
        schedule(4)
        term = lead()
        assert dispatcher.run_pass(term) == (0, 0)
        assert len(dangling()) == 4
        self.elapse()
        assert dispatcher.run_pass(term) == (0, 4)
        assert not Hearing.objects.get().warmup
        assert counts() == {"ash": 2, "birch": 2}

    def test_it_does_not_begin_before_a_node_reported(self):
        self.read_sources()
        dispatcher.run_pass(lead())
        assert Hearing.objects.get().warm_until is None

    def test_it_does_not_begin_before_each_source_was_read(self):
        report("ash")
        dispatcher.run_pass(lead())
        assert Hearing.objects.get().warm_until is None
        self.read_sources()
        dispatcher.run_pass(lead())
        assert Hearing.objects.get().warm_until is not None

    def test_it_ends_once_even_when_nothing_dangles(self):
        self.read_sources()
        report("ash")
        term = lead()
        dispatcher.run_pass(term)
        self.elapse()
        with capture_logs() as logs:
            for _ in range(2):
                dispatcher.run_pass(term)
        assert not Hearing.objects.get().warmup
        assert [line["event"] for line in logs] == ["warmup_ended"]

    def test_no_view_ends_it_by_looking_at_a_clock(self):
        self.read_sources()
        report("ash")
        schedule(1)
        dispatcher.run_pass(lead())
        self.elapse()
        assert note_heartbeat("ash", last_change=12345)

    def test_an_operator_can_not_assign_before_it_is_over(self):
        self.read_sources()
        report("ash")
        schedule(1)
        with pytest.raises(dispatcher.NotAccepting, match="warm-up"):
            dispatcher.reassign(Config.objects.values_list("pk", flat=True), "ash", actor="eve")

    def test_a_more_than_full_chunk_is_placed_before_it_ends(self, monkeypatch):
        monkeypatch.setattr(transaction, "CHUNK", 3)
        self.read_sources()
        report("ash")
        schedule(10)
        term = lead()
        dispatcher.run_pass(term)
        self.elapse()
        dispatcher.run_pass(term)
        assert not dangling()
        assert not Hearing.objects.get().warmup
