"""Which nodes are slow: that of a cluster whose checks differ by nature none is, and one whose checks take thrice as long is."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import pytest
from django.db import connection
from django.db.models import BigIntegerField, Func, TextField, Value
from django.db.models.functions import Now

from nodes import slowness
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, Runner, RunnerStats
from nodes.models.runners import KINDS, OTHER_NODES, QUICK, RunTimes
from nodes.slowness import Pace, compare

# {node: {check: times of its instances, in ms}}
Cluster = Mapping[int, Mapping[str, list[float]]]


def run_times(cluster: Cluster) -> list[RunTimes]:
    """What the database makes of these times. Kinds are numbered in the order of the checks' names."""
    every: dict[str, list[float]] = defaultdict(list)
    medians: dict[str, dict[int, float]] = defaultdict(dict)
    for node, of_node in cluster.items():
        for name, times in of_node.items():
            every[name] += times
            medians[name][node] = median(times)
    ranks = {name: _ranks(times) for name, times in every.items()}
    kinds = {name: number for number, name in enumerate(sorted(every))}
    found: dict[int, list[Any]] = defaultdict(list)
    for node, of_node in cluster.items():
        for name, times in of_node.items():
            others = [one for other, one in medians[name].items() if other != node]
            if len(others) >= OTHER_NODES and (usual := median(others)) >= QUICK:
                ranked = sum(ranks[name][one] for one in times)
                found[node].append(
                    (node, kinds[name], len(times), median(times), usual, len(others), ranked, len(every[name]))
                )
    return [RunTimes(*one, len(found)) for of_node in found.values() if len(of_node) >= KINDS for one in of_node]


def _ranks(times: Iterable[float]) -> dict[float, float]:
    found: dict[float, list[int]] = defaultdict(list)
    for rank, one in enumerate(sorted(times), 1):
        found[one].append(rank)
    return {one: sum(same) / len(same) for one, same in found.items()}


def cluster_of(
    dice: random.Random, nodes: int, each: int, slow: Mapping[int, float] | None = None
) -> dict[int, dict[str, list[float]]]:
    """Twelve checks, some alike everywhere, some of very different URLs, dealt out at random. Machines differ a bit."""
    kinds = [(f"check_{n}", dice.uniform(2, 8), dice.choice([0.1, 0.3, 0.6, 1.0, 1.4])) for n in range(12)]
    machines = {node: dice.uniform(0.8, 1.3) * (slow or {}).get(node, 1.0) for node in range(nodes)}
    found: dict[int, dict[str, list[float]]] = {node: defaultdict(list) for node in machines}
    for _ in range(nodes * each):
        node, (name, mean, sigma) = dice.choice(range(nodes)), dice.choice(kinds)
        found[node][name].append(round(dice.lognormvariate(mean, sigma) * machines[node]))
    return found


def is_slow(pace: Pace | None, least: float = 2.0) -> bool:
    return pace is not None and pace.is_sure and pace.factor >= least


@pytest.mark.parametrize(("nodes", "each"), [(3, 5), (3, 30), (8, 10), (20, 25), (40, 8)])
def test_a_cluster_whose_checks_and_machines_differ_by_nature_has_no_slow_node(nodes: int, each: int) -> None:
    for seed in range(40):
        paces = compare(run_times(cluster_of(random.Random(seed), nodes, each)))
        assert not any(map(is_slow, paces.values())), seed


@pytest.mark.parametrize(("nodes", "each"), [(3, 60), (8, 50), (20, 50)])
def test_a_node_that_is_three_and_a_half_times_slower_is_found_and_no_other(nodes: int, each: int) -> None:
    found = 0
    for seed in range(40):
        paces = compare(run_times(cluster_of(random.Random(seed), nodes, each, {0: 3.5})))
        assert not any(is_slow(pace) for node, pace in paces.items() if node), seed
        found += is_slow(paces[0])
    assert found >= 38


@pytest.mark.parametrize(
    ("each", "factor", "least", "most"),
    [
        (5, 3, 0, 10),
        (5, 10, 0, 15),
        (10, 3, 15, 45),
        (10, 10, 55, 85),
        (20, 3, 75, 100),
        (20, 4, 90, 100),
        (30, 3, 90, 100),
        (50, 3, 90, 100),
    ],
)
def test_how_often_a_slow_node_of_ten_is_found(each: int, factor: float, least: int, most: int) -> None:
    """In percent, as ADR 19 says it: of 200 clusters with so many checks a node."""
    found = 0
    for seed in range(200):
        paces = compare(run_times(cluster_of(random.Random(seed), 10, each, {0: factor})))
        assert not any(is_slow(pace) for node, pace in paces.items() if node), seed
        found += is_slow(paces.get(0))
    assert least <= found / 2 <= most


def test_two_hundred_ordinary_clusters_have_no_slow_node() -> None:
    for seed in range(200):
        dice = random.Random(seed)
        nodes, each = dice.choice([3, 4, 5, 8, 10, 20, 40]), dice.choice([5, 8, 10, 20, 30, 50])
        paces = compare(run_times(cluster_of(dice, nodes, each)))
        assert not any(map(is_slow, paces.values())), (seed, nodes, each)


def test_the_factor_is_how_many_times_as_long_its_checks_take() -> None:
    usual = {f"check_{n}": [100.0 + n, 101.0 + n] for n in range(10)}
    slow = {name: [3.2 * time for time in times] for name, times in usual.items()}
    found = compare(run_times({1: usual, 2: usual, 3: usual, 4: slow}))
    assert found[4] == Pace(pytest.approx(3.2), 20, 3, is_sure=True)
    assert found[1] == Pace(1.0, 20, 3, is_sure=False)


def test_one_odd_check_or_many_odd_instances_of_one_make_no_node_slow() -> None:
    usual = {f"check_{n}": [100.0, 110.0] for n in range(6)}
    odd = usual | {"check_0": [60_000.0]}
    far = usual | {"check_0": [9_000.0] * 500}
    found = compare(run_times({1: usual, 2: usual, 3: usual, 4: odd, 5: far}))
    assert not any(map(is_slow, found.values()))


def test_too_few_nodes_or_checks_say_nothing() -> None:
    usual, slow = {"a": [100.0] * 30, "b": [100.0] * 30}, {"a": [900.0] * 30, "b": [900.0] * 30}
    assert compare(run_times({1: usual, 2: slow})) == {}
    assert compare(run_times({1: {"a": [100.0]}, 2: {"a": [100.0]}, 3: {"a": [900.0] * 9}})) == {}
    assert compare([]) == {}


def test_what_takes_few_milliseconds_is_not_compared() -> None:
    quick, slow = {"a": [1.0] * 9, "b": [0.0] * 9}, {"a": [4.0] * 9, "b": [4.0] * 9}
    assert compare(run_times({1: quick, 2: quick, 3: quick, 4: slow})) == {}


def test_a_runner_that_lies_makes_no_other_node_slow() -> None:
    usual = {f"check_{n}": [100.0, 100.0] for n in range(8)}
    idle = {name: [0.0] * 5000 for name in usual}
    busy = {name: [1e12] * 5000 for name in usual}
    for lies in (idle, busy):
        found = compare(run_times({1: usual, 2: usual, 3: usual, 4: usual, 5: lies}))
        assert not any(is_slow(found[node]) for node in (1, 2, 3, 4))


def tell(cluster: Cluster, *, silent: int | None = None) -> dict[int, int]:
    """Store these times as runners told them; `silent` did not answer the last time. Returns {node of the cluster: its id}."""
    keys = {}
    for node, of_node in cluster.items():
        note_heartbeat(f"node-{node}", last_change=-1)
        keys[node] = Node.objects.get(name=f"node-{node}").pk
        Runner.objects.create(node_id=keys[node], stats_at=Now(), failures=int(node == silent))
        RunnerStats.objects.bulk_create(
            RunnerStats(node_id=keys[node], check_id=f"{check}:{number}", execution_ms=time, failed=False)
            for check, times in of_node.items()
            for number, time in enumerate(times)
        )
    return keys


def stored() -> list[RunTimes]:
    """The run times of the database, with kinds as `run_times` numbers them."""
    names = RunnerStats.objects.annotate(
        name=Func("check_id", Value(":"), Value(1), function="split_part", output_field=TextField())
    )
    hashes = names.annotate(hash=Func("name", Value(0), function="hashtextextended", output_field=BigIntegerField()))
    kinds = dict(hashes.order_by().values_list("hash", "name").distinct())
    numbers = {hashed: number for number, hashed in enumerate(sorted(kinds, key=kinds.__getitem__))}
    return sorted(one._replace(kind=numbers[one.kind]) for one in RunnerStats.objects.run_times())


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(6))
def test_the_database_compares_known_nodes_that_answered(seed: int) -> None:
    dice = random.Random(seed)
    cluster = cluster_of(dice, nodes=dice.randrange(3, 9), each=20, slow={0: 4})
    keys = tell(cluster | {99: cluster[0]}, silent=99)
    told = {keys[node]: of_node for node, of_node in cluster.items()}
    assert stored() == sorted(run_times(told))
    paces = compare(run_times(told))
    slow = {node for node, pace in paces.items() if pace.factor >= 1.2}
    for asked in ((), (keys[1],)):
        found = compare(RunnerStats.objects.run_times(1.2, asked))
        assert found == {node: pace for node, pace in paces.items() if node in {*slow, *asked}}


@pytest.mark.django_db
def test_a_lost_node_is_not_compared() -> None:
    cluster = cluster_of(random.Random(1), nodes=5, each=20)
    keys = tell(cluster)
    Node.objects.get(name="node-0").heartbeat.delete()
    told = {keys[node]: of_node for node, of_node in cluster.items() if node}
    assert stored() == sorted(run_times(told))


@pytest.mark.django_db(transaction=True)
def test_of_thousands_of_run_times_only_those_of_slow_nodes_are_compared_here_and_in_no_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PostgreSQL ends a session that is idle in a transaction for five seconds, as it was while ten thousand were compared."""
    cluster = cluster_of(random.Random(1), nodes=30, each=40, slow={0: 5})
    keys = tell(cluster)
    compared: list[RunTimes] = []

    def watched(runs: Iterable[RunTimes]) -> dict[int, Pace]:
        assert not connection.in_atomic_block
        compared.extend(runs)
        return compare(compared)

    monkeypatch.setattr(slowness, "compare", watched)
    slowness.note_round()
    assert {one.node_id for one in compared} == {keys[0]}
    assert len(compared) == len(cluster[0])
