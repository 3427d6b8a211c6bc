"""The act of a set that a pipeline sent has what changed, before and after, and is shown on the pages of its configs."""

from typing import Any

import pytest

from acts.models import Act
from checks.models import Config
from checks.sources import origins, sets
from checks.tests.cast import report
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db


@pytest.fixture
def author(warm: None) -> Caller:
    report("ash")
    return having(Role.AUTHOR)


def put(author: Caller, **urls: str) -> Act:
    """Send a set, {name: url}, and return its act."""
    configs = [
        {"name": name, "check": "http_check", "instances": [{"name": name, "url": url, "password": "hunter22"}]}
        for name, url in urls.items()
    ]
    answer = author.call("PUT", "sources/shop", {"configs": configs})
    assert answer.status_code == 200, answer.content
    return Act.objects.filter(verb=Act.Verb.REPLACE).latest("pk")


def texts(side: Any) -> dict[str, str]:
    return {one["name"]: one["text"] for one in side["texts"]}


def test_it_has_the_texts_before_and_after_without_secrets(author: Caller) -> None:
    put(author, a="http://a", b="http://b", c="http://c")
    act = put(author, a="http://a", b="http://new", d="http://d")
    before, after = texts(act.before), texts(act.after)
    assert (set(before), set(after)) == ({"b", "c"}, {"b", "d"})
    assert "http://b" in before["b"]
    assert "http://new" in after["b"]
    assert "hunter22" not in f"{act.before}{act.after}"


def test_it_is_on_the_pages_of_what_it_added_changed_and_removed(author: Caller) -> None:
    act = put(author, a="http://a", b="http://b")
    assert set(act.about["configs"]) == set(Config.objects.values_list("pk", flat=True))
    (gone,) = Config.objects.filter(origins__key="b").values_list("pk", flat=True)
    act = put(author, a="http://new", c="http://c")
    assert set(act.about["configs"]) == {gone, *Config.objects.values_list("pk", flat=True)}


def test_of_many_it_has_the_first_and_says_so(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "MOST_TEXTS", 2)
    monkeypatch.setattr(sets, "MOST_OF_TEXT", 20)
    act = put(author, a="http://a", b="http://b", c="http://c")
    assert len(act.after["texts"]) == 2
    assert {len(text) for text in texts(act.after).values()} == {20}
    assert act.after["texts_are_of"] == "the first 2 of 3"
    assert act.after["added_number"] == 3


def test_a_set_that_takes_several_transactions_is_on_record_before_them(
    author: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(author, a="http://a")
    (first,) = Config.objects.values_list("pk", flat=True)
    monkeypatch.setattr(sets.dispatcher, "CHUNK", 2)
    send = origins.send

    def after_the_act(*args: Any, **kwargs: Any) -> Any:
        assert Act.objects.filter(verb=Act.Verb.REPLACE).count() == 2
        return send(*args, **kwargs)

    monkeypatch.setattr(origins, "send", after_the_act)
    act = put(author, a="http://new", b="http://b", c="http://c")
    assert act.about["configs"] == [first]


def test_a_set_that_changes_nothing_is_no_act(author: Caller) -> None:
    act = put(author, a="http://a")
    assert put(author, a="http://a") == act
