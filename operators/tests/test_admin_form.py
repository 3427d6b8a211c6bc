"""Configs that are written by hand in the admin."""

import base64
import json
from typing import Any

import pytest
from django.test import Client

from checks import dispatcher
from checks.models import Config, Move, Origin, Source
from checks.sources.authored import text_of
from checks.tests.cast import owners, report, sent
from checks.tests.operators import CONFIGS, act_confirmed, config, operator, page_of, saved, superuser
from checks.wire.patching import IntegrationConfig
from clusteragent.lib import conf

pytestmark = pytest.mark.django_db

YAML = "init_config:\n  proxy: none\ninstances:\n  - url: http://shop\n    timeout: 010\n    password: hunter22\n"


@pytest.fixture(autouse=True)
def _nodes(warm: None) -> None:
    report("ash", "birch")


def save(client: Client, url: str, **fields: str) -> Any:
    return saved(client, url, **{"key": "shop", "check": "http_check", "yaml": YAML} | fields)


def add(client: Client, **fields: str) -> Any:
    return save(client, CONFIGS + "add/", **fields)


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    return dict(response.context["adminform"].form.errors)


def test_a_config_written_by_hand_is_dispatched() -> None:
    assert add(superuser()).status_code == 302
    shop = config("shop")
    assert owners() == {"shop": "ash"}
    assert shop.origins.get().source == "admin"
    instance = base64.b64decode(json.loads(bytes(shop.wire))["instances"][0]).decode()
    assert "timeout: 8\n" in instance
    assert Move.objects.get().actor == "olga"


def test_an_edited_config_is_the_same_config_on_the_same_node() -> None:
    client = superuser()
    add(client)
    before = config("shop")
    save(client, page_of("shop"), yaml=YAML.replace("010", "011"))
    after = config("shop")
    assert after.pk == before.pk
    assert after.digest != before.digest
    assert owners() == {"shop": "ash"}
    assert list(Move.objects.values_list("reason", flat=True)) == ["changed", "scheduled"]


def test_the_form_shows_what_was_written_to_those_who_may_change_it() -> None:
    add(superuser())
    page = operator("view_config", "change_config").get(page_of("shop")).content.decode()
    assert "timeout: 010" in page
    assert "hunter22" in page
    assert "empty_default_hostname" not in page.partition("</textarea>")[0]


def test_who_may_only_look_sees_it_scrubbed() -> None:
    add(superuser())
    page = operator("view_config").get(page_of("shop")).content.decode()
    assert "timeout: 010" in page
    assert "hunter22" not in page


def test_who_may_only_look_adds_and_changes_nothing() -> None:
    add(superuser())
    client = operator("view_config")
    assert add(client, key="other").status_code == 403
    assert save(client, page_of("shop"), yaml="instances: [{url: x}]").status_code == 403
    assert "timeout: 8\n" in config("shop").text


def test_a_config_keeps_its_name() -> None:
    client = superuser()
    add(client)
    save(client, page_of("shop"), key="renamed", yaml=YAML.replace("010", "011"))
    assert list(Origin.objects.values_list("key", flat=True)) == ["shop"]
    assert "timeout: 9\n" in config("shop").text


def test_a_name_is_given_once() -> None:
    client = superuser()
    add(client)
    assert errors(add(client, check="tcp_check")) == {"key": ["There is a config of this name."]}
    assert Config.objects.get().name == "http_check"


@pytest.mark.parametrize(
    ("yaml", "error"),
    [
        ("instances:\n  - url: x\n   bad", "line 3: "),
        ("init_config:\n", "has no instances"),
        ("instances:\n  - just a text\n", "line 2: an instance is not a map"),
        ("- a\n- list\n", "is not a map with keys"),
        ("ad_identifiers: [redis]\ninstances: [{host: '%%host%%'}]", "is a template"),
        ("instances:\n  - url: '%%env_HOME%%'\n", "line 2: only files may name environment variables"),
        ("a: &a [x]\ninstances: [{b: *c}]", "line 2: "),
    ],
)
def test_what_is_wrong_stands_at_the_field_with_its_line(yaml: str, error: str) -> None:
    (shown,) = errors(add(superuser(), yaml=yaml))["yaml"]
    assert error in shown
    assert not Config.objects.exists()


def test_a_check_that_looks_misspelt_is_asked_about_once() -> None:
    client = superuser()
    asked = add(client, check="http_chek")
    assert errors(asked) == {"check": ["No integration is called http_chek: is http_check meant?"]}
    assert 'name="as_written" value="http_chek"' in asked.content.decode()
    assert not Config.objects.exists()
    # A mistake in the text is said in the same round.
    both = errors(add(client, check="http_chek", yaml="instances:\n  - url: x\n   bad"))
    assert (list(both), "line 3: " in both["yaml"][0]) == (["check", "yaml"], True)
    assert errors(add(client, check="http_chek", key="", yaml="init_config:\n")).keys() == {"key", "check", "yaml"}
    assert errors(add(client, check="http_chekc", as_written="http_chek")).keys() == {"check"}
    assert add(client, check="http_chek", as_written="http_chek").status_code == 302
    assert config("shop").name == "http_chek"
    # It is known from now on.
    assert save(client, page_of("shop"), check="http_chek", yaml=YAML.replace("010", "011")).status_code == 302


def test_a_check_of_ones_own_is_not_asked_about() -> None:
    assert add(superuser(), check="our_own_check").status_code == 302


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize(
    "yaml",
    [
        "instances:\n- url: '%%env_CAST_VALUE%%'",
        'instances:\n- url: "\\x25%env_CAST_VALUE%%"',
        'instances:\n- url: "%\\u0025env_CAST_VALUE%%"',
        'instances:\n- url: "\\U00000025\\x25\\x65nv_CAST_VALUE%%"',
        'instances:\n- url: "%%e\\\n    nv_CAST_VALUE%%"',
        "instances:\n- {a: [b, {c: 'x%%env_CAST_VALUE%%y'}]}",
        "instances:\n- '%%env_CAST_VALUE%%': x",
        "instances:\n- url: |\n    %%env_CAST_VALUE%%",
        "instances:\n- url: &a '%%env_CAST_VALUE%%'\n  b: *a",
        "instances:\n- {<<: {url: '%%env_CAST_VALUE%%'}}",
        "instances:\n- url: !own '%%env_CAST_VALUE%%'",
        "instances:\n- tags: ['a:%%env_CAST_VALUE%%']",
        "instances:\n- url: '%%env%%'",
        "instances:\n- url: '%%env_CAST_VALUE'",
        "instances:\n- url: '‰env_CAST_VALUE‰'",
        "instances: [{}]\ninit_config: {a: '%%env_CAST_VALUE%%'}",
        "instances: [{}]\nlogs: [{path: '%%env_CAST_VALUE%%'}]",
        "instances: [{}]\njmx_metrics: [{a: '%%env_CAST_VALUE%%'}]",
        "instances: [{}]\nnode_name: '%%env_CAST_VALUE%%'",
        "instances: [{}]\nad_identifiers: ['%%env_CAST_VALUE%%']",
        "instances: [{}]\nadvanced_ad_identifiers: [{a: '%%env_CAST_VALUE%%'}]",
        "instances: [{}]\ncluster_check: '%%env_CAST_VALUE%%'",
        "instances: [{}]\ncheck_tag_cardinality: '%%env_CAST_VALUE%%'",
        "instances: [{}]\nunknown: '%%env_CAST_VALUE%%'",
    ],
)
def test_what_is_written_here_reads_no_variable_and_learns_of_none(
    monkeypatch: pytest.MonkeyPatch, yaml: str, exists: bool
) -> None:
    if exists:
        monkeypatch.setenv("CAST_VALUE", "hunter22")
    (shown,) = errors(add(superuser(), yaml=yaml))["yaml"]
    assert shown.endswith(": only files may name environment variables (%%env_...%%)")
    assert not Config.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("key", ""), ("key", "two\nlines"), ("check", "../http"), ("check", ""), ("yaml", "")]
)
def test_odd_names_are_refused_at_their_field(field: str, value: str) -> None:
    assert errors(add(superuser(), **{field: value})).keys() == {field}


def test_an_excluded_check_is_refused_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "EXCLUDE_CHECKS", frozenset({"http_check"}))
    assert errors(add(superuser())) == {"yaml": ["http_check is in cluster_checks.exclude_checks"]}


def test_editing_what_a_file_sends_as_well_leaves_the_files_config_alone() -> None:
    client = superuser()
    add(client, yaml="init_config: {}\ninstances:\n  - url: http://twin\n")
    dispatcher.schedule([sent("twin", init_config="{}\n")])
    assert config("twin") == config("shop")
    save(client, page_of("shop"), yaml="instances:\n  - url: http://other\n")
    assert "http://twin" in config("twin").text
    assert "http://other" in config("shop").text


def test_the_form_shows_all_parts_of_a_config() -> None:
    original = IntegrationConfig(
        name="jmx",
        instances=("host: a\nport: 1e3\n", "{}"),
        init_config="is_jmx: yes\n",
        metric_config="- bean: b\n",
        logs="logs:\n- path: /x\n",
        ignore_autodiscovery_tags=True,
        check_tag_cardinality="low",
    )
    assert text_of(original) == (
        "check_tag_cardinality: low\nignore_autodiscovery_tags: true\ninit_config:\n  is_jmx: yes\n"
        "instances:\n- host: a\n  port: 1e3\n- {}\njmx_metrics:\n- bean: b\nlogs:\n- path: /x\n"
    )


# Warnings

ODD = "cluster_checks: true\ninstances:\n  - url: http://shop\n    tags: a\n"


def warned() -> list[tuple[str, int | None]]:
    return [(one["where"], one["line"]) for row in Source.objects.filter(name="admin") for one in row.warnings]


def test_what_is_odd_is_saved_and_told_at_once_and_on_the_page() -> None:
    client = superuser()
    shown = client.get(add(client, yaml=ODD).url).content.decode()
    assert "shop:1: nothing reads cluster_checks at the top level: is cluster_check meant?" in shown
    assert owners() == {"shop": "ash"}
    assert warned() == [("shop", 1), ("shop", 4)]
    assert "shop, line 4: tags are not a list" in client.get(page_of("shop")).content.decode()


def test_warnings_go_with_what_was_odd_and_with_the_config() -> None:
    client = superuser()
    add(client, yaml=ODD)
    add(client, key="mail", yaml=ODD.replace("http://shop", "http://mail"))
    save(client, page_of("shop"))
    assert warned() == [("mail", 1), ("mail", 4)]
    act_confirmed(client, "unschedule", ["mail"])
    assert (warned(), set(owners())) == ([], {"shop"})


def test_what_is_as_it_should_be_makes_no_source() -> None:
    add(superuser())
    assert not Source.objects.filter(name="admin").exists()


def test_its_keys_are_compared_with_those_of_other_configs_of_its_check() -> None:
    dispatcher.schedule([sent(key, instances=(f"url: {key}\ntimeout: 3\n",)) for key in ("a", "b")])
    add(superuser(), yaml="instances:\n  - url: c\n    timeuot: 3\n")
    assert warned() == [("shop", 3)]
