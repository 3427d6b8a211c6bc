"""Draining nodes and writing rules about them: in the admin, and by command."""

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from clusteragent.lib import conf
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeRule
from operators.admin.filters import CLOSED

pytestmark = pytest.mark.django_db

LIST, RULES = "/admin/nodes/node/", "/admin/nodes/noderule/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture(autouse=True)
def trees(warm: None) -> None:
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)


def page_of(name: str) -> str:
    return reverse("admin:nodes_node_change", args=[Node.objects.get(name=name).pk])


def act(client: Client, action: str, *chosen: str, **fields: Any) -> str:
    keys = list(Node.objects.filter(name__in=chosen).values_list("pk", flat=True))
    response = client.post(LIST, {"action": action, "_selected_action": keys, **fields}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def draining() -> list[str]:
    return list(Node.objects.filter(draining=True, schedulable=False).values_list("name", flat=True))


def test_uncordoning_ends_a_drain(operator: Client) -> None:
    Node.objects.filter(name="ash").cordon(draining=True)
    assert "1 node uncordoned." in act(operator, "uncordon", "ash")
    assert set(Node.objects.accepting().values_list("name", flat=True)) == {"ash", "birch"}
    assert not Node.objects.filter(draining=True).exists()


def test_a_nodes_page_offers_what_makes_sense(operator: Client) -> None:
    offered = {}
    for how in ({}, {"schedulable": False}, {"schedulable": False, "draining": True}, {"leaving": True}):
        Node.objects.filter(name="ash").update(**{"schedulable": True, "draining": False} | how)
        page = operator.get(page_of("ash")).content.decode()
        offered[tuple(how)] = {name for name in ("cordon", "drain", "uncordon") if f'value="{name}"' in page}
    assert offered == {
        (): {"cordon", "drain"},
        ("schedulable",): {"drain", "uncordon"},
        ("schedulable", "draining"): {"cordon", "uncordon"},
        ("leaving",): {"cordon", "drain", "uncordon"},
    }


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({}, "yes"),
        ({"schedulable": False}, "cordoned"),
        ({"schedulable": False, "draining": True}, "draining"),
        ({"leaving": True}, "leaving"),
        ({"kept_until": Now() + conf.NODE_EXPIRATION_TIMEOUT}, "restarting"),
        ({"not_before": Now() + conf.NODE_EXPIRATION_TIMEOUT}, "flapping"),
        ({"kept_until": Now(), "not_before": Now()}, "yes"),
    ],
)
def test_lists_and_pages_say_why_a_node_gets_nothing_new(operator: Client, how: dict[str, Any], word: str) -> None:
    Node.objects.filter(name="ash").update(**how)
    found = operator.get(f"{LIST}?schedulable={word}").context["cl"].result_list
    assert "ash" in [node.name for node in found]
    page = operator.get(page_of("ash")).content.decode()
    assert [state for state in CLOSED if state in page] == ([] if word == "yes" else [word])
    others = operator.get(f"{LIST}?schedulable={'no' if word == 'yes' else 'yes'}").context["cl"].result_list
    assert "ash" not in [node.name for node in others]


def test_a_nodes_page_shows_what_it_declares(operator: Client) -> None:
    assert "it may run everything" in operator.get(page_of("ash")).content.decode()
    declared = canonical(include=["ntp", "dns_check"], exclude=["ntp"], group="kube")
    Node.objects.filter(name="ash").update(declared=declared)
    assert "only dns_check; group kube" in operator.get(page_of("ash")).content.decode()


class TestRules:
    RULE = {
        "pattern": "a*",
        "network": "",
        "node_type": "",
        "labels": '{"zone": "a"}',
        "weight": "0.5",
        "max_configs": "7",
    }

    def test_a_rule_is_applied_at_once_and_says_who_wrote_it(self, operator: Client) -> None:
        page = operator.post(f"{RULES}add/", self.RULE, follow=True).content.decode()
        assert "It changes 1 node." in page
        ash = Node.objects.get(name="ash")
        assert (ash.labels, ash.weight, ash.max_configs) == ({"zone": "a"}, 0.5, 7)
        assert NodeRule.objects.get().author == "olga"

    def test_so_is_its_change(self, operator: Client) -> None:
        rule = NodeRule.objects.create(pattern="b*", max_configs=3, author="otto")
        NodeRule.objects.apply()
        operator.post(f"{RULES}{rule.pk}/change/", self.RULE | {"max_configs": "9"})
        assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": 9, "birch": None}
        assert NodeRule.objects.get().author == "olga"

    def test_so_is_its_end(self, operator: Client) -> None:
        rules = [NodeRule.objects.create(pattern=name, max_configs=3) for name in ("ash", "birch")]
        NodeRule.objects.apply()
        operator.post(f"{RULES}{rules[0].pk}/delete/", {"post": "yes"})
        assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": None, "birch": 3}
        chosen = {"action": "delete_selected", "_selected_action": [rules[1].pk], "post": "yes"}
        operator.post(RULES, chosen)
        assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": None, "birch": None}

    @pytest.mark.parametrize(
        "wrong", [{"network": "everywhere"}, {"labels": "[7]"}, {"labels": '{"zone": 7}'}, {"weight": "0"}]
    )
    def test_a_wrong_rule_changes_nothing(self, operator: Client, wrong: dict[str, str]) -> None:
        assert operator.post(f"{RULES}add/", self.RULE | wrong).status_code == 200
        assert not NodeRule.objects.exists()

    def test_an_empty_list_is_taken_for_no_labels(self, operator: Client) -> None:
        operator.post(f"{RULES}add/", self.RULE | {"labels": "[]"})
        assert Node.objects.get(name="ash").labels == {}


class TestCommand:
    def run(self, *words: str) -> str:
        out = StringIO()
        call_command("drain", *words, stdout=out)
        return out.getvalue().strip()

    def test_it_drains_and_undoes_that(self) -> None:
        assert self.run("ash", "birch") == "2 nodes drained"
        assert draining() == ["ash", "birch"]
        assert self.run("ash", "--undo") == "1 node uncordoned"
        assert draining() == ["birch"]

    def test_for_programs(self) -> None:
        assert json.loads(self.run("ash", "--json")) == {"nodes": ["ash"], "changed": 1}
        assert json.loads(self.run("ash", "--json")) == {"nodes": ["ash"], "changed": 0}

    def test_an_unknown_node_is_named_and_nothing_is_done(self) -> None:
        with pytest.raises(CommandError, match="node oak is unknown"):
            self.run("ash", "oak")
        assert draining() == []
