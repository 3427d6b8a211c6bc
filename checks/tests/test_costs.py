"""Costs of configs: as measured, else the mean of the check, else of all checks, else 1."""

import pytest
from django.db.models import OuterRef
from django.db.models.functions import Now

from checks import dispatcher, pruning
from checks.dispatcher import costs
from checks.models import Assignment, Config, Cost, Instance
from checks.tests.cast import report, sent
from clusteragent.lib import conf
from nodes.models import Heartbeat, Node, Runner, RunnerStats

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _nodes() -> None:
    # Without an address, so that nobody is asked and what a test writes is what was told.
    report("ash", "birch", "cedar")


def schedule(**checks: str) -> None:
    """Configs by their origin's key, and the check of each."""
    dispatcher.schedule([sent(key, name=check) for key, check in checks.items()])


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def node(name: str) -> int:
    return Node.objects.get(name=name).pk


def measured(**workers: float) -> None:
    for key, needed in workers.items():
        Cost.objects.update_or_create(config_id=id_of(key), defaults={"workers_needed": needed})


def runs(*keys: str, on: str = "ash") -> None:
    """These configs are on the node."""
    ids = [id_of(key) for key in keys]
    Assignment.objects.filter(config_id__in=ids).delete()
    for pk in ids:
        Assignment.objects.create(config_id=pk, node_id=node(on), reason="scheduled")


def tells(name: str = "ash", **milliseconds: float) -> None:
    """Let the node have fetched its configs and reported these stats, by check ID or by its config's key."""
    Heartbeat.objects.update(acknowledged=Node.objects.filter(pk=OuterRef("node_id")).values("config_version"))
    Runner.objects.update_or_create(node_id=node(name), defaults={"stats_at": Now(), "failures": 0})
    RunnerStats.objects.filter(node_id=node(name)).delete()
    ids = dict(Instance.objects.values_list("config__origins__key", "check_id"))
    for key, execution in milliseconds.items():
        RunnerStats.objects.create(
            node_id=node(name),
            check_id=ids.get(key, key),
            execution_ms=execution,
            total_runs=1,
            total_errors=0,
            failed=False,
        )


def measure() -> dict[str, float]:
    """The measured costs: {origin's key: workers}."""
    costs.measure()
    return dict(Cost.objects.values_list("config__origins__key", "workers_needed"))


def own_load(name: str = "ash") -> float:
    return Runner.objects.get(node__name=name).own_load


def expected() -> dict[str, float]:
    return {Config.objects.get(pk=pk).origins.get().key: cost for pk, cost in Cost.objects.expected().items()}


def test_while_nothing_is_measured_every_config_costs_one() -> None:
    schedule(a="ntp", b="disk")
    assert expected() == {"a": 1, "b": 1}
    assert Cost.objects.means().of("ntp") == 1


def test_an_unmeasured_config_costs_what_the_same_check_does_on_average_else_what_all_do() -> None:
    schedule(a="ntp", b="ntp", c="ntp", d="disk", e="http_check")
    measured(a=0.1, b=0.3, d=0.8)
    assert expected() == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.2, "d": 0.8, "e": 0.4})
    assert [Cost.objects.means().of(check) for check in ("ntp", "disk", "snmp")] == pytest.approx([0.2, 0.8, 0.4])


def test_only_the_wanted_configs_are_told() -> None:
    schedule(a="ntp", b="ntp")
    measured(a=0.1)
    assert Cost.objects.expected([id_of("b")]) == pytest.approx({id_of("b"): 0.1})
    assert Cost.objects.expected([]) == {}


def test_endpoint_checks_are_not_dispatched_so_they_have_no_cost() -> None:
    dispatcher.schedule([sent("a", node_name="ash")])
    assert Cost.objects.expected() == {}


def test_a_node_bears_what_its_configs_cost_and_what_is_its_own() -> None:
    schedule(a="ntp", b="ntp", c="ntp")
    Assignment.objects.update(node=node("ash"))
    measured(a=0.1, b=0.3)
    Runner.objects.create(node_id=node("birch"), own_load=0.7)
    assert Cost.objects.by_node() == pytest.approx({node("ash"): 0.6, node("birch"): 0.7})
    held = Cost.objects.held()
    assert [(one.configs, one.assumed, one.is_assumed) for one in (held[node("ash")], held[node("birch")])] == [
        (3, pytest.approx(0.2), False), (0, 0, False)
    ]  # fmt: skip
    Cost.objects.filter(config=id_of("b")).delete()
    assert Cost.objects.held()[node("ash")].is_assumed


def test_a_node_has_the_workers_that_it_named_else_four() -> None:
    Runner.objects.create(node_id=node("ash"), workers=16)
    Runner.objects.create(node_id=node("birch"), workers=None)
    assert Runner.objects.capacity() == {node("ash"): 16, node("birch"): 4, node("cedar"): 4}


def test_an_edited_config_keeps_its_cost() -> None:
    schedule(a="ntp")
    measured(a=0.25)
    dispatcher.schedule([sent("a", name="ntp", url="http://elsewhere")])
    assert expected() == {"a": 0.25}


@pytest.mark.parametrize(
    ("instance", "milliseconds", "workers"),
    [
        ("a: 1", 1500, 0.1),
        ("min_collection_interval: 60", 1500, 0.025),
        ("min_collection_interval: 0.5", 100, 0.2),
        ("min_collection_interval: 1", 9000, 1),
        ("a: 1", 90_000, 1),
        ("min_collection_interval: 0", 1500, 0.1),
        ("min_collection_interval: -5", 1500, 0.1),
        ("min_collection_interval: often", 1500, 0.1),
        ("min_collection_interval: .nan", 1500, 0.1),
        ("min_collection_interval: [5]", 1500, 0.1),
        ("min_collection_interval: 1e-300", 1500, 1),
        ("min_collection_interval: 1e300", 1500, 1.5e-9),
        ("a: 1", 0, 0.0005 / 15),
    ],
)
def test_an_instance_needs_its_share_of_a_worker(instance: str, milliseconds: float, workers: float) -> None:
    dispatcher.schedule([sent("a", instances=(instance,))])
    runs("a")
    tells(a=milliseconds)
    assert measure() == {"a": pytest.approx(workers)}


def test_a_config_needs_what_its_instances_do_and_those_that_did_not_run_yet_count_like_the_others() -> None:
    instances = ("name: a", "name: b\nmin_collection_interval: 30", "name: c")
    dispatcher.schedule([sent("a", instances=instances)])
    runs("a")
    first, second, _ = Instance.objects.order_by("pk").values_list("check_id", flat=True)
    tells(**{first: 1500, second: 1500})
    assert measure() == {"a": pytest.approx(3 * (0.1 + 0.05) / 2)}


@pytest.mark.parametrize("total_runs", [None, 0])
def test_what_a_runner_tells_of_has_run_whatever_its_number_of_runs(total_runs: int | None) -> None:
    """Runners from before 2026 report no number, and all releases report a run of less than a millisecond as 0."""
    schedule(a="ntp", b="disk")
    runs("a")
    tells(a=0, strange=0)
    RunnerStats.objects.update(total_runs=total_runs)
    assert measure() == {"a": pytest.approx(0.0005 / 15)}
    assert own_load() == pytest.approx(0.0005 / 15)
    assert expected()["b"] == pytest.approx(0.0005 / 15)


def test_a_bare_name_is_that_of_the_only_config_of_the_check_on_the_node() -> None:
    schedule(a="load", b="load", c="load", d="disk")
    runs("a", "d", on="ash")
    runs("b", "c", on="birch")
    tells("ash", load=1500)
    tells("birch", load=3000)
    assert measure() == {"a": pytest.approx(0.1)}
    assert own_load("birch") == 0


def test_the_check_id_counts_rather_than_the_bare_name() -> None:
    schedule(a="load")
    runs("a")
    tells(a=1500, load=15_000)
    assert measure() == {"a": pytest.approx(0.1)}


def test_what_another_node_than_the_owner_tells_is_neither_a_cost_nor_its_own_load() -> None:
    schedule(a="ntp", b="load")
    runs("a", "b", on="birch")
    tells("ash", a=1500, load=1500)
    assert measure() == {}
    assert own_load("ash") == 0


def test_what_is_not_ours_is_the_nodes_own_load() -> None:
    schedule(a="ntp")
    runs("a")
    tells(a=1500, cpu=30, snmp=60_000)
    measure()
    assert own_load() == pytest.approx(0.002 + 1)
    tells(a=1500)
    measure()
    assert own_load() == 0


def test_endpoint_checks_are_their_nodes_own_load() -> None:
    dispatcher.schedule([sent("a", node_name="ash")])
    tells(a=1500)
    assert measure() == {}
    assert own_load() == pytest.approx(0.1)


def test_what_a_node_runs_that_did_not_fetch_its_configs_yet_is_not_taken_for_its_own() -> None:
    schedule(a="ntp")
    runs("a")
    tells(a=1500)
    dispatcher.schedule([sent("a", name="ntp", url="http://elsewhere")])
    Heartbeat.objects.filter(node__name="ash").update(acknowledged=7)
    measure()
    assert own_load() == 0
    Node.objects.filter(name="ash").update(config_version=7)
    measure()
    assert own_load() == pytest.approx(0.1)


def test_what_a_node_told_that_fails_now_is_no_measurement() -> None:
    schedule(a="ntp")
    runs("a")
    tells(a=1500, cpu=1500)
    Runner.objects.update(failures=1)
    assert measure() == {}
    assert own_load() == 0


def test_a_cost_is_written_anew_when_it_changed_by_more_than_a_hundredth() -> None:
    schedule(a="ntp")
    runs("a")
    written = []
    for milliseconds in (1500, 1500, 1510, 1530, 0, 0):
        tells(a=milliseconds)
        written.append(costs.measure().configs)
    assert written == [1, 0, 0, 1, 1, 0]


def test_a_config_keeps_its_cost_while_nobody_runs_it() -> None:
    schedule(a="ntp")
    runs("a")
    tells(a=1500)
    measure()
    Assignment.objects.all().delete()
    tells()
    assert measure() == {"a": pytest.approx(0.1)}


def test_the_costs_of_configs_that_are_gone_are_forgotten_and_count_nowhere() -> None:
    schedule(a="ntp", b="ntp", c="ntp")
    measured(a=0.1, b=0.3)
    dispatcher.unschedule([("file", "a")])
    assert expected() == pytest.approx({"b": 0.3, "c": 0.3})
    assert pruning.KINDS["costs"](2) == 1
    assert Cost.objects.count() == 1


def test_own_load_is_never_above_the_workers_of_the_node() -> None:
    """A runner that reports very many busy checks must not raise the number of wanted nodes."""
    schedule(one="http_check")
    runs("one")
    busy = {f"check_{number}": 10.0**9 for number in range(20)}
    tells(**busy)
    measure()
    assert own_load() == 4
    Runner.objects.update(workers=6)
    tells(**busy)
    measure()
    assert own_load() == 6


@pytest.mark.parametrize(
    ("able", "shares"),
    [
        ({"ash": 4.0}, {"ash": 1000}),
        ({"ash": 4.0, "birch": 4.0}, {"ash": 985, "birch": 985}),
        ({f"node{number}": 4.0 for number in range(65)}, {f"node{number}": 500 for number in range(65)}),
        ({"ash": 512.0, "birch": 512.0}, {"ash": 500, "birch": 500}),
        ({}, {}),
    ],
)
def test_the_most_that_balancing_gives_a_node_is_the_share_of_one_of_the_greatest_size(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, float], shares: dict[str, int]
) -> None:
    monkeypatch.setattr(conf, "RUNNER_MAX_WORKERS", 256)
    assert costs.largest_shares(1000, able) == shares


def test_the_loads_of_some_nodes_are_those_of_all() -> None:
    schedule(one="http_check", two="http_check", three="tcp_check")
    measured(one=0.5)
    runs("one", "two")
    runs("three", on="birch")
    Runner.objects.update_or_create(node_id=node("birch"), defaults={"failures": 0, "own_load": 0.25})
    everywhere = costs.loads()
    assert set(costs.told_of([node("ash"), 0]).shares) == {node("ash")}
    some = [node("birch"), node("cedar"), node("ash")]
    assert costs.told_of(some).shares == {one: everywhere[one] for one in some}
    assert everywhere[node("birch")] > 0
