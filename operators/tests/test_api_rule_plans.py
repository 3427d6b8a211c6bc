"""Rules over the API: a dry run says what would follow, and what leaves configs without a node must be meant."""

import pytest

from acts.models import Act
from checks import dispatcher
from checks.models.orders import Rule
from checks.tests.cast import report, sent
from nodes.models import NodeRule
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NOWHERE = {"name": "gpu only", "required": {"gpu": "yes"}}


@pytest.fixture
def operator() -> Caller:
    """shop and mail run on ash, birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail")])
    report("birch")
    return having(Role.OPERATOR)


def test_a_dry_run_changes_nothing_and_says_what_would_dangle_and_why(operator: Caller) -> None:
    answer = operator.call("POST", "rules?dry_run=1", NOWHERE)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["moved"], told["lost"], len(told["dangling"])) == (0, 2, 2)
    assert told["dangling"][0]["from_node"] == "ash"
    assert told["why"] == ["no node can have it: rule gpu only: it requires gpu=yes"]
    assert not Rule.objects.exists()


def test_what_would_leave_configs_without_a_node_is_refused_unless_that_is_meant(operator: Caller) -> None:
    answer = operator.call("POST", "rules", NOWHERE)
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("2 configs would run nowhere. Send it with ?accept_dangling=1")
    refused = Act.objects.get()
    assert (refused.verb, refused.object, refused.reason) == ("refuse", "rule gpu only", "2 configs would run nowhere.")
    assert not Rule.objects.exists()
    assert operator.call("POST", "rules?accept_dangling=1", NOWHERE).status_code == 201


def test_a_limit_that_leaves_no_room_is_refused_unless_that_is_meant(operator: Caller) -> None:
    full = {"pattern": "*", "max_configs": 0}
    assert operator.call("POST", "node-rules?dry_run=1", full).json()["fills"] is True
    answer = operator.call("POST", "node-rules?accept_dangling=1", full)
    assert answer.status_code == 409
    told = "No node would have room for one more config"
    assert answer.json()["detail"].startswith(told)
    assert answer.json()["detail"].endswith("Send it with ?accept_no_node=1 if that is meant.")
    assert Act.objects.get().reason.startswith(told)
    assert not NodeRule.objects.exists()
    assert operator.call("POST", "node-rules?accept_dangling=1&accept_no_node=1", full).status_code == 201


def test_so_are_changes_and_deletions(operator: Caller) -> None:
    labels = NodeRule.objects.create(pattern="ash", labels={"gpu": "yes"})
    NodeRule.objects.apply()
    rule = Rule.objects.create(**NOWHERE)
    assert operator.call("DELETE", f"node-rules/{labels.pk}").status_code == 409
    assert operator.call("PUT", f"node-rules/{labels.pk}", {"pattern": "a", "labels": {}}).status_code == 409
    assert operator.call("PUT", f"rules/{rule.pk}", NOWHERE | {"required": {"gpu": "no"}}).status_code == 409
    rule.refresh_from_db()
    labels.refresh_from_db()
    assert (rule.required, labels.pattern) == ({"gpu": "yes"}, "ash")
    assert operator.call("DELETE", f"rules/{rule.pk}?dry_run=1").json()["lost"] == 0
    assert operator.call("DELETE", f"rules/{rule.pk}").status_code == 204
