"""Which configs are cut into which shards. The peer's cases are replayed from data; where we differ the test says why."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.tests.cast import config
from checks.wire import patching, sharding, yamlnodes
from checks.wire.patching import IntegrationConfig
from checks.wire.sharding import cut, grouped, whole
from tests import peer_cases
from tests.table import table

CASES = peer_cases.cases("sharding.json")
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


# By hash

HASH = of_topic("sharding.ksm_hash", "TestKSMShardingStrategies")
PARSED = of_topic("sharding.ksm_hash", "TestParseHashSharding")
BY_HASH = "shard_criteria: [namespace]\nshard_count: 2\n"


def by_hash(*instances: str) -> dict[int, IntegrationConfig]:
    """The shards by hash; none where the config is whole, or cut by groups of collectors."""
    shards = by_resources(ksm(*instances))
    return {number: shard for number, shard in shards.items() if "shard_id" in read(shards[0].instances[0])}


@pytest.mark.parametrize("name", HASH)
def test_either_way_of_cutting_or_none_is_chosen(name: str) -> None:
    case, wanted = given_and_wanted(name)
    keys = {key: case[key] for key in ("shard_criteria", "shard_count")}
    instance = collecting(*case["collectors"], **keys)
    assert bool(by_hash(instance)) is wanted["hash"]
    assert bool(by_resources(ksm(instance))) is (wanted["hash"] or wanted["resource"])
    assert cut(ksm(instance), resources=False, instances=True) == {}


@pytest.mark.parametrize("name", PARSED)
def test_a_request_for_shards_by_hash_is_read_as_by_the_peer(name: str) -> None:
    case, wanted = given_and_wanted(name)
    instance = case["instance_yaml"] + "\nkeep: me"
    shards = by_hash(instance)
    if "count" not in wanted:
        assert shards == {}
        assert bool(sharding.deviations(ksm(instance))[1]) is wanted.get("error", False)
        return
    assert sharding.deviations(ksm(instance))[1] == ""
    assert sorted(shards) == list(range(wanted["count"]))
    for number, shard in shards.items():
        assert read(*shard.instances) == {
            "keep": "me",
            "shard_count": str(wanted["count"]),
            "shard_criteria": wanted["criteria"],
            "shard_id": str(number),
            "skip_leader_election": "true",
        }


def test_shards_by_hash_are_distinct_and_keep_what_their_config_has() -> None:
    given = replace(ksm(BY_HASH, source="file:x", init_config="timeout: 30"), service_id="s")
    shards = by_resources(given)
    assert [replace(shard, instances=given.instances) for shard in shards.values()] == [given] * 2
    assert len({patching.patch(shard, []).digest for shard in shards.values()}) == 2


def test_aggregates_are_a_config_of_their_own_beside_shards_by_hash() -> None:
    case, wanted = given_and_wanted("TestCreateShardedKSMHashConfigs_NonSuppressingShardableStillDispatches")
    asked = f"shard_criteria: [namespace]\nshard_count: {case['shard_count']}\ncollectors: [pods, nodes]"
    shards = by_hash(asked, *[AGGREGATE] * case["aggregate_instances"])
    assert len(shards) == wanted["configs"]
    said = read(*shards[case["shard_count"]].instances)
    assert (said["pod_collection_mode"], said["skip_leader_election"]) == ("cluster_aggregates_only", "true")
    assert "shard_id" not in said


def test_more_aggregates_than_one_would_count_pods_twice_so_they_are_left_out_and_named() -> None:
    given = ksm(BY_HASH, *[AGGREGATE] * 3)
    assert len(by_resources(given)) == 3
    assert "2 of 3 instances of cluster_aggregates_only left out" in sharding.deviations(given)[0]


@table(
    ("said", "number"),
    [
        ("shard_criteria: [namespace]", 0),
        ("shard_criteria: [namespace]\nshard_count: null", 0),
        ("shard_criteria: [namespace]\nshard_count: -3", 0),
        ("shard_criteria: [namespace]\nshard_count: '4'", 0),
        ("shard_criteria: [namespace]\nshard_count: [4]", 0),
        ("shard_criteria: [namespace]\nshard_count: 1:30", 0),
        ("shard_criteria: [namespace]\nshard_count: .nan", 0),
        ("shard_criteria: [namespace]\nshard_count: 1001", 0),
        ("shard_criteria: namespace\nshard_count: 4", 0),
        ("shard_criteria: [[namespace]]\nshard_count: 4", 0),
        ("shard_criteria: [null]\nshard_count: 4", 0),
        ("collectors: [pods, nodes]\nshard_count: four", 0),
        ("shard_criteria: [resource]\nshard_count: 4.0", 4),
        ("shard_criteria: [resource]\nshard_count: 0x4", 4),
        ("shard_criteria: [resource]\nshard_count: 010", 8),
    ],
)
def test_a_request_that_can_t_be_followed_is_not_cut_at_all_and_says_why(said: str, number: int) -> None:
    shards = by_resources(ksm(said))
    assert len(shards) == number
    assert ("is dispatched whole: shard_" in sharding.deviations(ksm(said))[1]) is (number == 0)


@pytest.mark.parametrize("criteria", ["null", "[]", "~"])
@pytest.mark.parametrize("count", ["", "shard_count: 4", "shard_count: null"])
def test_null_and_an_empty_list_are_no_request_so_collectors_are_cut(criteria: str, count: str) -> None:
    said = f"collectors: [pods, nodes]\nshard_criteria: {criteria}\n{count}"
    shards = by_resources(ksm(said))
    assert [read(*shard.instances)["collectors"] for shard in shards.values()] == [["pods"], ["nodes"]]
    assert sharding.deviations(ksm(said))[1] == ""


def test_shards_by_hash_that_would_be_too_large_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "MOST_REPEATED", 2 * len(BY_HASH) + 3)
    assert by_resources(ksm(BY_HASH, init_config="")) != {}
    assert by_resources(ksm(BY_HASH, init_config="a: b")) == {}
    assert "allowed are" in sharding.deviations(ksm(BY_HASH, init_config="a: b"))[1]


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
    patched = [patching.patch(shard, []) for shard in shards.values()]
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


@given(
    count=st.integers(2, 9),
    criteria=st.lists(st.sampled_from(["namespace", "resource"]), min_size=1, max_size=2, unique=True),
    aggregates=st.integers(0, 1),
    tags=st.booleans(),
)
def test_shards_by_hash_are_joined_into_what_is_cut_alike(
    count: int, criteria: list[str], aggregates: int, tags: bool
) -> None:
    said = collecting("pods", shard_criteria=criteria, shard_count=count, **({"tags": ["a"]} if tags else {}))
    shards = by_resources(ksm(said, *[AGGREGATE] * aggregates))
    assert len(shards) == count + aggregates
    joined = whole(shards)
    assert by_resources(joined) == shards
    assert "shard_id" not in "".join(joined.instances)
    if aggregates:
        assert len(whole({count: shards[count]}).instances) == 1


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
        ("12", "12"),
    ],
)
def test_a_shard_s_key_names_its_parent(key: str, parent: str) -> None:
    assert sharding.parent_of(key) == parent
    assert sharding.is_shard(key) is (key != parent)
    assert sharding.is_shard(sharding.key_of(key, 3))


def test_every_case_of_the_peer_is_replayed_or_belongs_elsewhere() -> None:
    """Those of the dispatcher are in test_sharding_dispatch.py."""
    here = {name for name, case in CASES.items() if case["topic"] != "sharding.dispatcher"}
    tables = ("TestShouldShard", "TestAnalyze", "TestClassify", "TestCreateShardedKSMConfigs")
    assert not peer_cases.unread(
        here, __file__, tables={*HASH, *PARSED, *(name for name in here if name.startswith(tables))}
    )


def test_what_shards_would_repeat_too_often_is_dispatched_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "MOST_REPEATED", 10_000)
    assert len(by_instance(many(10, init_config="x" * 900, metric_config="y" * 100))) == 10
    assert by_instance(many(11, init_config="x" * 900, metric_config="y" * 100)) == {}
