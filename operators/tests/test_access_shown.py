"""Who gains and who loses what is shown before users, groups and tokens are saved; passwords are not."""

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from checks.tests.cast import report
from checks.tests.operators import answered, opened
from nodes.models import Node, NodeToken, Runner
from nodes.models.runners import Answer
from operators import bounds
from operators.admin import questions
from operators.roles import Role
from operators.tests.cast import user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

USERS, GROUPS, TOKENS = "/admin/auth/user/", "/admin/auth/group/", "/admin/knox/authtoken/"
NODE_TOKENS = "/admin/nodes/nodetoken/"
PASSWORD = "four-words-in-a-row"
JOINED = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
NEW = {"username": "eve", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}


@pytest.fixture
def ada() -> User:
    return user("ada", Role.ADMIN)


@pytest.fixture
def client(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def role(name: str) -> Group:
    return Group.objects.get(name=name)


def change(row: User, *roles: str, **fields: Any) -> dict[str, Any]:
    """The form of a user who has these roles then."""
    groups = [role(name).pk for name in roles]
    return {"username": row.username, "is_active": "on", "groups": groups} | JOINED | fields


def sentences(client: Client, url: str, fields: dict[str, Any]) -> list[str]:
    """What the page that asks says of a form; nothing if the form is saved at once."""
    response = client.post(url, opened(client, url) | fields)
    if response.status_code == 302:
        return []
    assert response.status_code == 200
    assert "question" in response.context, response.context["errors"]
    return [*response.context["question"].sentences, *response.context["worse"]]


def test_a_superuser_is_made_only_once_that_was_shown(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    url, form = f"{USERS}{otto.pk}/change/", change(otto, "viewer", is_superuser="on")
    assert sentences(client, url, form) == [
        "User otto becomes a superuser, who may do everything, also what no role allows."
    ]
    otto.refresh_from_db()
    assert not otto.is_superuser
    assert not Act.objects.filter(verb="change").exists()
    answered(client, url, **form)
    otto.refresh_from_db()
    assert otto.is_superuser
    assert sentences(client, url, change(otto, "viewer")) == [
        "User otto is no longer a superuser, and may do what its roles allow."
    ]


def test_the_forms_of_users_speak_of_what_is_here(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    for path, words in (
        ("add/", "Without a password it can't log in: it is for tokens alone."),
        (f"{otto.pk}/change/", "Without it, the user can't log in and its tokens can't call, until it is given back."),
    ):
        page = unescape(client.get(f"{USERS}{path}").content.decode())
        assert words in page
        for other in ("LDAP", "Unselect", "Designates", "salt", "Raw passwords"):
            assert other not in page, other


def test_a_users_page_leads_to_the_form_of_its_password(client: Client) -> None:
    otto, robot = User.objects.create_user("otto", password=PASSWORD), User.objects.create_user("robot")
    for one, said, offered in ((otto, "Stored as a hash", "Set another one"), (robot, "None", "Set one")):
        page = client.get(f"{USERS}{one.pk}/change/").content.decode()
        found = re.search(rf'{said}\. <a [^>]*href="([^"]*)">{offered}</a>', page)
        assert found
        assert client.get(found[1]).status_code == 200
        password = "five-words-in-a-long-row"
        assert client.post(found[1], {"password1": password, "password2": password}).status_code == 302
        one.refresh_from_db()
        assert one.check_password(password)


def test_a_new_token_tells_its_end_in_utc(client: Client) -> None:
    otto = user("otto", Role.AUTHOR)
    for url, form in (
        (TOKENS, {"user": otto.pk, "expiry_0": "2100-01-01", "expiry_1": "08:00:00"}),
        (NODE_TOKENS, {"note": "runners", "pattern": "runner-*", "expires_at": "2100-01-01 08:00"}),
    ):
        page = answered(client, f"{url}add/", **form).content.decode()
        assert "It ends 2100-01-01 08:00 UTC." in " ".join(page.split())


def test_roles_and_a_login_are_taken_only_once_that_was_shown(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    form = change(otto, "operator") | {"is_active": ""}
    assert sentences(client, f"{USERS}{otto.pk}/change/", form) == [
        "User otto gets the role operator: sees what a viewer sees, and the record of acts; moves, pins, pauses, isolates and"
        " drains, writes rules, freezes balancing and accepts removals.",
        "User otto loses the role viewer.",
        "User otto may not log in or call any more.",
    ]
    assert list(otto.groups.values_list("name", flat=True)) == ["viewer"]


def test_who_loses_by_the_own_click_is_told(client: Client, ada: User) -> None:
    said = sentences(client, f"{USERS}{ada.pk}/change/", change(ada))
    assert said == [
        "User ada loses the role admin.",
        "This is your own user: what you lose, another admin must give you again.",
    ]


def test_what_gives_and_takes_nothing_is_not_asked(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    assert not sentences(
        client, f"{USERS}{otto.pk}/change/", change(otto, "viewer", username="otho", email="o@x.example")
    )
    assert User.objects.get(pk=otto.pk).username == "otho"
    assert not sentences(client, f"{USERS}add/", NEW)
    kept = [one.pk for one in role("author").permissions.all()]
    assert not sentences(client, f"{GROUPS}{role('author').pk}/change/", {"permissions": kept, "checks": "team:x"})
    assert role("author").bound.checks == ["team:x"]


def test_a_bound_is_shown_with_those_whom_it_binds(client: Client) -> None:
    for name in ("otto", "olga"):
        user(name, Role.OPERATOR)
    operator = role("operator")
    kept = [one.pk for one in operator.permissions.all()]
    url, form = f"{GROUPS}{operator.pk}/change/", {"permissions": kept, "checks": "tls*"}
    assert sentences(client, url, form) == [
        "Group operator is bound to tls*: what it allows, 2 users may do to these alone, and nothing to the cluster as a whole."
    ]
    [table] = client.post(url, opened(client, url) | form).context["tables"]
    assert [str(row[0]).partition("</a>")[0].rpartition(">")[2] for row in table.rows] == ["olga", "otto"]
    assert not hasattr(role("operator"), "bound")
    answered(client, url, **form)
    assert role("operator").bound.checks == ["tls*"]
    assert sentences(client, url, form | {"checks": ""}) == [
        "Group operator is bound no more: what it allows, 2 users may do to all checks and all sources."
    ]
    assert "gets the role operator: sees what a viewer sees" in str(
        said := sentences(
            client, f"{USERS}{user('eve').pk}/change/", {"username": "eve", "groups": [operator.pk]} | JOINED
        )
    )
    assert "accepts removals, bound to tls*." in str(said)


def test_permissions_are_shown_in_words_with_how_many_lose_them(client: Client) -> None:
    for name in ("otto", "olga", "oleg"):
        user(name, Role.OPERATOR)
    operator = role("operator")
    taken = Permission.objects.get(codename="add_pin", content_type__app_label="checks")
    kept = [one.pk for one in operator.permissions.all() if one != taken]
    assert sentences(client, f"{GROUPS}{operator.pk}/change/", {"permissions": kept}) == [
        "Group operator takes from 3 users the right to add pins, unless another role gives it."
    ]
    assert operator.permissions.filter(pk=taken.pk).exists()


def test_nothing_is_done_if_it_would_do_something_else_by_then(client: Client) -> None:
    otto = user("otto", Role.VIEWER)
    url = f"{USERS}{otto.pk}/change/"
    form = opened(client, url) | change(otto, "viewer", "operator")
    seen = client.post(url, form).context["seen"]
    otto.groups.clear()
    refused = client.post(url, form | {"seen": seen})
    assert "after this form was opened. Nothing was saved." in refused.content.decode()
    form |= {"opened": refused.context["adminform"].form.mark}
    page = client.post(url, form | {"seen": seen}).content.decode()
    assert "Nothing was done, since something changed." in page
    assert "gets the role viewer" in page
    assert not otto.groups.exists()


def test_a_new_users_role_is_shown_and_the_password_is_not(client: Client) -> None:
    form = NEW | {"groups": [role("viewer").pk]}
    asked = client.post(f"{USERS}add/", form)
    assert "User eve gets the role viewer: sees everything but secrets" in asked.content.decode()
    assert PASSWORD not in asked.content.decode()
    assert not User.objects.filter(username="eve").exists()
    answer = client.post(f"{USERS}add/", dict(asked.context["hidden"]) | {"seen": asked.context["seen"]})
    assert answer.status_code == 302
    assert User.objects.get(username="eve").check_password(PASSWORD)


def test_a_sealed_password_is_of_its_session_and_lasts_a_while(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = client.post(f"{USERS}add/", NEW | {"groups": [role("viewer").pk]})
    sent = dict(asked.context["hidden"]) | {"seen": asked.context["seen"]}
    other = Client()
    other.force_login(user("olaf", Role.ADMIN))
    assert "This field is required." in other.post(f"{USERS}add/", sent).content.decode()
    monkeypatch.setattr(questions, "SEALED_FOR", -1)
    assert "This field is required." in client.post(f"{USERS}add/", sent).content.decode()
    assert not User.objects.filter(username="eve").exists()


def test_what_a_token_may_do_is_shown_before_it_is_made(client: Client) -> None:
    otto = user("otto", Role.AUTHOR)
    form = {"user": otto.pk, "purpose": "deploys", "expiry_0": "2100-01-01", "expiry_1": "08:00:00"}
    author = (
        "author: sees what a viewer sees; writes and removes configs, which node agents run, but does not steer them"
    )
    assert sentences(client, f"{TOKENS}add/", form) == [
        f"Whoever has the token may do what user otto may: {author}.",
        "It ends 2100-01-01 08:00 UTC.",
        "It is bound to nothing: what it may do, it may do to all checks and all sources.",
    ]
    assert not AuthToken.objects.exists()
    assert sentences(client, f"{TOKENS}add/", form | {"sources": "api:shop", "expiry_0": "", "expiry_1": ""}) == [
        f"Whoever has the token may do what user otto may: {author}.",
        "It is bound to api:shop.",
        "It never ends.",
    ]
    bounds.bind(["api:x"], [], group=role("author"))
    assert sentences(client, f"{TOKENS}add/", form)[:2] == [
        f"Whoever has the token may do what user otto may: {author}, bound to api:x.",
        "It ends 2100-01-01 08:00 UTC.",
    ]


def test_a_user_that_comes_with_a_token_is_shown_too(client: Client) -> None:
    said = sentences(client, f"{TOKENS}add/", {"new_user": "shop", "role": "viewer"})
    assert said[:2] == [
        "User shop is made with it, and can't log in.",
        "Whoever has the token may do what user shop may: viewer: sees everything but secrets and the record of acts; changes"
        " nothing.",
    ]
    assert not any("bound to nothing" in one for one in said)
    assert not User.objects.filter(username="shop").exists()


def test_a_superusers_token_may_do_everything(client: Client) -> None:
    boss = User.objects.create_superuser("boss")
    said = sentences(client, f"{TOKENS}add/", {"user": boss.pk})
    assert (
        "Whoever has the token may do what user boss may: as a superuser everything, also what no role allows." in said
    )
    assert any("bound to nothing" in one for one in said)


def test_a_users_page_leads_to_a_token_of_it_for_who_may_make_one(client: Client, ada: User) -> None:
    otto = user("otto", Role.VIEWER)
    page = client.get(f"{USERS}{otto.pk}/change/").content.decode()
    assert f'href="{TOKENS}add/?user={otto.pk}"' in page
    form = client.get(f"{TOKENS}add/?user={otto.pk}").context["adminform"].form
    assert str(form["user"].value()) == str(otto.pk)
    role("admin").permissions.remove(Permission.objects.get(codename="add_authtoken"))
    assert "Add a token" not in client.get(f"{USERS}{otto.pk}/change/").content.decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"pattern": "*", "kubernetes_pattern": "*"},
            [
                "Whoever has it gets the configs, with their secrets, of the nodes whose names fit *.",
                "It also opens the endpoint checks of the Kubernetes nodes *.",
                "It opens from every address.",
                "It never ends.",
                "It opens all names, as the shared token does.",
                "It opens all endpoint checks.",
            ],
        ),
        (
            {"pattern": "runner-*", "networks": "10.1.0.0/16", "expires_at": "2100-01-01 08:00"},
            [
                "Whoever has it gets the configs, with their secrets, of the nodes whose names fit runner-*.",
                "It opens from 10.1.0.0/16 alone.",
                "It ends 2100-01-01 08:00 UTC.",
            ],
        ),
    ],
)
def test_what_a_node_token_opens_is_shown_before_it_is_made(
    client: Client, fields: dict[str, str], said: list[str]
) -> None:
    report("runner-1", "runner-2")
    form = {"note": "runners"} | fields
    assert sentences(client, f"{NODE_TOKENS}add/", form) == said
    assert "It opens 2 nodes that report now" in client.post(f"{NODE_TOKENS}add/", form).content.decode()
    assert not NodeToken.objects.exists()
    answered(client, f"{NODE_TOKENS}add/", **form)
    assert NodeToken.objects.get().pattern == fields["pattern"]


def test_whom_a_node_token_cuts_off_is_told_in_red_and_more_of_them_ask_again(client: Client) -> None:
    def told(name: str) -> None:
        report(name)
        Runner.objects.note({Node.objects.get(name=name).pk: Answer([])})

    url, form = f"{NODE_TOKENS}add/", {"note": "runners", "pattern": "runner-*"}
    told("runner-1")
    page = client.post(url, form)
    assert page.context["worse"] == [
        "1 runner that tells stats by the shared token is not asked by it any more: runner-1. The load there is estimated until"
        " it has this token, and the leader has it, too (CLUSTERAGENT_RUNNER_TOKENS)."
    ]
    told("runner-2")
    again = client.post(url, form | {"seen": page.context["seen"]})
    assert "Nothing was done, since something changed." in again.content.decode()
    assert not NodeToken.objects.exists()
    Runner.objects.all().delete()
    client.post(url, form | {"seen": again.context["seen"]})
    assert NodeToken.objects.exists()


@pytest.mark.parametrize(
    ("url", "shown", "sent"),
    [
        (NODE_TOKENS, {"note": "shop", "pattern": "shop-1"}, {"pattern": "*"}),
        (NODE_TOKENS, {"note": "shop", "pattern": "shop-*", "expires_at": "30d"}, {"expires_at": ""}),
        (TOKENS, {"user": "ada", "expiry_0": "2999-01-01", "expiry_1": "00:00:00"}, {"expiry_0": "", "expiry_1": ""}),
    ],
)
def test_another_form_than_was_shown_makes_nothing(
    client: Client, ada: User, url: str, shown: dict[str, str], sent: dict[str, str]
) -> None:
    if "user" in shown:
        shown = shown | {"user": str(ada.pk)}
    page = client.post(f"{url}add/", shown)
    shown = dict(page.context["hidden"])
    for seen in (page.context["seen"], "yes"):
        again = client.post(f"{url}add/", shown | sent | {"seen": seen})
        assert "Nothing was done, since something changed" in again.content.decode()
    assert not NodeToken.objects.exists()
    assert not AuthToken.objects.exists()
    client.post(f"{url}add/", shown | {"seen": page.context["seen"]})
    assert NodeToken.objects.count() + AuthToken.objects.count() == 1


def test_a_sealed_password_that_is_none_is_an_error_of_the_form(client: Client) -> None:
    sent = {name: value for name, value in NEW.items() if not name.startswith("password")}
    page = client.post(f"{USERS}add/", sent | {"sealed_password1": "é", "sealed_password2": "é"})
    assert page.status_code == 200
    assert page.context["errors"]
    assert not User.objects.filter(username="eve").exists()
