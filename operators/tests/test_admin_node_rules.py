"""Rules about nodes, written in the admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checks.tests.operators import confirmed
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeRule

pytestmark = pytest.mark.django_db

RULES = "/admin/nodes/noderule/"
RULE = {
    "pattern": "a*",
    "network": "",
    "node_type": "",
    "labels": '{"zone": "a"}',
    "weight": "0.5",
    "max_configs": "7",
}


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture(autouse=True)
def trees(warm: None) -> None:
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)


def test_a_rule_is_applied_at_once_and_says_who_wrote_it(operator: Client) -> None:
    page = confirmed(operator, f"{RULES}add/", **RULE)
    assert "It changes 1 node." in page
    ash = Node.objects.get(name="ash")
    assert (ash.labels, ash.weight, ash.max_configs) == ({"zone": "a"}, 0.5, 7)
    assert NodeRule.objects.get().author == "olga"


def test_a_changed_rule_is_applied_at_once_too(operator: Client) -> None:
    rule = NodeRule.objects.create(pattern="b*", max_configs=3, author="otto")
    NodeRule.objects.apply()
    confirmed(operator, f"{RULES}{rule.pk}/change/", **RULE | {"max_configs": "9"})
    assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": 9, "birch": None}
    assert NodeRule.objects.get().author == "olga"


def test_what_a_deleted_rule_gave_is_taken_back(operator: Client) -> None:
    rules = [NodeRule.objects.create(pattern=name, max_configs=3) for name in ("ash", "birch")]
    NodeRule.objects.apply()
    confirmed(operator, f"{RULES}{rules[0].pk}/delete/")
    assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": None, "birch": 3}
    confirmed(operator, RULES, action="delete_selected", _selected_action=[rules[1].pk])
    assert dict(Node.objects.values_list("name", "max_configs")) == {"ash": None, "birch": None}


@pytest.mark.parametrize(
    "wrong", [{"network": "everywhere"}, {"labels": "[7]"}, {"labels": '{"zone": 7}'}, {"weight": "0"}]
)
def test_a_wrong_rule_changes_nothing(operator: Client, wrong: dict[str, str]) -> None:
    assert operator.post(f"{RULES}add/", RULE | wrong).status_code == 200
    assert not NodeRule.objects.exists()


def test_what_is_no_label_is_refused(operator: Client) -> None:
    page = operator.post(f"{RULES}add/", RULE | {"labels": "[]"}).content.decode()
    assert "[] is no label: write zone=a, with commas between labels." in page
    assert Node.objects.get(name="ash").labels == {}
