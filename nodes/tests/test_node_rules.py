"""Rules of nodes: labels, weights and limits by name, address and type."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeRule, NodeType
from nodes.models.nodes import NodeQuerySet
from nodes.models.rules import NodeRuleQuerySet

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def register(name: str, **fields: Any) -> Node:
    note_heartbeat(name, last_change=0, **fields)
    return Node.objects.get(name=name)


@pytest.mark.parametrize(
    ("rule", "covers"),
    [
        ({}, True),
        ({"pattern": ""}, True),
        ({"pattern": "runner-*"}, True),
        ({"pattern": "runner-?"}, False),
        ({"pattern": "Runner-*"}, False),
        ({"pattern": "runner-[0-9]*"}, False),
        ({"network": "10.1.0.0/16"}, True),
        ({"network": "10.1.2.3"}, True),
        ({"network": "10.2.0.0/16"}, False),
        ({"network": "fd00::/8"}, False),
        ({"node_type": NodeType.RUNNER}, True),
        ({"node_type": NodeType.NODE_AGENT}, False),
        ({"pattern": "runner-*", "network": "10.2.0.0/16"}, False),
    ],
)
def test_whom_a_rule_covers(rule: dict[str, Any], covers: bool):
    assert NodeRule(**rule).covers("runner-77", "10.1.2.3", NodeType.RUNNER) is covers


def test_a_network_covers_nobody_without_an_address():
    assert not NodeRule(network="10.0.0.0/8").covers("ash", None, NodeType.RUNNER)


def test_a_node_that_registers_gets_what_the_rules_say():
    NodeRule.objects.create(pattern="a*", labels={"zone": "a"}, weight=0.5, max_configs=7)
    ash, birch = register("ash"), register("birch")
    assert (ash.labels, ash.weight, ash.max_configs) == ({"zone": "a"}, 0.5, 7)
    assert (birch.labels, birch.weight, birch.max_configs) == ({}, 1.0, None)


def test_a_node_that_returns_gets_what_they_say_now():
    register("ash")
    Heartbeat.objects.all().delete()
    NodeRule.objects.create(labels={"zone": "a"})
    assert register("ash").labels == {"zone": "a"}


def test_the_last_word_counts_and_labels_add_up():
    NodeRule.objects.create(labels={"zone": "a", "disk": "slow"}, weight=2, max_configs=9)
    NodeRule.objects.create(pattern="ash", labels={"disk": "fast"}, max_configs=0)
    ash = register("ash")
    assert (ash.labels, ash.weight, ash.max_configs) == ({"zone": "a", "disk": "fast"}, 2, 0)


def test_rules_that_change_are_applied_to_known_nodes_and_say_to_how_many():
    register("ash")
    register("birch")
    rule = NodeRule.objects.create(pattern="a*", labels={"zone": "a"})
    assert NodeRule.objects.apply() == 1
    assert NodeRule.objects.apply() == 0
    rule.delete()
    assert NodeRule.objects.apply() == 1
    assert Node.objects.get(name="ash").labels == {}


def test_nodes_that_the_leader_changes_first_are_counted_too(monkeypatch: pytest.MonkeyPatch):
    """A saved rule wakes it, and it applies the rule while whoever saved it does."""
    register("ash")
    register("birch")
    NodeRule.objects.create(max_configs=3)
    apply = NodeRuleQuerySet._apply

    def apply_late(rules: NodeRuleQuerySet, nodes: NodeQuerySet) -> int:
        apply(rules, Node.objects.known())
        return apply(rules, nodes)

    monkeypatch.setattr(NodeRuleQuerySet, "_apply", apply_late)
    assert NodeRule.objects.apply() == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"network": "10.1.0.0/99"}, "network"),
        ({"network": "everywhere"}, "network"),
        ({"labels": ["zone"]}, "labels"),
        ({"labels": {"zone": 7}}, "labels"),
        ({"weight": 0}, "weight"),
        ({"weight": -1}, "weight"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(fields: dict[str, Any], field: str):
    with pytest.raises(ValidationError) as error:
        NodeRule(**fields).full_clean()
    assert set(error.value.message_dict) == {field}


def test_nodes_are_locked_in_the_order_of_their_key():
    """As every change of the map locks them, or the two could wait for each other."""
    for name in ("birch", "ash"):
        note_heartbeat(name, last_change=-1)
    NodeRule.objects.create(labels={"zone": "a"})
    with CaptureQueriesContext(connection) as queries:
        assert NodeRule.objects.apply() == 2
    assert any('ORDER BY "nodes_node"."id" ASC FOR NO KEY UPDATE' in query["sql"] for query in queries)
