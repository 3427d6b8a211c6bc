"""The admin's pages and actions against the roles: the groups that the API asks for, too."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Config, Origin, Plan
from checks.models.orders import Pin, Rule
from checks.tests.cast import owners, report, sent
from checks.tests.operators import confirmed, opened, saved, superuser
from nodes.models import Node, NodeRule
from operators.roles import Role, in_words
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
    "/admin/auth/group/add/": {A},
    "/admin/knox/authtoken/": {A},
    "/admin/knox/authtoken/add/": {A},
    "/admin/nodes/nodetoken/": {A},
    "/admin/nodes/nodetoken/add/": {A},
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
    sent = {"action": action, "_selected_action": [pk], **fields}
    asked = client.post(url, sent)
    if "seen" in (asked.context or {}):
        client.post(url, sent | {"seen": asked.context["seen"]})


@pytest.mark.parametrize("role", Role)
def test_each_role_does_just_what_is_its(role: Role) -> None:
    client, pk = staff(role), hand().pk
    act(client, "/admin/nodes/node/", "cordon", Node.objects.get(name="ash").pk)
    assert Node.objects.get(name="ash").schedulable is (role != O)
    act(client, "/admin/checks/config/", "reassign", pk, node="birch", asked="yes")
    for plan in Plan.objects.all():
        client.post(f"/admin/checks/plan/{plan.pk}/apply/")
    assert owners() == {"hand": "birch" if role == O else "ash"}
    form = {"key": "hand", "check": "http_check", "yaml": "instances: [{url: other}]"}
    assert saved(client, f"/admin/checks/config/{pk}/change/", **form).status_code == (302 if role == W else 403)
    act(client, "/admin/checks/config/", "unschedule", pk)
    assert Origin.objects.filter(key="hand").exists() is (role != W)


@pytest.mark.parametrize(
    ("url", "action", "permission"),
    [
        ("/admin/checks/config/", "reassign", "operator"),
        ("/admin/checks/config/", "unschedule", "author"),
        ("/admin/nodes/node/", "drain", "operator"),
        ("/admin/checks/pin/", "delete_selected", "operator"),
    ],
)
def test_an_action_of_a_list_that_the_role_does_not_give_is_refused_with_who_may(
    url: str, action: str, permission: str
) -> None:
    answer = staff(Role.VIEWER).post(url, {"action": action, "_selected_action": [hand().pk]})
    assert answer.status_code == 403
    assert f"comes with the role {permission}" in answer.content.decode()
    assert Act.objects.filter(verb=Act.Verb.REFUSE).count() == 1


def buttons_of(client: Client, row: Any) -> dict[str, list[str]]:
    """The greyed buttons of a row's page, by the reason."""
    page = client.get(reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]))
    assert page.status_code == 200
    found: dict[str, list[str]] = {}
    for why, words in re.findall(r'disabled title="Not yours to do: ([^"]*)"[^>]*>([^<]*)<', page.content.decode()):
        found.setdefault(why, []).append(words)
    return found


def test_what_the_role_does_not_give_is_greyed_on_a_rows_page_with_who_may_do_it() -> None:
    pin = Pin.objects.create(config=hand(), source="admin", key="hand", aim="ash")
    rule = Rule.objects.create(name="few", max_per_node=5)
    plan = plans.store(deciding.pause([hand().pk]), author="eve")
    rows = Node.objects.get(name="ash"), hand(), pin, rule, NodeRule.objects.create(pattern="a*"), plan
    by_operators, by_authors = "this comes with the role operator", "this comes with the role author"
    vera = staff(V)
    buttons = {row: buttons_of(vera, row) for row in rows}
    words = [sorted(found.get(by_operators, [])) for found in buttons.values()]
    assert words == [
        ["Cordon: give it nothing new…", "Drain: cordon it, and let what it has move away…"],
        ["Isolate: leave it alone on its node…", "Pause…", "Pin…", "Reassign to a node…", "Unpin…"],
        ["Delete", "Save"], ["Delete", "Save"], ["Delete", "Save"], ["Apply"],
    ]  # fmt: skip
    assert {row: set(found) - {by_operators} for row, found in buttons.items() if set(found) - {by_operators}} == {
        hand(): {by_authors}
    }
    oona = Client()
    oona.force_login(user("oona", O, W))
    assert [buttons_of(oona, row) for row in rows] == [{}] * len(rows)
    # One sentence for all buttons of a reason.
    page = vera.get(reverse("admin:nodes_node_change", args=[rows[0].pk])).content.decode()
    assert page.count(f"Not yours to do: {by_operators}.") == 1


ADDED_BY = {
    "checks/pin": "this comes with the role operator",
    "checks/freeze": "this comes with the role operator",
    "nodes/noderule": "this comes with the role operator",
    "checks/config": "this comes with the role author",
    "nodes/node": "",
    "checks/move": "",
}


def test_what_rows_the_role_does_not_let_one_add_is_greyed_in_the_list_with_who_may() -> None:
    viewer = staff(Role.VIEWER)
    for rows, why in ADDED_BY.items():
        page = viewer.get(f"/admin/{rows}/").content.decode()
        found = re.findall(r'disabled title="Not yours to do: ([^"]*)"[^>]*>Add [a-z ]*<', page)
        assert found == ([why] if why else []), rows
        # Above the frame of the list, whose border it would stand on.
        assert not why or page.index("Not yours to do") < page.index('id="changelist-form"')
    oona = Client()
    oona.force_login(user("oona", Role.OPERATOR))
    assert "Not yours" not in oona.get("/admin/checks/pin/").content.decode()


def test_a_remedy_that_the_role_does_not_give_is_greyed_on_the_first_page_with_who_may() -> None:
    Node.objects.update(schedulable=False)
    dispatcher.schedule([sent("nowhere")])
    assert "Not yours to do: this comes with the role operator." in staff(V).get("/admin/").content.decode()
    oona = Client()
    oona.force_login(user("oona", Role.OPERATOR))
    assert "Not yours to do" not in oona.get("/admin/").content.decode()


def told(client: Client, url: str, **fields: Any) -> set[str]:
    """What is said after a form is saved, as the page that asked first foretold it."""
    fields |= opened(client, url)
    asked = client.post(url, fields)
    assert not (asked.context or {}).get("errors"), asked.context["errors"]
    response = client.post(url, fields | {"seen": asked.context["seen"]}, follow=True)
    said = {str(message) for message in response.context["messages"]}
    # One more says that it is saved.
    assert len(said) == len(asked.context["question"].sentences) + 1
    return said


def test_what_a_user_may_do_from_now_on_is_said_when_it_is_saved() -> None:
    client = staff(A)
    roles = {role: Group.objects.get(name=role).pk for role in Role}
    given = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    said = told(client, "/admin/auth/user/add/", **given, groups=[roles[V]])
    assert "User eve got the role viewer: sees everything but secrets and the record of acts; changes nothing." in said
    eve = User.objects.get(username="eve")
    joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
    said = told(client, f"/admin/auth/user/{eve.pk}/change/", username="eve", groups=[roles[W]], **joined)
    assert {
        "User eve got the role author: sees what a viewer sees; writes and removes configs, which node agents run, but does not"
        " steer them.",
        "User eve lost the role viewer.",
        "User eve may not log in or call any more.",
    } <= said
    act = Act.objects.filter(verb=Act.Verb.CHANGE, object="user eve").get()
    assert (act.before["groups"], act.after["groups"]) == (["viewer"], ["author"])


def test_what_a_group_gives_and_takes_is_said_with_how_many_users_have_it() -> None:
    client, viewer = superuser(), Group.objects.get(name=V)
    user("eve", V)
    kept = [one.pk for one in viewer.permissions.all()]
    first = viewer.permissions.order_by("pk").first()
    assert first is not None
    name = f"{first.content_type.app_label}.{first.codename}"
    said = told(
        client, f"/admin/auth/group/{viewer.pk}/change/", name=V, permissions=[pk for pk in kept if pk != first.pk]
    )
    assert f"Group viewer took from 1 user the right to {in_words(name)}, unless another role gives it." in said
    act = Act.objects.get(verb=Act.Verb.CHANGE, object="group viewer")
    assert name in act.before["permissions"]
    assert name not in act.after["permissions"]


def test_a_colleague_gets_name_role_and_password_in_one_form() -> None:
    client = staff(A)
    form = client.get("/admin/auth/user/add/").content.decode()
    assert "Viewer: sees everything but secrets and the record of acts; changes nothing." in form
    # As PAGES and the test above say: who gives roles acts by those that it gives.
    assert (
        "Admin: sees what a viewer sees, and the record of acts; gives roles, users, passwords and tokens, also to itself; does"
        " not steer or write by itself" in form
    )
    given = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    viewer = Group.objects.get(name=V)
    confirmed(client, "/admin/auth/user/add/", **given, groups=[viewer.pk])
    eve = Client()
    assert eve.post("/admin/login/", {"username": "eve", "password": PASSWORD}).status_code == 302
    assert eve.get("/admin/nodes/node/").status_code == 200
    assert eve.get("/admin/checks/pin/add/").status_code == 403
