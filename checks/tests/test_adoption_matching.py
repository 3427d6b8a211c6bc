"""Which config of ours is which of theirs, and what differs: on bytes of the protocol, without a database."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from checks.adoption import states
from checks.adoption.bodies import Body, Reading, TooMuchToCompare
from checks.adoption.matching import Matching, Ours, match
from checks.adoption.states import State, UnreadableState
from checks.wire import patching
from checks.wire.patching import IntegrationConfig

PROBE = Path(__file__).parents[2] / "tests/data/golden/peer_server_probe.json"


def body(*instances: str, name: str = "ntp", **fields: Any) -> Body:
    return Body(name, instances, **fields)


def served(config: IntegrationConfig, *tags: str) -> Body:
    """What node agents get of a config."""
    return Body.of(json.loads(patching.patch(config, tags).wire))


def matched(there: dict[str, list[Body]], *ours: Body) -> Matching:
    return match(State(there, []), [Ours(number, f"{number:x}", one) for number, one in enumerate(ours)])


def test_the_bytes_that_we_serve_are_read_as_they_were_written() -> None:
    config = IntegrationConfig("ntp", ("host: a\n",), init_config="proxy: b\n", logs="- type: file\n", service_id="c")
    instance = "empty_default_hostname: true\nhost: a\n"
    assert served(config) == body(instance, init_config="proxy: b\n", logs="- type: file\n", service_id="c")


def test_missing_and_null_fields_are_empty_for_node_agents() -> None:
    null = dict.fromkeys(("instances", "init_config", "logs", "ad_identifiers", "node_name", "service_id"))
    assert Body.of({"check_name": "ntp"} | null) == Body.of({"check_name": "ntp", "logs": ""}) == body()


def test_equal_fast_digests_are_equal_bodies() -> None:
    one = IntegrationConfig("ntp", ("host: a\n",), source="file:here", provider="file")
    other = IntegrationConfig("ntp", ("host: a\n",), source="file:there", provider="kube")
    assert patching.fast_digest(one) == patching.fast_digest(other)
    assert served(one) == served(other)


@pytest.mark.parametrize(
    ("there", "here", "why"),
    [
        (body("host: a\n"), body("host: 'a'\n"), "the instances are written otherwise (quotes, order of keys or tags)"),
        (body("tags: [b, a]\n"), body("tags: [a, b]\n"), "the instances are written otherwise (quotes, order of keys or tags)"),
        (body("a: 1\n", "b: 2\n"), body("b: 2\n", "a: 1\n"), "the instances stand in another order"),
        (body("tags: [a]\n"), body("tags: [b]\n"), "tags only there: a; tags only here: b"),
        (
            body("a: 1\ntags: ['kube_cluster_name:prod']\n"),
            body("a: 1\n"),
            "tags only there: kube_cluster_name:prod; set DD_CLUSTER_NAME as it is there",
        ),
        (
            body("a: 1\nempty_default_hostname: true\n"),
            body("a: 1\n"),
            "empty_default_hostname is set on one side only",
        ),
        (body("a: 1\n", init_config="b: 2\n"), body("a: 1\n", init_config="b: 3\n"), "init_config differs"),
        (body("a: 1\n", init_config="{b: 2}\n"), body("a: 1\n", init_config="b: 2\n"), "init_config is written otherwise"),
        (body("a: 1\n", service_id="x"), body("a: 1\n"), "service_id differs"),
        (body("a: [\n"), body("a: [\n", logs="b: 1\n"), "logs differs"),
        (body("tags: ['password=hunter22']\n"), body(""), "tags only there: password=********"),
    ],
)  # fmt: skip
def test_what_restarts_says_why(there: Body, here: Body, why: str) -> None:
    found = matched({"ash": [there]}, here)
    assert [(pair.node, "; ".join(pair.changes)) for pair in found.restarts] == [("ash", why)]
    assert not Reading().differences(there, there)


def test_exact_ones_are_matched_before_those_that_only_mean_the_same() -> None:
    quoted, plain, tagged = body("host: 'a'\n"), body("host: a\n"), body("host: a\ntags: [x]\n")
    found = matched({"ash": [tagged, plain], "birch": [quoted]}, quoted, plain, tagged)
    assert (len(found.unchanged), found.restarts, found.stops, found.starts) == (3, [], [], [])
    assert {pair.ours.id: pair.node for pair in found.pairs} == {0: "birch", 1: "ash", 2: "ash"}


def test_several_alike_are_matched_one_by_one() -> None:
    found = matched({"ash": [body("a: 1\n")] * 2, "birch": [body("a: 1\n")]}, *[body("a: 1\n")] * 2)
    assert [(pair.node, pair.ours.id) for pair in found.pairs] == [("ash", 0), ("ash", 1)]
    assert [(stop.node, stop.why) for stop in found.stops] == [("birch", "it runs more than once there")]
    assert [one.id for one in matched({}, body("a: 1\n")).starts] == [0]


def test_other_instances_are_another_check() -> None:
    found = matched({"ash": [body("host: a\n")]}, body("host: b\n"))
    assert (found.pairs, len(found.stops), len(found.starts)) == ([], 1, 1)


def nested(depth: int, *, first: str = "x") -> str:
    """Anchors and aliases that double with each line."""
    lines = [f"a{number}: &a{number} [*a{number - 1}, *a{number - 1}]\n" for number in range(1, depth)]
    return "".join([f"a0: &a0 [{first}, x]\n", *lines])


def test_aliases_that_expand_without_limit_are_compared_as_they_stand() -> None:
    began = time.process_time()
    found = matched({"ash": [body("host: a\n", init_config=nested(20)), body(nested(40))]}, body("host: a\n"))
    assert [pair.changes for pair in found.pairs] == [("init_config differs",)]
    assert [stop.why for stop in found.stops] == ["it is in no source here"]
    assert time.process_time() - began < 5


def test_what_says_the_same_is_read_once() -> None:
    began = time.process_time()
    found = matched({"ash": [body(nested(13))] * 300}, *[body(f"{nested(13)}# here\n")] * 300)
    assert len(found.restarts) == 300
    assert time.process_time() - began < 10


def test_more_than_can_be_compared_within_a_minute_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.adoption.bodies.MOST_READ", 100_000)
    there = [body(nested(12, first=f"x{number}"), name=f"ntp-{number}") for number in range(100)]
    with pytest.raises(TooMuchToCompare, match=r"^ntp-\d+: configs differ, and say too much to be compared"):
        matched({"ash": there}, body("host: a\n"))


def test_what_is_equal_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checks.adoption.bodies.MOST_READ", -1)
    assert len(matched({"ash": [body(nested(40))]}, body(nested(40))).unchanged) == 1


def test_a_state_says_whether_its_secrets_were_taken_out() -> None:
    hidden = base64.b64encode(b"password: '********'\n").decode()
    node = {"name": "ash", "configs": [{"instance_ids": [], "config": {"check_name": "ntp", "instances": [hidden]}}]}
    state = states.read(json.dumps({"not_running": "", "nodes": [node], "dangling": None}).encode())
    assert state == State({"ash": [body("password: '********'\n")]}, [], is_scrubbed=True)


@pytest.mark.parametrize(
    "document", [b"[]", b'{"nodes": {}}', b'{"nodes": [1]}', b'{"nodes": [{"name": "a", "configs": [1]}]}']
)
def test_what_is_no_state_is_refused_by_name(document: bytes) -> None:
    with pytest.raises(UnreadableState):
        states.read(document)


def test_a_server_is_asked_over_tls_only() -> None:
    with pytest.raises(UnreadableState, match="give it as https"):
        states.fetch("http://127.0.0.1:1", "token")
    with pytest.raises(UnreadableState, match=r"127\.0\.0\.1:1: "):
        states.fetch("127.0.0.1:1", "token")


def recorded(path: str) -> list[bytes]:
    """What the Datadog Cluster Agent answered to GET calls of this path."""
    exchanges = json.loads(PROBE.read_text())
    calls = (one for one in exchanges if one["request"]["method"] == "GET" and one["request"]["path"].startswith(path))
    return [one["response"]["body"].encode() for one in calls if one["response"]["status"] == 200]


def test_the_recorded_configs_of_the_peer_run_on() -> None:
    """Their authors wrote them without what cluster agents add."""
    theirs = [
        Body.of(one) for reply in recorded("/api/v1/clusterchecks/configs/") for one in json.loads(reply)["configs"]
    ]
    written = [
        IntegrationConfig(
            one.name,
            tuple(text.replace("empty_default_hostname: true\n", "") for text in one.instances),
            one.init_config,
        )
        for one in theirs
    ]
    found = matched({"n1": theirs}, *map(served, written))
    assert len(found.unchanged) == len(theirs) > 0
    assert (found.restarts, found.stops, found.starts) == ([], [], [])
    tagged = matched({"n1": theirs}, *(served(one, "kube_cluster_name:prod") for one in written))
    assert {pair.changes for pair in tagged.restarts} == {
        ("tags only here: kube_cluster_name:prod", "set DD_CLUSTER_NAME as it is there")
    }


def test_the_recorded_state_of_the_peer_s_warm_up_is_refused() -> None:
    [warmup] = [one for one in recorded(states.PATH) if b'"not_running"' in one]
    with pytest.raises(UnreadableState, match="warms up"):
        states.read(warmup)
