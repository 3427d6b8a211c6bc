"""Automatic moves: from nodes that leave, are drained, or are no longer eligible."""

import socket
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks import dispatcher, tasks
from checks.dispatcher import passes, transaction
from checks.models import Assignment, ClusterStore, Config, Handover, Move, TaskRun
from checks.models.orders import Pin, Rule
from checks.tests.cast import counts, dangling, hand_over, lead, ledger, owners, report, sent, silence, versions
from clusteragent.lib import clock, conf
from nodes.declarations import canonical
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, MissedPolls, Node, NodeEvent, NodeRule, Probe, Runner
from nodes.models.runners import Answer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

# Of a pass that finds nothing to do.
MOST_QUERIES = 24


def placed(number: int, *names: str) -> None:
    report(*names)
    dispatcher.schedule([sent(f"{one:03}") for one in range(number)])


def leave(*names: str) -> None:
    for name in names:
        note_goodbye(name, "leaving")


def fall_silent_after_goodbye(*names: str) -> None:
    """Let so many nodes at once count as gone: they are silent, and their goodbyes no longer pull the brake."""
    leave(*names)
    Node.objects.filter(name__in=names).update(left_at=Now() - conf.NODE_EXPIRATION_TIMEOUT - timedelta(seconds=1))
    hush(*names)


def hush(*names: str) -> None:
    """Let nodes be silent, but not long enough to expire."""
    seen_at = Now() - conf.NODE_EXPIRATION_TIMEOUT * 0.6
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=seen_at)


def declare(name: str, *, last_change: int = 7, **lists: Any) -> None:
    note_heartbeat(name, last_change=last_change, declared=canonical(**lists))


def pass_a_minute() -> None:
    Move.objects.update(time=F("time") - timedelta(minutes=1))


def pass_minute_of_drain() -> None:
    """Let a minute pass, also for deadlines, and all moves be handed over."""
    hand_over()
    pass_a_minute()
    Node.objects.update(drain_by=F("drain_by") - timedelta(minutes=1))


def pass_in_a_second() -> None:
    TaskRun.objects.update(due_at=F("due_at") - timedelta(seconds=1))
    one_pass()


def drain(name: str, minutes: float | None) -> None:
    by = clock.now() + timedelta(minutes=minutes) if minutes is not None else None
    Node.objects.filter(name=name).cordon(draining=True, by=by)


def one_pass() -> dispatcher.Pass:
    return dispatcher.run_pass(lead())


class TestLeaving:
    def test_the_next_pass_gives_everything_away(self):
        placed(30, "ash", "birch", "cedar")
        before = versions()
        leave("ash")
        one_pass()
        assert counts() == {"birch": 15, "cedar": 15}
        assert set(ledger()[30:]) == {("ash", "birch", "left"), ("ash", "cedar", "left")}
        hand_over()
        assert versions()["ash"] > before["ash"]

    def test_new_configs_go_elsewhere(self):
        report("ash", "birch")
        leave("ash")
        dispatcher.schedule([sent("one"), sent("two")])
        assert counts() == {"birch": 2}

    def test_the_last_node_keeps_what_nobody_else_can_take(self):
        placed(3, "ash")
        leave("ash")
        revision = ClusterStore.objects.get().revision
        one_pass()
        assert counts() == {"ash": 3}
        assert ClusterStore.objects.get().revision == revision
        report("birch")
        one_pass()
        assert counts() == {"birch": 3}

    def test_nobody_gets_above_twice_the_fair_share(self):
        """Of ten nodes with ten configs each eight leave. A node may have twenty, so the other configs stay where they run."""
        names = [f"oak-{number}" for number in range(10)]
        placed(100, *names)
        fall_silent_after_goodbye(*names[:8])
        for _ in range(3):
            one_pass()
        assert [counts()[name] for name in names[8:]] == [20, 20]
        assert not dangling()
        assert Config.objects.count() == sum(counts().values())

    def test_what_most_nodes_have_stays_while_they_still_report(self):
        """Every holder of the token can say goodbye in the name of every node."""
        names = [f"oak-{number}" for number in range(10)]
        placed(100, *names)
        leave(*names[:8])
        one_pass()
        assert set(counts().values()) == {10}
        hush(names[0])
        one_pass()
        assert names[0] not in counts()

    def test_who_said_it_and_still_reports_after_two_minutes_gets_work_again(self):
        placed(4, "ash", "birch")
        leave("ash")
        one_pass()
        assert counts() == {"birch": 4}
        Node.objects.filter(name="ash").update(left_at=Now() - conf.GOODBYE_HOLDS - timedelta(seconds=1))
        one_pass()
        dispatcher.schedule([sent("one")])
        assert owners()["one"] == "ash"

    def test_what_stayed_moves_as_soon_as_somebody_has_room(self):
        names = [f"oak-{number}" for number in range(10)]
        placed(100, *names)
        fall_silent_after_goodbye(*names[:8])
        one_pass()
        report(*(f"elm-{number}" for number in range(4)))
        one_pass()
        assert not set(names[:8]) & set(counts())
        assert max(counts().values()) <= 20

    def test_what_stayed_moves_after_a_minute_whatever_room_there_is(self):
        names = [f"oak-{number}" for number in range(10)]
        placed(100, *names)
        fall_silent_after_goodbye(*names[:8])
        one_pass()
        NodeEvent.objects.update(time=Now() - dispatcher.NO_PILE_UP - timedelta(seconds=1))
        one_pass()
        assert [counts()[name] for name in names[8:]] == [50, 50]

    def test_what_stayed_is_lost_when_the_node_dies(self):
        names = [f"oak-{number}" for number in range(10)]
        placed(100, *names)
        fall_silent_after_goodbye(*names[:8])
        one_pass()
        silence(*names[:8])
        one_pass()
        assert len(dangling()) == 60
        assert max(counts().values()) == 20
        Config.objects.filter(dangling_since__isnull=False).update(
            dangling_since=Now() - dispatcher.NO_PILE_UP - timedelta(seconds=1)
        )
        one_pass()
        assert not dangling()

    def test_rules_about_origins_hold(self):
        placed(2, "ash")
        report("birch", "cedar")
        NodeRule.objects.create(pattern="cedar", labels={"zone": "a"})
        NodeRule.objects.apply()
        Rule.objects.create(name="mine", source_pattern="file:*", required={"zone": "a"})
        leave("ash")
        one_pass()
        assert counts() == {"cedar": 2}

    def test_a_fresh_start_ends_it(self):
        placed(30, "ash", "birch")
        leave("ash")
        one_pass()
        assert counts() == {"birch": 30}
        note_heartbeat("ash", last_change=0)
        dispatcher.schedule([sent("one")])
        assert owners()["one"] == "ash"

    def test_what_waits_for_the_node_stays_on_it(self):
        placed(2, "ash", "birch")
        [config_id] = Config.objects.filter(assignment__node__name="ash").values_list("pk", flat=True)
        dispatcher.pin([config_id], "ash", waits=True)
        leave("ash")
        one_pass()
        assert counts() == {"ash": 1, "birch": 1}

    def test_a_pass_of_nodes_that_stay_asks_nothing_more_for_them(self):
        placed(2, "ash", "birch")
        with CaptureQueriesContext(connection) as queries:
            assert dispatcher.empty_leaving_nodes() == []
        assert len(queries) == 1


class TestRestarting:
    def test_it_keeps_what_it_has_and_gets_nothing_new(self):
        placed(4, "ash", "birch")
        note_goodbye("ash", "restarting")
        silence("ash")
        dispatcher.schedule([sent("one"), sent("two")])
        one_pass()
        assert counts() == {"ash": 2, "birch": 4}

    def test_after_a_minute_its_work_goes_to_others(self):
        placed(4, "ash", "birch")
        note_goodbye("ash", "restarting")
        Node.objects.filter(name="ash").update(kept_until=Now())
        silence("ash")
        one_pass()
        assert counts() == {"birch": 4}


class TestDraining:
    def test_it_goes_at_the_budgets_pace_and_then_is_empty(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "REBALANCE_BUDGET", 0.1)
        placed(60, "ash", "birch", "cedar")
        Node.objects.filter(name="ash").cordon(draining=True, actor="olga")
        left = []
        for _ in range(4):
            for _ in range(2):
                one_pass()
                dispatcher.move_misplaced()  # whoever calls it, the pace is one
            left.append(counts().get("ash", 0))
            pass_a_minute()
        assert left == [14, 8, 2, 0]
        assert counts() == {"birch": 30, "cedar": 30}
        assert {reason for _, _, reason in ledger()[60:]} == {"drained"}

    def test_what_has_nowhere_to_go_does_not_hold_up_the_rest(self):
        placed(30, "ash", "birch", "cedar")
        Node.objects.filter(name="birch").update(max_configs=10)
        first = Config.objects.order_by("pk").filter(assignment__node__name="cedar").values_list("pk", flat=True)
        dispatcher.pin(list(first), "birch")
        Node.objects.filter(name="ash").cordon(draining=True)
        moves = dispatcher.move_misplaced()
        assert len(moves) == dispatcher.budget()
        assert {move.source_node for move in moves} == {"ash"}

    def test_a_pass_moves_no_more_than_a_chunk(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "REBALANCE_BUDGET", 1.0)
        monkeypatch.setattr(transaction, "CHUNK", 4)
        placed(12, "ash", "birch")
        Node.objects.filter(name="ash").cordon(draining=True)
        assert [one_pass().placed for _ in range(3)] == [4, 2, 0]

    def test_what_balancing_moves_slows_no_drain_but_drains_slow_balancing(self):
        placed(20, "ash", "birch")
        Move.objects.create(config_id=1, digest="d", name="n", source_node="ash", reason="rebalanced")
        Node.objects.filter(name="ash").cordon(draining=True)
        assert (dispatcher.budget(), dispatcher.budget_left()) == (5, 5)
        assert len(dispatcher.move_misplaced()) == 5
        assert dispatcher.budget_left() == 0
        pass_a_minute()
        assert dispatcher.budget_left() == 5

    def test_what_is_pinned_elsewhere_goes_with_it_at_the_same_pace(self):
        placed(20, "ash", "birch")
        held = Assignment.objects.filter(node__name="ash").values_list("config", flat=True)
        pins = [Pin(config_id=config, source="file", key=str(config), kind="node", aim="birch") for config in held]
        Pin.objects.bulk_create(pins)
        Node.objects.filter(name="ash").cordon(draining=True)
        assert {move.reason for move in dispatcher.move_misplaced()} == {"pinned"}
        assert dispatcher.move_misplaced() == []
        assert counts() == {"ash": 5, "birch": 15}

    def test_uncordoning_ends_it(self):
        placed(6, "ash", "birch")
        Node.objects.filter(name="ash").cordon(draining=True)
        Node.objects.filter(name="ash").cordon(schedulable=True)
        assert dispatcher.move_misplaced() == []
        dispatcher.schedule([sent(name) for name in ("one", "two")])
        assert counts() == {"ash": 4, "birch": 4}

    def test_a_cordoned_node_keeps_what_it_has(self):
        placed(6, "ash", "birch")
        Node.objects.filter(name="ash").cordon()
        assert dispatcher.move_misplaced() == []
        assert counts() == {"ash": 3, "birch": 3}

    def test_the_last_node_keeps_its_work(self):
        placed(6, "ash")
        Node.objects.filter(name="ash").cordon(draining=True)
        revision = ClusterStore.objects.get().revision
        assert dispatcher.move_misplaced() == []
        assert ClusterStore.objects.get().revision == revision
        assert counts() == {"ash": 6}


class TestDeadlines:
    """Of drains. Times pass in the database."""

    @pytest.fixture(autouse=True)
    def many(self, warm: None) -> None:
        placed(180, "ash", "birch", "cedar")
        assert (counts()["ash"], dispatcher.budget()) == (60, 9)

    def test_the_rest_is_spread_evenly_over_the_time_that_is_left(self):
        drain("ash", 3)
        left = []
        for _ in range(4):
            one_pass()
            one_pass()
            left.append(counts().get("ash", 0))
            pass_minute_of_drain()
        assert left == [43, 26, 10, 0]

    def test_a_deadline_far_away_changes_nothing(self):
        drain("ash", 60)
        for expected in (51, 42, 33):
            one_pass()
            assert counts()["ash"] == expected
            pass_minute_of_drain()

    def test_after_the_deadline_all_goes_at_once(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(transaction, "CHUNK", 25)
        drain("ash", 1)
        pass_minute_of_drain()
        assert [one_pass().placed for _ in range(4)] == [25, 25, 10, 0]

    def test_the_earliest_deadline_comes_first_and_a_drain_without_one_last(self):
        Node.objects.filter(name="cedar").cordon(draining=True)
        report("oak")
        for name, minutes in (("ash", 60), ("birch", 59)):
            drain(name, minutes)
        one_pass()
        # Of each what its deadline needs, and what the budget has besides.
        assert Counter(source for source, _, reason in ledger() if reason == "drained") == {"birch": 8, "ash": 1}

    def test_two_deadlines_are_both_kept(self):
        report("oak")
        for name in ("ash", "birch"):
            drain(name, 1)
        pass_minute_of_drain()
        one_pass()
        assert counts().keys() == {"cedar", "oak"}

    def test_passes_look_more_often_as_it_comes_nearer(self):
        waits = []
        for minutes in (60, 5, 1, 0.5):
            drain("ash", minutes)
            one_pass()
            [wait] = TaskRun.objects.filter(name="reconcile").values_list(F("due_at") - F("ended_at"), flat=True)
            waits.append(round(wait.total_seconds()))
            Node.objects.filter(name="ash").cordon(schedulable=True)
            Move.objects.update(time=F("time") - timedelta(hours=1))
        assert waits == [60, 28, 4, 1]

    def test_what_comes_back_or_is_settled_later_goes_in_time_too(self):
        """A strict move that the node did not acknowledge is withdrawn after three polls."""
        Rule.objects.create(name="strict", check_pattern="*", handover="strict")
        drain("ash", 1)
        one_pass()
        Node.objects.update(drain_by=Now())
        one_pass()
        pass_in_a_second()
        assert "ash" not in counts()
        Handover.objects.update(since=Now() - timedelta(minutes=5))
        Hearing.objects.update(hearing_since=Now() - timedelta(hours=1))
        report("ash", "birch", "cedar")
        pass_in_a_second()
        assert counts()["ash"] == 60
        # Asked again at once, ash would keep its configs from running.
        Assignment.objects.update(since=Now() - timedelta(minutes=6))
        TaskRun.objects.update(due_at=Now())
        pass_in_a_second()
        assert {reason for _, _, reason in ledger()[-120:]} == {"withdrawn", "drained"}
        assert "ash" not in counts()

    def test_another_deadline_holds_from_the_next_pass_on_and_none_ends_it(self):
        drain("ash", 60)
        one_pass()
        drain("ash", 0.1)
        one_pass()
        assert "ash" not in counts()
        drain("ash", None)
        assert Node.objects.get(name="ash").drain_by is None

    @pytest.mark.parametrize("schedulable", [True, False])
    def test_cordoning_and_uncordoning_clear_it(self, schedulable: bool):
        drain("ash", 60)
        Node.objects.filter(name="ash").cordon(schedulable=schedulable)
        assert Node.objects.get(name="ash").drain_by is None

    def test_the_event_says_by_when(self):
        by = datetime(2100, 12, 24, 8, tzinfo=UTC)
        Node.objects.filter(name="ash").cordon(draining=True, by=by, actor="olga")
        assert NodeEvent.objects.get(kind="draining").cause == "olga, by 2100-12-24 08:00 UTC"


class TestRules:
    """What a rule forbids moves in the pass that follows, whatever the period of the rebalance task."""

    @pytest.fixture(autouse=True)
    def zones(self, warm: None) -> None:
        NodeRule.objects.create(pattern="birch", labels={"zone": "a"})
        placed(8, "ash", "birch")
        one_pass()

    def test_a_new_rule_moves_what_it_forbids(self):
        assert counts() == {"ash": 4, "birch": 4}
        Rule.objects.create(name="zone", required={"zone": "a"})
        one_pass()
        assert counts() == {"birch": 8}
        assert ledger()[8:] == [("ash", "birch", "ineligible")] * 4

    def test_a_changed_rule_moves_what_it_forbids_in_the_next_pass(self):
        rule = Rule.objects.create(name="zone", check_pattern="ntp", required={"zone": "a"})
        one_pass()
        assert counts() == {"ash": 4, "birch": 4}
        Rule.objects.filter(pk=rule.pk).update(check_pattern="*")
        one_pass()
        assert counts() == {"birch": 8}

    def test_a_rule_about_nodes_that_its_process_did_not_apply_acts_in_the_next_pass(self):
        Rule.objects.create(name="zone", required={"zone": "a"})
        one_pass()
        NodeRule.objects.update(pattern="ash")
        one_pass()
        assert counts() == {"ash": 8}

    def test_a_lowered_limit_acts_in_the_next_pass(self):
        NodeRule.objects.create(pattern="ash", max_configs=0)
        one_pass()
        assert counts() == {"birch": 8}

    def test_a_changed_option_about_groups_acts_in_the_next_pass(self, monkeypatch: pytest.MonkeyPatch):
        declare("birch", group="web")
        monkeypatch.setattr(conf, "RUNNER_GROUPS", {"http_check": "web"})
        one_pass()
        assert counts() == {"birch": 8}

    def test_a_pass_moves_no_more_than_a_chunk_and_the_next_one_goes_on(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(transaction, "CHUNK", 3)
        Rule.objects.create(name="zone", required={"zone": "a"})
        left = []
        for _ in range(2):
            one_pass()
            left.append(counts().get("ash", 0))
        assert left == [1, 0]

    def test_the_next_pass_goes_on_although_not_all_of_a_chunk_moved(self, monkeypatch: pytest.MonkeyPatch):
        """Others may have moved, edited or removed one of them meanwhile."""
        monkeypatch.setattr(transaction, "CHUNK", 3)
        relocate = passes.relocate_misplaced
        monkeypatch.setattr(passes, "relocate_misplaced", lambda entries, judge: relocate(entries[1:], judge))
        Rule.objects.create(name="zone", required={"zone": "a"})
        one_pass()
        assert counts()["ash"] == 2
        monkeypatch.setattr(passes, "relocate_misplaced", relocate)
        one_pass()
        assert "ash" not in counts()

    def test_room_that_comes_unannounced_is_used_within_a_minute(self):
        NodeRule.objects.create(pattern="*", max_configs=3)
        one_pass()
        assert counts() == {"ash": 4, "birch": 4}
        report("cedar")
        one_pass()
        assert counts() == {"ash": 4, "birch": 4}
        TaskRun.objects.update(due_at=Now())
        one_pass()
        assert counts() == {"ash": 3, "birch": 3, "cedar": 2}

    def test_a_budget_that_is_used_up_is_looked_at_when_it_has_room_again(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(dispatcher.passes, "budget", lambda: 2)
        NodeRule.objects.create(pattern="ash", max_configs=0)
        for _ in range(2):
            one_pass()
        assert counts() == {"ash": 2, "birch": 6}
        first = Move.objects.filter(reason="rebalanced").earliest("time").time
        assert TaskRun.objects.get().due_at == first + timedelta(minutes=1)

    def test_a_clock_that_is_set_back_stops_nothing(self):
        NodeRule.objects.create(pattern="*", max_configs=3)
        one_pass()
        report("cedar")
        TaskRun.objects.update(due_at=Now() + timedelta(hours=1))
        Move.objects.update(time=Now() + timedelta(hours=1), reason="rebalanced", why={"of": 2})
        one_pass()
        assert counts() == {"ash": 3, "birch": 3, "cedar": 2}

    def test_a_look_that_fails_stops_no_pass(self, monkeypatch: pytest.MonkeyPatch):
        """Nodes expire only while passes are complete: the next one would take a long gap for deafness."""

        def fail(*args: object) -> None:
            raise OperationalError("canceling statement due to statement timeout")

        before = Hearing.objects.get().last_pass
        monkeypatch.setattr(passes, "_misplaced", fail)
        Rule.objects.create(name="zone", required={"zone": "a"})
        one_pass()
        assert Hearing.objects.get().last_pass > before
        monkeypatch.undo()
        one_pass()
        assert counts() == {"birch": 8}

    def test_a_new_leader_does_not_look_again(self):
        before = TaskRun.objects.get().ended_at
        one_pass()
        assert TaskRun.objects.get().ended_at == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", ["nodes_missedpolls", "nodes_nodeevent", '"unscheduled"'])
def test_what_is_done_aside_and_fails_stops_no_pass(statement: str) -> None:
    """Missed polls, events of silent nodes, flags of what waits: without complete passes no node expires."""
    placed(2, "ash", "birch")
    Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT * 0.6)
    Config.objects.update(dangling_since=Now() - timedelta(hours=1))
    Assignment.objects.filter(node__name="ash").delete()
    Node.objects.update(schedulable=False)
    failed = []

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if statement in sql and not sql.startswith("SELECT"):
            failed.append(sql)
            raise OperationalError("canceling statement due to statement timeout")
        return execute(sql, *rest)

    MissedPolls.objects.create(node=Node.objects.get(name="ash"), seen_at=Now(), number=1)
    assert Hearing.objects.get().last_pass is None
    with connection.execute_wrapper(fail):
        one_pass()
    assert failed
    assert Hearing.objects.get().last_pass


def test_a_pass_with_nothing_to_do_asks_few_questions():
    """However many rules, nodes and configs there are."""
    NodeRule.objects.create(pattern="birch", labels={"zone": "a"})
    Rule.objects.create(name="zone", check_pattern="n*", required={"zone": "a"})
    placed(8, "ash", "birch")
    one_pass()
    term = lead()
    with CaptureQueriesContext(connection) as queries:
        dispatcher.run_pass(term)
    assert len(queries) <= MOST_QUERIES
    assert not [query["sql"] for query in queries if '"checks_rule"' in query["sql"]]


class TestDeclarations:
    def test_the_next_pass_takes_away_what_a_node_no_longer_admits(self):
        placed(4, "ash", "birch")
        declare("ash", exclude=["http_check"])
        one_pass()
        assert counts() == {"birch": 4}
        assert ledger()[-1] == ("ash", "birch", "ineligible")

    def test_what_nobody_else_admits_dangles_until_somebody_does(self):
        placed(2, "ash")
        before = versions()["ash"]
        declare("ash", include=["ntp"])
        one_pass()
        assert len(dangling()) == 2
        assert versions()["ash"] > before
        declare("ash")
        one_pass()
        assert counts() == {"ash": 2}

    def test_what_was_said_while_the_last_pass_ended_is_heard(self):
        placed(2, "ash", "birch")
        one_pass()
        declare("ash", exclude=["http_check"])
        Hearing.objects.note_pass()
        one_pass()
        assert counts() == {"birch": 2}

    def test_what_was_said_long_ago_is_not_looked_at_at_each_pass(self):
        placed(2, "ash", "birch")
        one_pass()
        declare("ash", exclude=["http_check"])
        Hearing.objects.update(last_pass=Now() + timedelta(minutes=1))
        with CaptureQueriesContext(connection) as queries:
            assert dispatcher.reconcile() == []
        assert len(queries) == 3

    def test_the_rest_stays(self):
        report("ash", "birch")
        dispatcher.schedule([sent(f"{name}-{one}", name=name) for name in ("ntp", "http_check") for one in range(4)])
        here = {key for key, node in owners().items() if node == "birch"}
        declare("ash", exclude=["ntp"])
        one_pass()
        assert {key for key, node in owners().items() if node == "ash"} == {
            key for key in owners() if key.startswith("http") and key not in here
        }

    def test_a_node_that_comes_with_a_declaration_is_never_given_what_it_refuses(self):
        report("ash")
        declare("birch", last_change=0, include=["ntp"])
        dispatcher.schedule([sent("one"), sent("two")])
        assert counts() == {"ash": 2}


class TestWaking:
    """The leader is called at once. Tests of the handler show that it reacts."""

    @pytest.mark.parametrize("kind", ["leaving", "restarting"])
    def test_a_goodbye_wakes_the_leader(self, kind: str):
        report("ash")
        with CaptureQueriesContext(connection) as queries:
            note_goodbye("ash", kind)
        assert any("pg_notify" in query["sql"] for query in queries)

    def test_a_drain_wakes_the_leader_and_a_cordon_does_not(self):
        report("ash")
        for draining in (True, False):
            with CaptureQueriesContext(connection) as queries:
                Node.objects.filter(name="ash").cordon(draining=draining)
            assert any("pg_notify" in query["sql"] for query in queries) is draining

    @pytest.mark.parametrize("rules", [Rule, NodeRule])
    def test_a_rule_wakes_the_leader_when_it_is_made_changed_or_deleted(self, rules: Any):
        rule = rules()
        for change in (rule.save, rule.save, rule.delete):
            with CaptureQueriesContext(connection) as queries:
                change()
            assert any("pg_notify" in query["sql"] for query in queries)

    def test_another_declaration_wakes_the_leader_and_the_same_does_not(self):
        report("ash")
        for expected in (True, False):
            with CaptureQueriesContext(connection) as queries:
                declare("ash", include=["ntp"])
            assert any("pg_notify" in query["sql"] for query in queries) is expected


class TestProofOfDeath:
    """What proves a death is in nodes/tests/test_proofs.py."""

    ADDRESS = "127.2.3.1"

    @pytest.fixture(autouse=True)
    def _ash_is_overdue(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """And nobody listens on its port."""
        placed(4, "ash", "birch")
        for name, address in (("ash", self.ADDRESS), ("birch", "127.2.3.2")):
            note_heartbeat(name, last_change=-1, client_ip=address)
        Heartbeat.objects.filter(node__name="ash").update(seen_at=Now() - timedelta(seconds=13), former_at=None)
        NodeEvent.objects.update(time=Now() - timedelta(minutes=1))
        Runner.objects.note({Node.objects.get(name="ash").pk: Answer([], 4, address=self.ADDRESS)})
        monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("127.0.0.0/8"),))
        with socket.socket() as port:
            port.bind((self.ADDRESS, 0))
            monkeypatch.setattr(conf, "CLC_RUNNERS_PORT", port.getsockname()[1])
            yield

    def test_the_pass_calls_for_the_ports_of_suspects_and_acts_on_the_proof(self):
        for outcome in ("1 asked, 1 refused, 0 proven", "1 asked, 1 refused, 1 proven"):
            with CaptureQueriesContext(connection) as queries:
                assert one_pass().expired == 0
            assert "ports" in str([query["sql"] for query in queries if "pg_notify" in query["sql"]])
            assert tasks.ask_ports(ClusterStore.objects.get().term) == outcome
            Probe.objects.update(
                asked_at=F("asked_at") - timedelta(seconds=2), refused_at=F("refused_at") - timedelta(seconds=2)
            )
        assert one_pass().expired == 2
        assert counts() == {"birch": 4}
        assert ledger()[4:] == [("ash", "", "expired")] * 2 + [("", "birch", "redispatched")] * 2

    def test_a_pass_that_wakes_nobody_has_no_suspects(self):
        report("ash")
        with CaptureQueriesContext(connection) as queries:
            one_pass()
        assert not any("pg_notify" in query["sql"] for query in queries)

    def test_an_earlier_term_asks_nobody(self):
        assert tasks.ask_ports(lead() - 1) == tasks.NOT_LEADER
        assert not Probe.objects.exists()


class TestLimits:
    def test_a_node_gets_no_more_than_its_rule_allows(self):
        NodeRule.objects.create(pattern="a*", max_configs=2)
        placed(10, "ash", "birch")
        assert counts() == {"ash": 2, "birch": 8}

    def test_what_no_node_has_room_for_dangles(self):
        NodeRule.objects.create(max_configs=3)
        placed(10, "ash", "birch")
        assert counts() == {"ash": 3, "birch": 3}
        assert len(dangling()) == 4

    def test_what_a_node_has_too_many_of_moves_at_the_budgets_pace(self):
        placed(40, "ash", "birch")
        NodeRule.objects.create(pattern="ash", max_configs=12)
        NodeRule.objects.apply()
        for left in (15, 12, 12):
            for _ in range(2):
                dispatcher.move_misplaced()
            assert counts()["ash"] == left
            pass_a_minute()
        assert counts()["birch"] == 28

    def test_what_nobody_has_room_for_stays(self):
        placed(10, "ash", "birch")
        NodeRule.objects.create(max_configs=3)
        NodeRule.objects.apply()
        assert dispatcher.move_misplaced() == []
        assert counts() == {"ash": 5, "birch": 5}

    def test_a_weight_is_a_share(self):
        NodeRule.objects.create(pattern="ash", weight=0.5)
        placed(30, "ash", "birch")
        assert counts() == {"ash": 10, "birch": 20}

    def test_a_weight_counts_beside_the_number_of_workers(self):
        NodeRule.objects.create(pattern="ash", weight=0.5)
        report("ash", "birch")
        Runner.objects.create(node=Node.objects.get(name="ash"), workers=16)
        dispatcher.schedule([sent(f"{one:03}") for one in range(30)])
        assert counts() == {"ash": 20, "birch": 10}

    def test_a_pinned_config_does_not_break_the_limit(self):
        NodeRule.objects.create(pattern="ash", max_configs=1)
        placed(4, "ash", "birch")
        ids = Config.objects.filter(assignment__node__name="birch").values_list("pk", flat=True)
        dispatcher.pin(list(ids), "ash", kind=Pin.Kind.NODE)
        assert counts() == {"ash": 1, "birch": 3}
        assert not Move.objects.filter(reason="pinned").exists()
