"""The admin's pages and actions against the roles: the groups that the API asks for, too."""

from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from checks import dispatcher
from checks.models import Config, Origin, Plan
from checks.tests.cast import owners, report, sent
from nodes.models import Node
from operators.admin.questions import seen_of
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
V, O, W, A = Role.VIEWER, Role.OPERATOR, Role.AUTHOR, Role.ADMIN  # noqa: E741 a table reads best in letters
PAGES = {
    "/admin/": {V, O, W, A},
    "/admin/now/": {V, O, W, A},
    "/admin/map/": {V, O, W, A},
    "/admin/failures/": {V, O, W, A},
    "/admin/changes/": {V, O, W, A},
    "/admin/changes/story/": {V, O, W, A},
    "/admin/search/": {V, O, W, A},
    "/admin/nodes/node/": {V, O, W, A},
    "/admin/nodes/nodeevent/": {V, O, W, A},
    "/admin/checks/config/": {V, O, W, A},
    "/admin/checks/config/add/": {W},
    "/admin/checks/move/": {V, O, W, A},
    "/admin/checks/source/": {V, O, W, A},
    "/admin/checks/clusterstore/": {V, O, W, A},
    "/admin/checks/pin/": {V, O, W, A},
    "/admin/checks/pin/add/": {O},
    "/admin/checks/pause/": {V, O, W, A},
    "/admin/checks/pause/add/": {O},
    "/admin/checks/isolation/": {V, O, W, A},
    "/admin/checks/isolation/add/": {O},
    "/admin/checks/rule/": {V, O, W, A},
    "/admin/checks/rule/add/": {O},
    "/admin/checks/plan/": {V, O, W, A},
    "/admin/checks/plan/rebalance/": {O},
    "/admin/checks/freeze/": {V, O, W, A},
    "/admin/checks/freeze/add/": {O},
    "/admin/acts/act/": {O, A},
    "/admin/auth/user/": {A},
    "/admin/auth/user/add/": {A},
    "/admin/auth/group/": {A},
    "/admin/auth/group/add/": set(),
    "/admin/knox/authtoken/": {A},
    "/admin/knox/authtoken/add/": {A},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    report("ash")
    dispatcher.schedule([sent("hand", source="admin")])
    report("birch")


def staff(*roles: Role) -> Client:
    client = Client()
    client.force_login(user("otto", *roles, is_staff=True))
    return client


def hand() -> Config:
    return Config.objects.get(origins__key="hand")


@pytest.mark.parametrize("role", Role)
def test_each_role_sees_just_its_pages(role: Role) -> None:
    client = staff(role)
    seen = {page for page in PAGES if client.get(page).status_code == 200}
    assert seen == {page for page, roles in PAGES.items() if role in roles}


def test_without_a_role_a_login_shows_nothing() -> None:
    client = staff()
    assert {page for page in PAGES if client.get(page).status_code == 200} == {"/admin/"}


def act(client: Client, url: str, action: str, pk: int, **fields: Any) -> None:
    client.post(url, {"action": action, "_selected_action": [pk], **fields})


@pytest.mark.parametrize("role", Role)
def test_each_role_does_just_what_is_its(role: Role) -> None:
    client, pk = staff(role), hand().pk
    act(client, "/admin/nodes/node/", "cordon", Node.objects.get(name="ash").pk, seen=seen_of(["ash"]))
    assert Node.objects.get(name="ash").schedulable is (role != O)
    act(client, "/admin/checks/config/", "reassign", pk, node="birch", asked="yes")
    for plan in Plan.objects.all():
        client.post(f"/admin/checks/plan/{plan.pk}/apply/")
    assert owners() == {"hand": "birch" if role == O else "ash"}
    form = {"key": "hand", "check": "http_check", "yaml": "instances: [{url: other}]"}
    assert client.post(f"/admin/checks/config/{pk}/change/", form).status_code == (302 if role == W else 403)
    act(client, "/admin/checks/config/", "unschedule", pk, confirmed="yes")
    assert Origin.objects.filter(key="hand").exists() is (role != W)


def test_a_colleague_gets_name_role_and_password_in_one_form() -> None:
    client = staff(A)
    form = client.get("/admin/auth/user/add/").content.decode()
    assert "Viewer: sees everything but secrets and acts, and changes nothing." in form
    # As PAGES and the test above say: who gives roles acts by those that it gives.
    assert (
        "Admin: gives roles, users, passwords and tokens, also to itself, and sees acts; does not steer or write"
        in form
    )
    given = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    viewer = Group.objects.get(name=V)
    assert client.post("/admin/auth/user/add/", given | {"groups": [viewer.pk]}).status_code == 302
    eve = Client()
    assert eve.post("/admin/login/", {"username": "eve", "password": PASSWORD}).status_code == 302
    assert eve.get("/admin/nodes/node/").status_code == 200
    assert eve.get("/admin/checks/pin/add/").status_code == 403
