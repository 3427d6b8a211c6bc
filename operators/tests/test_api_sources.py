"""PUT sources/<name>: a pipeline sends the whole desired set, and what differs is dispatched, all of it or nothing."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from django.db import connection

from checks import sources
from checks.models import Config, Move, Origin, Source
from checks.sources import FileSource, origins
from checks.tests.cast import owners, report
from checks.wire.scrub import MASK
from checks.wire.sharding import KSM
from clusteragent.lib import conf, locks
from operators.api import desired
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = pytest.mark.django_db

YAML = "init_config:\ninstances:\n  - url: http://{}\n    timeout: 010\n"


@pytest.fixture
def author(warm: None) -> Caller:
    report("ash")
    return having(Role.AUTHOR)


def written(name: str, url: str = "", **fields: Any) -> dict[str, Any]:
    return {"name": name, "check": "http_check", "yaml": YAML.format(url or name)} | fields


def put(author: Caller, *configs: Any, query: str = "", revision: str = "", **headers: str) -> Any:
    body = {"configs": configs, "revision": revision}
    return author.call("PUT", f"sources/shop{query}", body, **headers)


def done(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    told: dict[str, Any] = answer.json()
    return told


def names() -> set[str]:
    return set(Origin.objects.filter(source="api:shop").values_list("key", flat=True))


def difference(told: dict[str, Any]) -> tuple[list[str], ...]:
    return tuple(told[part] for part in ("added", "changed", "removed", "unchanged"))


def test_a_set_becomes_what_runs(author: Caller) -> None:
    assert difference(done(put(author, written("a"), written("b")))) == (["a", "b"], [], [], [])
    told = done(put(author, written("a"), written("b", "elsewhere"), written("c")))
    assert difference(told) == (["c"], ["b"], [], ["a"])
    assert difference(done(put(author, written("a")))) == ([], [], ["b", "c"], ["a"])
    assert owners() == {"a": "ash"}
    assert set(Move.objects.values_list("actor", flat=True)) == {"author"}


def test_a_yaml_is_stored_as_it_was_written_and_an_edit_of_comments_alone_is_no_change(author: Caller) -> None:
    yaml = "# of the shop\n" + YAML.format("a")
    put(author, written("a", yaml=yaml))
    assert origins.written("api:shop", "a") == yaml
    before = Config.objects.values_list("digest", "changed").get(), Move.objects.count()
    told = done(put(author, written("a", yaml="# of another shop\n" + YAML.format("a"))))
    assert difference(told) == ([], [], [], ["a"])
    assert origins.written("api:shop", "a").startswith("# of another shop\n")
    assert (Config.objects.values_list("digest", "changed").get(), Move.objects.count()) == before


def test_what_is_sent_in_parts_has_no_text(author: Caller) -> None:
    put(author, written("a"))
    done(put(author, {"name": "a", "check": "http_check", "instances": [{"url": "http://a", "timeout": 8}]}))
    assert origins.written("api:shop", "a") == ""


def test_a_changed_config_stays_the_same_config_on_its_node(author: Caller) -> None:
    put(author, written("a"))
    before = Config.objects.get()
    report("birch")
    put(author, written("a", "elsewhere"))
    after = Config.objects.get()
    assert (after.pk, owners()) == (before.pk, {"a": "ash"})
    assert after.digest != before.digest


def test_the_same_set_again_changes_nothing(author: Caller) -> None:
    first = done(put(author, written("a"), written("b")))
    moves = Move.objects.count()
    second = done(put(author, written("b"), written("a")))
    assert second["unchanged"] == ["a", "b"]
    assert second["revision"] == first["revision"] == author.get("sources/shop")["revision"]
    assert Move.objects.count() == moves


def test_a_dry_run_tells_the_difference_and_changes_nothing(author: Caller) -> None:
    before = done(put(author, written("a")))["revision"]
    told = done(put(author, written("b"), query="?dry_run=1"))
    assert told["dry_run"] is True
    assert difference(told) == (["b"], [], ["a"], [])
    assert names() == {"a"}
    assert author.get("sources/shop")["revision"] == before
    assert done(put(author, written("b")))["revision"] == told["revision"]


def test_a_dry_run_makes_no_source(author: Caller) -> None:
    put(author, written("a"), query="?dry_run=1")
    assert not Source.objects.filter(name="api:shop").exists()
    assert author.call("GET", "sources/shop").status_code == 404


def test_a_set_made_for_another_revision_is_refused(author: Caller) -> None:
    seen = done(put(author, written("a")))["revision"]
    put(author, written("a"), written("b"))
    for answer in (
        put(author, written("c"), revision=seen),
        put(author, written("c"), **{"If-Match": f'"{seen}"'}),
        put(author, written("c"), **{"If-Match": f'W/"{seen}"'}),
        put(author, written("c"), revision=seen, query="?dry_run=1"),
    ):
        assert answer.status_code == 409
        assert f"not {seen}: read it again" in answer.json()["revision"][0]
    assert names() == {"a", "b"}
    now = author.call("GET", "sources/shop")
    assert now["ETag"] == f'"{now.json()["revision"]}"'
    done(put(author, written("c"), **{"If-Match": now["ETag"]}))
    assert names() == {"c"}


def test_one_bad_config_changes_nothing_and_is_told_at_its_field(author: Caller) -> None:
    put(author, written("a"))
    bad = [
        written("shop", yaml="init_config:\ninstances: 7\n"),
        written("mail", check="no check"),
        written("good"),
        {"name": "db", "check": "postgres"},
        written("a\nb"),
        written("good"),
        written("env", yaml="instances: [{url: '%%env_HOME%%'}]"),
        "text",
    ]
    answer = put(author, written("fine"), *bad)
    assert answer.status_code == 400
    problems = answer.json()["configs"]
    assert {index: list(told) for index, told in problems.items()} == {
        "1": ["yaml"], "2": ["check"], "4": ["yaml"], "5": ["name"], "6": ["name"], "7": ["yaml"],
        "8": ["non_field_errors"],
    }  # fmt: skip
    assert problems["1"]["yaml"] == ["shop: line 2: instances is not a list"]
    assert problems["6"]["name"] == ["good: An earlier config has this name."]
    assert names() == {"a"}


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {"yaml": 'instances: [{url: "\\x25%env_CAST_VALUE%%"}]'},
        {"instances": [{"url": "%%env_CAST_VALUE%%"}]},
        {"instances": [{"%%env_CAST_VALUE%%": {"a": ["b"]}}]},
        {"instances": [{}], "init_config": {"a": [{"b": "x%%env_CAST_VALUE%%"}]}},
        {"instances": [{}], "logs": [{"path": "%%env_CAST_VALUE%%"}]},
    ],
)
def test_no_config_that_is_sent_reads_a_variable_or_learns_of_one(
    author: Caller, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], exists: bool
) -> None:
    if exists:
        monkeypatch.setenv("CAST_VALUE", "hunter22")
    answer = put(author, {"name": "a", "check": "http_check"} | config)
    assert answer.status_code == 400
    (told,) = answer.json()["configs"]["0"].values()
    assert "only files may name environment variables (%%env_...%%)" in told[0]
    assert names() == set()


def test_no_more_problems_are_told_than_someone_reads(author: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "MOST_PROBLEMS", 3)
    assert len(put(author, *(["no config"] * 5)).json()["configs"]) == 3


@pytest.mark.parametrize("configs", [None, "a", {"name": "a"}])
def test_what_is_no_list_is_refused(author: Caller, configs: Any) -> None:
    put(author, written("a"))
    answer = author.call("PUT", "sources/shop", {"configs": configs})
    assert answer.status_code == 400
    assert "configs" in answer.json()
    assert author.call("PUT", "sources/shop", {}).status_code == 400
    assert names() == {"a"}


def test_a_config_may_come_in_parts(author: Caller) -> None:
    odd = ["010", "1e3", "yes", "12:30:45", "a\u2028b", "\x85", "😀", 'say "x"', 7, 1.5, True, None, {"deep": ["x"]}]
    parts = {"instances": [{"url": "http://a", "odd": odd}], "init_config": {"x": "1.10"}}
    done(put(author, {"name": "a", "check": "http_check"} | parts))
    sent = Config.objects.get().original
    assert yaml.safe_load(sent["instances"][0]) == {"url": "http://a", "odd": odd}
    for quoted in ("010", "1e3", "yes", "12:30:45"):
        assert f"'{quoted}'" in sent["instances"][0]
    assert sent["init_config"].replace("'", '"') == 'x: "1.10"\n'
    assert (sent["cluster_check"], sent["provider"], sent["source"]) == (True, "api", "api:shop:a")


def test_a_config_read_here_and_sent_back_is_refused_rather_than_its_password_lost(author: Caller) -> None:
    put(author, written("a", yaml="instances: [{url: x, password: hunter22}]"))
    read = author.get(f"configs/{Config.objects.get().pk}")["yaml"]
    assert MASK in read
    answer = put(author, written("a", yaml=read))
    assert answer.status_code == 400
    assert "send the secret itself" in str(answer.json())
    assert "hunter22" in Config.objects.get().original["instances"][0]


def test_most_of_many_configs_are_removed_only_on_a_word_more(author: Caller) -> None:
    everything = [written(f"c{number}") for number in range(19)]
    put(author, *everything)
    assert put(author, *everything[:10]).status_code == 200
    put(author, *everything)
    for rest in ([], everything[:9]):
        assert done(put(author, *rest, query="?dry_run=1"))["removals_held"] is True
        answer = put(author, *rest)
        assert answer.status_code == 409
        gone = 19 - len(rest)
        assert f"removes {gone} of the 19 configs of api:shop. Send it with ?accept_removals=1" in str(answer.json())
        assert len(names()) == 19
    told = done(put(author, query="?accept_removals=1"))
    assert len(told["removed"]) == 19
    assert names() == set()
    assert author.get("sources/shop")["configs"] == 0


def test_configs_that_another_source_sends_too_are_removed_without_a_word_more(author: Caller) -> None:
    everything = [written(f"c{number}") for number in range(12)]
    put(author, *everything)
    done(author.call("PUT", "sources/mail", {"configs": everything}))
    assert len(done(put(author))["removed"]) == 12
    assert Config.objects.count() == 12


def test_a_small_set_may_be_emptied(author: Caller) -> None:
    put(author, written("a"))
    assert done(put(author))["removed"] == ["a"]


def test_the_source_is_listed_and_no_scan_of_files_touches_it(
    author: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    put(author, written("a"))
    assert author.rows("sources") == [
        {"name": "shop", "configs": 1, "read_at": author.get("sources/shop")["read_at"]}
    ]  # fmt: skip
    sources.sync(accept_removals=True, sources=[FileSource()])
    assert owners() == {"a": "ash"}


def test_one_source_leaves_another_alone(author: Caller) -> None:
    put(author, written("a"))
    done(author.call("PUT", "sources/mail", {"configs": [written("a"), written("b")]}))
    done(author.call("PUT", "sources/mail", {"configs": []}))
    assert names() == {"a"}
    assert owners() == {"a": "ash"}


@pytest.mark.parametrize("name", ["a%20b", "a%00b", "%E2%98%83", "x" * 201])
def test_a_source_has_a_simple_name(author: Caller, name: str) -> None:
    assert author.call("PUT", f"sources/{name}", {"configs": []}).status_code in (400, 404)
    assert not Source.objects.filter(name__startswith="api:").exists()


def test_a_new_source_does_not_hold_up_the_warm_up(author: Caller) -> None:
    Source.objects.update(read_at="2020-01-01T00:00Z")
    put(author, written("a"))
    assert not Source.objects.filter(read_at=None).exists()


# Warnings

CASES = Path(__file__).parents[2] / "tests" / "data" / "cases"
ODD = "initconfig:\ninstances:\n  - url: a\n    tags: b\n"


def test_what_is_odd_is_taken_and_told(author: Caller) -> None:
    told = [
        {"name": "a", "line": 1, "warning": "nothing reads initconfig at the top level: is init_config meant?"},
        {
            "name": "a",
            "line": 4,
            "warning": "tags are not a list: agents refuse to load the check, or run it without them",
        },
    ]
    assert done(put(author, written("a", yaml=ODD), written("b"), query="?dry_run=1"))["warnings"] == told
    assert not Source.objects.filter(name="api:shop").exists()
    assert done(put(author, written("a", yaml=ODD), written("b")))["warnings"] == told
    assert author.get("sources/shop")["warnings"] == told
    (config,) = author.rows("configs?key=a")
    assert author.get(f"configs/{config['id']}")["warnings"] == told
    assert done(put(author, written("a"), written("b")))["warnings"] == []
    assert author.get("sources/shop")["warnings"] == []


def test_what_is_odd_about_a_config_in_parts_has_the_part_in_place_of_a_line(author: Caller) -> None:
    odd = {
        "name": "a",
        "check": "postgress",
        "init_config": {"limit": 1e20},
        "instances": [{"url": "x"}, {"tags": ["b", 1]}],
    }
    told = done(put(author, odd))["warnings"]
    assert {(one["name"], one["line"]) for one in told} == {("a", None)}
    assert {one["warning"].partition(": ")[0] for one in told} == {
        "init_config.limit",
        "instances[1].tags[1]",
        "no integration is called postgress",
    }
    assert author.get("sources/shop")["warnings"] == told


def test_what_of_a_config_is_not_cut_as_it_asks_or_left_out_is_told(
    author: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "KSM_SHARDING_ENABLED", True)
    asks = {"shard_criteria": ["namespace"], "shard_count": 1}
    aggregate = {"pod_collection_mode": "cluster_aggregates_only"}
    configs = [
        {"name": "a", "check": KSM, "instances": [asks]},
        {"name": "b", "check": KSM, "instances": [asks | {"shard_count": 2}, aggregate, aggregate]},
    ]
    for query in ("?dry_run=1", ""):
        told = [(one["name"], one["warning"]) for one in done(put(author, *configs, query=query))["warnings"]]
        assert told == [
            (
                "a",
                "it asks for shards by hash and is dispatched whole: shard_count is not a whole number from 2 to 1000",
            ),
            ("b", "1 of 2 instances of cluster_aggregates_only left out: each counts all pods"),
        ]


def test_keys_are_compared_within_a_set(author: Caller) -> None:
    configs = [{"name": name, "check": "shop", "instances": [{"url": name, "timeout": 1}]} for name in "ab"]
    told = done(put(author, *configs, {"name": "c", "check": "shop", "instances": [{"url": "c", "timeuot": 1}]}))
    (odd,) = told["warnings"]
    assert (odd["name"], odd["warning"].partition(": ")[0]) == ("c", "instances[0].timeuot")


def test_keys_are_compared_with_those_of_other_sources(author: Caller) -> None:
    configs = [{"name": name, "check": "shop", "instances": [{"url": name, "timeout": 1}]} for name in "ab"]
    author.call("PUT", "sources/mail", {"configs": configs})
    told = done(put(author, {"name": "c", "check": "shop", "instances": [{"url": "c", "timeuot": 1}]}))
    assert [one["name"] for one in told["warnings"]] == ["c"]


# Keys that nothing reads


def test_keys_that_nothing_reads_are_refused_by_name(author: Caller) -> None:
    answer = author.call("PUT", "sources/shop", (CASES / "put" / "unknown_keys.json").read_text())
    assert answer.status_code == 400
    problems = answer.json()["configs"]["0"]
    assert problems["init_configs"] == ["n: Unknown name. Did you mean init_config?"]
    assert problems["ignore_autodiscovery_tags"][0].startswith("n: Unknown name. Known are check, init_config, ")
    assert names() == set()


def test_a_body_s_and_an_address_s_keys_are_refused_too(author: Caller) -> None:
    answer = author.call("PUT", "sources/shop", {"configs": [], "revison": "a"})
    assert (answer.status_code, answer.json()) == (400, {"revison": ["Unknown name. Did you mean revision?"]})
    answer = put(author, written("a"), query="?dryrun=1")
    assert (answer.status_code, answer.json()) == (400, {"dryrun": ["Unknown name. Did you mean dry_run?"]})
    assert names() == set()


def test_a_key_that_nothing_reads_tells_no_secret_and_is_not_repeated_at_length(author: Caller) -> None:
    token = "ghp_" + "a1B2" * 9
    answer = put(author, written("a", **{token: 1, "x" * 5000: 1}))
    assert answer.status_code == 400
    assert token not in answer.content.decode()
    assert len(answer.content) < 2000


def test_removals_that_were_accepted_are_held_no_more(author: Caller) -> None:
    put(author, *[written(f"c{number}") for number in range(12)])
    assert done(put(author, query="?dry_run=1"))["removals_held"] is True
    for query in ("?dry_run=1&accept_removals=1", "?accept_removals=1"):
        told = done(put(author, query=query))
        assert (len(told["removed"]), told["removals_held"]) == (12, False)


def test_a_config_under_another_name_is_the_same_and_names_it(author: Caller) -> None:
    put(author, {"name": "a", "check": "http_check", "instances": [{"url": "x"}]})
    before = Config.objects.get()
    put(author, {"name": "b", "check": "http_check", "instances": [{"url": "x"}]})
    after = Config.objects.get()
    assert (after.pk, after.digest, after.original["source"]) == (before.pk, before.digest, "api:shop:b")


def test_while_another_set_is_replaced_a_call_is_told_to_come_again(author: Caller) -> None:
    parameters = connection.get_connection_params()
    with psycopg.connect(**{**parameters, "cursor_factory": psycopg.Cursor}, autocommit=True) as other:
        locks.acquire(other.cursor(), locks.Lock.DESIRED)
        connection.cursor().execute("SET LOCAL lock_timeout = '10ms'")
        assert put(author).status_code == 503
