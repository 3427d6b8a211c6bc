"""Draining nodes by the API: with a deadline, and whether a node may be stopped."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Config, Plan
from checks.models.orders import Pin
from checks.tests.cast import hand_over, settled_on_ash
from checks.tests.operators import superuser
from clusteragent.lib import clock
from nodes.models import Node
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(warm: None) -> Caller:
    """Someone who drains ash, which has three configs that birch may have, too."""
    settled_on_ash(3)
    return having(Role.OPERATOR)


def drain(operator: Caller, body: Any = None) -> Any:
    answer = operator.call("POST", "nodes/ash/drain", body or {})
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_node_is_drained_by_a_deadline_and_without_one(operator: Caller) -> None:
    far = {"by": "2100-12-24T08:00:00Z"}
    assert drain(operator, far)["drain"]["by"] == far["by"]
    assert Node.objects.get(name="ash").drain_by == datetime(2100, 12, 24, 8, tzinfo=UTC)
    assert drain(operator, {"by": None})["drain"]["by"] is None
    drain(operator, far)
    assert drain(operator)["drain"]["by"] is None


def test_its_note_stands_in_the_plan_and_on_record(operator: Caller) -> None:
    drain(operator, {"by": "2h", "note": "a new disk"})
    assert Plan.objects.get().order["note"] == "a new disk"
    assert Act.objects.get(verb=Act.Verb.DRAIN).reason == "a new disk"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"by": "soon"}, "That is neither a span nor a time: 90s, 30m, 2h, 3d, 1w, or a time in UTC"),
        ({"by": "2020-01-01T00:00:00Z"}, "That is over already."),
        ({"by": "9999-12-31T23:59:59Z"}, "That is more than 100 years away."),
        ({"by": "9999w"}, "That is more than 100 years away."),
        ({"until": "2100-12-24T08:00:00Z"}, "Unknown name."),
    ],
)
def test_what_can_not_be_a_deadline_is_told_at_its_field(operator: Caller, body: Any, problem: str) -> None:
    answer = operator.call("POST", "nodes/ash/drain", body)
    assert answer.status_code == 400
    assert problem in str(answer.json()[next(iter(body))])
    assert not Node.objects.filter(draining=True).exists()


@pytest.mark.parametrize("act", ["cordon", "drain"])
def test_what_leaves_no_node_that_takes_work_must_be_meant(operator: Caller, act: str) -> None:
    assert operator.call("POST", f"nodes/birch/{act}", {}).status_code == 200
    answer = operator.call("POST", f"nodes/ash/{act}", {})
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("No node would take work then: nothing new is placed")
    assert answer.json()["detail"].endswith("Send it with ?accept_no_node=1 if that is meant.")
    assert Node.objects.get(name="ash").schedulable
    refused = Act.objects.get(verb=Act.Verb.REFUSE)
    assert (refused.object, refused.about) == (f"{act} ash", {"nodes": ["ash"]})
    # It takes no work already.
    assert operator.call("POST", f"nodes/birch/{act}", {}).status_code == 200
    assert operator.call("POST", f"nodes/ash/{act}?accept_no_node=1", {}).status_code == 200
    assert not Node.objects.get(name="ash").schedulable


def test_a_dry_run_of_a_drain_needs_no_such_word_and_other_calls_take_none(operator: Caller) -> None:
    operator.call("POST", "nodes/birch/cordon")
    for call in ("drain", "cordon"):
        answer = operator.call("POST", f"nodes/ash/{call}?dry_run=1", {})
        assert answer.status_code == 200
        told = answer.json()
        assert told["needs"] == ["accept_no_node"]
        assert told["sentences"][0].startswith("No node would take work then")
    assert operator.call("POST", "nodes/birch/uncordon?accept_no_node=1").status_code == 400
    assert operator.call("POST", "nodes/ash/cordon").status_code == 409


def test_so_must_a_stored_plan_that_does(operator: Caller) -> None:
    Node.objects.filter(name="birch").update(schedulable=False)
    plan = plans.store(deciding.drain(["ash"]), author="eve")
    answer = operator.call("POST", f"plans/{plan.pk}/apply")
    assert answer.status_code == 409
    assert answer.json()["detail"].startswith("No node would take work then")
    refused = Act.objects.get(verb=Act.Verb.REFUSE)
    assert (refused.plan, refused.object) == (plan.pk, f"plan {plan.pk}: {plan}")
    assert Node.objects.get(name="ash").schedulable
    assert operator.get(f"plans/{plan.pk}")["needs"] == ["accept_no_node"]
    assert operator.call("POST", f"plans/{plan.pk}/apply?accept_no_node=1").status_code == 200
    assert Node.objects.get(name="ash").draining


@pytest.mark.parametrize(
    "call", ["POST nodes/ash/cordon", "POST nodes/ash/uncordon", "POST plans/{plan}/apply", "DELETE pins/{pin}"]
)
def test_a_body_that_nothing_reads_is_refused(operator: Caller, call: str) -> None:
    """Who writes the dry run into the body would do it."""
    config = Config.objects.order_by("pk")[0].pk
    plan = plans.store(deciding.pin([config], "birch"), author="eve")
    dispatcher.pin([config], "ash", actor="eve")
    method, path = call.format(plan=plan.pk, pin=Pin.objects.get().pk).split()
    answer = operator.call(method, path, {"dry_run": True})
    assert answer.status_code == 400
    assert answer.json() == {"dry_run": ["Unknown name."]}
    if method == "POST":
        # A form, which the check of a session's token reads first.
        session = superuser()
        assert session.post(f"/api/operator/v1/{path}", {"dry_run": "true"}).status_code == 415
    plan.refresh_from_db()
    assert (plan.applied_at, Pin.objects.count(), Node.objects.get(name="ash").schedulable) == (None, 1, True)


def test_a_dry_run_sets_no_deadline(operator: Caller) -> None:
    answer = operator.call("POST", "nodes/ash/drain?dry_run=1", {"by": "2100-12-24T08:00:00Z"})
    assert len(answer.json()["moves"]) == 3
    assert not Node.objects.filter(draining=True).exists()


def test_how_far_it_is_is_told_until_the_node_may_be_stopped(operator: Caller) -> None:
    assert operator.get("nodes/ash")["drain"] is None
    told = operator.get("nodes/ash/drain")
    assert (told["since"], told["left"], told["is_empty"]) == (None, 3, False)
    by = clock.now() + timedelta(seconds=1)
    drain(operator, {"by": by.isoformat()})
    dispatcher.move_misplaced()
    told = operator.get("nodes/ash/drain")
    assert told == operator.get("nodes/ash")["drain"]
    assert told.pop("since")
    assert datetime.fromisoformat(told.pop("by")) == by
    assert told.pop("sentence").startswith("node ash: none of 3 left to move, 3 being handed over, by ")
    assert told == {"moved": 0, "left": 3, "handing_over": 3, "is_empty": False, "stuck": []}
    hand_over()
    assert operator.get("nodes/ash/drain")["is_empty"] is False
    hand_over()
    told = operator.get("nodes/ash/drain")
    assert (told["moved"], told["left"], told["is_empty"]) == (3, 0, True)
    assert told["sentence"] == "node ash is empty: safe to stop"


def test_what_can_not_go_is_told_with_the_reason(operator: Caller) -> None:
    Node.objects.filter(name="birch").cordon()
    assert operator.call("POST", "nodes/ash/drain?accept_no_node=1", {}).status_code == 200
    assert operator.get("nodes/ash/drain")["stuck"] == [{"reason": "every other node is cordoned", "configs": 3}]


def test_an_unknown_node_is_none(operator: Caller) -> None:
    assert operator.call("GET", "nodes/oak/drain").status_code == 404
