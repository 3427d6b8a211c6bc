"""The whole map as one document."""

import json
from typing import Any

import psycopg
import pytest
from django.db.models.functions import Now

from checks import state
from checks.models import Config
from nodes.models import Hearing, Heartbeat
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
            },
            {"name": "birch", "configs": []},
            {"name": "cedar", "configs": [{"instance_ids": [], "config": "c"}]},
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
