"""What groups allow, who gains and loses by them, and what goes with users and groups that are deleted: shown, and on record."""

from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils.html import strip_tags
from knox.models import AuthToken

from acts.models import Act
from checks.tests.operators import answered, opened
from clusteragent.lib import clock
from operators import bounds, tokens
from operators.models import BrokenGlass, Identity, SavedView
from operators.roles import Role
from operators.tests.cast import user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

USERS, GROUPS, TOKENS = "/admin/auth/user/", "/admin/auth/group/", "/admin/knox/authtoken/"
JOINED = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
CHANGED = "Nothing was done, since something changed."


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(user("ada", Role.ADMIN))
    return client


def permissions(*codes: str) -> list[Permission]:
    return [Permission.objects.get(codename=one, content_type__app_label="checks") for one in codes]


def group(name: str, *codes: str, checks: tuple[str, ...] = ()) -> Group:
    made = Group.objects.create(name=name)
    made.permissions.set(permissions(*codes))
    bounds.bind([], checks, group=made)
    return made


def change(row: User, *groups: Group, **fields: Any) -> dict[str, Any]:
    """The form of a user who is in these groups then."""
    return {"username": row.username, "is_active": "on", "groups": [one.pk for one in groups]} | JOINED | fields


def allowing(*codes: str, **fields: Any) -> dict[str, Any]:
    """The form of a group that allows this then."""
    return {"permissions": [one.pk for one in permissions(*codes)]} | fields


def tables(page: Any) -> dict[str, list[tuple[str, ...]]]:
    """The tables of a page that asks: {title: rows}."""
    return {
        table.title: [tuple(unescape(strip_tags(str(cell))) for cell in row) for row in table.rows]
        for table in page.context["tables"]
    }


def of_user(row: User) -> str:
    return f"{USERS}{row.pk}/change/"


def of_group(row: Group) -> str:
    return f"{GROUPS}{row.pk}/change/"


def asked(client: Client, url: str, sent: dict[str, Any]) -> Any:
    """The answer to a form that is opened and sent."""
    return client.post(url, opened(client, url) | sent)


def test_a_group_that_admins_made_is_given_with_what_it_allows(client: Client) -> None:
    otto, night = user("otto"), group("night", "add_pin", "delete_pin", "view_plan", checks=("tls*",))
    page = asked(client, of_user(otto), change(otto, night))
    assert page.context["question"].sentences == [
        "User otto gets the role night: add and delete pins; view plans, bound to tls*."
    ]
    assert tables(page) == {
        "What user otto may do": [("add and delete pins", "no", "within tls*"), ("view plans", "no", "yes")]
    }
    empty = group("empty")
    assert asked(client, of_user(otto), change(otto, empty)).context["question"].sentences == [
        "User otto gets the role empty: allows nothing yet."
    ]


def test_what_a_user_gains_and_loses_is_told_of_all_its_groups_together(client: Client) -> None:
    otto = user("otto")
    night, day = group("night", "add_pin", "delete_pin"), group("day", "add_pin", "add_pause", checks=("tls*",))
    otto.groups.set([night])
    assert tables(asked(client, of_user(otto), change(otto, day))) == {
        "What user otto may do": [
            ("add pauses", "no", "within tls*"),
            ("add pins", "yes", "within tls*"),
            ("delete pins", "yes", "no"),
        ]
    }
    [(_, rows)] = tables(asked(client, of_user(otto), change(otto, night) | {"is_active": ""})).items()
    assert rows == [("add and delete pins", "yes", "no")]


def test_who_becomes_a_superuser_is_told_in_red_with_what_that_adds(client: Client) -> None:
    otto, night = user("otto"), group("night", "add_pin", "view_pin")
    otto.groups.set([night])
    page = asked(client, of_user(otto), change(otto, night, is_superuser="on"))
    told = "User otto becomes a superuser, who may do everything, also what no role allows."
    assert (page.context["question"].sentences, page.context["worse"]) == ([], [told])
    assert f'text-red-700 dark:text-red-400">{told}' in page.content.decode()
    [(_, rows)] = tables(page).items()
    assert ("change and delete pins", "no", "yes") in rows
    User.objects.filter(pk=otto.pk).update(is_superuser=True)
    [(_, rows)] = tables(asked(client, of_user(otto), change(otto, night))).items()
    assert ("change and delete pins", "yes", "no") in rows


def test_what_a_group_no_more_allows_is_lost_by_those_alone_whom_no_other_gives_it(client: Client) -> None:
    night, day = group("night", "add_pin", "delete_pin"), group("day", "add_pin")
    for name, of in (("oleg", (night, day)), ("olga", (night,))):
        user(name).groups.set(of)
    User.objects.create_superuser("boss").groups.set([night])
    page = asked(client, of_group(night), allowing("delete_pin", "add_pause", name="night"))
    assert page.context["question"].sentences == [
        "Group night gives 3 users the right to add pauses.",
        "Group night takes from 3 users the right to add pins, unless another role gives it.",
    ]
    assert tables(page) == {
        "Users in it": [
            ("oleg", "day, night", "add pauses", "nothing"),
            ("olga", "night", "add pauses", "add pins"),
            ("boss", "everything", "nothing", "nothing"),
        ]
    }
    page = asked(client, of_group(night), allowing("add_pin", "delete_pin", name="night", checks="tls*"))
    assert ("olga", "night", "nothing", "add and delete pins, outside of tls*") in tables(page)["Users in it"]


def test_rights_that_grew_since_the_page_are_asked_about_again(client: Client) -> None:
    otto, night = user("otto"), group("night", "view_plan")
    operator = Group.objects.get(name=Role.OPERATOR)
    for of, new in ((night, "add_pin"), (operator, "delete_config")):
        form = change(otto, of)
        seen = asked(client, of_user(otto), form).context["seen"]
        of.permissions.add(*permissions(new))
        page = asked(client, of_user(otto), form | {"seen": seen})
        assert CHANGED in page.content.decode()
        assert not otto.groups.exists()
        bounds.bind([], ["tls*"], group=of)
        assert CHANGED in asked(client, of_user(otto), form | {"seen": page.context["seen"]}).content.decode()
    answered(client, of_user(otto), **form)
    assert list(otto.groups.all()) == [operator]


def test_so_is_a_token_whose_user_may_do_more_by_then(client: Client) -> None:
    otto, operator = user("otto", Role.OPERATOR), Group.objects.get(name=Role.OPERATOR)
    for form in ({"user": otto.pk}, {"new_user": "shop", "role": "operator"}):
        seen = client.post(f"{TOKENS}add/", form).context["seen"]
        right = operator.permissions.first()
        assert right
        operator.permissions.remove(right)
        less = client.post(f"{TOKENS}add/", form).context["seen"]
        operator.permissions.add(right)
        assert CHANGED in client.post(f"{TOKENS}add/", form | {"seen": less}).content.decode()
        assert not AuthToken.objects.exists()
        assert client.post(f"{TOKENS}add/", form | {"seen": seen}).status_code == 200
        assert AuthToken.objects.count() == 1
        AuthToken.objects.all().delete()


def test_who_joined_or_took_the_place_of_another_is_asked_about_again(client: Client) -> None:
    night, olga, otto = group("night", "add_pin"), user("olga"), user("otto")
    olga.groups.set([night])
    form = allowing("add_pin", "delete_pin", name="night")
    for url, sent in ((of_group(night), form), (f"{GROUPS}{night.pk}/delete/", {"post": "yes"})):
        seen = asked(client, url, sent).context["seen"]
        night.user_set.set([otto])
        page = asked(client, url, sent | {"seen": seen})
        assert CHANGED in page.content.decode()
        assert "otto" in str(tables(page))
        night.user_set.set([olga])
    assert night.permissions.count() == 1


def test_what_goes_with_a_user_is_shown_and_on_record(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    row, _ = tokens.make("otto", purpose="deploys", sources=["api:shop"])
    SavedView.objects.create(owner=otto, of="checks.config", name="mine", query={"q": "tls"}, is_shared=True)
    Identity.objects.create(user=otto, issuer="https://id.example", subject="17")
    BrokenGlass.objects.create(user=otto, ends_at=clock.now())
    url = f"{USERS}{otto.pk}/delete/"
    page = client.get(url)
    [(title, rows)] = tables(page).items()
    assert title == "What goes with it"
    assert rows[:4] == [
        ("role", "otto", "viewer"),
        ("token", "otto", f"{row.token_key}…, for deploys"),
        ("saved view", "otto", "mine of configs, which others see, too"),
        ("login", "otto", "as 17 of https://id.example"),
    ]
    answered(client, url)
    before = Act.objects.get(verb="delete", object="user otto").before
    assert before["groups"] == ["viewer"]
    [token] = before["tokens"]
    assert (token["begins_with"], token["purpose"]) == (row.token_key, "deploys")
    assert token["bound"] == {"sources": ["api:shop"], "checks": []}
    assert before["views"] == [
        {"name": "mine", "list": "configs", "owner": "otto", "query": {"q": "tls"}, "shared": True}
    ]
    assert before["logins"][0] == {"user": "otto", "login": "as 17 of https://id.example"}


def test_what_came_to_a_user_since_the_page_is_asked_about_again(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    url = f"{USERS}{otto.pk}/delete/"
    seen = client.get(url).context["seen"]
    otto.groups.add(Group.objects.get(name=Role.OPERATOR))
    assert CHANGED in client.post(url, {"seen": seen, "post": "yes"}).content.decode()
    assert User.objects.filter(username="otto").exists()


def test_nothing_else_goes_with_users_and_groups() -> None:
    """A new table that goes with them is to be shown and on record, too."""
    gone = {
        (model, relation.related_model._meta.label)
        for model in (User, Group, AuthToken)
        for relation in model._meta.get_fields(include_hidden=True)
        if relation.auto_created and not relation.concrete and relation.one_to_many | relation.one_to_one
    }
    assert gone == {
        (User, "operators.Identity"), (User, "operators.BrokenGlass"), (User, "operators.SavedView"),
        (User, "knox.AuthToken"), (User, "auth.User_groups"), (User, "auth.User_user_permissions"),
        # Django's own log, of which no page of ours tells: acts say the same, and stay.
        (User, "admin.LogEntry"),
        (Group, "auth.User_groups"), (Group, "auth.Group_permissions"), (Group, "operators.Bound"),
        (AuthToken, "operators.Bound"), (AuthToken, "operators.Purpose"),
    }  # fmt: skip


def test_who_loses_what_with_groups_is_shown_and_on_record(client: Client) -> None:
    """Two that give the same: it is lost with both."""
    night, day = group("night", "add_pin"), group("day", "add_pin", "delete_pin", checks=("tls*",))
    user("otto").groups.set([night, day])
    user("olga", Role.OPERATOR).groups.add(night)
    page = client.get(f"{GROUPS}{day.pk}/delete/")
    assert tables(page) == {"Who loses what": [("otto", "day, night", "nothing", "delete pins, within tls*")]}
    chosen = {"action": "delete_selected", "_selected_action": [night.pk, day.pk]}
    assert tables(client.post(GROUPS, chosen)) == {
        "Who loses what": [
            ("otto", "day, night", "nothing", "add pins; delete pins, within tls*"),
            ("olga", "night, operator", "nothing", "nothing"),
        ]
    }
    answered(client, GROUPS, **chosen)
    acts = {act.object: act.before for act in Act.objects.filter(verb="delete")}
    assert acts["group day"]["users"] == ["otto"]
    assert acts["group day"]["bound"] == {"sources": [], "checks": ["tls*"]}
    assert acts["group night"]["users"] == ["olga", "otto"]
    lost = [acts[name].get("lost") for name in ("group day", "group night")]
    assert lost == [{"otto": "delete pins, within tls*"}, {"otto": "add pins"}]


@pytest.mark.parametrize("by_list", [True, False])
def test_djangos_own_confirmation_deletes_nothing(client: Client, *, by_list: bool) -> None:
    for url, row in ((USERS, user("otto")), (GROUPS, group("night")), (TOKENS, tokens.make("otto")[0])):
        chosen = {"action": "delete_selected", "_selected_action": [row.pk]} if by_list else {}
        page = client.post(url if by_list else f"{url}{row.pk}/delete/", chosen | {"post": "yes"})
        assert page.templates[0].name == "admin/question.html"
        assert type(row).objects.filter(pk=row.pk).exists()
    assert not Act.objects.filter(verb="delete").exists()
