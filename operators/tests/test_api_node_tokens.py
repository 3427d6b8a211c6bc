"""Node tokens in the operators' API: made, shown once, listed without their secret, and revoked."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from acts.models import Act
from checks.tests.cast import report
from clusteragent.lib import conf
from nodes import tokens
from nodes.models import Node, NodeToken, Runner, SharedTokenUse
from nodes.models.runners import Answer
from nodes.models.tokens import digest
from operators.roles import Role
from operators.tests.bounded import calls, refused
from operators.tests.cast import Caller, having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

POOL = {"note": "runners in zone b", "pattern": "runner-*"}
FULL = POOL | {"kubernetes_pattern": "ip-*", "networks": "10.1.0.0/16, fd00::/8", "expires": "90d"}


@pytest.fixture
def admin() -> Caller:
    return having(Role.ADMIN)


def made(**fields: Any) -> NodeToken:
    row = NodeToken(**(POOL | fields))
    tokens.make(row)
    return row


def test_a_new_token_is_answered_once_and_opens_its_pool(admin: Caller) -> None:
    answer = admin.call("POST", "node-tokens", FULL)
    assert answer.status_code == 201, answer.content
    assert "no-store" in answer["Cache-Control"]
    told = answer.json()
    token = told.pop("token")
    assert told.pop("without_stats") == []
    row = NodeToken.objects.get()
    assert (bytes(row.digest), row.author, told["key"]) == (digest(token), "admin", token[:11])
    assert row.expires_at is not None
    assert {name: told[name] for name in POOL} == POOL
    assert (told["kubernetes_pattern"], told["networks"]) == ("ip-*", "10.1.0.0/16, fd00::/8")
    assert admin.rows("node-tokens") == [told]
    assert admin.get(f"node-tokens/{row.key}") == told
    for path in ("node-tokens", f"node-tokens/{row.key}", "acts", f"acts/{Act.objects.latest('pk').pk}"):
        text = admin.call("GET", path).content.decode()
        assert token not in text
        assert row.digest.hex() not in text


def test_a_token_without_an_end_holds_until_it_is_revoked(admin: Caller) -> None:
    told = admin.call("POST", "node-tokens", POOL).json()
    assert (told["expires"], told["last_used"]) == (None, None)
    assert admin.call("DELETE", f"node-tokens/{told['key']}").status_code == 204
    assert not NodeToken.objects.exists()
    assert Act.objects.latest("pk").object == f"node token {told['key']}… of {POOL['note']}"


def test_a_dry_run_says_what_a_revocation_does_and_revokes_nothing(admin: Caller) -> None:
    row = made()
    told = admin.call("DELETE", f"node-tokens/{row.key}?dry_run=1").json()
    assert told == {
        "what": f"revoke {tokens.named(row)}",
        "sentences": [tokens.consequence(row)],
        "moves": [],
        "needs": [],
    }
    assert "get 403 from then on" in told["sentences"][0]
    assert NodeToken.objects.exists()


def test_a_dry_run_names_the_runners_whose_stats_end(admin: Caller) -> None:
    report("runner-1")
    Runner.objects.note({Node.objects.get(name="runner-1").pk: Answer([])})
    told = admin.call("POST", "node-tokens?dry_run=1", POOL).json()
    lost = tokens.stats_lost(["runner-1"])
    assert told["sentences"][1:] == [lost]
    made = admin.call("POST", "node-tokens", POOL)
    assert (made.status_code, made.json()["without_stats"]) == (201, ["runner-1"])
    assert Act.objects.latest("pk").after["without_stats"] == {"runners": 1, "names": ["runner-1"]}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(("name", "named"), [(f"nt-00000000{'5' * 56}", "nt-00000000"), ("runners", "runners")])
def test_one_that_is_not_there_is_named_as_far_as_lists_show_it(
    admin: Caller, method: str, name: str, named: str
) -> None:
    answer = admin.call(method, f"node-tokens/{name}")
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"No node token begins with {named}."}


@pytest.mark.parametrize(
    ("fields", "field", "error"),
    [
        ({"networks": "10.1.0.0/99"}, "networks", "give ranges such as 10.1.0.0/16"),
        ({"expires": "2001-01-01"}, "expires", "That is over already."),
        ({"expires": "2001-01-01T00:00:00Z"}, "expires", "That is over already."),
        ({"expires": "soon"}, "expires", "2h, 3d"),
        ({"pattern": ""}, "pattern", "blank"),
        ({"pattern": "x" * 254}, "pattern", "253"),
        ({"note": "a\x00b"}, "note", "NUL character"),
        ({"note": "a\nb"}, "note", "printable characters"),
        ({"kubernetes_nodes": "ip-*"}, "kubernetes_nodes", "Known are expires, kubernetes_pattern"),
        ({"token": "nt-mine", "key": "nt-mine", "patern": "x"}, "patern", "Did you mean pattern?"),
    ],
)
def test_a_wrong_field_is_named(admin: Caller, fields: dict[str, str], field: str, error: str) -> None:
    answer = admin.call("POST", "node-tokens", POOL | fields)
    assert answer.status_code == 400, answer.content
    assert error in answer.json()[field][0]
    assert not NodeToken.objects.exists()


def test_one_too_many_is_a_conflict(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST_TOKENS", 0)
    answer = admin.call("POST", "node-tokens", POOL)
    assert answer.status_code == 409
    assert answer.json() == {"detail": "There are 0 node tokens already: revoke some."}


def test_a_secret_in_a_note_is_not_answered(admin: Caller) -> None:
    row = made(note="password: hunter2")
    for path in ("node-tokens", f"node-tokens/{row.key}", f"node-tokens/{row.key}?format=json"):
        assert "hunter2" not in admin.call("GET", path).content.decode()
    assert "hunter2" not in admin.call("DELETE", f"node-tokens/{row.key}?dry_run=1").content.decode()


def test_the_shared_token_is_told_with_who_uses_it(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert admin.get("node-tokens/shared") == {
        "accepted": True, "sentence": SharedTokenUse.objects.sentence(), "used_by": [],
    }  # fmt: skip
    SharedTokenUse.objects.create(name="runner-1", address="10.1.0.7")
    [use] = admin.get("node-tokens/shared")["used_by"]
    assert (use["name"], use["address"]) == ("runner-1", "10.1.0.7")
    assert use["last_used"]
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", False)
    told = admin.get("node-tokens/shared")
    assert (told["accepted"], told["used_by"]) == (False, [])
    assert "switched off" in told["sentence"]


def test_a_bound_token_makes_and_revokes_none() -> None:
    row = made()
    caller = calls(User.objects.create_superuser("olga"), checks=["*"], sources=["*"])
    refused(caller.call("POST", "node-tokens", POOL), "the whole cluster", "the token")
    refused(caller.call("DELETE", f"node-tokens/{row.key}"), "the whole cluster", "the token")
    assert list(NodeToken.objects.all()) == [row]
