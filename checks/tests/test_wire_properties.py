"""Properties of patching any config: equal bytes each time, no loss, no change of meaning, one kind of error."""

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.wire import patching, scrub, yamlnodes
from checks.wire.oddities import oddities
from checks.wire.patching import IntegrationConfig, UnpatchableConfig

letters = st.one_of(
    st.sampled_from(" \n\t'\"#:-?|>%@`!&*{}[],=~<.0a1yné\u0085\u2028\ufeff😀\\\x07"),
    st.characters(exclude_categories=["Cs"]),
)
texts = st.one_of(
    st.text(letters, max_size=12),
    st.sampled_from(["yes", "1e3", "010", "12:30", "<<", "=", "n", "a b" * 40, " x" * 60]),
)
scalars = st.one_of(texts, st.booleans(), st.integers(), st.floats(allow_nan=False), st.none(), st.dates())
patched_keys = {"tags", "empty_default_hostname"}


def maps_of(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = texts.filter(lambda key: key not in {*patched_keys, "<<"})
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )
    return st.dictionaries(keys, values, max_size=5)


def dumped(value: Any, flow: bool | None = None, style: str | None = None, *, unicode: bool = True) -> str:
    text: str = yaml.dump(
        value, Dumper=yaml.CSafeDumper, default_flow_style=flow, default_style=style, allow_unicode=unicode
    )
    return text


flows, styles = st.sampled_from([True, False, None]), st.sampled_from([None, '"', "'", "|", ">"])
instances = maps_of(scalars)
written = st.builds(dumped, instances, flows, styles, unicode=st.booleans())
# PyYAML leaves out quotes that node agents need.
written_texts = st.builds(dumped, maps_of(texts), flows, st.sampled_from(['"', "'"]), unicode=st.booleans())
pieces = [
    "a",
    "b: ",
    "- ",
    "? ",
    ": ",
    "\n",
    "\n  ",
    "  ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "!t ",
]
pieces += [
    "! ",
    "!!int ",
    "!<tag:y> ",
    "'",
    '"',
    "|\n",
    "|2-\n",
    ">\n",
    "#c",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "1e3",
    "~",
]
pieces += [
    "%TAG ! tag:x,2000:\n",
    "=",
    "tags: ",
    "name: ",
    "password: ",
    "\t",
    "\r\n",
    "\0",
    "\ud800",
    "\x01",
    "\ufeff",
    "é",
]
soup = st.lists(st.sampled_from(pieces), max_size=25).map("".join)
tag_texts = st.lists(st.text(letters, min_size=1, max_size=8), max_size=4)


def first_instance(served: bytes) -> str:
    (instance,) = json.loads(served)["instances"]
    return base64.b64decode(instance).decode()


def loaded(text: str) -> Any:
    """What PyYAML reads, None when it can't."""
    try:
        return yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, TypeError):
        return None


@given(instance=written_texts, tags=tag_texts)
def test_texts_that_came_in_come_out(instance: str, tags: list[str]) -> None:
    came, sent_text = loaded(instance), first_instance(patching.patch(IntegrationConfig("ntp", (instance,)), tags).wire)
    root = yamlnodes.compose(sent_text)
    assert root is not None
    if not oddities(root, sent_text):
        sent = loaded(sent_text)
        assert {key: value for key, value in sent.items() if key not in patched_keys} == came
        assert sent.get("tags", []) == sorted(set(tags))


@given(instance=st.one_of(soup, written), tags=tag_texts)
def test_patching_twice_gives_the_same_bytes_and_patching_the_result_too(instance: str, tags: list[str]) -> None:
    config = IntegrationConfig("ntp", instances=(instance,))
    try:
        patched = patching.patch(config, tags)
    except UnpatchableConfig:
        return
    assert patching.patch(config, tags) == patched
    again = IntegrationConfig("ntp", instances=(first_instance(patched.wire),))
    assert replace(patching.patch(again, tags), fingerprint=patched.fingerprint) == patched


@given(tags=st.lists(scalars, max_size=5), extra_tags=tag_texts, shuffle=st.randoms())
def test_the_order_of_tags_never_changes_the_digest(tags: list[Any], extra_tags: list[str], shuffle: Any) -> None:
    shuffled = tags.copy()
    shuffle.shuffle(shuffled)
    one, other = (
        patching.patch(
            IntegrationConfig("ntp", instances=(yaml.safe_dump({"tags": each}, allow_unicode=True),)),
            extra_tags,
        )
        for each in (tags, shuffled)
    )
    assert one.digest == other.digest


@given(texts=st.tuples(soup, soup, soup, soup), node_name=st.sampled_from(["", "ash"]), tags=tag_texts)
def test_the_oddest_texts_are_patched_or_refused_and_nothing_else(
    texts: tuple[str, str, str, str], node_name: str, tags: list[str]
) -> None:
    config = IntegrationConfig("ntp", texts[:1], *texts[1:], node_name=node_name)
    shown = ""
    with contextlib.suppress(UnpatchableConfig):
        shown = patching.patch(config, tags).text
    assert "\0" not in shown


@given(instance=written)
def test_the_readable_text_says_what_is_sent(instance: str) -> None:
    config = IntegrationConfig(
        "ntp", instances=(instance,), init_config="{a: [1]}", logs='[{"type": "file"}]', source="x: y"
    )
    patched = patching.patch(config, [])
    sent = first_instance(patched.wire)
    if not scrub.may_hold_secrets(sent) and loaded(sent) is not None:
        read = loaded(patched.text)
        assert read["instances"] == [loaded(sent)]
        assert (read["check_name"], read["init_config"], read["source"]) == ("ntp", {"a": [1]}, "x: y")
        assert read["logs"] == [{"type": "file"}]
