"""The input and the content of plans."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher, plans
from checks.dispatcher.eligibility import Snapshot, read_snapshot
from checks.models import Assignment, Config, Instance, Move, Plan
from checks.models.orders import Rule
from checks.plans import survey
from checks.tests.balance import LONG_AGO, fetch, furnish, join, routes, settle
from checks.tests.cast import owners, report, sent, silence
from clusteragent.lib import conf
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, Runner, RunnerStats

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

# Node → costs of its configs. One node could as well have half of it.
UNEVEN: dict[str, list[float]] = {"ash": [0.4, 0.4, 0.4, 0.4], "birch": []}


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def node(name: str) -> Node:
    return Node.objects.get(name=name)


def moving(**how) -> set[str]:
    return set(routes(plans.draft(**how)))


def test_a_plan_says_what_moves_and_how_loaded_nodes_are_before_and_after():
    furnish(**UNEVEN, cedar=[0.8])
    plan = plans.make(actor="eve")
    assert len(plan.moves) == 2
    assert {(move["from_node"], move["to_node"], move["cost"]) for move in plan.moves} == {("ash", "birch", 0.4)}
    assert Plan.objects.get() == plan
    assert (plan.author, plan.reason, plan.applied_at) == ("eve", Move.Reason.REBALANCED, None)
    assert plan.nodes == {
        "ash": {"before": pytest.approx(0.4), "after": pytest.approx(0.2)},
        "birch": {"before": 0, "after": pytest.approx(0.2)},
    }
    assert plan.spread == {
        "peak": [pytest.approx(0.4), pytest.approx(0.2)],
        "stddev": [pytest.approx(0.1633, abs=1e-4), pytest.approx(0, abs=1e-6)],
    }
    assert "birch" not in owners().values()


def test_a_plan_that_moves_nothing_is_not_stored():
    furnish(ash=[0.4], birch=[0.4])
    assert plans.make().moves == []
    assert not Plan.objects.exists()


def test_a_draft_is_not_stored():
    furnish(**UNEVEN)
    assert plans.draft().moves
    assert not Plan.objects.exists()


def test_force_skips_only_the_question_whether_it_is_worth_it(monkeypatch: pytest.MonkeyPatch):
    furnish(ash=[0.4] * 4, birch=[0.4])
    assert len(moving()) == 1
    monkeypatch.setattr(conf, "REBALANCE_MIN_IMPROVEMENT", 100)
    assert not moving()
    assert len(moving(force=True)) == 1
    NodeEvent.objects.create(node_name="ash", kind="registered")
    assert not moving(force=True, settling=True)
    Assignment.objects.update(since=Now())
    fetch()
    assert not moving(force=True)


def test_no_more_moves_than_one_period_may_have_unless_told():
    furnish(ash=[0.1] * 30, birch=[])
    assert dispatcher.budget() == 5
    assert [len(moving(**how)) for how in ({}, {"budget": 2}, {"budget": 0}, {"unlimited": True})] == [5, 2, 0, 14]


def test_a_node_that_counts_half_gets_half():
    furnish(ash=[0.1] * 12, birch=[])
    Node.objects.filter(name="birch").update(weight=0.5)
    assert 3 <= len(moving(unlimited=True)) <= 4


def test_a_node_gets_no_more_configs_than_it_may_have():
    furnish(**UNEVEN)
    Node.objects.filter(name="birch").update(max_configs=1)
    assert len(moving()) == 1


def test_load_that_is_not_ours_counts():
    furnish(**UNEVEN)
    Runner.objects.create(node=node("birch"), own_load=1.6)
    assert not moving()


class TestWhatStays:
    """Whatever the loads are."""

    @pytest.fixture(autouse=True)
    def _nodes(self, warm: None) -> None:
        furnish(**UNEVEN)

    def test_pinned_configs(self):
        dispatcher.pin([id_of("ash-0"), id_of("ash-1"), id_of("ash-2")], "ash")
        assert moving() == {"ash-3"}

    def test_isolated_configs_and_their_nodes_get_nothing(self):
        join("cedar")
        dispatcher.isolate([id_of("ash-0")])
        settle()
        assert set(owners().values()) == {"ash", "birch", "cedar"}
        assert moving(force=True) == set()

    def test_checks_that_are_excluded(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "EXCLUDE_CHECKS_FROM_DISPATCHING", frozenset({"http_check"}))
        assert not moving()

    def test_what_moved_within_the_cooldown(self):
        first = min(moving())
        Move.objects.create(
            config_id=id_of(first), digest="", name="", source_node="birch", to_node="ash", reason="operator",
            time=Now() - conf.REBALANCE_COOLDOWN + timedelta(seconds=5),
        )  # fmt: skip
        assert len(moving()) == 2
        assert first not in moving()
        Move.objects.update(time=Now() - conf.REBALANCE_COOLDOWN - timedelta(seconds=5))
        assert first in moving()

    def test_what_was_placed_or_edited_lately_does_not_stay(self):
        everything = moving()
        for source, reason in (("", "scheduled"), ("", "redispatched"), ("ash", "changed")):
            for key in everything:
                Move.objects.create(
                    config_id=id_of(key), digest="", name="", source_node=source, to_node="ash", reason=reason
                )
        assert moving() == everything

    def test_what_a_cordoned_node_has(self):
        Node.objects.filter(name="ash").cordon()
        assert not moving()

    def test_what_a_silent_node_has_even_after_we_were_deaf(self):
        silence("ash")
        Hearing.objects.update(hearing_since=Now())
        assert not moving()

    def test_nothing_goes_to_a_silent_cordoned_or_leaving_node(self):
        for change in ({"schedulable": False}, {"leaving": True}, {"kept_until": Now() + LONG_AGO}):
            before = {name: getattr(node("birch"), name) for name in change}
            Node.objects.filter(name="birch").update(**change)
            assert not moving()
            Node.objects.filter(name="birch").update(**before)
        assert moving()
        silence("birch")
        assert not moving()

    def test_nothing_goes_to_a_node_that_comes_and_goes(self):
        Node.objects.filter(name="birch").update(not_before=Now() + LONG_AGO)
        assert not moving()


class TestWhatHasNotRun:
    """A config stays until it has run on its node."""

    @pytest.fixture(autouse=True)
    def _nodes(self, warm: None) -> None:
        furnish(**UNEVEN)

    def came(self, ago: timedelta, *keys: str) -> None:
        """These, or all, were assigned so long ago, and their node has fetched them."""
        rows = Assignment.objects.filter(config__origins__key__in=keys) if keys else Assignment.objects.all()
        rows.update(since=Now() - ago)
        fetch()

    def told(self, *check_ids: str, at: timedelta = timedelta(0), failures: int = 0) -> None:
        values = {"stats_at": Now() - at, "failures": failures}
        Runner.objects.update_or_create(node=node("ash"), defaults=values)
        for check_id in check_ids:
            RunnerStats.objects.create(
                node=node("ash"), check_id=check_id, execution_ms=0, total_runs=1, total_errors=0, failed=False
            )

    def test_what_an_old_runner_tells_of_has_run_though_it_counts_no_runs_and_took_no_millisecond(self):
        self.came(LONG_AGO)
        self.told(*self.check_ids())
        RunnerStats.objects.update(total_runs=None, total_errors=None, execution_ms=0)
        assert len(moving()) == 2

    def check_ids(self) -> list[str]:
        return list(Instance.objects.values_list("check_id", flat=True))

    def test_on_a_node_that_gives_stats_when_it_is_in_them(self):
        self.came(LONG_AGO)
        self.told()
        assert not moving()
        self.told(*self.check_ids())
        assert len(moving()) == 2

    def test_stats_from_before_it_came_say_nothing(self):
        self.came(timedelta(seconds=30))
        self.told(*self.check_ids(), at=timedelta(seconds=40))
        assert not moving()
        self.told(at=timedelta(seconds=20))
        assert len(moving()) == 2

    def test_a_check_told_under_its_bare_name_has_run(self):
        self.came(LONG_AGO)
        self.told("http_check")
        assert len(moving()) == 2

    def test_on_a_node_without_stats_two_minutes_after_it_came(self):
        self.came(timedelta(seconds=110))
        assert not moving()
        self.came(timedelta(seconds=130))
        assert len(moving()) == 2

    def test_on_a_node_whose_stats_fail_likewise(self):
        self.came(timedelta(seconds=130))
        self.told(failures=1)
        assert len(moving()) == 2

    def test_what_its_node_has_not_fetched_moves_freely(self):
        self.came(LONG_AGO, "ash-0", "ash-1", "ash-2")
        Assignment.objects.filter(config__origins__key="ash-3").update(since=Now())
        Node.objects.bump_versions([Node.objects.get(name="ash").pk])
        assert moving(budget=0) == {"ash-3"}


class TestWhileNodesComeAndGo:
    """The periodic rebalance waits, unless a node is overloaded."""

    @pytest.mark.parametrize("kind", ["registered", "back", "restarted", "expired", "leaving", "restarting"])
    def test_nothing_moves(self, kind: str):
        furnish(**UNEVEN)
        NodeEvent.objects.create(node_name="birch", kind=kind, time=Now() - conf.REBALANCE_SETTLING * 0.9)
        assert not moving(settling=True)
        assert moving()
        NodeEvent.objects.filter(kind=kind).update(time=Now() - conf.REBALANCE_SETTLING * 1.1)
        assert moving(settling=True)

    def test_silence_alone_is_no_such_thing(self):
        furnish(**UNEVEN)
        NodeEvent.objects.create(node_name="birch", kind="silent")
        assert moving(settling=True)

    def test_an_overloaded_node_gives_just_enough(self):
        furnish(ash=[0.5] * 8, birch=[0.5] * 4, cedar=[])
        NodeEvent.objects.create(node_name="cedar", kind="registered")
        plan = plans.draft(settling=True)
        assert [(move["from_node"], move["to_node"]) for move in plan.moves] == [("ash", "cedar"), ("ash", "cedar")]
        assert plan.nodes["ash"]["after"] == pytest.approx(0.75)


class TestEligibility:
    def test_a_config_goes_only_where_it_may_run(self):
        furnish(**UNEVEN, cedar=[])
        Rule.objects.create(name="fast", required={"disk": "fast"})
        Node.objects.filter(name__in=["ash", "cedar"]).update(labels={"disk": "fast"})
        assert set(routes(plans.draft()).values()) == {"cedar"}

    def test_a_rule_s_most_per_node_holds_for_the_whole_plan(self):
        furnish(**UNEVEN)
        Rule.objects.create(name="few", check_pattern="http_*", max_per_node=1)
        assert len(moving()) == 1

    def test_a_rule_about_origins_is_heeded(self):
        furnish(**UNEVEN)
        for number in range(3):
            Rule.objects.create(name=f"some-{number}", source_pattern=f"file:ash-{number}", required={"disk": "fast"})
        Node.objects.filter(name="ash").update(labels={"disk": "fast"})
        assert moving() == {"ash-3"}

    def test_node_agents_get_nothing_while_a_runner_takes_it(self):
        furnish(**UNEVEN, cedar=[])
        Heartbeat.objects.filter(node__name__in=["ash", "cedar"]).update(client_ip="10.0.0.1")
        assert set(routes(plans.draft()).values()) == {"cedar"}


def test_sticky_configs_move_only_for_a_large_difference(monkeypatch: pytest.MonkeyPatch):
    furnish(ash=[0.2] * 6, birch=[])
    assert len(moving()) == 3
    monkeypatch.setattr(conf, "STICKINESS_ENABLED", True)
    assert not moving()
    monkeypatch.setattr(conf, "STICKINESS_FACTOR", 0.5)
    assert len(moving()) == 2


def test_a_dangling_config_and_a_lost_node_are_left_alone():
    furnish(**UNEVEN, cedar=[0.4])
    silence("cedar")
    dispatcher.expire_nodes()
    NodeEvent.objects.update(time=F("time") - LONG_AGO)
    assert all(key.startswith("ash") for key in moving())
    report("cedar")
    dispatcher.schedule([sent("endpoint", node_name="ash")])
    assert "endpoint" not in moving()


def test_a_node_that_comes_while_the_plan_is_made_is_left_to_the_next(monkeypatch: pytest.MonkeyPatch):
    furnish(**UNEVEN)
    note_heartbeat("ash", last_change=7, declared=canonical(exclude=["dns_check"]))

    def read_and_join(*args: Any, **how: Any) -> Snapshot:
        snapshot = read_snapshot(*args, **how)
        join("cedar")
        dispatcher.schedule([sent("late")])
        dispatcher.reassign([id_of("late")], "cedar", actor="eve")
        return snapshot

    monkeypatch.setattr(survey, "read_snapshot", read_and_join)
    assert {move["to_node"] for move in plans.draft(force=True).moves} == {"birch"}


def test_a_runner_that_tells_that_nothing_takes_time_does_not_draw_everything(monkeypatch: pytest.MonkeyPatch):
    """Its load stays 0, however many it has."""
    furnish(ash=[0.4] * 6, birch=[0.4] * 6, liar=[0.0] * 6)
    everything = routes(plans.draft(force=True, budget=1000))
    assert set(everything.values()) == {"liar"}
    monkeypatch.setattr(conf, "RUNNER_MAX_WORKERS", 4)
    assert "liar" not in routes(plans.draft(force=True, budget=1000)).values()
