"""Node tokens: what each opens, from where, for how long, and what its use leaves."""

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver
from django.utils import timezone
from rest_framework.exceptions import PermissionDenied

from clusteragent.lib import conf
from clusteragent.urls import agents
from nodes import authentication, tokens
from nodes.authentication import AGENT_TOKEN, ANY_TOKEN, LOCAL_TOKEN, BearerToken, KnownTokens, Names
from nodes.models import NodeToken
from nodes.tokens import NoSuchToken

pytestmark = pytest.mark.django_db

NODE, KUBERNETES = Names.NODE, Names.KUBERNETES_NODE


@pytest.fixture(autouse=True)
def _other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has read no tokens yet."""
    monkeypatch.setattr(authentication, "_known", KnownTokens())


def made(pattern: str = "runner-*", **fields: Any) -> str:
    return tokens.make(NodeToken(note="runners", pattern=pattern, **fields))


def show(token: str, names: Names | None = None, name: str = "", kind: BearerToken = AGENT_TOKEN, **meta: str) -> None:
    kind.authenticate(RequestFactory().get("/version", HTTP_AUTHORIZATION=f"Bearer {token}", **meta), names, name)


def refusal(*words: Any, **meta: Any) -> str:
    with pytest.raises(PermissionDenied) as caught:
        show(*words, **meta)
    return str(caught.value.detail)


def read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "HOLDS", -1)


def test_a_token_opens_the_names_of_its_pool_alone() -> None:
    token = made()
    show(token, NODE, "runner-1")
    assert refusal(token, NODE, "ash") == 'the node token of "runners" opens nodes runner-*, not ash'
    assert refusal(token, NODE, "RUNNER-1").endswith("not RUNNER-1")
    assert refusal(token, NODE, "") == 'the node token of "runners" opens nodes runner-*, not '


def test_a_token_opens_endpoint_checks_of_its_kubernetes_nodes_alone() -> None:
    token = made(kubernetes_pattern="ip-10-*")
    show(token, KUBERNETES, "ip-10-1")
    shown = refusal(token, KUBERNETES, "runner-1")
    assert (
        shown == 'the node token of "runners" opens endpoint checks: those of Kubernetes nodes ip-10-*, not of runner-1'
    )
    assert refusal(token, NODE, "ip-10-1")
    assert (
        refusal(made(), KUBERNETES, "runner-1")
        == 'the node token of "runners" opens endpoint checks: none, not of runner-1'
    )


def test_a_token_opens_what_has_no_name_and_nothing_local() -> None:
    token = made()
    show(token)
    show(token, kind=ANY_TOKEN)
    assert refusal(token, kind=LOCAL_TOKEN) == "invalid session token"


def routes(found: Any) -> Any:
    for one in found:
        if isinstance(one, URLResolver):
            yield from routes(one.url_patterns)
        elif isinstance(one, URLPattern):
            yield one


def test_each_route_with_a_name_says_what_it_is_the_name_of() -> None:
    opened = {}
    for route in routes(agents.urlpatterns):
        view: Any = route.callback.view_class  # type: ignore[attr-defined]
        if view.token in (AGENT_TOKEN, ANY_TOKEN):
            has_name = bool({*route.pattern.converters, *getattr(route.pattern.regex, "groupindex", ())})
            assert has_name == (view.names is not None), view
            opened[view.__name__] = view.names
    assert opened == {
        "Status": NODE, "Configs": NODE, "Goodbye": NODE, "EndpointsConfigs": KUBERNETES, "Version": None, "NotFound": None,
    }  # fmt: skip


@pytest.mark.parametrize("bad", ["{}x", "{}0", "x{}", "nt-", "nt-" + "0" * 64, "nt-" + "g" * 64, "Nt{}"])
def test_what_is_no_token_opens_nothing(bad: str) -> None:
    assert refusal(bad.format(made())) == "invalid session token"


def test_a_token_is_for_its_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(networks="10.1.0.0/16, fd00::/8")
    for address in ("10.1.2.3", "fd00::1", "::ffff:10.1.0.1"):
        show(token, REMOTE_ADDR=address)
    shown = refusal(token, NODE, "runner-1", REMOTE_ADDR="10.2.0.1")
    assert shown == 'the node token of "runners" is not for the address 10.2.0.1'
    lies = {"HTTP_X_REAL_IP": "10.1.2.3", "HTTP_X_FORWARDED_FOR": "10.1.2.3"}
    assert refusal(token, REMOTE_ADDR="10.2.0.1", **lies) == shown
    assert refusal(token, REMOTE_ADDR="") == 'the node token of "runners" is not for the address of this call'
    monkeypatch.setattr(conf, "TRUSTED_PROXIES", conf.networks("NONE", ("10.2.0.1",)))
    show(token, REMOTE_ADDR="10.2.0.1", HTTP_X_FORWARDED_FOR="10.9.9.9, 10.1.2.3")
    assert refusal(token, REMOTE_ADDR="10.2.0.1", HTTP_X_FORWARDED_FOR="10.1.2.3, 10.9.9.9")


def test_a_token_ends_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    token = made(expires_at=timezone.now() + timedelta(hours=1))
    show(token, NODE, "runner-1")
    NodeToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    read_again(monkeypatch)
    assert refusal(token, NODE, "runner-1") == 'the node token of "runners" has ended'


def test_two_tokens_of_a_pool_hold_at_once() -> None:
    for token in (made(), made()):
        show(token, NODE, "runner-1")


def test_a_new_token_opens_at_once_and_a_revoked_one_for_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    show(made())
    later = made("*")
    show(later)
    NodeToken.objects.all().delete()
    read_again(monkeypatch)
    assert refusal(later) == "invalid session token"
    assert authentication.HOLDS <= 2.0


def test_a_known_token_asks_the_database_nothing() -> None:
    token = made()
    show(token)
    with CaptureQueriesContext(connection) as asked:
        show(token, NODE, "runner-1")
    assert not asked.captured_queries


def test_the_shared_token_and_what_has_another_form_ask_the_database_nothing() -> None:
    with CaptureQueriesContext(connection) as asked:
        show(conf.AUTH_TOKEN, NODE, "ash")
        assert refusal("x" * 67)
    assert not asked.captured_queries


def test_many_guesses_read_the_tokens_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(authentication.time, "sleep", waits.append)
    assert refusal(f"nt-{1:064x}")
    assert refusal(f"nt-{2:064x}")
    assert waits[0] == 0.0
    assert 0 < waits[1] <= authentication.PAUSE


def test_its_use_is_written_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    token, unused = made(), made()
    show(token)
    row = NodeToken.objects.get(key=token[:11])
    used = row.last_used_at
    assert used is not None
    assert NodeToken.objects.get(key=unused[:11]).last_used_at is None
    read_again(monkeypatch)
    show(token)
    row.refresh_from_db()
    assert row.last_used_at == used
    NodeToken.objects.update(last_used_at=used - timedelta(seconds=61))
    show(token)
    row.refresh_from_db()
    assert row.last_used_at > used - timedelta(seconds=1)


def test_a_token_is_kept_as_a_hash() -> None:
    token = made()
    row = NodeToken.objects.get()
    assert bytes(row.digest) == hashlib.sha256(token.encode()).digest()
    assert token[11:] not in str(vars(row))
    assert token.startswith(row.key)


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"pattern": ""}, "pattern"),
        ({"pattern": " runner-*"}, "pattern"),
        ({"pattern": "a\nb"}, "pattern"),
        ({"note": ""}, "note"),
        ({"note": "a\tb"}, "note"),
        ({"networks": "10.1.0.0/99"}, "networks"),
        ({"networks": "10.1.0.0/16,,"}, "networks"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expires_at"),
    ],
)
def test_what_can_not_be_is_refused_by_its_name(fields: dict[str, Any], about: str) -> None:
    with pytest.raises(ValidationError) as caught:
        tokens.make(NodeToken(**{"note": "runners", "pattern": "*"} | fields))
    assert set(caught.value.message_dict) == {about}
    assert not NodeToken.objects.exists()


def test_there_are_so_many_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 1)
    made()
    with pytest.raises(ValidationError, match="There are 1 node tokens already"):
        made()


def test_a_token_is_revoked_by_how_it_begins() -> None:
    token, other = made(), made()
    assert tokens.revoke(tokens.beginning_with([token])) == "1 node token revoked."
    with pytest.raises(NoSuchToken, match=f"no node token begins with {token[:11]}$"):
        tokens.beginning_with([other[:11], token])
    assert [row.key for row in NodeToken.objects.all()] == [other[:11]]
