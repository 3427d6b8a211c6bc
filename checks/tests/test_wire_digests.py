"""Digests and check IDs equal the Datadog Cluster Agent's: agents compare digests, and runners report under check IDs."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.wire import checkids, patching
from checks.wire.patching import IntegrationConfig
from tests.table import table

LOGS = '[{"service":"any_service","source":"any_source"}]'


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (IntegrationConfig(""), "c4bf6d05e5b795e4"),
        (IntegrationConfig("foo"), "6eba821f0cd8c6d0"),
        (IntegrationConfig("foo", instances=("{foo:bar}",)), "bac28046698f8f94"),
        (IntegrationConfig("foo", instances=("tags: [foo, foo:bar]",)), "acf96a2e562b1adf"),
        (IntegrationConfig("foo", instances=('tags: ["foo:bar", "foo"]',)), "acf96a2e562b1adf"),
        (IntegrationConfig("foo", logs=LOGS), "68db1fd44ee9e556"),
        (IntegrationConfig("foo", ignore_autodiscovery_tags=True), "28242ab6104a4de1"),
    ],
)
def test_digests_are_those_that_the_peer_prints(config: IntegrationConfig, digest: str) -> None:
    assert patching.digest(config) == digest


def test_without_instances_both_digests_agree() -> None:
    config = IntegrationConfig("foo", logs=LOGS)
    assert patching.fast_digest(config) == int(patching.digest(config), 16)


def test_the_fast_digest_sees_every_byte_of_an_instance() -> None:
    spaced, tight = (IntegrationConfig("foo", instances=(text,)) for text in ("a:  1\n", "a: 1\n"))
    assert patching.fast_digest(spaced) != patching.fast_digest(tight)
    assert patching.digest(spaced) == patching.digest(tight)


def test_an_instance_that_is_no_map_does_not_count() -> None:
    assert patching.digest(IntegrationConfig("foo", instances=("[a]", "a: *b"))) == patching.digest(
        IntegrationConfig("foo")
    )


def test_instances_that_differ_only_in_tags_that_are_no_list_have_different_digests() -> None:
    """The Datadog Cluster Agent leaves them out, so it would confuse the two."""
    one, other = (IntegrationConfig("foo", instances=(f"url: {url}\ntags: prod",)) for url in ("a", "b"))
    assert patching.digest(one) != patching.digest(other)


@pytest.mark.parametrize(
    ("tags", "others"),
    [
        ("[b, a]", "[a, b]"),
        ("['2', 1]", "['1', 2]"),
        ("[b c, ' a']", "[' a', b c]"),
        ("[x: 1, a]", "[a, x: 1]"),
        ("[b, a, ~]", "[~, a, b]"),
    ],
)
@pytest.mark.parametrize("extra_tags", [[], ["env:prod"]])
def test_the_order_of_tags_does_not_change_the_digest(tags: str, others: str, extra_tags: list[str]) -> None:
    one, other = (
        patching.patch(IntegrationConfig("foo", instances=(f"mytags: [z, a]\ntags: {each}",)), extra_tags)
        for each in (tags, others)
    )
    assert one.digest == other.digest


def test_tags_of_another_key_keep_their_order_in_the_digest() -> None:
    one, other = (IntegrationConfig("foo", instances=(f"a: {{tags: {each}}}",)) for each in ("[b, a]", "[a, b]"))
    assert patching.digest(one) != patching.digest(other)


def fnv1(data: bytes) -> int:
    hashed = 0xCBF29CE484222325
    for byte in data:
        hashed = (hashed * 0x100000001B3 % 2**64) ^ byte
    return hashed


@given(fast=st.integers(0, 2**64 - 1), instance=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_check_id_hashes_the_digest_big_endian_then_instance_then_init_config(fast: int, instance: str) -> None:
    hashed = fnv1(fast.to_bytes(8, "big") + instance.encode() + b"{}")
    assert checkids.check_id("ntp", "", fast, instance, "{}") == f"ntp:{hashed:x}"


def test_check_ids_are_computed_on_the_bytes_that_are_sent() -> None:
    patched = patching.patch(IntegrationConfig("ntp", instances=("{port: 1, host: h, name: alpha}",)), [])
    instance = "empty_default_hostname: true\nhost: h\nname: alpha\nport: 1\n"
    fast = patching.fast_digest(IntegrationConfig("ntp", instances=(instance,)))
    assert patched.check_ids == (checkids.check_id("ntp", "alpha", fast, instance, None),)


@pytest.mark.parametrize(
    ("instance", "prefix"),
    [
        ("name: a b:c", "ntp:a b:c:"),
        ("name: 1.10", "ntp:1.1:"),
        ("name: n", "ntp:false:"),
        ("name: 2020-01-01", "ntp:2020-01-01:"),
        ("namespace: lab", "ntp:lab:"),
        ("{name: '', namespace: lab}", "ntp:lab:"),
        ("{name: ~, namespace: lab}", "ntp:lab:"),
        ("{name: x, namespace: lab}", "ntp:x:"),
    ],
)
def test_an_instance_names_itself_by_name_else_by_namespace(instance: str, prefix: str) -> None:
    (check_id,) = patching.patch(IntegrationConfig("ntp", instances=(instance,)), []).check_ids
    assert check_id.rpartition(":")[0] + ":" == prefix


@pytest.mark.parametrize(
    "instance",
    [
        "a: 1",
        "name: [x]",
        "{name: x, namespace: {}}",
        "name: ~",
        "{name: {}, namespace: x}",
        "{name: x, min_collection_interval: soon}",
        "{name: x, min_collection_interval: 1e19}",
        "{name: x, tags: a}",
        "{name: x, tags: [[a]]}",
        "{name: x, no_index: 1}",
    ],
)
def test_an_instance_without_a_usable_name_has_an_id_of_two_parts(instance: str) -> None:
    (check_id,) = patching.patch(IntegrationConfig("ntp", instances=(instance,)), []).check_ids
    assert check_id.count(":") == 1


def test_every_instance_has_its_id() -> None:
    patched = patching.patch(IntegrationConfig("ntp", instances=("a: 1", "a: 2")), [])
    assert len(set(patched.check_ids)) == 2


BASE = IntegrationConfig(
    "ntp", ("a: 1\ntags: [b, a]", "c: 2"), "d: 3", "e: 4", "f: 5", node_name="ash", cluster_check=True
)
OTHERS = {
    "name": "dns",
    "instances": ("a: 1\ntags: [b, c]", "c: 2"),
    "init_config": "d: '3'",
    "metric_config": "e: 5",
    "logs": "f: 6",
    "ad_identifiers": ("x",),
    "advanced_ad_identifiers": ({"kube_service": {"name": "x"}},),
    "service_id": "x",
    "node_name": "birch",
    "ignore_autodiscovery_tags": True,
    "check_tag_cardinality": "low",
    "metrics_excluded": True,
    "logs_excluded": True,
}


@table("field", OTHERS)
def test_whatever_else_is_sent_is_other_contents(field: str) -> None:
    other = replace(BASE, **{field: OTHERS[field]})
    assert patching.patch(other, []).contents != patching.patch(BASE, []).contents


@pytest.mark.parametrize(
    "fields",
    [
        {"instances": ("tags: [a, b]\na: 0x1", "# so\nc: 2")},
        {"source": "file:x"},
        {"provider": "admin"},
        {"cluster_check": False},
    ],
)
def test_letters_the_order_of_tags_and_where_it_comes_from_are_no_contents(fields: dict[str, Any]) -> None:
    assert patching.patch(replace(BASE, **fields), []).contents == patching.patch(BASE, []).contents


@pytest.mark.parametrize("init_config", [None, "d: 3", "{}", "|+\n  text\n\n"])
@pytest.mark.parametrize("extra_tags", [[], ["env:prod"]])
def test_empty_lines_change_all_hashes_and_nothing_that_is_read(init_config: str | None, extra_tags: list[str]) -> None:
    config = replace(BASE, init_config=init_config)
    plain, lined = patching.patch(config, extra_tags), patching.patch(config, extra_tags, apart=2)
    texts = [json.loads(each.wire)["init_config"] for each in (plain, lined)]
    before, after = (base64.b64decode(text).decode() if text else "" for text in texts)
    assert after == f"\n\n{before}"
    assert yaml.safe_load(after) == yaml.safe_load(before)
    assert {plain.digest, plain.fast_digest}.isdisjoint({lined.digest, lined.fast_digest})
    assert set(plain.check_ids).isdisjoint(lined.check_ids)
    assert (plain.contents, plain.fingerprint) == (lined.contents, lined.fingerprint)
    for each, lines in ((plain, 0), (lined, 2)):
        assert patching.identity(each.wire) == (each.fast_digest, each.contents)
        assert patching.apart(each.wire) == lines


def test_bytes_that_are_no_config_of_ours_say_themselves_alone() -> None:
    odd = [b"{}", b"[]", b"null", b'{"instances": 3}', b'{"init_config": "%"}', b"no JSON"]
    assert len({patching.identity(each) for each in odd}) == len(odd)
