"""Warnings about configs that can be read but probably do not say what was meant."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from checks.sources import authored
from checks.wire import integrations, lint
from checks.wire.lint import Keys, Linted, Notice
from checks.wire.yamlnodes import InvalidYAML

CASES = Path(__file__).parents[2] / "tests" / "data" / "cases" / "quiet"
CONFIG = "cluster_check: true\ninstances:\n  - host: a\n"


def odd(text: str, check: str = "http_check", **how: bool) -> list[tuple[int | None, str]]:
    return [tuple(oddity) for oddity in lint.lint(text, check, **how).oddities]


def messages(text: str) -> list[str]:
    return [message for _, message in odd(text)]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("typo_flag", [(1, "nothing reads cluster_checks at the top level: is cluster_check meant?")]),
        (
            "misindented",
            [
                (4, "nothing reads tags at the top level: does it belong in an instance?"),
                (6, "nothing reads service at the top level: does it belong in an instance?"),
            ],
        ),
        ("trailing_document", []),
        ("duplicate_in_instance", [(6, "the key tags occurs twice in one map: only the last one counts")]),
    ],
)
def test_the_recorded_cases(name: str, told: list[tuple[int, str]]) -> None:
    assert odd((CASES / f"{name}.yaml").read_text()) == told


def test_a_config_as_it_should_be() -> None:
    assert odd(CONFIG) == []


@pytest.mark.parametrize("flag", ["cluster_checks", "cluster-check", "ClusterCheck", "clustercheck", "cluser_check"])
def test_a_misspelt_flag_is_told_although_nothing_is_dispatched(flag: str) -> None:
    assert odd(f"{flag}: true\ninstances: [{{}}]\n") == [
        (1, f"nothing reads {flag} at the top level: is cluster_check meant?")
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("instances:\n  - host: a\n    cluster_check: true\n", "instances"),
        ("instances: [{}]\ninit_config:\n  cluster_check: true\n", "init_config"),
    ],
)
def test_a_flag_where_nothing_reads_it(text: str, part: str) -> None:
    assert odd(text) == [(3, f"nothing reads cluster_check in {part}: it belongs at the top level")]


def test_of_a_node_agent_s_own_check_only_the_flag_is_told() -> None:
    assert odd("tags: [a]\ninstances:\n  - a: 1\n    a: 2\n", check="postgress") == []


def test_what_is_written_here_need_not_say_that_it_is_a_cluster_check() -> None:
    assert odd("initconfig:\ninstances: [{}]\n", written_here=True) == [
        (1, "nothing reads initconfig at the top level: is init_config meant?")
    ]


def test_instances_in_init_config() -> None:
    assert odd(f"{CONFIG}init_config:\n  instances:\n    - host: b\n") == [
        (5, "nothing reads instances in init_config: they belong at the top level")
    ]


def test_an_anchor_is_seen_behind_letters_that_are_many_bytes_or_lines() -> None:
    assert odd(f"\ufeffé: &e ü\u2028\nß: &s\r\n  a: 1\r\n{CONFIG}") == []


@pytest.mark.parametrize("part", ["x-shop: {a: 1}", "_shop: 1", ".shop: 1", "shop: &shop {a: 1}", "shop: &shop text"])
def test_parts_that_others_refer_to_are_no_mistake(part: str) -> None:
    assert odd(f"{part}\n{CONFIG}") == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "    a: 1\n    b: {c: [{d: 1, d: 2}]}\n",
            (5, "the key d occurs twice in one map: only the last one counts"),
        ),
        ("    'a': 1\n    a: 2\n", (5, "the key a occurs twice in one map: only the last one counts")),
        (
            "    x: &x {a: 1, a: 2}\n    y: *x\n",
            (4, "the key a occurs twice in one map: only the last one counts"),
        ),
    ],
)
def test_a_key_twice_at_any_depth_is_told_once(text: str, told: tuple[int, str]) -> None:
    assert odd(CONFIG + text) == [told]


def test_merging_twice_and_keys_of_other_types_are_no_repetition() -> None:
    assert odd(f"x-a: &a {{b: 1}}\nx-c: &c {{d: 1}}\n{CONFIG}    <<: *a\n    <<: *c\n    1: a\n    '1': b\n") == []


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ("team:a", "tags are not a list: agents refuse to load the check, or run it without them"),
        ("{team: a}", "tags are not a list: agents refuse to load the check, or run it without them"),
        ("[team: a]", "a tag is a map, because a space follows its colon: write it as key:value"),
        ("[[a]]", "a tag is a list, not a text: agents refuse to load the check"),
        ("[7]", "a tag is a number, a boolean or null, not a text: put it in quotes"),
        ("[~]", "a tag is a number, a boolean or null, not a text: put it in quotes"),
    ],
)
def test_tags_that_are_no_list_of_texts(tags: str, told: str) -> None:
    assert odd(f"{CONFIG}    tags: {tags}\n") == [(4, told)]


@pytest.mark.parametrize("tags", ["", "[]", "[a, 'b:c', \"1\", 10:20]", "~"])
def test_tags_that_are_a_list_of_texts(tags: str) -> None:
    assert odd(f"{CONFIG}    tags: {tags}\n") == []


def test_tags_that_an_instance_merges_count_as_its_own() -> None:
    assert odd(f"x-a: &a\n  tags: b\n{CONFIG}    <<: *a\n")[0][0] == 2


def test_an_unknown_yaml_tag() -> None:
    told = "this YAML tag is unknown and ignored: a text that begins with ! needs quotes"
    assert odd(f"{CONFIG}    a: !secret b\n    c: !!omap [d: 1]\n") == [
        (4, told),
        (5, told),
    ]
    assert odd(f"{CONFIG}    a: !!str 1\n    b: !!binary aGk=\n    c: ! d\n") == []


def named(*checks: str) -> list[Notice]:
    return lint.notices((f"{number}", check, lint.lint(CONFIG, check)) for number, check in enumerate(checks))


@pytest.mark.parametrize(
    ("check", "meant"),
    [
        ("postgress", "postgres"), ("http-check", "http_check"), ("Nginx", "nginx"), ("mysqll", "mysql"), ("dsik", "disk"),
        ("reidsdb", "redisdb"), ("htp_check", "http_check"),
    ],
)  # fmt: skip
def test_a_check_an_edit_away_from_an_integration(check: str, meant: str) -> None:
    assert named(check) == [("0", None, f"no integration is called {check}: is {meant} meant?")]


@pytest.mark.parametrize(
    "check", ["postgres", "httpcheck", "crio", "shop_orders", "my_postgres", "oi", "kafka_custom", ""]
)
def test_integrations_and_checks_of_one_s_own(check: str) -> None:
    assert named(check) == []


@pytest.mark.parametrize(
    "check",
    ["mysql2", "disk2", "apache2", "http_check2", "auth1", "mssql", "mongod", "snmpd", "disks", "unicorn", "llm"],
)
def test_a_number_at_the_end_or_another_letter_in_a_short_name_is_no_mistake(check: str) -> None:
    assert named(check) == []


def test_the_name_of_a_check_is_told_once() -> None:
    assert [notice.where for notice in named("postgress", "nginx", "postgress", "ngnix")] == ["0", "3"]


def test_the_name_of_a_node_agent_s_own_check_is_not_told() -> None:
    assert lint.notices([("a", "postgress", lint.lint("instances: [{}]", "postgress"))]) == []


def test_another_document_is_told_when_it_says_something() -> None:
    assert odd(f"{CONFIG}---\ncluster_check: false\n") == [
        (5, "a second document begins here: only the first one is read")
    ]
    assert odd(f"{CONFIG}---\n# nothing\n...\n") == []


def test_no_message_has_a_value_or_a_secret_in_a_key() -> None:
    token = "ghp_" + "a1B2" * 9
    text = (
        f"{CONFIG}    password: hunter22\n    password: hunter23\n    tags: hunter22\n    {token}: 1\n    {token}: 2\n"
    )
    told = str(odd(f"{text}hunter22: !hunter24 a\n"))
    assert "the key password occurs twice" in told
    assert token not in told
    assert "hunter23" not in told


def test_of_many_oddities_the_first_are_told() -> None:
    text = CONFIG + "".join(f"    k{number}: 1\n    k{number}: 2\n" for number in range(60))
    assert len(odd(text)) == lint.MOST + 1
    assert odd(text)[-1] == (None, "and 10 more warnings")


# Keys of instances, beside those of others


def instance(*names: str) -> Keys:
    return Keys(tuple(sorted(names)), tuple(range(1, len(names) + 1)))


def strange(*instances: Keys) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for place, oddity in lint.misspelt_keys(instances):
        found.setdefault(place, []).append(oddity.message)
    return found


def test_a_key_an_edit_away_from_one_that_the_others_have() -> None:
    told = "is timeuot meant to be timeout, as most instances of this check have it?"
    assert strange(instance("url", "timeout"), instance("url", "timeuot"), instance("url", "timeout")) == {1: [told]}


@pytest.mark.parametrize(
    "instances",
    [
        [instance("a", "query1"), instance("a", "query2"), instance("b", "query2")],  # numbered
        [instance("hosts"), instance("host")],  # which is right?
        [instance("host", "hosts"), instance("host"), instance("host")],  # it has both
        [instance("port", "sort"), instance("port", "sort"), instance("port")],
        [
            instance("user"),
            instance("host", "users"),
            instance("users"),
            instance("none"),
            instance("some"),
            instance("any"),
        ],
        [instance("ab"), instance("ac"), instance("ac")],  # too short
    ],
)
def test_keys_that_are_just_other_keys(instances: list[Keys]) -> None:
    assert strange(*instances) == {}


def test_the_instances_of_one_check_are_compared_with_each_other_in_all_files() -> None:
    texts = {
        "a": ("http_check", "cluster_check: true\ninstances:\n  - {url: a, method: 1}\n  - {url: b, method: 1}\n"),
        "b": ("http_check", "cluster_check: true\ninstances:\n  - url: a\n    methdo: 1\n"),
        "c": ("tcp_check", "cluster_check: true\ninstances:\n  - url: a\n    methdo: 1\n"),
    }
    found = lint.notices((where, check, lint.lint(text, check)) for where, (check, text) in texts.items())
    assert found == [Notice("b", 4, "is methdo meant to be method, as most instances of this check have it?")]


def test_a_key_is_asked_of_once() -> None:
    texts = {"a": CONFIG + "    timeout: 1\n  - {host: b, timeout: 1}\n", "b": CONFIG + "    timeuot: 1\n"}
    found = lint.notices((where, "own", lint.lint(text, "own")) for where, text in texts.items())
    assert [(one.where, one.line, one.warning[:22]) for one in found] == [("b", 4, "is timeuot meant to be")]


def test_very_many_keys_are_compared_in_no_time() -> None:
    many = Keys(tuple(f"key{'abcdefghij'[number % 10]}{number}x" for number in range(50_000)), (1,) * 50_000)
    assert list(lint.misspelt_keys([many, many, many])) == []


def test_what_came_as_no_text_has_parts_in_place_of_lines() -> None:
    text = f"{CONFIG}    a: 1\n    a: 2\n    secret_b: [1,\n {{\n c: 3}}]\n"
    linted = lint.lint(text, "http_check").in_parts(lint.parts_of(text))
    assert [oddity.line for oddity in linted.oddities] == ["instances[0].a"]
    assert {"instances[0].a", "instances[0].secret_b"} <= set(linted.keys[0].lines)
    assert "instances[0].secret_b[1].c" in lint.parts_of(text).values()
    assert str(lint.notices([("x", "http_check", linted)])[0]).startswith("x: instances[0].a: the key a occurs twice")
    assert Linted().in_parts({}) == Linted()


# The list of integrations


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list as a file of its own, with two names."""
    monkeypatch.setattr(integrations, "LIST", tmp_path / "list.txt")
    integrations.LIST.write_text("nginx\npostgres\n")
    return tmp_path


def test_names_are_learnt_from_folders_of_configs_and_checks(names: Path) -> None:
    (names / "conf.d/shop.d").mkdir(parents=True)
    (names / "checks.d").mkdir()
    (names / "checks.d/postgress.py").touch()
    (names / "core/redisdb/datadog_checks").mkdir(parents=True)
    (names / "core/datadog_checks_base/datadog_checks").mkdir(parents=True)
    (names / "release.txt").write_text("datadog-http-check==1.0\ndatadog-checks-base==2.0; x\n")
    assert integrations.meant_by("postgress") == "postgres"
    found = [names / "conf.d", names / "checks.d", names / "core", names / "release.txt"]
    assert integrations.learn(name for path in found for name in integrations.found_in(path)) == [
        "http_check", "postgress", "redisdb", "shop"
    ]  # fmt: skip
    assert integrations.meant_by("postgress") == ""
    assert integrations.LIST.read_text() == "http_check\nnginx\npostgres\npostgress\nredisdb\nshop\n"


def test_names_that_another_process_learnt_are_known(names: Path) -> None:
    linted = lint.lint(CONFIG, "postgress")
    assert lint.notices([("a", "postgress", linted)]) != []
    integrations.LIST.write_text("postgres\npostgress\n")
    assert lint.notices([("a", "postgress", linted)]) == []


def test_the_command_says_what_it_learnt_and_what_it_can_t_read(names: Path) -> None:
    (names / "conf.d/shop.d").mkdir(parents=True)
    out = StringIO()
    call_command("learnintegrations", str(names / "conf.d"), stdout=out)
    assert out.getvalue().splitlines() == ["learned: shop", "1 learned, 3 known"]
    with pytest.raises(CommandError, match="gone: No such file"):
        call_command("learnintegrations", str(names / "gone"))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("timout", "is timout meant to be timeout, which most checks have?"),
        (
            "min_collection_intervall",
            "is min_collection_intervall meant to be min_collection_interval, which most checks have?",
        ),
        ("tgas", "is tgas meant to be tags, which most checks have?"),
        ("servcie", "is servcie meant to be service, which most checks have?"),
        # Keys that some checks have.
        ("services", None),
        ("tabs", None),
        ("game", None),
        ("namespaces", None),
        ("url", None),
    ],
)
def test_a_key_that_is_nearly_one_of_every_check(key: str, told: str | None) -> None:
    assert odd(f"{CONFIG}    {key}: 5\n") == ([(4, told)] if told else [])


def test_a_key_is_not_taken_for_one_that_stands_beside_it() -> None:
    assert odd(f"{CONFIG}    timout: 5\n    timeout: 5\n") == []


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("-5", "is negative"),
        ("-0.5", "is negative"),
        ("soon", "is not a number of seconds"),
        ("'30'", "is not a number of seconds"),
        ("[30]", "is not a number of seconds"),
        ("true", "is not a number of seconds"),
        ("30", None),
        ("0", None),
        ("0.5", None),
        ("0x10", None),
        ("null", None),
        ("'%%extra_interval%%'", None),
    ],
)
def test_an_interval_that_is_none_is_an_error_of_its_author_and_a_warning_of_a_file(
    value: str, wrong: str | None
) -> None:
    text = f"{CONFIG}    min_collection_interval: {value}\n"
    warned = f"min_collection_interval {wrong}: agents take their default, or refuse to load the check"
    assert odd(text) == ([(4, warned)] if wrong else [])
    if wrong:
        with pytest.raises(InvalidYAML, match=f"min_collection_interval {wrong}") as error:
            authored.written("mine", "http_check", text)
        assert error.value.line == 4
    else:
        authored.written("mine", "http_check", text)
