"""Patching changes only what it must in an instance. The exact bytes are tested in test_wire_bytes.py."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks.wire import options, patching, readable
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from clusteragent.lib import conf
from tests.table import table

DATA = Path(__file__).parents[2] / "tests" / "data"
PEER_CASES = json.loads((DATA / "peer_cases" / "patching.json").read_text())


def patched_instance(text: str, *extra_tags: str) -> str:
    """The text of an endpoint check's only instance, since nothing but tags is patched there."""
    (instance,) = served(IntegrationConfig("ntp", instances=(text,), node_name="ash"), *extra_tags)["instances"]
    return base64.b64decode(instance).decode()


def served(config: IntegrationConfig, *extra_tags: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(patching.patch(config, extra_tags).wire)
    return body


def extra_tags(monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[str]:
    """The tags of every instance with these options, {name in lower case: value}."""
    for name, value in given.items():
        monkeypatch.setattr(conf, name.upper(), value or ())
    return options.extra_tags()


def recorded_configs() -> Iterator[dict[str, Any]]:
    for path in sorted((DATA / "golden").glob("*.json")):
        for exchange in json.loads(path.read_text()):
            body = exchange["response"].get("body") or ""
            if exchange["response"]["status"] == 200 and '"instances":[' in body:
                yield from json.loads(body)["configs"]


@table("case", [case for case in PEER_CASES if case["topic"] == "extra_tags"])
def test_the_extra_tags_are_the_peers(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert extra_tags(monkeypatch, **case["input"]) == case["expected"]["extra_tags"]


def test_the_cluster_tag_can_be_left_out_and_the_orchestrators_id_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = extra_tags(
        monkeypatch,
        global_tags=["one"],
        cluster_name="mycluster",
        disable_cluster_name_tag_key=True,
        orch_cluster_id="42",
    )
    assert tags == ["one", "kube_cluster_name:mycluster", "orch_cluster_id:42"]


@table("case", [case for case in PEER_CASES if case["topic"] == "patch"])
def test_a_cluster_check_is_patched_as_the_peer_does(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case["input"], case["expected"]
    config = IntegrationConfig.from_json(given["config"] | {"check_name": given["config"]["name"]})
    tags = extra_tags(monkeypatch, cluster_name=given["cluster_name"])
    body, digest = served(config, *tags), patching.patch(config, tags).digest
    (instance,) = (yaml.safe_load(base64.b64decode(text)) for text in body["instances"])

    assert (digest != patching.digest(config)) is expected["digest_differs"]
    assert body["cluster_check"] is expected["cluster_check"]
    assert (body["ad_identifiers"] or []) == expected["ad_identifiers"]
    assert set(expected["instance_tags_contain"]) <= set(instance["tags"])
    assert instance["empty_default_hostname"] is expected["empty_default_hostname"]


def test_the_wire_has_the_keys_of_the_peer_in_its_order() -> None:
    (recorded, *_) = recorded_configs()
    assert list(served(IntegrationConfig("ntp"))) == list(recorded)
    assert b'", "' not in patching.patch(IntegrationConfig("ntp", instances=("a: 1", "b: 2")), []).wire


def test_what_the_peer_patched_is_patched_to_the_same_bytes() -> None:
    """Recorded from a Datadog Cluster Agent. Patching them again must change nothing."""
    patched_by_peer = [
        config
        for config in recorded_configs()
        if all(b"empty_default_hostname" in base64.b64decode(text) for text in config["instances"])
        and config["check_name"] == "http_check"
    ]
    for recorded in patched_by_peer:
        texts = tuple(base64.b64decode(text).decode() for text in recorded["instances"])
        config = IntegrationConfig.from_json({**recorded, "instances": texts, "init_config": "{}"})
        assert json.loads(patching.patch(config, []).wire) == recorded
    assert patched_by_peer


def test_an_endpoint_check_keeps_its_identifiers_and_gets_no_empty_hostname() -> None:
    config = IntegrationConfig("ntp", instances=("a: 1",), ad_identifiers=("kube_endpoint://x",), node_name="ash")
    body = served(config, "env:prod")
    assert (body["ad_identifiers"], body["node_name"]) == (["kube_endpoint://x"], "ash")
    assert base64.b64decode(body["instances"][0]) == b"a: 1\ntags:\n- env:prod\n"


def test_an_endpoint_check_of_cloud_foundry_loses_its_identifiers() -> None:
    config = IntegrationConfig("ntp", ad_identifiers=("x",), node_name="ash", provider="cloud-foundry-bbs")
    assert served(config)["ad_identifiers"] is None


def test_a_config_that_comes_patched_goes_out_the_same() -> None:
    config = IntegrationConfig("ntp", instances=("{b: [x: 1], name: n, tags: [z, a]}",), init_config="# x\na: 1")
    first = patching.patch(config, ["env:prod"])
    texts = tuple(base64.b64decode(text).decode() for text in json.loads(first.wire)["instances"])
    again = patching.patch(IntegrationConfig("ntp", instances=texts, init_config="# x\na: 1"), ["env:prod"])
    assert replace(again, fingerprint=first.fingerprint) == first


def test_the_other_texts_are_sent_as_they_are_read_and_written() -> None:
    texts = {"init_config": "# why\n{b: 1, a: 0x10}", "metric_config": '{"jmx": 1}', "logs": "- {type: file}  \n"}
    body = served(IntegrationConfig("ntp", **texts))
    sent = {"init_config": "a: 16\nb: 1\n", "metric_config": "jmx: 1\n", "logs": "- type: file\n"}
    assert {key: base64.b64decode(body[key]).decode() for key in texts} == sent


@pytest.mark.parametrize("logs", [None, "", " \n", "~", "# nothing"])
def test_empty_logs_are_null_since_an_empty_text_counts_as_a_logs_config(logs: str | None) -> None:
    assert served(IntegrationConfig("ntp", logs=logs))["logs"] is None


def test_no_init_config_is_null_and_an_empty_one_is_empty() -> None:
    assert [served(IntegrationConfig("ntp", init_config=text))["init_config"] for text in (None, "")] == [None, ""]


@table(
    ("scalar", "sent"),
    [
        ("12:30:45", '"12:30:45"'),
        ("22:22", '"22:22"'),
        ("010", "8"),
        ("0o10", "8"),
        ("1e3", "1000"),
        ("1e6", "1e+06"),
        ("1.10", "1.1"),
        ("yes", "true"),
        ("no", "false"),
        ("Off", "false"),
        ("2001-12-14", '"2001-12-14"'),
        ("=", "="),
        ("0x1F", "31"),
        ("+1", "1"),
        (".5", "0.5"),
        ("1_000", "1000"),
    ],
)
def test_plain_scalars_are_what_node_agents_read(scalar: str, sent: str) -> None:
    assert patched_instance(f"{{key: {scalar}}}") == f"key: {sent}\n"


@table("scalar", ["yes", "1e3", "010", "12:30", "~", "", "n", "null", "0x1F", "=", "<<", "%%host%%"])
@table("quote", ['"', "'"])
def test_a_quoted_text_stays_a_text(scalar: str, quote: str) -> None:
    written = {"=": "=", "<<": "<<", "%%host%%": "'%%host%%'"}.get(scalar, f'"{scalar}"')
    assert patched_instance(f"key: {quote}{scalar}{quote}") == f"key: {written}\n"


@table(
    ("came", "sent"),
    [
        ("a: ~", "a: null\n"),
        ("a:", "a: null\n"),
        ("a: ''", 'a: ""\n'),
        ("{foo:bar}", "foo:bar: null\n"),
        ('{"b": "x", "a": [1, {"c": null}]}', "a:\n- 1\n- c: null\nb: x\n"),
        ("a: !!str 1", 'a: "1"\n'),
        ("a: !mine 1", 'a: "1"\n'),
        ("a: é ü", "a: é ü\n"),
        ("a: |\n  one\n   two\n", "a: |\n  one\n   two\n"),
        ("a: >-\n  one\n  two\n", "a: one two\n"),
        ("é: [a:, {b:}, 'c:']", "é:\n- 'a:'\n- 'b:': null\n- 'c:'\n"),
        ("a: &x [b:]\nc: *x", "a:\n- 'b:'\nc:\n- 'b:'\n"),
        ("a: 1\r\nb: 2\r\n", "a: 1\nb: 2\n"),
        ("\ufeffa: 1", "a: 1\n"),
        ("a:\t1", "a: 1\n"),
        ("# why\nb: 1 # so\na: {}\n", "a: {}\nb: 1\n"),
        ("%YAML 1.1\n---\na: 1\n...\n", "a: 1\n"),
        ("a: 1\n'a': 2\n", "a: 2\n"),
        ("x: &x {p: 1}\nz: *x\n", "x:\n  p: 1\nz:\n  p: 1\n"),
        ("x: &x {p: 1, q: 2}\nz: {<<: *x, q: 3}\n", "x:\n  p: 1\n  q: 2\nz:\n  p: 1\n  q: 3\n"),
        ("x: {<<: [{p: 1}, {p: 2, q: 2}]}\n", "x:\n  p: 1\n  q: 2\n"),
    ],
)
def test_an_instance_is_sent_in_its_one_form(came: str, sent: str) -> None:
    assert patched_instance(came) == sent


@table("nothing", ["", "  \n", "# only a comment", "---", "~", "null"])
def test_an_instance_that_says_nothing_is_an_empty_map(nothing: str) -> None:
    assert patched_instance(nothing) == "{}\n"
    assert patched_instance(nothing, "env:prod") == "tags:\n- env:prod\n"


@table(
    ("tags", "merged"),
    [
        ("[b, a, b]", "- a\n- b\n- x\n"),
        ("[x]", "- x\n"),
        ("[1.10, yes, 1e3, 2001-01-01]", '- "1.1"\n- "1000"\n- "2001-01-01"\n- "true"\n- x\n'),
        ("[~, {env: prod}]", "- <nil>\n- map[env:prod]\n- x\n"),
        ("prod", "- x\n"),
        ("{env: prod}", "- x\n"),
        ("~", "- x\n"),
        ("[]", "- x\n"),
    ],
)
def test_tags_are_texts_sorted_and_without_doubles(tags: str, merged: str) -> None:
    assert patched_instance(f"tags: {tags}", "x") == f"tags:\n{merged}"


def test_without_extra_tags_the_tags_stay_as_they_are() -> None:
    assert patched_instance("tags: [b, a, 1.10, b]") == "tags:\n- b\n- a\n- 1.1\n- b\n"


def test_tags_that_a_merge_key_brings_count() -> None:
    assert patched_instance("<<: {tags: [a], port: 1}", "x") == "port: 1\ntags:\n- a\n- x\n"


def test_a_list_shared_by_alias_is_patched_where_it_is_the_tags_alone() -> None:
    assert patched_instance("other: &shared [a]\ntags: *shared\n", "x") == "other:\n- a\ntags:\n- a\n- x\n"


def test_the_original_is_not_changed_and_makes_the_same_bytes_twice() -> None:
    config = IntegrationConfig("ntp", instances=("tags: [b]", "a: &a [1]\nb: *a"), ad_identifiers=("redis",))
    before = config.to_json()
    assert patching.patch(config, ["x"]) == patching.patch(config, ["x"])
    assert config.to_json() == before


def test_another_order_of_extra_tags_makes_the_same_bytes() -> None:
    config = IntegrationConfig("ntp", instances=("a: 1",))
    assert patching.patch(config, ["x", "y"]).wire == patching.patch(config, ["y", "x"]).wire


def test_any_change_of_what_is_sent_changes_the_fingerprint() -> None:
    one, other = (IntegrationConfig("ntp", instances=("a: 1",), source=source) for source in ("file:a", "file:b"))
    assert patching.patch(one, []).digest == patching.patch(other, []).digest
    assert patching.patch(one, []).fingerprint != patching.patch(other, []).fingerprint


def test_the_extra_tags_do_not_change_the_fingerprint() -> None:
    config = IntegrationConfig("ntp", instances=("a: 1",))
    assert patching.patch(config, ["x"]).fingerprint == patching.patch(config, ["y"]).fingerprint


@table(
    ("instance", "problem"),
    [
        ("[a]", "ntp: instance 2: line 1: is not a map"),
        ("text", "ntp: instance 2: line 1: is not a map"),
        ("a: 1\nb: ]", "ntp: instance 2: line 2: a value can't begin with ]: put it in quotes"),
        (
            "a: 1\nb: *hunter2",
            "ntp: instance 2: line 2: an alias refers to no earlier anchor: put a text that begins with * in quotes",
        ),
        ("a: 1\n? [b]\n: 2", "ntp: instance 2: line 2: a key is not a scalar"),
        ("<<: hunter2", "ntp: instance 2: line 1: a merge key refers to something that is not a map"),
        (
            "a: %%hunter2%%",
            "ntp: instance 2: line 1: a value can't begin with %: put it in quotes, as '%%host%%'",
        ),
    ],
)
def test_a_refusal_names_check_instance_line_and_reason_and_no_secret(instance: str, problem: str) -> None:
    with pytest.raises(UnpatchableConfig) as refusal:
        patching.patch(IntegrationConfig("ntp", instances=("a: 1", instance)), [])
    assert str(refusal.value) == problem


def test_another_text_that_is_no_yaml_is_refused_by_its_name() -> None:
    with pytest.raises(UnpatchableConfig, match=r"^ntp: logs: line 2: "):
        patching.patch(IntegrationConfig("ntp", logs="a: 1\n]"), [])


def test_a_config_survives_the_way_through_json() -> None:
    config = IntegrationConfig(
        "ntp",
        ("a: 1",),
        "{}",
        "",
        "",
        ("x",),
        ({"kube_service": {"name": "a"}},),
        "file",
        "s",
        True,
        "ash",
        "file:x",
        True,
    )
    assert IntegrationConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_missing_keys_and_nulls_are_empty() -> None:
    data = {"check_name": "ntp", "instances": None, "provider": None, "unknown": 1}
    assert IntegrationConfig.from_json(data) == IntegrationConfig("ntp")


@table(
    "data",
    [
        {"instances": "a: 1"},
        {"instances": [{"a": 1}]},
        {"ad_identifiers": {"a": 1}},
        {"advanced_ad_identifiers": "x"},
        {"init_config": {}},
        {"cluster_check": "true"},
        {"cluster_check": 1},
        {"check_name": 5},
        {"node_name": True},
    ],
)
def test_json_of_a_wrong_type_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(UnpatchableConfig, match="wrong type"):
        IntegrationConfig.from_json({"check_name": "ntp", **data})


@pytest.mark.parametrize(
    ("config", "is_template", "is_endpoint"),
    [
        (IntegrationConfig("ntp"), False, False),
        (IntegrationConfig("ntp", ad_identifiers=("redis",)), True, False),
        (IntegrationConfig("ntp", advanced_ad_identifiers=({"kube_service": {}},)), True, False),
        (IntegrationConfig("ntp", ad_identifiers=("redis",), node_name="ash"), False, True),
    ],
)
def test_identifiers_make_a_template_and_a_nodes_name_an_endpoint_check(
    config: IntegrationConfig, is_template: bool, is_endpoint: bool
) -> None:
    assert (config.is_template, config.is_endpoint) == (is_template, is_endpoint)


def test_another_source_changes_the_source_alone() -> None:
    config = IntegrationConfig(
        "ntp", instances=("a: é\nsource: b\n",), init_config="source: x\n", source="file:a", provider="file"
    )
    for source in ("api:shop:a", 'admin:\\1 "x": é # y', "file:b"):
        before, after = patching.patch(config, []), patching.patch(replace(config, source=source, provider="api"), [])
        assert patching.sent_by(before.wire, source, "api") == after.wire
        assert readable.sent_by(before.text, source, "api") == after.text
        assert (before.digest, before.check_ids) == (after.digest, after.check_ids)
