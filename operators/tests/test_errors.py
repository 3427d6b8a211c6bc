"""Pages of errors: they look like ours, say what to do, tell nothing of the call, and need no database."""

import pytest
from django.db import OperationalError
from django.test import Client

from checks.tests.operators import superuser
from operators.pages import changes
from operators.roles import Role
from operators.tests.cast import user
from tests.table import table


def page(response: object, status: int) -> str:
    assert response.status_code == status  # type: ignore[attr-defined]
    text: str = response.content.decode()  # type: ignore[attr-defined]
    assert "operators/error.css" in text
    assert "<main>" in text
    return text


def test_what_is_not_there_says_what_to_do_and_repeats_nothing() -> None:
    text = page(Client().get("/no/such/hunter22"), 404)
    assert "There is no such page" in text
    assert "hunter22" not in text
    assert '<form action="/admin/search/" role="search">' in text


@pytest.mark.django_db
def test_who_may_not_is_told_whom_to_ask() -> None:
    client = Client()
    client.force_login(user("otto", Role.VIEWER, is_staff=True))
    text = page(client.post("/admin/now/remedy/dangling/"), 403)
    assert "Ask a user with the role admin" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/admin/auth/user/", "Users: this needs the permission to view users, which comes with the role admin."),
        (
            "/admin/checks/pin/add/",
            "Pins: this needs the permission to add pins, which comes with the role operator.",
        ),
        ("/admin/checks/plan/rebalance/", "add plans, which comes with the role operator."),
        (
            "/admin/acts/act/",
            "Acts: this needs the permission to view acts, which comes with the role operator or admin.",
        ),
    ],
)
def test_who_may_not_is_told_which_permission_is_lacking_and_which_roles_have_it(url: str, told: str) -> None:
    client = Client()
    client.force_login(user("vera", Role.VIEWER))
    assert told in page(client.get(url), 403)


@pytest.mark.django_db
def test_who_sees_no_pages_is_told_what_they_need() -> None:
    client = Client()
    client.force_login(user("nobody", is_staff=True))
    text = page(client.get("/admin/changes/"), 403)
    assert "Changes: this needs the permission to view configs, view moves, view nodes and view node events" in text
    assert "viewer or operator or author or admin" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["checks/config/999999/change/", "nodes/node/23/drain/", "checks/pin/x/delete/", "auth/user/0/history/"]
)
def test_a_row_that_is_not_there_is_a_page_that_is_not_there(path: str) -> None:
    answer = superuser().get(f"/admin/{path}", follow=True)
    text = page(answer, 404)
    assert "There is no such " in text
    assert f'href="/admin/{"/".join(path.split("/")[:2])}/"' in text


@pytest.mark.django_db
def test_whether_there_is_a_row_is_not_told_to_strangers() -> None:
    client = Client()
    client.force_login(user("nobody", is_staff=True))
    assert client.get("/admin/checks/config/999999/change/").status_code == 403


def test_a_form_that_is_out_of_date_says_so() -> None:
    text = page(Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "a"}), 403)
    assert "Nothing was changed. Go back" in text


def test_a_failure_has_a_page_without_a_database(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    client = superuser()
    client.raise_request_exception = False

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("secret-word")

    monkeypatch.setattr(changes.clock, "now", fail)
    text = page(client.get("/admin/changes/"), 500)
    assert "Something failed here" in text
    assert "secret-word" not in text


@table("path", ["/api/operator/v1x", "/api/"])
def test_programs_get_json(path: str) -> None:
    answer = Client().get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")
