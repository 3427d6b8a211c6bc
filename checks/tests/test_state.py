"""The whole map as one document."""

import json
from typing import Any

import psycopg
import pytest
from django.db.models.functions import Now

from checks.explain import state
from checks.models import Config
from nodes.models import Hearing, Heartbeat, Node, Runner
from nodes.models.runners import Answer
from nodes.statsclient import read_stats
from nodes.tests.fake_runners import told
from tests import peer_cases
from tests.map import register, store
from tests.webserver import database_url

pytestmark = pytest.mark.django_db(transaction=True)


def document(**options: bool) -> Any:
    return json.loads(b"".join(state.document(**options)))


def test_an_empty_map_is_a_whole_document() -> None:
    assert document() == {"not_running": "", "warmup": True, "nodes": [], "dangling": []}


def test_nodes_configs_and_dangling_ones_come_by_name(warm: None) -> None:
    cedar, ash = register("cedar"), register("ash")
    register("birch")
    store('"z"', name="z", owner=ash, check_ids=("z:2", "z:1"))
    store('"a"', name="a", owner=ash)
    store('"c"', owner=cedar)
    store('"e"', node_name="ash")
    for name in "ml":
        store(f'"{name}"', name=name, dangling_since=Now())
    assert document() == {
        "not_running": "",
        "warmup": False,
        "nodes": [
            {
                "name": "ash",
                "configs": [{"instance_ids": [], "config": "a"}, {"instance_ids": ["z:2", "z:1"], "config": "z"}],
                "stats": None,
            },
            {"name": "birch", "configs": [], "stats": None},
            {"name": "cedar", "configs": [{"instance_ids": [], "config": "c"}], "stats": None},
        ],
        "dangling": ["l", "m"],
    }


def test_a_lost_node_is_not_shown(warm: None) -> None:
    register("ash")
    Heartbeat.objects.all().delete()
    assert document()["nodes"] == []


def test_scrubbed_configs_keep_their_check_ids(warm: None) -> None:
    store('{"password":"x"}', owner=register("ash"), check_ids=("ntp:1f",), scrubbed=b'{"password":"********"}')
    store('{"password":"x"}', dangling_since=Now(), scrubbed=b'{"password":"********"}')
    scrubbed = document(scrub=True)
    assert scrubbed["nodes"][0]["configs"] == [{"instance_ids": ["ntp:1f"], "config": {"password": "********"}}]
    assert scrubbed["dangling"] == [{"password": "********"}]
    assert document()["dangling"] == [{"password": "x"}]


def tell(node: Node, **stats: dict[str, object]) -> None:
    """The node's runner answers this."""
    answer = {check_id.replace("_", ":"): values for check_id, values in stats.items()}
    Runner.objects.note({node.pk: Answer(read_stats(answer))})


OLD = {"AverageExecutionTime": 0, "MetricSamples": 3, "HistogramBuckets": 0, "Events": 0, "LastExecFailed": False}


def test_the_peer_s_case_of_stats(warm: None) -> None:
    """The case names an ID that no instance has, so it is no cluster check. Errors are reported, as newer releases do."""
    case = peer_cases.cases("dispatch.json")["TestGetStateIncludesStats"]
    given, expected = case["input"], case["expected"]
    node, ids = register(given["config"]["on"]), tuple(f"my_check:{number}" for number in given["config"]["instances"])
    store("{}", name=given["config"]["name"], owner=node, check_ids=ids)
    ((check_id, values),) = given["stats"].items()
    Runner.objects.note({node.pk: Answer(read_stats({check_id: values}))})
    whole = document()
    assert (whole["warmup"], len(whole["nodes"])) == (expected["warmup"], expected["nodes"])
    ((name, configs, stats),) = [one.values() for one in whole["nodes"]]
    assert (name, len(configs)) == (given["config"]["on"], expected["configs"])
    assert len(configs[0]["instance_ids"]) == expected["instance_ids"]
    assert (values.items() <= stats[check_id].items()) is expected["stats_returned_verbatim"]
    assert stats[check_id].items() - values.items() == {("LastError", ""), ("IsClusterCheck", False)}


def test_stats_stand_with_the_node_that_told_them_as_it_told_them(warm: None) -> None:
    ash, birch, cedar = map(register, ("ash", "birch", "cedar"))
    register("dogwood")
    store("1", owner=ash, check_ids=("ntp:1",))
    tell(ash, ntp_1=told(1.5, 7, LastError="no route", LastExecFailed=True, LastSuccessDate=0), disk=OLD)
    tell(birch)
    tell(cedar, ntp_1=OLD)
    assert {node["name"]: node["stats"] for node in document()["nodes"]} == {
        "ash": {
            "disk": OLD | {"LastError": "", "IsClusterCheck": False},
            "ntp:1": {
                "AverageExecutionTime": 1.5,
                "TotalRuns": 7,
                "TotalErrors": 0,
                "LastSuccessDate": 0,
                "LastExecFailed": True,
                "LastError": "no route",
                "IsClusterCheck": True,
            },
        },
        "birch": None,
        "cedar": {"ntp:1": OLD | {"LastError": "", "IsClusterCheck": True}},
        "dogwood": None,
    }


def test_scrubbed_stats_hide_secrets_in_ids_and_errors(warm: None) -> None:
    ash = register("ash")
    store("{}", owner=ash, check_ids=("ntp:password=hunter22:1f",))
    stats = {
        "ntp:password=hunter22:1f": told(LastError="password=hunter22"),
        "own:password=hunter22:2f": told(),
        "load": told(),
    }
    Runner.objects.note({ash.pk: Answer(read_stats(stats))})
    assert "hunter22" in json.dumps(document())
    (node,) = document(scrub=True)["nodes"]
    assert "hunter22" not in json.dumps(node)
    assert set(node["stats"]) == {*node["configs"][0]["instance_ids"], "own:password=********:2f", "load"}
    assert node["stats"]["ntp:password=********:1f"]["LastError"] == "password=********"


def test_stats_of_lost_nodes_are_not_told(warm: None) -> None:
    ash, birch = register("ash"), register("birch")
    for node in (ash, birch):
        tell(node, ntp_1=OLD)
    ash.heartbeat.delete()
    assert [(node["name"], len(node["stats"])) for node in document()["nodes"]] == [("birch", 1)]


def test_all_of_it_is_of_the_moment_at_which_it_began(warm: None) -> None:
    ash = register("ash")
    large = '"' + "x" * state._PIECE + '"'
    for _ in range(2):
        store(large, owner=ash)
    store("1", dangling_since=Now())
    pieces = state.document()
    begin = next(pieces)
    with psycopg.connect(database_url()) as other:
        other.execute("DELETE FROM checks_assignment")
        other.execute("UPDATE checks_config SET dangling_since = now()")
    whole = json.loads(begin + b"".join(pieces))
    assert len(whole["nodes"][0]["configs"]) == 2
    assert whole["dangling"] == [1]
    assert len(document()["dangling"]) == 3


def test_more_than_one_fetch_and_more_than_one_piece_make_one_document(warm: None) -> None:
    names = [f"node-{number:03}" for number in range(state._ROWS + 20)]
    for name in names:
        store('"' + "x" * 1000 + '"', owner=register(name))
    assert len(list(state.document())) > 1
    assert [node["name"] for node in document()["nodes"]] == names
    assert Hearing.objects.get().warmup is False
    assert Config.objects.count() == len(names)
