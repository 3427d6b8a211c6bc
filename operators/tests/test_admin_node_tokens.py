"""Node tokens in the admin: made, shown once, bounded as the command's are, revoked."""

import re

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from checks.tests.cast import report
from checks.tests.operators import answered
from nodes import tokens
from nodes.models import NodeToken
from nodes.models.tokens import digest
from operators.roles import Role
from operators.tests.cast import user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

TOKENS = "/admin/nodes/nodetoken/"
POOL = {"note": "runners <b>", "pattern": "runner-*"}


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(user("anna", Role.ADMIN, is_staff=True))
    return client


def test_a_new_token_is_shown_once(admin: Client) -> None:
    form = POOL | {"networks": "10.1.0.0/16", "expires_at": "90d"}
    answer = answered(admin, f"{TOKENS}add/", **form)
    assert "no-store" in answer.headers["Cache-Control"]
    text = answer.content.decode()
    token = re.findall(r"nt-[0-9a-f]{64}", text)[0]
    row = NodeToken.objects.get()
    assert (bytes(row.digest), row.author) == (digest(token), "anna")
    assert row.expires_at is not None
    assert "runners &lt;b&gt;" in text
    for url in (TOKENS, f"{TOKENS}{row.pk}/change/", "/admin/acts/act/"):
        shown = admin.get(url).content.decode()
        assert row.key in shown
        assert token not in shown
        assert row.digest.hex() not in shown


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"networks": "10.1.0.0/99"}, "give ranges such as 10.1.0.0/16"),
        ({"expires_at": "2001-01-01"}, "That is over already."),
        ({"pattern": ""}, "This field is required."),
        ({"note": "a\x00b"}, "Null characters are not allowed."),
    ],
)
def test_a_wrong_field_says_what_is_wrong(admin: Client, fields: dict[str, str], error: str) -> None:
    answer = admin.post(f"{TOKENS}add/", POOL | fields)
    assert error in answer.content.decode()
    assert not NodeToken.objects.exists()


def test_one_too_many_is_said_on_the_form(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 0)
    assert "There are 0 node tokens already: revoke some." in admin.post(f"{TOKENS}add/", POOL).content.decode()


def test_its_page_has_the_nodes_that_it_opens(admin: Client) -> None:
    report("runner-1", "runner-2", "ash")
    row = NodeToken(note="runners", pattern="runner-*")
    tokens.make(row)
    text = admin.get(f"{TOKENS}{row.pk}/change/").content.decode()
    assert "It opens 2 nodes that report now" in text
    assert "runner-2" in text
    assert ">ash<" not in text


def test_a_list_takes_as_many_statements_for_many(
    admin: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        tokens.make(NodeToken(note=f"pool {number}", pattern="*"))
    with django_assert_max_num_queries(60) as few:
        admin.get(TOKENS)
    for number in range(20):
        tokens.make(NodeToken(note=f"more {number}", pattern="*"))
    with django_assert_max_num_queries(60) as many:
        admin.get(TOKENS)
    assert len(many) == len(few)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.AUTHOR])
def test_others_see_and_make_none(role: Role) -> None:
    row = NodeToken(note="runners", pattern="*")
    tokens.make(row)
    client = Client()
    client.force_login(user("otto", role, is_staff=True))
    for url in (TOKENS, f"{TOKENS}add/", f"{TOKENS}{row.pk}/change/", f"{TOKENS}{row.pk}/delete/"):
        assert client.get(url).status_code == 403
    client.post(f"{TOKENS}{row.pk}/delete/", {"post": "yes"})
    assert NodeToken.objects.exists()
