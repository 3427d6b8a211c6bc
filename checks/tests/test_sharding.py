"""What is cut into shards, and into which. The peer's cases are replayed from data; where we differ the test says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import sharding, wire, yamlnodes
from checks.sharding import cut, grouped, whole
from checks.tests.cast import config
from checks.wire import IntegrationConfig

DATA = Path(__file__).parents[2] / "tests" / "data" / "peer_cases" / "sharding.json"
CASES = {case["name"]: case for case in json.loads(DATA.read_text())}
NAMES = ["pods", "nodes", "others"]
AGGREGATE = "collectors:\n- pods\npod_collection_mode: cluster_aggregates_only\n"


def of_topic(topic: str, beginning: str) -> list[Any]:
    names = [name for name, case in CASES.items() if case["topic"] == topic and name.startswith(beginning)]
    assert names
    return names


def given_and_wanted(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return CASES[name]["input"], CASES[name]["expected"]


def ksm(*instances: str, **fields: Any) -> IntegrationConfig:
    return config(name=sharding.KSM, instances=instances, **fields)


def collecting(*collectors: str, **keys: Any) -> str:
    return json.dumps({"collectors": list(collectors), **keys})


def many(number: int, **fields: Any) -> IntegrationConfig:
    return config(name="postgres", instances=tuple(f"host: h{each}\n" for each in range(number)), **fields)


def by_resources(original: IntegrationConfig) -> dict[int, IntegrationConfig]:
    return cut(original, resources=True, instances=True)


def by_instance(original: IntegrationConfig, *excluded: str) -> dict[int, IntegrationConfig]:
    return cut(original, resources=True, instances=True, excluded=excluded)


def read(instance: str) -> dict[str, Any]:
    root = yamlnodes.read(instance)
    return {
        key.value: [item.value for item in value.value] if isinstance(value.value, list) else value.value
        for key, value in root.value  # type: ignore[union-attr]
    }


# kubernetes_state_core, by groups of collectors


@pytest.mark.parametrize("name", of_topic("sharding.ksm", "TestShouldShardKSMCheck"))
def test_the_check_of_the_cluster_s_state_is_cut_when_it_has_two_groups(name: str) -> None:
    case, wanted = given_and_wanted(name)
    original = ksm(collecting(*case["collectors"]), cluster_check=case["cluster_check"])
    assert bool(cut(original, resources=case["enabled"], instances=True)) is wanted["shard"]


@pytest.mark.parametrize("name", of_topic("sharding.ksm", "TestAnalyzeKSMConfig"))
def test_collectors_fall_into_three_groups(name: str) -> None:
    case, wanted = given_and_wanted(name)
    groups = [[NAMES[number], collectors] for number, collectors in grouped(case["collectors"]).items()]
    assert groups == wanted["groups"]


@pytest.mark.parametrize("name", of_topic("sharding.ksm", "TestClassifyKSMInstances"))
def test_one_instance_is_cut_and_aggregates_ride_with_the_pods(name: str) -> None:
    case, wanted = given_and_wanted(name)
    shardable = [collecting("pods", "nodes")] * case["shardable"]
    shards = by_resources(ksm(*shardable, *[AGGREGATE] * case["aggregate"]))
    assert bool(shards) is wanted["ok"]
    if shards:
        assert len(shards[0].instances) - 1 == wanted["passthrough"]
        assert all(len(shards[number].instances) == 1 for number in shards if number)


@pytest.mark.parametrize("name", of_topic("sharding.ksm", "TestCreateShardedKSMConfigs"))
def test_each_group_is_an_instance_of_its_own(name: str) -> None:
    case, wanted = given_and_wanted(name)
    shards = by_resources(ksm(collecting(*case["collectors"], labels_as_tags="x")))
    instances = [shard.instances for shard in shards.values()]
    assert len(shards) == wanted["shards"]
    assert {len(each) for each in instances} == {wanted["each_has"]["instances"]}
    for (instance,) in instances:
        said = read(instance)
        assert said["collectors"] == sorted(said["collectors"]) != []
        assert (said["skip_leader_election"], said["labels_as_tags"]) == ("true", "x")


def test_what_collects_everything_collects_everything_in_three_shards() -> None:
    collected = [read(shard.instances[0])["collectors"] for shard in by_resources(ksm("{}")).values()]
    assert collected[:2] == [["pods"], ["nodes"]]
    assert {"endpoints", "deployments", "secrets"} < set(collected[2])


def test_aggregates_without_pods_are_a_shard_of_their_own() -> None:
    shards = by_resources(ksm(collecting("nodes", "jobs"), AGGREGATE))
    assert (sorted(shards), shards[0].instances) == ([0, 1, 2], (AGGREGATE,))


def test_a_group_keeps_its_number_when_another_comes() -> None:
    before = by_resources(ksm(collecting("nodes", "jobs")))
    after = by_resources(ksm(collecting("nodes", "jobs", "pods")))
    assert before.items() < after.items()


@pytest.mark.parametrize("instance", ["collectors: pods", "collectors: [[pods], nodes]", "- a", "a: ["])
def test_what_can_t_be_told_is_not_cut(instance: str) -> None:
    assert by_resources(ksm(instance)) == {}


HASH = of_topic("sharding.ksm_hash", "TestKSMShardingStrategies")


@pytest.mark.parametrize("name", HASH)
def test_who_asks_for_shards_by_hash_is_dispatched_whole(name: str) -> None:
    """The peer's newest revision cuts these by a hash that the check computes itself, when the request is valid. No agent
    that is released knows those keys, so ours leaves such a config whole, valid or not; so does the peer an invalid one.
    """
    case, wanted = given_and_wanted(name)
    assert not wanted["resource"]
    keys = {key: case[key] for key in ("shard_criteria", "shard_count")}
    assert by_resources(ksm(collecting(*case["collectors"], **keys))) == {}


# Other checks, by instance


@pytest.mark.parametrize("name", of_topic("sharding.instance", "TestShouldShardInstances"))
def test_cluster_checks_of_several_instances_are_cut(name: str) -> None:
    case, wanted = given_and_wanted(name)
    original = replace(many(case["instances"], cluster_check=case["cluster_check"]), name=case["name"])
    original = replace(original, logs="logs: []" if case["has_logs"] else None)
    assert bool(by_instance(original, *case["exclude"])) is wanted["shard"]


@pytest.mark.parametrize(
    "fields", [{"logs": "- type: file\n"}, {"node_name": "ash"}, {"name": sharding.KSM}, {"instances": ("host: a",)}]
)
def test_logs_endpoints_and_single_instances_are_not_cut(fields: dict[str, Any]) -> None:
    original = replace(many(3), **fields)
    assert cut(original, resources=False, instances=True) == {}


def test_nothing_is_cut_unless_asked() -> None:
    for original in (many(3), ksm("{}")):
        assert cut(original, resources=False, instances=False) == {}


def test_identical_instances_have_digests_of_their_own() -> None:
    case, wanted = given_and_wanted("TestCreateShardedInstanceConfigs_IdenticalInstances")
    shards = by_instance(config(instances=tuple(case["instances"]), service_id="s"))
    patched = [wire.patch(shard, []) for shard in shards.values()]
    assert len(patched) == wanted["shards"]
    assert (len({one.digest for one in patched}) == len(patched)) is wanted["distinct_digests"]
    assert len({one.check_ids for one in patched}) == len(patched)
    assert [shard.service_id for shard in shards.values()] == ["s#instance-shard-0", "s#instance-shard-1"]


# Together again


@given(
    names=st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=6),
    service_id=st.sampled_from(["", "kube_service://uid", "odd#instance-shard-7"]),
)
def test_instances_are_cut_and_joined_without_loss(names: list[str], service_id: str) -> None:
    original = config(instances=tuple(f"host: {name}\n" for name in names), service_id=service_id)
    shards = by_instance(original)
    assert [shard.instances[0] for shard in shards.values()] == list(original.instances)
    assert whole(shards) == original


@given(
    collectors=st.sets(st.sampled_from(["pods", "nodes", "jobs", "services", "secrets"])),
    aggregates=st.integers(0, 2),
    tags=st.booleans(),
)
def test_groups_of_collectors_are_joined_into_what_is_cut_alike(
    collectors: set[str], aggregates: int, tags: bool
) -> None:
    said = collecting(*collectors, **({"tags": ["a"]} if tags else {}))
    riders = tuple(AGGREGATE.replace("pods", f"pods{number}") for number in range(aggregates))
    shards = by_resources(ksm(said, *riders))
    assert bool(shards) is (len(grouped(collectors)) != 1)
    if shards:
        joined = whole(shards)
        assert by_resources(joined) == shards
        assert joined.instances[1:] == riders


@pytest.mark.parametrize(
    ("key", "parent"),
    [
        ("a.yaml#0", "a.yaml"),
        ("a#b#12", "a#b"),
        ("a#0#1", "a#0"),
        ("a", "a"),
        ("a#", "a#"),
        ("a#b", "a#b"),
        ("a#²", "a#²"),
    ],
)
def test_a_shard_s_key_names_its_parent(key: str, parent: str) -> None:
    assert sharding.parent_of(key) == parent
    assert sharding.is_shard(key) is (key != parent)
    assert sharding.is_shard(sharding.key_of(key, 3))


def test_every_case_of_the_peer_is_replayed_or_belongs_elsewhere() -> None:
    """Those of the dispatcher are in test_sharding_dispatch.py. Reading a request for shards by hash, and cutting by it,
    is not here: such a config is dispatched whole.
    """
    elsewhere = {name for name, case in CASES.items() if case["topic"] == "sharding.dispatcher"}
    by_hash = {name for name, case in CASES.items() if case["topic"] == "sharding.ksm_hash"} - set(HASH)
    assert len(CASES) == 35
    beginnings = (
        "TestShouldShard",
        "TestAnalyze",
        "TestClassify",
        "TestCreateShardedKSMConfigs",
        "TestCreateShardedInst",
    )
    assert all(name.startswith(beginnings) for name in CASES.keys() - elsewhere - by_hash - set(HASH))


def test_what_shards_would_repeat_too_often_is_dispatched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "MOST_REPEATED", 10_000)
    assert len(by_instance(many(10, init_config="x" * 900, metric_config="y" * 100))) == 10
    assert by_instance(many(11, init_config="x" * 900, metric_config="y" * 100)) == {}
