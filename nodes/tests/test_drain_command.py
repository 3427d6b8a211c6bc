"""The command `drain` and its undoing."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from nodes.heartbeats import note_heartbeat
from nodes.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def trees(warm: None) -> None:
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)


def drain(*words: str) -> str:
    out = StringIO()
    call_command("drain", *words, stdout=out)
    return out.getvalue().strip()


def draining() -> list[str]:
    return list(Node.objects.filter(draining=True, schedulable=False).values_list("name", flat=True))


def test_nodes_are_drained_and_uncordoned() -> None:
    assert drain("ash", "birch") == "2 nodes drained"
    assert draining() == ["ash", "birch"]
    assert drain("ash", "--undo") == "1 node uncordoned"
    assert draining() == ["birch"]


def test_programs_get_json() -> None:
    assert json.loads(drain("ash", "--json")) == {"nodes": ["ash"], "changed": 1}
    assert json.loads(drain("ash", "--json")) == {"nodes": ["ash"], "changed": 0}


def test_an_unknown_node_is_named_and_nothing_is_done() -> None:
    with pytest.raises(CommandError, match="node oak is unknown"):
        drain("ash", "oak")
    assert draining() == []
