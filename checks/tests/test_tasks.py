"""The worker's tasks: they do nothing after their term, and never raise."""

import re
from ast import literal_eval
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from checks import sources, tasks
from checks.dispatcher.costs import Measured
from checks.models import Assignment, ClusterStore, Cost, Move, Plan, TaskRun
from checks.models.map import Call
from checks.tests.balance import furnish
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Node, NodeEvent
from nodes.statsclient import Round

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _term() -> None:
    ClusterStore.objects.update(term=7)


@pytest.mark.parametrize("term", [6, 8])
def test_a_task_of_another_term_does_nothing(term: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.dispatcher, "expire_nodes", lambda **_: pytest.fail("it ran"))
    monkeypatch.setattr(tasks.costs, "measure", lambda: pytest.fail("it asked"))
    for task in (tasks.background_pass, tasks.collect_stats, tasks.rebalance, tasks.prune):
        assert task(term) == tasks.NOT_LEADER


def test_a_pass_says_what_it_did() -> None:
    assert tasks.background_pass(7) == "Pass(expired=0, placed=0)"


def test_a_pass_that_fails_is_logged_and_the_next_one_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(tasks.dispatcher, "run_pass", lambda term: 1 / 0)
        assert tasks.background_pass(7) == tasks.FAILED
    assert "pass_failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert tasks.background_pass(7) != tasks.FAILED


def test_a_task_that_ended_well_notes_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.prune(7)
    tasks.prune(6)
    monkeypatch.setattr(tasks.dispatcher, "run_pass", lambda term: 1 / 0)
    tasks.background_pass(7)
    run = TaskRun.objects.get()
    assert run.name == "prune"
    assert 0 < run.seconds < 5
    tasks.prune(7)
    assert TaskRun.objects.get().ended_at > run.ended_at


def test_a_round_of_stats_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[str] = []
    monkeypatch.setattr(tasks.costs, "measure", lambda: rounds.append("asked") or Measured(Round(1, 0, 0.1), 0, 0))
    monkeypatch.setattr(tasks.Trouble.objects, "note", lambda: rounds.append("noted"))
    tasks.collect_stats(7)
    assert rounds == ["asked", "noted"]


def test_a_scan_that_found_a_file_being_written_asks_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Call] = []
    monkeypatch.setattr(tasks.sources, "sync", lambda term: sources.Report(unsettled=True))
    monkeypatch.setattr(tasks.ClusterStore.objects, "wake", calls.append)
    assert tasks.scan_sources(7) == "0 added, 0 changed, 0 removed"
    assert calls == [Call.SCAN]


def test_a_scan_gives_way_to_a_sync_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(term: int) -> sources.Report:
        raise sources.SyncUnderWay

    monkeypatch.setattr(tasks.sources, "sync", busy)
    assert tasks.scan_sources(7) == "another sync is under way"


def test_a_round_of_stats_says_who_answered() -> None:
    assert re.fullmatch(r"0 asked, 0 failed, \d+\.\d s, 0 costs changed", tasks.collect_stats(7))


def test_pruning_forgets_what_is_older_than_the_retention() -> None:
    for age in (conf.LEDGER_RETENTION - timedelta(minutes=1), conf.LEDGER_RETENTION + timedelta(minutes=1)):
        Move.objects.create(config_id=1, digest="d", name="n", reason="scheduled", term=1, time=Now() - age)
        NodeEvent.objects.create(node_name="ash", kind=NodeEvent.Kind.SILENT, time=Now() - age)
        Plan.objects.create(revision=1, time=Now() - age)
    Cost.objects.create(config_id=1, workers_needed=0.5)
    pruned = {
        "moves": 1,
        "plans": 1,
        "edits": 0,
        "freezes": 0,
        "events": 1,
        "nodes": 0,
        "costs": 1,
        "sessions": 0,
        "acts": 0,
        "task results": 0,
        "uses of the shared token": 0,
    }
    assert literal_eval(tasks.prune(7)) == pruned | {"tokens": 0}
    assert (Move.objects.count(), NodeEvent.objects.count()) == (1, 1)


def test_forgetting_nodes_looks_at_no_config_that_is_not_theirs() -> None:
    """PostgreSQL asks so for each node that goes: through all configs, that took minutes for some thousands of nodes."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT 1 FROM checks_config WHERE former_node_id = 1 FOR KEY SHARE")
        assert "config_of_former_node" in str(cursor.fetchall())


@pytest.mark.parametrize("option", ["ADVANCED_DISPATCHING_ENABLED", "REBALANCE_ENABLED"])
def test_an_option_switches_automatic_balancing_off(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Hearing.objects.update(warmup=False)
    furnish(ash=[0.4] * 4, birch=[])
    monkeypatch.setattr(conf, option, False)
    assert tasks.rebalance(7).startswith("nothing rebalanced: ")
    assert not Plan.objects.exists()
    monkeypatch.setattr(conf, option, True)
    assert tasks.rebalance(7) == "2 of 2 rebalanced"


def test_what_must_not_stay_moves_while_balancing_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    Hearing.objects.update(warmup=False)
    monkeypatch.setattr(conf, "REBALANCE_ENABLED", False)
    furnish(ash=[0.4] * 2, birch=[])
    Node.objects.filter(name="ash").cordon(draining=True)
    assert tasks.rebalance(7).startswith("nothing rebalanced")
    tasks.background_pass(7)
    assert set(Assignment.objects.values_list("node__name", flat=True)) == {"birch"}


def test_node_agents_do_not_give_way_to_runners_while_balancing_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    Hearing.objects.update(warmup=False)
    furnish(ash=[0.4] * 2, birch=[])
    note_heartbeat("birch", last_change=-1, node_type=1)
    monkeypatch.setattr(conf, "REBALANCE_ENABLED", False)
    tasks.background_pass(7)
    assert set(Assignment.objects.values_list("node__name", flat=True)) == {"ash"}
    monkeypatch.setattr(conf, "REBALANCE_ENABLED", True)
    TaskRun.objects.update(due_at=Now())
    tasks.background_pass(7)
    assert set(Assignment.objects.values_list("node__name", flat=True)) == {"birch"}


def test_a_rebalance_that_moved_something_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "collect_stats", lambda term: "")
    assert tasks.rebalance(7) == "0 of 0 rebalanced"
    assert "configs_rebalanced" not in caplog.text
    monkeypatch.setattr(tasks.plans, "rebalance", lambda **_: (Plan(moves=[{}, {}]), [Move()]))
    assert tasks.rebalance(7) == "1 of 2 rebalanced"
    assert "configs_rebalanced" in caplog.text
