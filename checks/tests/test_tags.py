"""Tags as texts of configs have them: read, looked for, and the first team, however YAML has to write them."""

import json
import time

import pytest

from checks import dispatcher
from checks.models import Config
from checks.models.tags import commonest, first_team, tags_in, team_of, teams_in, with_tag
from checks.tests.cast import report, sent
from checks.tests.operators import config
from checks.wire import patching

pytestmark = pytest.mark.django_db

LONG = "team:" + "many words " * 20 + "end"
ODD = (
    "env:prod", "zone: a", 'team:"q"', "team:it's #1", "team:é: x", "team:\t x", "team:x ", "'team:x'", "- x", "true", "12",
    "😀 team", "team:\\x", LONG, LONG + ": x", "team:" + "x" * 200 + " y", "two\nlines", "\u2028",
    "a\n\n\nb", "a\n\n  b\n", "team:|", "a\r\nb", "\ufeffx", "x" * 90 + "\n\n- y", "a\n\n\n",
)  # fmt: skip


def schedule(key: str, *tags: str) -> Config:
    dispatcher.schedule([sent(key, instances=(f"url: {key}\ntags: {json.dumps(tags, ensure_ascii=False)}\n",))])
    return config(key)


def having(tag: str) -> list[Config]:
    return list(Config.objects.filter(pk__in=with_tag(tag)))


def team(key: str) -> str:
    return team_of(Config.objects.values_list(first_team(), flat=True).get(pk=config(key).pk))


def test_each_tag_is_read_and_found_as_its_author_wrote_it(warm: None) -> None:
    report("ash")
    schedule("other", "env:production", "team:", LONG[:-1], "x")
    made = schedule("odd", *ODD)
    assert sorted(tags_in(made.text)) == sorted(ODD)
    for tag in ODD:
        assert having(tag) == [made], tag
    assert commonest("env:prod", 5) == ["env:prod", "env:production"]
    teams = {tag for tag in (*ODD, LONG[:-1], "team:") if tag.startswith("team:")}
    assert set(commonest("team:", 99)) == teams
    assert set(commonest("zone", 99)) == {"zone: a"}


def test_a_number_that_is_a_tag_is_found_without_quotes(warm: None) -> None:
    dispatcher.schedule([sent("number", instances=("url: x\ntags: [12, true]\n",))])
    assert [having(tag) for tag in ("12", "true")] == [[config("number")]] * 2


@pytest.mark.parametrize("tag", [tag for tag in ODD if tag.startswith("team:")])
def test_the_first_team_is_the_whole_tag(warm: None, tag: str) -> None:
    made = schedule("odd", "env:prod", tag, "zone:a")
    assert [team("odd")] == teams_in(made.text) == [tag.removeprefix("team:")]


def test_a_config_may_have_no_team(warm: None) -> None:
    schedule("none", "env:prod", "team:", "steam:x", "a team:b")
    assert (team("none"), teams_in(config("none").text)) == ("", [])


@pytest.mark.parametrize("tag", ["x" * 1_000_000, "a\nb\u2028c", "long words " * 90_000, "a: \n" * 50_000])
def test_no_tag_is_an_error_or_takes_long(warm: None, tag: str) -> None:
    made = schedule("odd", "team:web", tag, "zone:a")
    begun = time.process_time()
    assert {*tags_in(made.text)} > {"team:web", "zone:a"}
    assert time.process_time() - begun < 1
    assert having("zone:a") == [made]
    assert commonest("zone", 5) == ["zone:a"]


def test_what_is_no_text_is_shown_as_it_is_written(warm: None) -> None:
    tags = "[{a: 1, b: 2}, [x, z], [], {}, team:web, null]"
    dispatcher.schedule([sent("odd", instances=(f"url: x\ntags: {tags}\n",))])
    made = config("odd")
    assert tags_in(made.text)[:5] == ["a: 1\n    b: 2", "- x\n    - z", "[]", "{}", "team:web"]
    assert team("odd") == "web"
    assert set(commonest("a", 9)) == {"a: 1\n    b: 2"}
    assert patching.tags(bytes(made.scrubbed))[0][:5] == ["map[a:1 b:2]", "[x z]", "[]", "map[]", "team:web"]
