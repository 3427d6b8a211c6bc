"""Two people who close the last two nodes at once, with real locks: one of them is refused, by each entrance."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from acts.models import Act
from checks import plans
from checks.dispatcher import deciding
from checks.models import ClusterStore
from checks.tests.cast import report
from nodes.models import Hearing, Node
from operators.roles import Role
from operators.tests.cast import Caller, bearer, user
from tests.test_races import Session

pytestmark = pytest.mark.django_db(transaction=True)

NODES = "/admin/nodes/node/"


@pytest.fixture(autouse=True)
def _two_nodes(transactional_db: None) -> None:
    Hearing.objects.update(warmup=False)
    # Without configs: a plan that moves some to a closed node is stale anyway.
    report("ash", "birch")


def logged_in(person: str) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser(person))
    return client


def cordon_on_a_page(node: str) -> Callable[[], Any]:
    client, fields = logged_in(f"of-{node}"), {"action": "cordon", "_selected_action": Node.objects.get(name=node).pk}
    seen = client.post(NODES, fields).context["seen"]
    return lambda: client.post(NODES, fields | {"seen": seen})


def drain_on_a_page(node: str) -> Callable[[], Any]:
    client, plan = logged_in(f"of-{node}"), plans.store(deciding.drain([node]), author="eve")
    assert client.get(reverse("admin:checks_plan_change", args=[plan.pk])).status_code == 200
    return lambda: client.post(reverse("admin:checks_plan_apply", args=[plan.pk]))


def caller_of(node: str) -> Caller:
    """The bearer of a token of an operator of its own."""
    _, token = AuthToken.objects.create(user(f"of-{node}", Role.OPERATOR))
    return bearer(token)._replace(client=Client())


def call(deed: str) -> Callable[[str], Callable[[], Any]]:
    def prepare(node: str) -> Callable[[], Any]:
        caller = caller_of(node)
        return lambda: caller.call("POST", f"nodes/{node}/{deed}", {} if deed == "drain" else None)

    return prepare


def apply_by_a_call(node: str) -> Callable[[], Any]:
    caller, plan = caller_of(node), plans.store(deciding.drain([node]), author="eve")
    return lambda: caller.call("POST", f"plans/{plan.pk}/apply")


def drain_by_command(node: str) -> Callable[[], Any]:
    def drain() -> None:
        with suppress(CommandError):
            call_command("drain", node)

    return drain


CLOSING = {
    "cordon on a page": cordon_on_a_page,
    "drain on a page": drain_on_a_page,
    "cordon by a call": call("cordon"),
    "drain by a call": call("drain"),
    "apply by a call": apply_by_a_call,
    "drain by a command": drain_by_command,
}


@pytest.mark.parametrize("how", CLOSING)
def test_of_two_who_close_the_last_two_nodes_one_is_refused(how: str) -> None:
    closes = [CLOSING[how](node) for node in ("ash", "birch")]
    with transaction.atomic():
        # Both look whether another node takes work before either has closed its own.
        ClusterStore.objects.lock()
        list(Node.objects.order_by("pk").select_for_update())
        sessions = [Session(close) for close in closes]
        for session in sessions:
            session.waits()
    for session in sessions:
        session.finish()
    assert Node.objects.accepting().count() == 1
    # Of a command the entrance records who calls; here nobody does.
    refusals = Act.objects.filter(verb="refuse").values_list("reason", flat=True)
    assert "command" in how or ["o node would take work then" in one for one in refusals] == [True]
