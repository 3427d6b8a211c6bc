"""Operators' tokens: made in the admin and by a command, shown once, kept as hashes, bound to a user."""

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.utils import timezone
from knox.models import AuthToken

from acts.models import Act
from checks.tests.operators import answered, confirmed, operator
from clusteragent.lib import conf, credentials
from operators import documentation
from operators.admin.base import example
from operators.roles import Role
from operators.tests.cast import API, bearer, having, user

pytestmark = pytest.mark.django_db

TOKENS = "/admin/knox/authtoken/"


def made(*options: str) -> tuple[str, str]:
    """What `createtoken` writes: (standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    call_command("createtoken", *options, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue().strip()


def logged_in(name: str, *roles: Role) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user(name, *roles, is_staff=True))
    return client


def test_the_command_writes_a_token_that_opens_what_its_role_may() -> None:
    token, told = made("--user", "ci", "--role", "author")
    assert bearer(token).call("GET", "configs").status_code == 200
    assert bearer(token).call("PUT", "sources/shop", {"configs": []}).status_code == 200
    assert bearer(token).call("POST", "nodes/ash/cordon").status_code == 403
    assert "Token of ci, a new user with the role author, until 20" in told
    assert token not in told


def test_a_user_that_the_command_makes_can_not_log_in() -> None:
    made("--user", "ci", "--role", "author")
    ci = User.objects.get(username="ci")
    assert not ci.has_usable_password()
    assert not ci.is_staff


def test_the_command_writes_json() -> None:
    told = json.loads(made("--user", "ci", "--role", "viewer", "--expires", "never", "--json")[0])
    assert told | {"token": ""} == {
        "user": "ci",
        "roles": ["viewer"],
        "expires": None,
        "user_is_new": True,
        "token": "",
    }
    assert bearer(told["token"]).call("GET", "nodes").status_code == 200
    again = json.loads(made("--user", "ci", "--expires", "7d", "--json")[0])
    assert again["expires"].startswith((timezone.now() + timedelta(days=7)).date().isoformat())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--user", "nobody"), "there is no user nobody"),
        (("--user", "olga", "--role", "author"), r"olga has not the role author: .*\(--user olga-author\)"),
        (
            ("--user", "olga", "--expires", "soon"),
            "--expires soon: That is neither a span nor a time: 90s, 30m, 2h, 3d",
        ),
        (("--user", "olga", "--expires", "0"), "--expires 0d: That is over already"),
        (("--user", "olga", "--role", "king"), "invalid choice"),
    ],
)
def test_the_command_gives_nobody_more_than_they_have(options: tuple[str, ...], error: str) -> None:
    user("olga", Role.VIEWER)
    with pytest.raises(CommandError, match=error):
        made(*options)
    assert not AuthToken.objects.exists()
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("given", "lasts"),
    [
        ("2h", timedelta(hours=2)),
        ("30m", timedelta(minutes=30)),
        ("3 weeks", timedelta(weeks=3)),
        ("45", timedelta(45)),
    ],
)
def test_a_token_lasts_as_long_as_is_said(given: str, lasts: timedelta) -> None:
    before = timezone.now()
    made("--user", "ci", "--role", "viewer", "--expires", given)
    assert timedelta(0) <= AuthToken.objects.get().expiry - before - lasts < timedelta(minutes=1)


def test_a_token_is_kept_as_a_hash() -> None:
    token, _ = made("--user", "ci", "--role", "viewer")
    row = AuthToken.objects.get()
    assert token not in str(vars(row))
    assert len(row.digest) == 128


def test_a_token_ends() -> None:
    token, _ = made("--user", "ci", "--role", "viewer", "--expires", "1d")
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    answer = bearer(token).call("GET", "nodes")
    assert answer.status_code == 401
    assert "has expired" in answer.json()["detail"]


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_token_lasts_by_the_databases_clock(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=hours))
    token, _ = made("--user", "ci", "--role", "viewer", "--expires", "1d")
    assert timedelta(hours=23) < AuthToken.objects.get().expiry - now < timedelta(hours=25)
    assert bearer(token).call("GET", "nodes").status_code == 200
    AuthToken.objects.update(expiry=now - timedelta(seconds=1))
    assert bearer(token).call("GET", "nodes").status_code == 401
    assert AuthToken.objects.exists(), "pruning deletes it"


def test_a_token_has_what_its_user_has_now() -> None:
    caller = having(Role.VIEWER)
    User.objects.get().groups.clear()
    assert caller.call("GET", "nodes").status_code == 403
    User.objects.update(is_active=False)
    answer = caller.call("GET", "nodes")
    assert answer.status_code == 401
    assert "inactive" in answer.json()["detail"]


def test_a_session_opens_it_too_and_needs_the_csrf_token_to_change_anything() -> None:
    client = logged_in("otto", Role.OPERATOR)
    assert client.get(f"{API}/nodes").status_code == 200
    answer = client.post(f"{API}/nodes/ash/cordon")
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]
    client.cookies[settings.CSRF_COOKIE_NAME] = csrf = "x" * 32
    answer = client.post(f"{API}/nodes/ash/cordon", content_type="application/json", headers={"X-CSRFToken": csrf})
    assert answer.status_code == 404


def test_the_admin_shows_a_new_token_once() -> None:
    client = Client()
    client.force_login(user("ada", Role.ADMIN, is_staff=True))
    otto = user("otto", Role.OPERATOR)
    page = answered(client, f"{TOKENS}add/", user=otto.pk, expiry_0="2030-01-01", expiry_1="00:00:00")
    token = page.content.decode().partition('aria-label="Token">')[2].partition("<")[0]
    assert "no-store" in page["Cache-Control"]
    assert "It acts as <strong>otto</strong>, with the role operator." in page.content.decode()
    assert "http://testserver/api/operator/v1/status" in page.content.decode()
    assert "All calls of the API" in page.content.decode()
    assert documentation.page("howto/tokens") in page.content.decode()
    assert bearer(token).call("GET", "nodes").status_code == 200
    assert AuthToken.objects.get().expiry.year == 2030
    row = AuthToken.objects.get()
    for url in (TOKENS, f"{TOKENS}{row.pk}/change/", f"{TOKENS}{row.pk}/delete/"):
        shown = client.get(url)
        assert shown.status_code == 200
        assert token not in shown.content.decode()


def test_a_token_and_its_user_are_made_in_one_form() -> None:
    client = Client()
    client.force_login(user("ada", Role.ADMIN))
    page = answered(client, f"{TOKENS}add/", new_user="shop-deploys", role="author")
    assert "It acts as <strong>shop-deploys</strong>, with the role author." in page.content.decode()
    token = page.content.decode().partition('aria-label="Token">')[2].partition("<")[0]
    assert bearer(token).call("PUT", "sources/shop?dry_run=1", {"configs": []}).status_code == 200
    made = User.objects.get(username="shop-deploys")
    assert not made.has_usable_password()
    assert {act.object for act in Act.objects.filter(verb="make", person="ada")} >= {"user shop-deploys"}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "Choose a user, or name a new one below."),
        ({"new_user": "ada", "role": "author"}, "There is a user of this name: choose it above."),
        ({"new_user": "shop deploys", "role": "author"}, "Enter a valid username"),
        ({"new_user": "shop"}, "A new user has a role."),
        ({"user": "ada", "role": "author"}, "A new user has a role."),
        ({"user": "ada", "new_user": "shop", "role": "author"}, "Choose a user, or name a new one below."),
        ({"new_user": "shop", "role": "king"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_with_a_tokens_user_is_said_and_makes_nothing(fields: dict[str, str], error: str) -> None:
    ada = user("ada", Role.ADMIN)
    client = Client()
    client.force_login(ada)
    fields = {name: str(ada.pk) if (name, value) == ("user", "ada") else value for name, value in fields.items()}
    assert error in client.post(f"{TOKENS}add/", fields).content.decode()
    assert (User.objects.count(), AuthToken.objects.count()) == (1, 0)


def test_who_may_make_tokens_alone_makes_no_user() -> None:
    client = operator("add_authtoken", "view_authtoken")
    assert "new_user" not in client.get(f"{TOKENS}add/").content.decode()
    page = client.post(f"{TOKENS}add/", {"new_user": "shop", "role": "admin"})
    assert "This field is required." in page.content.decode()
    assert not User.objects.filter(username="shop").exists()


def test_the_admin_revokes_a_token() -> None:
    caller = having(Role.VIEWER)
    client = Client()
    client.force_login(user("ada", Role.ADMIN, is_staff=True))
    confirmed(client, f"{TOKENS}{AuthToken.objects.get().pk}/delete/")
    assert caller.call("GET", "nodes").status_code == 401


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR])
def test_only_an_admin_sees_or_makes_tokens(role: Role) -> None:
    client = Client()
    otto = user("otto", role, is_staff=True)
    client.force_login(otto)
    assert client.get(TOKENS).status_code == 403
    assert client.post(f"{TOKENS}add/", {"user": otto.pk}).status_code == 403
    assert not AuthToken.objects.exists()
    assert "authtoken" not in client.get("/admin/nodes/node/").content.decode()


def test_the_example_trusts_the_authority_that_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "VAR", tmp_path)
    request = RequestFactory().get("/", headers={"host": "127.0.0.1"})
    asked = 'curl -H "Authorization: Bearer $TOKEN" http'
    assert example(request, "operators:status-list").startswith(asked)
    credentials.make_missing(tmp_path)
    own = f'curl --cacert {tmp_path}/ca.pem -H "Authorization: Bearer $TOKEN" http'
    assert example(request, "operators:status-list").startswith(own)
    monkeypatch.setattr(conf, "ADMIN_URL", "https://ca.example.com")
    assert example(request, "operators:status-list").startswith(asked)


def test_a_token_says_what_it_is_for(admin_client: Client, django_assert_max_num_queries: Any) -> None:
    owner = User.objects.create_user("ci")
    form = {"user": owner.pk, "purpose": "deploys of\nthe <shop>", "expiry_0": "", "expiry_1": ""}
    made = confirmed(admin_client, "/admin/knox/authtoken/add/", **form)
    assert "for deploys of the &lt;shop&gt;" in made
    call_command("createtoken", "--user", "ci", "--for", "nightly export")
    named = sorted(str(row).partition(" of ")[2] for row in AuthToken.objects.filter(user=owner))
    assert named == ["ci, for deploys of the <shop>", "ci, for nightly export"]
    assert [act.after["purpose"] for act in Act.objects.filter(verb="make", object__contains=" of ci").order_by("pk")] == [
        "deploys of the <shop>", "nightly export",
    ]  # fmt: skip
    with django_assert_max_num_queries(20):
        listed = admin_client.get("/admin/knox/authtoken/?q=nightly").content.decode()
    assert "nightly export" in listed
    assert "deploys of" not in listed
