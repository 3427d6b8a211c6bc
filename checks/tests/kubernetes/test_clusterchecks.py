"""What a ClusterCheck declares becomes a config and orders of it, or a problem that names the field."""

import json
from typing import Any

import pytest

from checks.sources.kubernetes.clusterchecks import make, read_clustercheck
from checks.sources.kubernetes.configs import Made, Options
from checks.sources.kubernetes.variables import Environment
from checks.sources.source import Aim, Ordered
from checks.tests.kubernetes.cast import annotated, problems
from tests.table import table

KEY = "clustercheck/shop/orders-db"
SPEC: dict[str, Any] = {"check": "postgres", "instances": [{"host": "db", "port": 5432}]}


def resource(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    named = {"namespace": "shop", "name": "orders-db", "generation": 2} | metadata
    return {"metadata": named, "spec": SPEC if spec is None else spec}


def made_of(spec: Any, options: Options | None = None) -> Made:
    return make(read_clustercheck(resource(spec)), options or Options())


def test_a_declared_check_is_one_cluster_check_of_its_own_name() -> None:
    made = made_of(SPEC | {"initConfig": {"global": True}, "instances": [{"host": "a"}, {"host": "b"}]})
    assert not made.problems
    [(key, config)] = made.configs.items()
    assert key == KEY
    assert (config.name, config.cluster_check, config.node_name) == ("postgres", True, "")
    assert (config.provider, config.source) == ("kubernetes-clusterchecks", "clustercheck:shop/orders-db")
    assert config.instances == ("host: a\n", "host: b\n")
    assert config.init_config == "global: true\n"


@table(
    ("field", "value"),
    [
        ("instances", [{"port": 5432, "ssl": False, "tags": ["b", "a"], "query": "select 1\nfrom x"}]),
        ("instances", [{"large": 9007199254740993, "small": 1e-7, "half": 0.5, "huge": 1e300}]),
        ("instances", [{"text": "5432", "odd": "\u2028\x7f é😀", "empty": "", "null": None, "": {}}]),
        ("instances", [{}, {"nested": [{"deep": [[1], {"x": {}}]}]}]),
        ("init_config", {"global": {"timeout": 5, "name": "é"}, "large": 9007199254740993}),
        ("init_config", {}),
    ],
)  # fmt: skip
def test_it_has_the_bytes_of_the_same_json_in_an_annotation(field: str, value: Any) -> None:
    spec = {"check": "postgres", "instances": [{}], "init_config": {}, field: value}
    checks = {
        "postgres": {"ignore_autodiscovery_tags": True} | {name: spec[name] for name in ("instances", "init_config")}
    }
    [other] = annotated({"service.checks": json.dumps(checks)}).configs.values()
    [mine] = made_of(
        {"check": "postgres", "instances": spec["instances"], "initConfig": spec["init_config"]}
    ).configs.values()
    assert (mine.instances, mine.init_config) == (other.instances, other.init_config)


@table(
    ("change", "error"),
    [
        ({"check": None}, "spec.check is missing: it is the name of the check, such as http_check"),
        ({"check": ""}, "spec.check is no name of a check"),
        ({"check": 5}, "spec.check is no name of a check"),
        ({"check": "x" * 254}, "spec.check is longer than 253 characters"),
        ({"instances": None}, "spec.instances is missing: a check needs at least one, which may be {}"),
        ({"instances": []}, "spec.instances is empty: a check needs at least one, which may be {}"),
        ({"instances": {}}, "spec.instances is no list"),
        ({"instances": [{}, "x"]}, "spec.instances[1] is no object"),
        ({"instances": [None]}, "spec.instances[0] is no object"),
        ({"instances": [{}] * 501}, "spec.instances has 501, allowed are 500"),
        ({"initConfig": []}, "spec.initConfig is no object"),
        ({"initConfig": "x"}, "spec.initConfig is no object"),
        ({"paused": "yes"}, "spec.paused is neither true nor false"),
        ({"paused": 1}, "spec.paused is neither true nor false"),
        ({"pin": "ash"}, "spec.pin is no object"),
        ({"pin": {}}, "spec.pin needs exactly one of node, pattern and label, but has none"),
        ({"pin": {"node": "ash", "label": "a=b"}},
         "spec.pin needs exactly one of node, pattern and label, but has node and label"),
        ({"pin": {"node": 5}}, "spec.pin.node is no text"),
        ({"pin": {"node": ""}}, "spec.pin.node is no text"),
        ({"pin": {"node": "a\0"}}, "spec.pin.node holds a zero byte"),
        ({"pin": {"pattern": "x" * 254}}, "spec.pin.pattern is longer than 253 characters"),
        ({"pin": {"label": "zone"}}, "spec.pin.label is no label with a value: it is written as zone=a"),
        ({"pin": {"label": "=a"}}, "spec.pin.label is no label with a value: it is written as zone=a"),
        ({"pin": {"node": "ash", "waits": "no"}}, "spec.pin.waits is neither true nor false"),
        ({"instances": [{"url": "http://%%host%%"}]},
         "spec.instances[0]: %%host%%: a ClusterCheck is about no Service: write the address"),
        ({"instances": [{}, {"port": "%%port%%"}]},
         "spec.instances[1]: %%port%%: a ClusterCheck is about no Service: write the port"),
        ({"initConfig": {"x": "%%env_HOME%%"}},
         "spec.initConfig: %%env_HOME%% may not be read: DD_AD_ALLOWED_ENV_VARS does not name it"),
    ],
)  # fmt: skip
def test_a_broken_spec_names_the_field_and_keeps_what_was_sent(change: dict[str, Any], error: str) -> None:
    made = made_of(SPEC | change)
    assert problems(made) == [f"clustercheck shop/orders-db: {error}"]
    assert (made.configs, made.kept) == ({}, {KEY})


@pytest.mark.parametrize("spec", [[], "x", 5])
def test_a_spec_that_is_no_object_is_told(spec: Any) -> None:
    assert problems(made_of(spec)) == ["clustercheck shop/orders-db: spec is no object"]


def test_an_object_without_a_spec_or_with_odd_other_fields_is_read() -> None:
    bare = read_clustercheck({"metadata": {"namespace": "shop", "name": "x", "generation": "2"}, "status": []})
    assert (bare.error, bare.generation, bare.status) == ("spec is missing", 0, {})


def test_what_nests_too_deep_or_is_too_large_is_told() -> None:
    deep: Any = {}
    for _ in range(60):
        deep = {"x": deep}
    assert problems(made_of(SPEC | {"instances": [deep]})) == [
        "clustercheck shop/orders-db: spec.instances[0] nests too deep"
    ]
    [error] = problems(made_of(SPEC | {"instances": [{"number": 10**400}]}))
    assert "spec.instances[0] " in error


def test_variables_are_those_that_need_no_service() -> None:
    options = Options(environment=Environment(frozenset({"zone"}), {"ZONE": "a"}))
    spec = SPEC | {"instances": [{"url": "http://db.%%kube_namespace%%", "zone": "%%env_ZONE%%"}]}
    [config] = made_of(spec, options).configs.values()
    assert config.instances == ("url: http://db.shop\nzone: a\n",)


@table(
    ("fields", "ordered"),
    [
        ({}, Ordered()),
        ({"paused": None, "pin": None}, Ordered()),
        ({"paused": False}, Ordered()),
        ({"paused": True}, Ordered(paused=True)),
        ({"pin": {"node": "ash"}}, Ordered(pin=Aim("node", "ash"))),
        ({"pin": {"pattern": "runner-*", "node": None, "waits": True}}, Ordered(pin=Aim("pattern", "runner-*", waits=True))),
        ({"paused": True, "pin": {"label": "zone=a=b"}}, Ordered(paused=True, pin=Aim("label", "zone=a=b"))),
    ],
)  # fmt: skip
def test_what_is_ordered_is_read(fields: dict[str, Any], ordered: Ordered) -> None:
    assert read_clustercheck(resource(SPEC | fields)).ordered == ordered


def test_resources_that_differ_in_their_status_are_equal() -> None:
    one, other = (read_clustercheck(resource() | {"status": {"state": state}}) for state in ("Assigned", "Running"))
    assert one == other
    assert (one.status, other.status) == ({"state": "Assigned"}, {"state": "Running"})
    assert one != read_clustercheck(resource(SPEC | {"paused": True}))
