"""The metrics have the peer's names, types and labels and agree with the map; a scrape of a large cluster takes little time."""

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from checks import dispatcher
from checks.adoption import adopting
from checks.explain import headroom
from checks.explain.alerts import nodes as alerts_of_nodes
from checks.models import Config, Cost, Move, Plan, Source, TaskRun
from checks.tests.cast import hand_over, report, sent, settled_on_ash, silence
from clusteragent import metrics
from clusteragent.lib import conf
from clusteragent.lib.database import bulk
from nodes.models import Hearing, Node, Runner, Slowness, hearing
from nodes.models.runners import Answer, CheckStats
from tests.certificates import write_own

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

# {name: (type, labels besides join_leader)}
PEERS = {
    "leader_election_is_leader": ("gauge", {"is_leader"}),
    "cluster_checks_nodes_reporting": ("gauge", set()),
    "cluster_checks_configs_dangling": ("gauge", set()),
    "cluster_checks_unscheduled_check": ("gauge", {"config_name", "config_source"}),
    "cluster_checks_configs_dispatched": ("gauge", {"node"}),
    "endpoint_checks_configs_dispatched": ("gauge", {"node"}),
    "cluster_checks_rebalancing_decisions": ("counter", set()),
    "cluster_checks_successful_rebalancing_moves": ("counter", set()),
    "cluster_checks_compat_repair_moves": ("counter", set()),
    "cluster_checks_rebalancing_duration_seconds": ("gauge", set()),
    "cluster_checks_updating_stats_duration_seconds": ("gauge", set()),
    "cluster_checks_failed_stats_collection": ("counter", {"node"}),
    "cluster_checks_busyness": ("gauge", {"node"}),
    "cluster_checks_configs_info": ("gauge", {"node", "check_name", "check_id"}),
    "cluster_checks_predicted_utilization": ("gauge", {"node"}),
}
OURS = {
    "clusteragent_build_info": ("gauge", {"version"}),
    "clusteragent_leader_term": ("gauge", set()),
    "clusteragent_last_pass_age_seconds": ("gauge", set()),
    "clusteragent_brake": ("gauge", set()),
    "clusteragent_deaf": ("gauge", set()),
    "clusteragent_warmup": ("gauge", set()),
    "clusteragent_nodes": ("gauge", {"state"}),
    "clusteragent_nodes_cordoned": ("gauge", set()),
    "clusteragent_nodes_slow": ("gauge", {"state"}),
    "clusteragent_node_slowness": ("gauge", {"node"}),
    "clusteragent_nodes_summed_up": ("gauge", set()),
    "clusteragent_expected_load": ("gauge", {"node"}),
    "clusteragent_wanted_nodes": ("gauge", set()),
    "clusteragent_new_nodes_refused_total": ("counter", set()),
    "clusteragent_headroom_load": ("gauge", {"lost"}),
    "clusteragent_headroom_homeless": ("gauge", {"lost"}),
    "clusteragent_drains": ("gauge", {"state"}),
    "clusteragent_drain_configs_left": ("gauge", {"node"}),
    "clusteragent_handovers": ("gauge", {"promise"}),
    "clusteragent_moves_total": ("counter", {"reason"}),
    "clusteragent_task_duration_seconds": ("gauge", {"task"}),
    "clusteragent_task_age_seconds": ("gauge", {"task"}),
    "clusteragent_needs_you": ("gauge", {"kind"}),
    "clusteragent_certificate_ends_seconds": ("gauge", set()),
    "clusteragent_source_errors": ("gauge", {"source"}),
    "clusteragent_source_warnings": ("gauge", {"source"}),
    "clusteragent_source_held_removals": ("gauge", {"source"}),
    "clusteragent_webhook_attempts": ("gauge", set()),
}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node becomes silent because the machine is busy."""
    monkeypatch.setattr(conf, "NODE_EXPIRATION_TIMEOUT", timedelta(hours=1))
    monkeypatch.setattr(hearing, "STALE_PASS", timedelta(hours=1))
    monkeypatch.setattr(alerts_of_nodes, "LATE_ACKNOWLEDGEMENT", timedelta(hours=1))


Series = dict[tuple[str, ...], float]


def samples() -> Iterator[tuple[str, str, dict[str, str], float]]:
    """Return the series as Prometheus reads them: (name, type, labels, value). The parser adds `_total` to every counter."""
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")
            yield name if name in PEERS else sample.name, family.type, sample.labels, sample.value


def scrape() -> dict[str, Series]:
    """{name: {values of the labels but join_leader: value}}."""
    found: dict[str, Series] = {}
    for name, _, labels, number in samples():
        values = tuple(value for label, value in labels.items() if label != "join_leader")
        found.setdefault(name, {})[values] = number
    return found


def value(name: str, *labels: str) -> float:
    return scrape()[name][labels]


def furnish() -> None:
    """Make a cluster that has a series of every metric."""
    report("ash", "birch")
    Slowness.objects.create(node=Node.objects.get(name="ash"), level=Slowness.SLOW, factor=2.5)
    dispatcher.schedule([sent("one"), sent("two")])
    Config.objects.filter(origins__key="two").update(dangling_since=Now(), unscheduled=True)
    Cost.objects.create(config=Config.objects.get(origins__key="one"), workers_needed=0.5)
    TaskRun.objects.bulk_create(TaskRun(name=name, seconds=1) for name in ("stats", "rebalance"))
    headroom.note()
    Node.objects.filter(name="birch").cordon(draining=True)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A certificate that ends in 30 days."""
    monkeypatch.setattr(conf, "VAR", tmp_path)
    write_own(tmp_path, -1, 30)


@pytest.mark.usefixtures("served")
def test_names_types_and_labels_are_the_peers_and_ours_and_no_others() -> None:
    furnish()
    found = {name: (kind, set(labels) - {"join_leader"}) for name, kind, labels, _ in samples()}
    assert found == PEERS | OURS


@pytest.mark.usefixtures("served")
def test_the_names_of_the_peers_counters_stay_as_they_are() -> None:
    furnish()
    lines = metrics.exposition().decode().splitlines()
    assert {line.split("{")[0] for line in lines if not line.startswith("#")} == {*PEERS, *OURS}
    assert "# TYPE cluster_checks_failed_stats_collection counter" in lines


def test_every_series_can_be_joined_with_the_leader() -> None:
    furnish()
    assert {labels["join_leader"] for _, _, labels, _ in samples()} == {"true"}


def test_the_map_as_numbers() -> None:
    report("ash", "birch", "cedar")
    silence("cedar")
    dispatcher.schedule([sent("one"), sent("two"), sent("three")])
    dispatcher.schedule([sent("endpoint", node_name="birch", cluster_check=False)])
    found = scrape()
    assert found["cluster_checks_nodes_reporting"] == {(): 3}
    assert found["cluster_checks_configs_dangling"] == {(): 0}
    assert found["cluster_checks_configs_dispatched"] == {("ash",): 2, ("birch",): 1, ("cedar",): 0}
    assert found["endpoint_checks_configs_dispatched"] == {("ash",): 0, ("birch",): 1, ("cedar",): 0}
    assert found["clusteragent_nodes"] == {("alive",): 2, ("silent",): 1, ("lost",): 0}


def test_where_each_check_is() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    check_id = Config.objects.get().instances.get().check_id
    assert scrape()["cluster_checks_configs_info"] == {("ash", "http_check", check_id): 1}


def test_without_the_option_check_ids_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "METRICS_CONFIGS_INFO", False)
    furnish()
    assert "cluster_checks_configs_info" not in scrape()


def test_what_dangles_and_what_does_for_too_long() -> None:
    dispatcher.schedule([sent("one", source="file:/conf.d/one.yaml"), sent("two")])
    Config.objects.filter(origins__key="two").update(unscheduled=True, original={"source": "file:/conf.d/two.yaml"})
    assert value("cluster_checks_configs_dangling") == 2
    assert scrape()["cluster_checks_unscheduled_check"] == {("http_check", "file:/conf.d/two.yaml"): 1}


def test_moves_are_counted_for_ever() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    bulk.delete(Move.objects.order_by("time"))
    assert value("clusteragent_moves_total", "scheduled") == 2
    assert value("clusteragent_moves_total", "expired") == 0


def test_moves_that_balanced_and_that_repaired_by_the_peers_names() -> None:
    for reason, number in ((Move.Reason.REBALANCED, 3), (Move.Reason.INELIGIBLE, 2)):
        Move.objects.bulk_create(Move(config_id=1, digest="d", name="n", reason=reason) for _ in range(number))
    assert value("cluster_checks_successful_rebalancing_moves") == 3
    assert value("cluster_checks_compat_repair_moves") == 2


def test_what_rebalances_decided_is_counted_for_ever() -> None:
    for reason, moves in ((Move.Reason.REBALANCED, 3), (Move.Reason.REBALANCED, 2), (Move.Reason.DRAINED, 7)):
        plan = Plan.objects.create(revision=1, reason=reason, moves=[{}] * moves)
        Plan.objects.filter(pk=plan.pk).update(applied_at=Now())
        Plan.objects.filter(pk=plan.pk).update(moved=1)
    Plan.objects.create(revision=1, moves=[{}] * 9)
    Plan.objects.all().delete()
    assert value("cluster_checks_rebalancing_decisions") == 5
    assert ("decided",) not in scrape()["clusteragent_moves_total"]


def test_how_long_tasks_took_and_when() -> None:
    TaskRun.objects.create(name="stats", seconds=2.5, ended_at=Now() - timedelta(seconds=400))
    found = scrape()
    assert found["clusteragent_task_duration_seconds"] == {("stats",): 2.5}
    assert found["cluster_checks_updating_stats_duration_seconds"] == {(): 2.5}
    assert found["clusteragent_task_age_seconds"] == {("stats",): pytest.approx(400, abs=60)}
    assert "cluster_checks_rebalancing_duration_seconds" not in found


def tell(name: str, execution_ms: float, workers: int = 4) -> None:
    stats = [CheckStats(f"check:{number}", execution_ms) for number in range(2)]
    Runner.objects.note({Node.objects.get(name=name).pk: Answer(stats, workers)})


def test_what_runners_told() -> None:
    report("ash", "birch")
    tell("ash", execution_ms=150)
    Runner.objects.note({Node.objects.get(name="birch").pk: Answer(None, None, "no answer")})
    found = scrape()
    assert found["cluster_checks_busyness"] == {("ash",): 300, ("birch",): 0}
    assert found["cluster_checks_failed_stats_collection"] == {("ash",): 0, ("birch",): 1}


def cost(workers: Mapping[str, float]) -> None:
    """Set the costs of configs, by their origin's key."""
    for key, needed in workers.items():
        Cost.objects.create(config=Config.objects.get(origins__key=key), workers_needed=needed)


def test_expected_load_is_what_configs_need_by_what_a_node_has() -> None:
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    tell("ash", 100, workers=8)
    Runner.objects.update(own_load=0.5)
    cost({"one": 1, "two": 2.5})
    for name in ("clusteragent_expected_load", "cluster_checks_predicted_utilization"):
        assert scrape()[name] == {("ash",): 0.5}
    Node.objects.update(weight=0.5)
    assert value("clusteragent_expected_load", "ash") == 1


def test_headroom_is_told_of_each_domain() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    cost({"one": 2, "two": 1})
    Node.objects.filter(name="ash").update(labels={"zone": "a"})
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    headroom.note()
    assert scrape()["clusteragent_headroom_load"] == {("a",): 0.75, ("b",): 0.75}
    assert scrape()["clusteragent_headroom_homeless"] == {("a",): 0, ("b",): 0}


def test_wanted_nodes_are_four_fifths_busy() -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    cost({"one": 3.2, "two": 3.2})
    assert value("clusteragent_wanted_nodes") == 2
    Cost.objects.filter(config__origins__key="two").update(workers_needed=3.3)
    assert value("clusteragent_wanted_nodes") == 3


def test_what_dangles_wants_nodes_too() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    cost({"one": 3.2})
    Node.objects.cordon()
    dispatcher.schedule([sent("two"), sent("three")])
    assert value("clusteragent_wanted_nodes") == 3


def test_nobody_knows_how_many_nodes_are_wanted_before_anything_was_measured() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    assert "clusteragent_wanted_nodes" not in scrape()


def test_the_pass_and_whether_silence_counts() -> None:
    Hearing.objects.update(last_pass=None, braked_since=Now(), hearing_since=Now())
    found = scrape()
    assert found["clusteragent_last_pass_age_seconds"] == {(): math.inf}
    assert (found["clusteragent_brake"], found["clusteragent_deaf"], found["clusteragent_warmup"]) == (
        {(): 1},
        {(): 1},
        {(): 0},
    )
    Hearing.objects.update(last_pass=Now() - timedelta(seconds=700), braked_since=None, hearing_since=None, warmup=True)
    found = scrape()
    assert found["clusteragent_last_pass_age_seconds"][()] == pytest.approx(700, abs=60)
    assert (found["clusteragent_brake"], found["clusteragent_deaf"], found["clusteragent_warmup"]) == (
        {(): 0},
        {(): 0},
        {(): 1},
    )


def test_the_brake_is_not_told_while_adopted_nodes_have_yet_to_report() -> None:
    adopting.register(["ash", "birch"])
    Hearing.objects.update(braked_since=Now())
    assert scrape()["clusteragent_brake"] == {(): 0}
    report("ash")
    assert scrape()["clusteragent_brake"] == {(): 1}


def test_the_replica_that_leads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "REPLICA", "one")
    metrics.ClusterStore.objects.update(leader="one:4711", term=1_700_000_000_000_000_001)
    assert scrape()["leader_election_is_leader"] == {("true",): 1}
    assert b"} 1700000000000000001\n" in metrics.exposition()
    metrics.ClusterStore.objects.update(leader="two:4711")
    assert scrape()["leader_election_is_leader"] == {("false",): 1}


def test_what_needs_somebody_and_what_sources_hold() -> None:
    Hearing.objects.update(last_pass=Now())
    Source.objects.filter(name="file").update(
        errors=[{"where": "a", "line": 1, "error": "b"}] * 2,
        warnings=[{"where": "c", "line": None, "warning": "d"}],
        held_removals=["one", "two", "three"],
        left_out={"errors": 3},
    )
    found = scrape()
    assert {kind for (kind,), number in found["clusteragent_needs_you"].items() if number} == {
        "source_error",
        "held_removals",
        "source_warning",
    }
    assert found["clusteragent_source_errors"] == {("file",): 5}
    assert found["clusteragent_source_warnings"] == {("file",): 1}
    assert found["clusteragent_source_held_removals"] == {("file",): 3}


def test_nodes_beyond_the_most_share_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_NODES", 1)
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent(f"key-{number}") for number in range(5)])
    cost({"key-0": 1})
    found = scrape()
    assert found["clusteragent_nodes_summed_up"] == {(): 2}
    assert found["cluster_checks_configs_dispatched"] == {("ash",): 2, ("/others",): 3}
    # Of loads the highest: birch has two of the others' three configs.
    assert found["clusteragent_expected_load"] == {("ash",): 0.5, ("/others",): 0.5}
    assert {node for node, *_ in found["cluster_checks_configs_info"]} == {"ash", "/others"}


def test_configs_unscheduled_beyond_the_most_share_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_NODES", 1)
    dispatcher.schedule([sent(name, name=name) for name in ("a", "b", "c")])
    Config.objects.update(unscheduled=True)
    assert scrape()["cluster_checks_unscheduled_check"] == {("a", ""): 1, ("/others", ""): 2}


def test_names_may_have_any_character() -> None:
    report('a"b\\c')
    assert scrape()["cluster_checks_configs_dispatched"] == {('a"b\\c',): 0}
    assert "".join(metrics.Family("x", "gauge", "x", ("y",), [(("1\n2",), 1)]).lines()).endswith('y="1\\n2"} 1\n')


def test_the_number_of_queries_does_not_grow() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            metrics.exposition()
        return len(captured)

    furnish()
    few = queries()
    report(*(f"node-{number}" for number in range(50)))
    dispatcher.schedule([sent(f"key-{number}") for number in range(200)])
    assert queries() == few


def test_drains_are_told_by_how_far_they_are() -> None:
    settled_on_ash(2)
    assert scrape()["clusteragent_drains"] == {("under way",): 0, ("late",): 0, ("done",): 0}
    Node.objects.filter(name__in=("ash", "birch")).cordon(draining=True)
    assert scrape()["clusteragent_drains"] == {("under way",): 1, ("late",): 0, ("done",): 1}
    assert scrape()["clusteragent_drain_configs_left"] == {("ash",): 2, ("birch",): 0}
    Node.objects.filter(name="ash").update(drain_by=Now())
    assert scrape()["clusteragent_drains"] == {("under way",): 0, ("late",): 1, ("done",): 1}
    # What is being handed over is left, until the new node has fetched it.
    report("cedar")
    dispatcher.move_misplaced()
    assert scrape()["clusteragent_drain_configs_left"] == {("ash",): 2, ("birch",): 0}
    hand_over()
    assert scrape()["clusteragent_drain_configs_left"] == {("ash",): 0, ("birch",): 0}
    silence("ash")
    assert value("clusteragent_drains", "done") == 2


def test_drains_of_very_many_nodes_share_a_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_NODES", 1)
    settled_on_ash(2)
    report("cedar")
    Node.objects.all().cordon(draining=True)
    assert scrape()["clusteragent_drain_configs_left"] == {("ash",): 2, (metrics.OTHERS,): 0}


def test_the_time_until_the_certificate_ends_is_told_and_nothing_of_one_that_can_t_be_used(served: None) -> None:
    assert 29 * 86400 < value("clusteragent_certificate_ends_seconds") <= 30 * 86400
    (conf.VAR / "cert.pem").write_text("half of one")
    assert "clusteragent_certificate_ends_seconds" not in scrape()
