"""Which header opens which kind of route."""

import pytest
from django.test import RequestFactory
from rest_framework.exceptions import NotAuthenticated, PermissionDenied

from clusteragent.lib import conf
from nodes.authentication import AGENT_TOKEN, ANY_TOKEN, LOCAL_TOKEN, BearerToken

AGENT, LOCAL = "a" * 32, "l" * 32


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "AUTH_TOKEN", AGENT)
    monkeypatch.setattr(conf, "LOCAL_TOKEN", LOCAL)


def authenticate(kind: BearerToken, header: str | None) -> None:
    headers = {} if header is None else {"HTTP_AUTHORIZATION": header}
    kind.authenticate(RequestFactory().get("/version", **headers))


@pytest.mark.parametrize(
    ("kind", "token"), [(AGENT_TOKEN, AGENT), (LOCAL_TOKEN, LOCAL), (ANY_TOKEN, AGENT), (ANY_TOKEN, LOCAL)]
)
def test_a_token_opens_its_routes(kind: BearerToken, token: str) -> None:
    authenticate(kind, f"Bearer {token}")  # and raises nothing


@pytest.mark.parametrize(("kind", "token"), [(AGENT_TOKEN, LOCAL), (LOCAL_TOKEN, AGENT), (ANY_TOKEN, AGENT + LOCAL)])
def test_a_token_opens_no_other_routes(kind: BearerToken, token: str) -> None:
    with pytest.raises(PermissionDenied, match="invalid session token"):
        authenticate(kind, f"Bearer {token}")


@pytest.mark.parametrize("kind", [AGENT_TOKEN, LOCAL_TOKEN, ANY_TOKEN])
@pytest.mark.parametrize("header", [None, ""])
def test_no_header_is_no_token(kind: BearerToken, header: str | None) -> None:
    with pytest.raises(NotAuthenticated, match="no session token provided"):
        authenticate(kind, header)


@pytest.mark.parametrize("header", [f"bearer {AGENT}", f"BEARER {AGENT}", f"Basic {AGENT}", AGENT, f" Bearer {AGENT}"])
def test_another_scheme_is_named(header: str) -> None:
    with pytest.raises(NotAuthenticated, match=f"unsupported authorization scheme: {header.split(' ')[0]}$"):
        authenticate(AGENT_TOKEN, header)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", f"Bearer  {AGENT}", f"Bearer {AGENT} ", f"Bearer {AGENT} x", "Bearer \xe4", "Bearer ☃"],
)
def test_one_word_must_follow_and_be_the_token(header: str) -> None:
    with pytest.raises(PermissionDenied, match="invalid session token"):
        authenticate(AGENT_TOKEN, header)


def test_a_token_that_was_never_set_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "AUTH_TOKEN", "")
    for kind in (AGENT_TOKEN, ANY_TOKEN):
        with pytest.raises(PermissionDenied):
            authenticate(kind, "Bearer ")


def test_a_token_may_hold_any_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "AUTH_TOKEN", "ä" * 32)
    on_the_wire = ("ä" * 32).encode().decode("latin-1")
    authenticate(AGENT_TOKEN, f"Bearer {on_the_wire}")  # and raises nothing
