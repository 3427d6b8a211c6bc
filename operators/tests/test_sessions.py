"""How long an operator stays logged in, and what passwords there may be."""

import io
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from acts.models import Act
from clusteragent.lib import conf
from operators import login
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

PAGE, FRAGMENT = "/admin/checks/config/", "/admin/now/"
GOOD = "seven wise owls 4711"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga", password=GOOD))
    return client


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Let time pass."""
    passed = 0
    now = login._now

    def wait(span: timedelta) -> None:
        nonlocal passed
        passed += int(span.total_seconds())
        monkeypatch.setattr(login, "_now", lambda: now() + passed)

    return wait


def is_in(client: Client, url: str = PAGE) -> bool:
    return bool(client.get(url).status_code == 200)


def test_who_does_nothing_for_an_hour_is_logged_out(client: Client, later: Callable[[timedelta], None]) -> None:
    later(conf.SESSION_IDLE - timedelta(seconds=5))
    assert is_in(client)
    later(conf.SESSION_IDLE - timedelta(seconds=5))
    assert is_in(client)
    later(conf.SESSION_IDLE)
    assert not is_in(client)
    assert not Session.objects.exists()


def test_who_works_is_logged_out_after_half_a_day(client: Client, later: Callable[[timedelta], None]) -> None:
    for _ in range(23):
        later(timedelta(minutes=30))
        assert is_in(client)
    later(timedelta(minutes=30))
    assert not is_in(client)


def test_a_page_that_reads_itself_keeps_nobody_logged_in(client: Client, later: Callable[[timedelta], None]) -> None:
    for _ in range(11):
        later(timedelta(minutes=5))
        assert is_in(client, FRAGMENT)
    later(timedelta(minutes=5))
    answer = client.get(FRAGMENT)
    assert (answer.status_code, answer.content) == (401, b"")
    assert client.get("/api/operator/v1/configs").status_code == 401


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_replica_whose_clock_is_wrong_keeps_sessions_as_long_as_others(
    client: Client, later: Callable[[timedelta], None], monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    with monkeypatch.context() as here:
        now, moment = time.time(), timezone.now() + timedelta(hours=hours)
        here.setattr(time, "time", lambda: now + hours * 3600)
        here.setattr(timezone, "now", lambda: moment)
        assert is_in(client)
        later(conf.SESSION_IDLE)
        assert not is_in(client)


LOOK = "/admin/session/"


def test_a_page_that_looks_whether_its_session_stands_keeps_nobody_logged_in(
    client: Client, later: Callable[[timedelta], None]
) -> None:
    for _ in range(11):
        later(timedelta(minutes=5))
        assert re.fullmatch(r"\d\d:\d\d:\d\d UTC", client.get(LOOK).json()["time"])
    later(timedelta(minutes=5))
    answer = client.get(LOOK)
    assert (answer.status_code, answer.content) == (401, b"")


def test_a_look_is_cheap(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(3):
        assert client.get(LOOK).status_code == 200


@pytest.mark.parametrize("role", Role)
def test_who_lost_the_last_role_has_no_session(role: Role) -> None:
    otto = user("otto", role)
    client = Client()
    client.force_login(otto)
    assert client.get(LOOK).status_code == 200
    otto.groups.clear()
    assert client.get(LOOK).status_code == 401


def test_a_form_of_the_session_before_is_sent_with_the_token_that_a_look_tells() -> None:
    User.objects.create_superuser("olga", password=GOOD)
    client = Client(enforce_csrf_checks=True)

    def log_in() -> None:
        token = client.get("/admin/login/").context["csrf_token"]
        fields = {"username": "olga", "password": GOOD, "csrfmiddlewaretoken": token}
        assert client.post("/admin/login/", fields).status_code == 302

    def sends(token: str) -> int:
        return client.post("/admin/logout/", {"csrfmiddlewaretoken": token}).status_code

    log_in()
    before = client.get(LOOK).json()["token"]
    del client.cookies[settings.SESSION_COOKIE_NAME]
    log_in()
    assert sends(str(before)) == 403
    assert sends(client.get(LOOK).json()["token"]) == 200


@pytest.mark.parametrize("page", ["/admin/", PAGE, "/admin/checks/pin/add/", "/admin/map/", "/api/operator/v1/docs/"])
def test_each_page_has_what_says_so(client: Client, page: str) -> None:
    shown = client.get(page).content.decode()
    assert f'data-url="{LOOK}"' in shown
    assert "clusteragent/stale.js" in shown


def sent(client: Client, url: str = PAGE, *, referrer: str = "", **fields: Any) -> str:
    """Send a form without a session. Returns where the login that follows leads."""
    answer = client.post(url, fields, headers={"referer": referrer} if referrer else {}, follow=True)
    assert "Your session was over: what you sent was not done." in answer.content.decode()
    [(login, status)] = answer.redirect_chain
    assert status == 302
    [where] = parse_qs(urlsplit(login).query)["next"]
    return where


def test_a_form_that_was_sent_too_late_is_told_to_be_undone_and_the_login_leads_back_to_it(client: Client) -> None:
    client.logout()
    row = "/admin/checks/config/7/change/"
    assert sent(client, referrer=f"https://testserver{row}?a=b") == f"{row}?a=b"
    assert sent(client, referrer=f"https://testserver{PAGE}", back_to=row) == row
    assert sent(client) == PAGE
    assert sent(client, "/admin/checks/pin/add/") == "/admin/checks/pin/add/"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/admin/",
        "//evil.example/admin/",
        "/admin\\@evil.example",
        "/\\evil.example/admin/",
        "javascript:x",
    ],
)
def test_it_leads_to_no_other_site(client: Client, url: str) -> None:
    client.logout()
    assert sent(client, back_to=url, referrer=url) == PAGE


def test_a_login_that_was_not_sent_to_says_nothing_of_it(client: Client) -> None:
    client.logout()
    assert "what you sent" not in client.get(PAGE, follow=True).content.decode()


def test_a_session_is_written_once_a_minute_at_most(
    client: Client, later: Callable[[timedelta], None], django_assert_num_queries: Any
) -> None:
    def is_written() -> bool:
        return settings.SESSION_COOKIE_NAME in client.get(PAGE).cookies

    assert not is_written()
    later(timedelta(seconds=61))
    assert is_written()
    assert not is_written()


def test_a_session_without_a_beginning_is_over(client: Client) -> None:
    session = client.session
    del session[login.BEGAN]
    session.save()
    assert not is_in(client)


def test_all_sessions_end_when_the_password_changes(client: Client) -> None:
    other = Client()
    olga = User.objects.get()
    other.force_login(olga)
    url = f"/admin/auth/user/{olga.pk}/password/"
    fields = {"password1": "other wise owls 4711", "password2": "other wise owls 4711", "usable_password": "true"}
    assert client.post(url, fields).status_code == 302
    assert not is_in(other)
    assert is_in(client), "who changed it goes on"


def test_a_login_has_a_new_key_and_strict_cookies() -> None:
    User.objects.create_superuser("olga", password=GOOD)
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = "x" * 32
    answer = client.post("/admin/login/", {"username": "olga", "password": GOOD})
    assert answer.status_code == 302
    for name, cookie in answer.cookies.items():
        assert name.startswith("__Host-")
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax"), name
        assert (cookie["path"], cookie["domain"]) == ("/", "")
    assert answer.cookies[settings.SESSION_COOKIE_NAME].value != "x" * 32


def test_ended_sessions_are_cleared_away_by_logins(client: Client) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    Client().force_login(User.objects.get())
    assert Session.objects.count() == 1


WEAK = ["a", "short one", "483920174836", "password1234", "olga-the-great"]


@pytest.mark.parametrize("password", WEAK)
def test_weak_passwords_are_refused_in_the_admin(client: Client, password: str) -> None:
    fields = {"password1": password, "password2": password, "usable_password": "true"}
    added = client.post("/admin/auth/user/add/", {"username": "olga-the-grea", **fields})
    assert added.status_code == 200
    assert added.context["adminform"].form.errors
    changed = client.post(f"/admin/auth/user/{User.objects.get().pk}/password/", fields)
    # What is like another's name is not like one's own.
    assert changed.status_code == 200 or password == "olga-the-great"
    assert User.objects.count() == 1


@pytest.mark.parametrize("password", WEAK[:4])
def test_weak_passwords_are_refused_by_commands(client: Client, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: password)
    with pytest.raises(CommandError, match="Aborting password change"):
        call_command("changepassword", "olga", stdout=io.StringIO(), stderr=io.StringIO())
    assert User.objects.get().check_password(GOOD)


def test_without_a_terminal_the_command_says_what_it_needs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", ends)
    with pytest.raises(CommandError, match="run it in a terminal"):
        call_command("changepassword", "olga", stdout=io.StringIO())


def test_a_password_by_the_command_is_on_record(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "another long password")
    call_command("changepassword", "olga", "--as", "otto", stdout=io.StringIO())
    act = Act.objects.latest("pk")
    assert (act.person, act.how, act.verb, act.object) == ("otto", "command", "change", "login of user olga")
    assert "another long" not in json.dumps([act.before, act.after, act.reason])
