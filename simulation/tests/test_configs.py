"""How a simulated node agent reads an answer to GET configs: as Go's decoder, with the peer's digest."""

import json
from base64 import b64encode

import pytest

from simulation.client import read_configs


def answer(**fields: object) -> bytes:
    return json.dumps({"last_change": 1, "configs": [{"check_name": "foo", **fields}]}).encode()


def data(text: str) -> str:
    return b64encode(text.encode()).decode()


def digest(*instances: str, **fields: object) -> str:
    _, [config] = read_configs(answer(instances=[data(instance) for instance in instances], **fields))
    return f"{config.digest:x}"


@pytest.mark.parametrize(
    ("instance", "expected"),
    [("foo:bar: null\n", "bac28046698f8f94"), ("tags:\n- foo\n- foo:bar\n", "acf96a2e562b1adf")],
)
def test_the_digest_is_the_real_agents(instance: str, expected: str) -> None:
    assert digest(instance) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"init_config": data("{}")},
        {"logs": data("[]")},
        {"node_name": "ash"},
        {"service_id": "docker://1"},
        {"ignore_autodiscovery_tags": True},
    ],
)
def test_a_field_of_the_digest_changes_it(fields: dict[str, object]) -> None:
    assert digest("a: 1", **fields) != digest("a: 1")


@pytest.mark.parametrize("fields", [{"source": "file:x"}, {"provider": "api"}, {"metrics_excluded": True}, {"new": []}])
def test_any_other_field_leaves_it(fields: dict[str, object]) -> None:
    assert digest("a: 1", **fields) == digest("a: 1")


@pytest.mark.parametrize(
    "fields",
    [
        {"instances": []},
        {"instances": None},
        {"instances": [data("a: 1")], "cluster_check": True},
        {"instances": [data("a: 1")], "ad_identifiers": ["redis"]},
        {"instances": [data("a: 1")], "advanced_ad_identifiers": [{"kube_service": {}}]},
    ],
)
def test_what_no_node_agent_runs_is_left_out(fields: dict[str, object]) -> None:
    assert read_configs(answer(**fields)) == (1, [])


def test_null_and_missing_fields_are_empty() -> None:
    nulls = dict.fromkeys(("init_config", "logs", "ad_identifiers", "node_name", "service_id", "cluster_check"))
    assert digest("a: 1", **nulls) == digest("a: 1")
    assert read_configs(b"{}") == (0, [])
    assert read_configs(b'{"last_change":null,"configs":[null]}') == (0, [])


@pytest.mark.parametrize(
    "fields",
    [
        {"instances": ["%%%"]},
        {"instances": ["YQ"]},
        {"instances": "YQ=="},
        {"instances": [1]},
        {"init_config": "{}"},
        {"check_name": 1},
        {"cluster_check": "false"},
        {"ad_identifiers": "redis"},
        {"ignore_autodiscovery_tags": 1},
    ],
)
def test_a_field_of_another_type_or_without_base64_spoils_the_whole_answer(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        read_configs(answer(**fields))


@pytest.mark.parametrize("last_change", ["1.0", "1e3", '"1"', "true", "9223372036854775808", "[]"])
def test_last_change_is_a_64_bit_integer(last_change: str) -> None:
    with pytest.raises(ValueError):
        read_configs(f'{{"last_change":{last_change},"configs":[]}}'.encode())


@pytest.mark.parametrize(
    ("instances", "label"),
    [
        (["name: shop"], "foo:shop"),
        (["name: shop", "namespace: blog", "a: 1"], "foo:shop,blog"),
        (["a: 1"], "foo"),
        (["[1"], "foo"),
        (["- name: a list"], "foo"),
        (["when: 2001-13-45"], "foo"),
    ],
)
def test_the_label_names_the_check_and_its_instances(instances: list[str], label: str) -> None:
    _, [config] = read_configs(answer(instances=[data(instance) for instance in instances]))
    assert config.label == label
