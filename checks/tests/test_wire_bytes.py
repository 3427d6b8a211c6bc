"""The bytes for node agents equal those that the Datadog Agent's file reader and Cluster Agent make of the same file."""

import base64
import functools
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.sources.fileformat import parse
from checks.wire import goyaml, patching, yamlnodes
from checks.wire.oddities import oddities
from checks.wire.patching import IntegrationConfig, PatchedConfig, UnpatchableConfig
from checks.wire.yamlnodes import InvalidYAML
from tests.table import table

DATA = Path(__file__).parents[2] / "tests" / "data"
CASES = json.loads((DATA / "wire_bytes" / "cases.json").read_text())
EXTRA_TAGS = ["env:prod", "10:20"]
# Where this program differs on purpose, or can't do otherwise.
DIFFERENCES = [
    (r"^logs: .*-0\.0", "the peer writes metrics once: what it reads of its `-0.0` it would write as `0`"),
    (r"!(x|!int|!str),|: !(x|!str|!int)[,}]", "libyaml ends a tag before a comma"),
    (r"!!binary /w==", "bytes that are no text: they are sent alike, but are no tag and no name"),
    (r'\\/"', "JSON's escape of a slash is read, as JSON's other escapes are"),
    (r"^%YAML 1\.2", "a file that says that it is YAML 1.2 is read"),
]


# A file in which all of these are empty has no config.
SAYING = ("patched", "logs", "metric_config")


def reference() -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / "wire_bytes" / "files.jsonl.gz", "rt") as lines:
        yield from map(json.loads, lines)


def read(file: str) -> IntegrationConfig:
    return replace(parse(file, name="ntp", source="file:ntp.yaml", is_file=True), cluster_check=True)


@functools.cache
def patched(file: str) -> PatchedConfig:
    """The result for a file without extra tags. Cached, since two tests use the same thousands of files."""
    return patching.patch(read(file), [])


def texts_of(served: bytes) -> dict[str, Any]:
    """The served fields, decoded from base64."""
    body = json.loads(served)
    texts = {
        key: body[key] and base64.b64decode(body[key]).decode() for key in ("init_config", "logs", "metric_config")
    }
    return texts | {"instances": [base64.b64decode(text).decode() for text in body["instances"]]}


def served(file: str, *extra_tags: str) -> dict[str, Any]:
    return texts_of(patching.patch(read(file), extra_tags).wire)


def ours(file: str) -> dict[str, Any]:
    """The result for a file in the format of the reference."""
    texts, tagged = texts_of(patched(file).wire), patching.patch(read(file), EXTRA_TAGS)
    return {
        "patched": texts.pop("instances"),
        "tagged": texts_of(tagged.wire)["instances"],
        "names": [check_id.removeprefix("ntp:").rpartition(":")[0] for check_id in tagged.check_ids],
    } | texts


def outcome(file: str) -> dict[str, Any] | None:
    """The same, or None for a file that is refused."""
    try:
        return ours(file)
    except (InvalidYAML, UnpatchableConfig):
        return None


def theirs(told: dict[str, Any]) -> dict[str, Any]:
    instances = told.get("instances", [])
    return {
        "patched": [one["patched"] for one in instances],
        "tagged": [one["tagged"] for one in instances],
        "names": [one["name"] for one in instances],
        "init_config": told["init_config"],
        "metric_config": told.get("jmx_metrics"),
        "logs": told.get("logs"),
    }


def why_different(file: str) -> str | None:
    return next((why for pattern, why in DIFFERENCES if re.search(pattern, file)), None)


def test_what_is_sent_of_thousands_of_files_are_the_peers_bytes() -> None:
    different, compared, refused = set(), 0, 0
    for told in reference():
        found, expected = outcome(told["file"]), None if "error" in told else theirs(told)
        if found == expected or (found is None and not any(expected[key] for key in SAYING)):
            compared += found is not None
            refused += found is None
        else:
            assert why_different(told["file"]), (told, found)
            different.add(why_different(told["file"]))
    assert different == {why for _, why in DIFFERENCES}
    assert compared > 7000
    assert refused > 1000


@table("case", CASES)
def test_a_file_that_was_read_and_written_once_is_the_same(case: dict[str, Any]) -> None:
    root = goyaml.read(case["file"])
    instance, init_config = yamlnodes.get(root, "instances").value[0], yamlnodes.get(root, "init_config")
    assert goyaml.write(instance) == case["instance"]
    assert (None if yamlnodes.is_null(init_config) else goyaml.write(init_config)) == case["init_config"]


def test_digests_are_of_the_texts_that_the_peer_hashes() -> None:
    """As the peer's formula on the texts that the reference tells; it leaves out instances whose tags are no list."""
    for told in reference():
        digested = [one["patched_digested"] for one in told.get("instances", ())]
        if "error" in told or why_different(told["file"]) or None in digested or not digested:
            continue
        found = patched(told["file"])
        texts = texts_of(found.wire)
        config = IntegrationConfig("ntp", tuple(digested), texts["init_config"], logs=texts["logs"])
        assert found.digest == f"{patching.fast_digest(config):x}"


def test_a_python_check_reads_what_the_agents_own_reader_reads() -> None:
    """Except dates without quotes, which are no texts for it; the samples have none."""
    expected = json.loads((DATA / "cases" / "scalars" / "expected.json").read_text())
    told = expected["what the node agent's own file reader makes of it"]
    sent = served((DATA / "cases" / "scalars" / "conf.yaml").read_text())
    read_by_pyyaml = yaml.safe_load(sent["instances"][0]) | {
        "init since": yaml.safe_load(sent["init_config"])["since"],
        "on": yaml.safe_load(sent["instances"][0])[True],
    }
    assert {key: read_by_pyyaml[key] for key in told} == told


@pytest.mark.parametrize(
    ("file", "logs", "metrics"),
    [
        ("logs: [{path: 1e3}]", "logs:\n- path: 1000\n", None),
        ("jmx_metrics: [{m: y}]", None, "- m: true\n"),
        ("instances: [{}]\nlogs:\njmx_metrics: ~", None, None),
    ],
)
def test_logs_and_metrics_are_written_as_the_peer_does(file: str, logs: str | None, metrics: str | None) -> None:
    sent = served(file)
    assert (sent["logs"], sent["metric_config"]) == (logs, metrics)


def test_an_init_config_that_is_null_is_not_sent_and_not_hashed() -> None:
    null, absent = (patching.patch(read(f"{text}instances: [{{a: 1}}]"), []) for text in ("init_config: ~\n", ""))
    assert null == absent
    assert texts_of(null.wire)["init_config"] is None


def test_what_an_author_wrote_stays_as_it_was_written() -> None:
    assert read("instances: [{limit: 1e3, on: y}]").instances == ("limit: 1e3\non: y\n",)


letters = st.one_of(
    st.sampled_from(" \n\t'\"#:-?|>%@`!&*{}[],=~<.0a1yné\u0085\u2028\u2029\ufeff😀\\\x07"),
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
)
words = st.one_of(st.text(letters, max_size=12), st.sampled_from(["yes", "1e3", "010", "12:30", "=", "n", "a b" * 40]))
values = st.recursive(
    st.one_of(words, st.booleans(), st.integers(), st.floats(), st.none()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def as_yaml(value: Any) -> str:
    """The value in flow style, texts in quotes with every character as an escape."""
    if isinstance(value, str):
        escapes = "".join(f"\\U{ord(character):08X}" for character in value)
        return f'"{escapes}"'
    if isinstance(value, dict):
        return f"{{{', '.join(f'? {as_yaml(key)} : {as_yaml(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf", "None": "null"}.get(str(value), str(value).lower())


@given(value=values)
def test_writing_again_changes_nothing(value: Any) -> None:
    root = goyaml.read(as_yaml(value))
    assert root is not None
    written = goyaml.write(root)
    again = goyaml.read(written)
    assert again is not None
    assert goyaml.write(again) == written


@given(value=values)
def test_a_python_check_reads_the_same_values_or_the_author_is_told(value: Any) -> None:
    text = as_yaml({"k": value})
    root, composed = goyaml.read(text), yamlnodes.compose(text)
    assert root is not None
    assert composed is not None
    if not oddities(composed, text):
        assert same(yaml.load(goyaml.write(root), yaml.CSafeLoader), {"k": value})


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)
