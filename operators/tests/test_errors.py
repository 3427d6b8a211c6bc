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
