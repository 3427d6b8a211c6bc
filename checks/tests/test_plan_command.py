"""`clusteragent plan`: plans that were made elsewhere, listed, shown and applied from a terminal."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Plan
from checks.tests.cast import owners, settled_on_ash
from checks.tests.operators import config

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture
def plan() -> Plan:
    """It moves key-0 from ash to birch."""
    settled_on_ash(2)
    return plans.store(deciding.reassign([config("key-0").pk], "birch"), author="eve")


def run(*words: str) -> list[str]:
    out = io.StringIO()
    call_command("plan", *words, "--as", "olga", stdout=out)
    return out.getvalue().splitlines()


def fail(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    return str(caught.value)


def test_the_last_plans_are_listed(plan: Plan) -> None:
    [line] = run("list")
    assert line.startswith(f"{plan.pk}  ")
    assert line.endswith("Give http_check key-0 to birch, not applied")
    Plan.objects.all().delete()
    assert run("list") == ["There is no plan."]


def test_a_plan_is_shown_with_its_moves_and_loads(plan: Plan) -> None:
    lines = run("show", str(plan.pk))
    assert lines[0].startswith(f"Plan {plan.pk}: Give http_check key-0 to birch, made by eve ")
    assert lines[1:3] == ["http_check key-0: ash → birch", "1 config to move"]
    document = json.loads("\n".join(run("show", str(plan.pk), "--json")))
    assert (document["id"], document["applied_at"]) == (plan.pk, None)
    assert document["moves"][0]["title"] == "http_check key-0"
    dispatcher.reassign([config("key-0").pk], "birch", actor="eve")
    assert run("show", str(plan.pk))[-1].startswith("It can't be applied any more: ")


def test_a_plan_is_applied_once_on_record(plan: Plan) -> None:
    moving = "http_check key-0: ash → birch"
    assert run("apply", str(plan.pk), "--dry-run") == [
        moving,
        "Give http_check key-0 to birch: would be applied, 1 config would move",
        "It is not pinned: the next rebalance may move it away again.",
    ]
    assert owners()["key-0"] == "ash"
    assert run("apply", str(plan.pk)) == [moving, "Give http_check key-0 to birch: applied, 1 config moved"]
    assert owners() == {"key-0": "birch", "key-1": "ash"}
    act = Act.objects.latest("pk")
    assert (act.person, act.how, act.verb, act.plan) == ("olga", "command", "reassign", plan.pk)
    for more in ([], ["--dry-run"]):
        assert fail("apply", str(plan.pk), *more) == f"plan {plan.pk} can't be applied: the plan was applied already"
    assert "applied 2" in run("list")[0]


def test_a_drain_that_is_applied_goes_on_by_itself(plan: Plan) -> None:
    drain = plans.store(deciding.drain(["ash"]), author="eve")
    assert run("apply", str(drain.pk))[-1] == "Drain ash: applied, 2 configs to move bit by bit"


def test_a_drain_after_which_no_node_takes_work_must_be_meant(plan: Plan) -> None:
    drain = plans.store(deciding.drain(["ash", "birch"]), author="eve")
    assert fail("apply", str(drain.pk)).endswith("--accept-no-node does it all the same")
    assert (Act.objects.latest("pk").verb, Act.objects.latest("pk").plan) == ("refuse", drain.pk)
    assert Plan.objects.get(pk=drain.pk).applied_at is None
    assert "applied" in run("apply", str(drain.pk), "--accept-no-node")[-1]


def test_a_plan_that_is_stale_is_refused_on_record(plan: Plan) -> None:
    dispatcher.reassign([config("key-0").pk], "birch", actor="eve")
    assert fail("apply", str(plan.pk)).startswith(f"plan {plan.pk} can't be applied: ")
    act = Act.objects.latest("pk")
    assert (act.person, act.verb, act.plan) == ("olga", "refuse", plan.pk)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("list", "1"), "list takes no PLAN"),
        (("show",), "show needs a PLAN"),
        (("apply",), "apply needs a PLAN"),
        (("show", "1", "--dry-run"), "show changes nothing: it takes no --dry-run"),
        (("apply", "999999999"), "there is no plan 999999999: `plan list` shows the last ones"),
    ],
)
def test_what_can_not_be_is_one_line(words: tuple[str, ...], error: str) -> None:
    assert fail(*words) == error
