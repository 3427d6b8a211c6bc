"""A dry run of a pipeline's set says what follows on the map, in the words of the admin's form."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from checks import dispatcher
from checks.models import Config, Origin
from checks.models.orders import Rule
from checks.sources import authored
from checks.tests.cast import owners, report
from checks.wire.scrub import MASK
from clusteragent.lib import conf
from operators.roles import Role
from operators.tests.bounded import calls
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db


@pytest.fixture
def author(warm: None) -> Caller:
    report("ash")
    return having(Role.AUTHOR)


def one(name: str, check: str = "http_check", **instance: Any) -> dict[str, Any]:
    return {"name": name, "check": check, "instances": [{"name": name, "url": f"http://{name}"} | instance]}


def put(author: Caller, *configs: Any, query: str = "") -> dict[str, Any]:
    answer = author.call("PUT", f"sources/shop{query}", {"configs": configs})
    assert answer.status_code == 200, answer.content
    told: dict[str, Any] = answer.json()
    return told


def foreseen(author: Caller, *configs: Any) -> dict[str, Any]:
    before = sorted(Origin.objects.values_list("source", "key", "fingerprint"))
    told = put(author, *configs, query="?dry_run=1")
    assert sorted(Origin.objects.values_list("source", "key", "fingerprint")) == before
    return told


def words(told: dict[str, Any]) -> str:
    return " ".join(told["sentences"]).replace("\u202f", " ")


def nobody_runs(check: str) -> None:
    Rule.objects.create(name="b", check_pattern=check, required={"zone": "b"})


def test_what_no_node_may_have_is_said_to_run_nowhere(author: Caller) -> None:
    nobody_runs("mysql")
    wanted = [one("a"), one("m0", "mysql"), one("m1", "mysql")]
    told = foreseen(author, *wanted)
    assert told["would_dangle"] == 2
    assert "1 config would be added, on ash. 2 configs would run nowhere. " in words(told)
    assert "Why they would run nowhere: no node can have it: " in words(told)
    assert [(fate["title"], fate["from_node"], fate["to_node"]) for fate in told["fates"]] == [
        ("mysql m0", "", ""), ("mysql m1", "", ""), ("http_check a", "", "ash")
    ]  # fmt: skip
    put(author, *wanted)
    assert Config.objects.dangling().count() == 2


def test_the_call_itself_foresees_nothing(author: Caller) -> None:
    told = put(author, one("a"))
    assert (told["dry_run"], told["sentences"], told["would_dangle"], told["fates"]) == (False, [], None, [])


def test_what_changes_stays_and_goes_is_told_with_its_node(author: Caller) -> None:
    put(author, one("a"), one("b"), one("c"))
    told = foreseen(author, one("a"), one("b", timeout=5), one("d"))
    assert words(told).startswith(
        "1 config would be added, on ash. 1 config would change: ash would stop the old one and start the new one."
        " 1 config would be taken away from ash. The load of ash would stay at 75 %."
    )
    assert {fate["title"]: (fate["from_node"], fate["to_node"]) for fate in told["fates"]} == {
        "http_check d": ("", "ash"), "http_check b": ("ash", "ash"), "http_check c": ("ash", "")
    }  # fmt: skip


def test_a_set_that_changes_nothing_says_so(author: Caller) -> None:
    put(author, one("a"))
    told = foreseen(author, one("a"))
    assert (told["sentences"], told["would_dangle"], told["fates"]) == (["Nothing that runs would change."], 0, [])


def test_a_config_under_another_name_goes_on(author: Caller) -> None:
    put(author, one("a"))
    assert foreseen(author, one("a") | {"name": "b"})["sentences"] == ["Nothing that runs would change."]


def test_a_config_that_another_source_gives_too_stays(author: Caller) -> None:
    put(author, one("a"), one("b"))
    author.call("PUT", "sources/mail", {"configs": [one("b")]})
    assert foreseen(author, one("a"))["sentences"] == ["Nothing that runs would change."]
    put(author, one("a"))
    assert owners() == {"a": "ash", "b": "ash"}


def test_what_another_source_gives_already_is_named(author: Caller) -> None:
    dispatcher.schedule([authored.written("web.yaml", "http_check", "instances:\n  - url: http://a\n", source="file")])
    same = {"name": "a", "check": "http_check", "yaml": "instances:\n  - url: http://a\n"}
    assert "file:web.yaml gives the same already, http_check a: it runs once, for both." in words(
        foreseen(author, same)
    )


def test_a_set_that_is_cut_otherwise_now_says_what_comes_and_goes(
    author: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = one("a") | {"instances": [{"url": "http://a"}, {"url": "http://b"}]}
    put(author, two)
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    told = words(foreseen(author, two))
    assert "2 configs would be added, on ash. 1 config would be taken away from ash." in told
    put(author, two)
    assert Config.objects.count() == 2


def test_what_is_told_has_no_secret(author: Caller) -> None:
    nobody_runs("http_check")
    told = foreseen(author, one("a") | {"instances": [{"name": "password=hunter22"}]})
    assert "hunter22" not in str(told)
    assert MASK in told["fates"][0]["title"]


def test_who_is_bound_learns_no_password_of_another_source(author: Caller) -> None:
    """A config that is the same as another's would be told apart from one that is not, guess by guess."""
    report("ash")
    assert author.call("PUT", "sources/theirs", {"configs": [one("db", password="right")]}).status_code == 200
    bound = calls(User.objects.create_superuser("olga"), sources=["api:mine"])
    told = [
        bound.call("PUT", "sources/mine?dry_run=1", {"configs": [one("db", password=guess)]}).json()
        for guess in ("right", "wrong")
    ]
    assert [each["sentences"] for each in told] == [
        ["Where they would run is told to who is not bound to sources."]
    ] * 2
    assert [(each["would_dangle"], each["fates"]) for each in told] == [(0, [])] * 2
