"""Roles and tokens that are bound, and what they meet."""

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher
from checks.models import Origin, Plan
from checks.models.bounds import STEERING, WRITING
from checks.models.orders import Isolation, Pause, Pin
from checks.tests.cast import hand_over, owners, report, sent
from checks.tests.operators import config
from nodes.models import Node
from operators import bounds
from operators.roles import Role
from operators.tests.cast import Caller, bearer, user

TEAM = "url: x\ntags: [env:prod, team:payments]\n"
ONE = {"name": "one", "check": "http_check", "instances": [{"url": "http://one"}]}
# What concerns the whole cluster. A bound group may have been given it all the same.
WIDE = {
    "nodes.change_node", "checks.add_plan", "checks.change_plan", "checks.add_freeze", "checks.delete_freeze",
    *(f"{rule.format(deed)}rule" for rule in ("checks.{}_", "nodes.{}_node") for deed in ("add", "change", "delete")),
}  # fmt: skip


def group(name: str, permissions: frozenset[str] | set[str], *, sources: Any = (), checks: Any = ()) -> Group:
    made = Group.objects.create(name=name)
    wanted = [
        Q(content_type__app_label=app, codename=code) for app, _, code in (one.partition(".") for one in permissions)
    ]
    made.permissions.set(Permission.objects.filter(Q(*wanted, _connector=Q.OR)))
    bounds.bind(sources, checks, group=made)
    return made


def paula(*roles: Role) -> User:
    """Someone who may look at everything, and steer what is of payments."""
    made = user("paula", Role.VIEWER, *roles)
    made.groups.add(group("payments", STEERING | WIDE, checks=["team:payments", "pay*"]))
    return made


def wanda(*sources: str) -> User:
    """Someone who may look at everything, and write these sources."""
    made = user("wanda", Role.VIEWER)
    made.groups.add(group("writers", WRITING, sources=sources))
    return made


def calls(who: User, *, sources: Any = (), checks: Any = ()) -> Caller:
    row, token = AuthToken.objects.create(who)
    bounds.bind(sources, checks, token=row)
    # Of its own: what each caller may not do is on record ten times an hour.
    return bearer(token)._replace(client=Client())


def clicks(who: User) -> Client:
    client = Client()
    client.force_login(who)
    return client


def work() -> None:
    """ash has theirs and paycheck, which are of payments, shop, and hand, which somebody wrote; birch is idle."""
    report("ash")
    dispatcher.schedule(
        [
            sent("theirs", instances=(TEAM,)),
            sent("paycheck", name="paycheck"),
            sent("shop", instances=("url: shop\ntags: [team:shop]\n",)),
            sent("hand", source="admin"),
        ]
    )
    hand_over()
    report("birch")


def ids(*keys: str) -> list[int]:
    return [config(key).pk for key in keys]


def refused(answer: Any, *words: str) -> None:
    """The call was refused with these words, and that is on record once."""
    assert answer.status_code == 403, answer.content
    last = Act.objects.order_by("-pk")[:2]
    assert [one.verb for one in last][:1] == [Act.Verb.REFUSE]
    for word in words:
        assert word in answer.json()["detail"]
        assert word in last[0].reason


def state() -> Any:
    """What a refusal must not change."""
    rows = [list(model.objects.order_by("pk").values()) for model in (Pin, Pause, Isolation, Plan, Node, Origin)]
    return owners(), rows
