"""Texts that are too large, too deep or not storable are refused at once and never crash the process."""

import threading
import time
import tracemalloc

import pytest

from checks.wire import patching, sharding
from checks.wire.patching import MAX_INSTANCES, IntegrationConfig, UnpatchableConfig
from tests.table import table

DEEP = {
    "lists": "[" * 50_000,
    "closed lists": "[" * 50_000 + "]" * 50_000,
    "maps": "{" * 50_000,
    "maps in maps": "{a: " * 50_000,
    "pairs in lists": "[a: " * 50_000,
    "dashes": "- " * 50_000,
    "keys": "? " * 50_000,
    "indents": "\n".join(" " * depth + "a:" for depth in range(1000)),
}
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
LONG_LAUGHS = f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 1000)}]\n"
DEEP_LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 60))


def patch(instance: str) -> None:
    patching.patch(IntegrationConfig("ntp", instances=(instance,)), ["env:prod"])


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP.keys())
def test_deep_nesting_is_refused_even_on_a_small_stack(text: str) -> None:
    refusals: list[str] = []

    def try_it() -> None:
        try:
            patch(text)
        except UnpatchableConfig as refusal:
            refusals.append(str(refusal))

    former = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=try_it)
        thread.start()
    finally:
        threading.stack_size(former)
    thread.join()
    (refusal,) = refusals
    assert refusal.endswith("nests deeper than 50")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "has more than 100000 nodes"),
        (LONG_LAUGHS, "expands to more than 1048576 bytes"),
        (DEEP_LAUGHS, "nests deeper than 50"),
        ("a: &a [*a]", "an alias is inside of what it refers to"),
        ("a: &a {b: {<<: *a}}", "an alias is inside of what it refers to"),
        ("- a\n" * 200_000, "has more than 100000 nodes"),
        ("[" + "a, " * 200_000 + "]", "has more than 100000 nodes"),
    ],
)
def test_what_grows_too_big_is_refused_quickly_and_without_memory(text: str, reason: str) -> None:
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(UnpatchableConfig, match=reason):
        patch(text)
    took, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 5
    assert peak < 10 * 1024 * 1024


def test_what_is_just_small_enough_is_taken() -> None:
    patch("a: " + "[" * 49 + "]" * 49)
    patch("a: [" + "x, " * 99_000 + "]")
    patch("a: " + "x" * (1024 * 1024 - 3))


def test_too_many_instances_are_refused_before_they_are_read() -> None:
    most = ("a: [",) * (MAX_INSTANCES + 1)
    with pytest.raises(UnpatchableConfig, match="ntp: it has 10001 instances, 10000 are the most"):
        patching.patch(IntegrationConfig("ntp", instances=most), [])
    assert not sharding.cut(
        IntegrationConfig("ntp", instances=most, cluster_check=True), resources=True, instances=True
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 50 + "]" * 50, "nests deeper than 50"),
        ("a: " + "x" * (1024 * 1024 - 2), "has 1048577 bytes, allowed are 1048576"),
        ("a: " + "é" * (512 * 1024), "has 1048579 bytes"),
        ("a: \0", "holds a NUL character"),
        ("a: \ud800", "is not valid UTF-8"),
        ("a: 1\nb: \x07", "line 2: control characters are not allowed"),
        ("é: 1\nb: \x7f", "line 2: control characters are not allowed"),
        ("\ta: 1", "there is a tab where YAML requires spaces"),
        ('a: "\\ud800"', "stands for no character"),
    ],
)
def test_what_cannot_be_kept_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnpatchableConfig, match=reason):
        patch(text)


@table("key", ["init_config", "metric_config", "logs"])
@table("text", ["\0", "\ud800", LAUGHS, DEEP["lists"], "x" * (1024 * 1024 + 1)])
def test_the_limits_hold_for_every_text(key: str, text: str) -> None:
    with pytest.raises(UnpatchableConfig, match=f"^ntp: {key}: "):
        patching.patch(IntegrationConfig("ntp", **{key: text}), [])


@table(
    "config",
    [
        IntegrationConfig(""),
        IntegrationConfig("n" * 254),
        IntegrationConfig("ntp\0"),
        IntegrationConfig("ntp\ud800"),
        IntegrationConfig("ntp", provider="p" * 254),
        IntegrationConfig("ntp", node_name="n" * 254),
        IntegrationConfig("ntp", source="\0"),
        IntegrationConfig("ntp", service_id="\ud800"),
        IntegrationConfig("ntp", ad_identifiers=("a\0",)),
        IntegrationConfig("ntp", advanced_ad_identifiers=({"a": "\0"},)),
        IntegrationConfig("ntp", advanced_ad_identifiers=({"a": float("nan")},)),
        IntegrationConfig("ntp", advanced_ad_identifiers=(object(),)),
        IntegrationConfig("ntp", instances=("name: " + "n" * 3000,)),
        IntegrationConfig("ntp", instances=('name: "\\0"',)),
    ],
)
def test_a_field_that_the_database_cannot_hold_is_refused(config: IntegrationConfig) -> None:
    with pytest.raises(UnpatchableConfig):
        patching.patch(config, [])


def test_an_extra_tag_that_is_no_text_is_refused() -> None:
    with pytest.raises(UnpatchableConfig, match="can't be written"):
        patching.patch(IntegrationConfig("ntp", instances=("a: 1",)), ["env:\ud800"])
