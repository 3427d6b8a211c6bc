"""Plans that operators made in the admin, applied by their tools."""

import pytest
from django.contrib.auth.models import Permission, User
from knox.models import AuthToken

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Config, Plan
from checks.models.orders import Pause
from checks.tests.cast import owners, report, sent
from operators.roles import Role
from operators.tests.cast import Caller, bearer, having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture
def plan(warm: None) -> Plan:
    """To pause shop, which ash runs."""
    report("ash")
    dispatcher.schedule([sent("shop")])
    return plans.store(deciding.pause([Config.objects.get().pk], note="deploy"), author="eve")


def test_an_order_is_carried_out_by_its_plan(plan: Plan) -> None:
    answer = having(Role.OPERATOR).call("POST", f"plans/{plan.pk}/apply")
    assert answer.status_code == 200
    assert answer.json()["moved"] == 1
    assert owners() == {}
    assert Pause.objects.get().note == "deploy"


def test_a_stale_order_is_a_conflict_and_does_nothing(plan: Plan) -> None:
    dispatcher.schedule([sent("shop", url="http://other")])
    answer = having(Role.OPERATOR).call("POST", f"plans/{plan.pk}/apply")
    assert (answer.status_code, "was edited" in answer.content.decode()) == (409, True)
    assert owners() == {"shop": "ash"}


def test_who_may_not_order_it_may_not_apply_its_plan(plan: Plan) -> None:
    user = User.objects.create_user("oona")
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_plan", "change_plan", "add_pin")))
    caller: Caller = bearer(AuthToken.objects.create(user)[1])
    answer = caller.call("POST", f"plans/{plan.pk}/apply")
    assert answer.status_code == 403
    assert answer.json()["detail"] == "oona lacks checks.add_pause, which comes with the role operator."
    assert owners() == {"shop": "ash"}
