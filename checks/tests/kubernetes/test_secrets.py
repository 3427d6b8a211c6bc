"""Handles of Kubernetes' Secrets: which there are, who may name which, and what node agents get in their place."""

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from checks.models.troubles import error_line
from checks.sources.kubernetes.configs import MOST_HANDLES, Made, Options
from checks.sources.kubernetes.secrets import MOST_BYTES, Handle, Secrets, Value, handles_of, value_of
from checks.sources.kubernetes.variables import Unresolved
from checks.tests.kubernetes.cast import made_of, problems, service
from checks.wire import patching, standins
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from tests.table import table

PASSWORD = Handle("shop", "db", "password")
WRITTEN = "ENC[k8s_secret@shop/db/password]"
KEY = "service/shop/web/http_check"
PLACE = "service shop/web: ad.datadoghq.com/service.checks, http_check"


def made(instance: dict[str, Any], known: dict[Handle, Value] | None = None, *, everywhere: bool = False) -> Made:
    """Return what shop/web makes with a check of this instance."""
    checks = {"http_check": {"instances": [instance], "ignore_autodiscovery_tags": True}}
    secrets = Secrets(known or {}, everywhere)
    return made_of(service({"service.checks": checks}), options=Options(secrets=secrets))


def sent(config: IntegrationConfig) -> Any:
    """Return the first instance as node agents read it."""
    return _instances(patching.patch(config, ()).wire)[0]


def _instances(wire: bytes) -> list[Any]:
    texts = yaml.safe_load(wire.decode())["instances"]
    return [yaml.safe_load(base64.b64decode(text)) for text in texts]


@table(
    ("text", "handle"),
    [
        (f"a: {WRITTEN}", PASSWORD), (f"a: [x, {{b: '{WRITTEN}'}}]", PASSWORD), (f"a: ' {WRITTEN}\t'", PASSWORD),
        ('a: "\\x45NC[k8s_secret@shop/db/password]"', PASSWORD),
        ("a: ENC[k8s_secret@shop/db.v2/tls.key]", Handle("shop", "db.v2", "tls.key")),
        (f"a: x{WRITTEN}", None), (f"a: {WRITTEN}x", None), (f"'{WRITTEN}': a", None),
        ("a: ENC[other@shop/db/password]", None), ("a: k8s_secret@shop/db/password", None), ("a: ENC[]", None),
    ],
)  # fmt: skip
def test_a_handle_is_a_whole_value(text, handle):
    for config in (IntegrationConfig("a", (text,)), IntegrationConfig("a", init_config=text)):
        assert list(handles_of(config).values()) == ([handle] if handle else [])


@table(
    "inner",
    ["", "shop/db", "shop//password", "shop/db/password/more", "Shop/db/password", "shop/../password", "shop/db/a b", "a/b/c\n"],
)  # fmt: skip
def test_a_handle_that_names_no_key_is_an_error_that_shows_nothing_of_it(inner):
    config = IntegrationConfig("a", (yaml.safe_dump({"a": f"ENC[k8s_secret@{inner}]"}),))
    with pytest.raises(Unresolved, match=r"^a handle is not ENC\[k8s_secret@NAMESPACE/NAME/KEY\]$"):
        handles_of(config)


@table(
    "value",
    ["hunter22", "12", "true", "null", "", " x ", "a\nb\n", "%%host%%", "ENC[k8s_secret@shop/db/user]", "{a: b}", "é", "'\"#: "],
)  # fmt: skip
def test_node_agents_get_the_text_whatever_it_looks_like(value):
    known = {PASSWORD: Value(value or "-"), Handle("shop", "db", "user"): Value("other")}
    given = made({"a": WRITTEN, "b": [WRITTEN, "c"], "d": "ENC[k8s_secret@shop/db/user]"}, known).configs[KEY]
    assert sent(given) == {
        "a": value or "-", "b": [value or "-", "c"], "d": "other", "empty_default_hostname": True,
    }  # fmt: skip


def test_nobody_else_sees_the_value():
    given = made(
        {"community_name": WRITTEN, "url": f"http://x/?{WRITTEN}", "c": WRITTEN}, {PASSWORD: Value("hunter22")}
    )
    config = given.configs[KEY]
    patched = patching.patch(config, ("env:prod",))
    shown = [
        repr(config),
        repr(given),
        patched.text,
        patched.scrubbed.decode(),
        *map(str, _instances(patched.scrubbed)),
    ]
    assert not [text for text in shown if "hunter22" in text]
    assert patched.text.count(f": {WRITTEN}\n") == 2
    assert patching.copies(patched.wire, config.secrets) == (patched.scrubbed, patched.text)


def test_what_is_stored_makes_the_same_bytes_again():
    config = made({"a": WRITTEN}, {PASSWORD: Value("hunter22")}).configs[KEY]
    again = IntegrationConfig.from_json(config.to_json())
    assert patching.patch(again, ()) == patching.patch(config, ())
    assert patching.fingerprint(again) == patching.fingerprint(config)
    assert again.secrets == ((WRITTEN, "hunter22"),)


def test_another_value_is_another_version_of_the_same_config():
    first, second = (made({"a": WRITTEN}, {PASSWORD: Value(text)}).configs[KEY] for text in ("one", "two"))
    assert hash(first) != hash(second)
    assert patching.fingerprint(first) != patching.fingerprint(second)


def test_without_the_option_and_for_other_handles_nothing_is_other_than_it_was():
    annotated = {"service.checks": {"http_check": {"instances": [{"a": WRITTEN, "b": "ENC[other]"}]}}}
    plain = made_of(service(annotated)).configs[KEY]
    assert f"a: {WRITTEN}" in plain.instances[0]
    assert b"secrets" not in patching.patch(plain, ()).wire
    assert "secrets" not in plain.to_json()
    known = {PASSWORD: Value("hunter22")}
    given = made_of(service(annotated), options=Options(secrets=Secrets(known))).configs[KEY]
    assert sent(given)["b"] == "ENC[other]"
    assert given.instances == plain.instances


def test_a_secret_that_was_not_read_yet_keeps_what_was_sent():
    waiting = made({"a": WRITTEN})
    assert (waiting.configs, waiting.kept, waiting.handles) == ({}, {KEY}, {PASSWORD})
    assert problems(waiting) == []


def test_a_secret_that_can_not_be_read_keeps_what_was_sent_and_is_a_problem():
    broken = made({"a": WRITTEN}, {PASSWORD: Value(error="there is no Secret shop/db")})
    assert (broken.configs, broken.kept, broken.handles) == ({}, {KEY}, {PASSWORD})
    assert problems(broken) == [f"{PLACE}: there is no Secret shop/db"]


def test_a_service_names_secrets_of_its_own_namespace_alone():
    handle = Handle("bank", "db", "password")
    instance = {"a": f"ENC[k8s_secret@{'/'.join(handle)}]"}
    refused = made(instance, {handle: Value("hunter22")})
    assert (refused.configs, refused.kept, refused.handles) == ({}, {KEY}, set())
    why = "Secret bank/db is of another namespace: only those of shop may be named here"
    assert problems(refused) == [f"{PLACE}: {why}"]
    assert sent(made(instance, {handle: Value("hunter22")}, everywhere=True).configs[KEY])["a"] == "hunter22"


def test_variables_are_resolved_first():
    config = made({"a": "ENC[k8s_secret@%%kube_namespace%%/db/password]"}, {PASSWORD: Value("hunter22")}).configs[KEY]
    assert sent(config)["a"] == "hunter22"


@table("name", ["name", "namespace"])
def test_the_name_of_an_instance_is_no_secret(name):
    config = made({name: WRITTEN}, {PASSWORD: Value("hunter22")}).configs[KEY]
    with pytest.raises(UnpatchableConfig, match=f"its {name} is a secret, which its check ID would show") as caught:
        patching.patch(config, ())
    assert "hunter22" not in str(caught.value)


def test_an_interval_that_is_a_secret_is_not_told():
    config = made({"min_collection_interval": WRITTEN}, {PASSWORD: Value("77")}).configs[KEY]
    assert patching.patch(config, ()).intervals == (15.0,)


def test_what_a_config_gets_is_bounded():
    large = Value("x" * (MOST_BYTES // 2))
    assert made({"a": WRITTEN, "b": WRITTEN}, {PASSWORD: large}).configs
    assert problems(made({"a": [WRITTEN] * 3}, {PASSWORD: large})) == [
        f"{PLACE}: its Secrets have more than 256 KiB together"
    ]


@table(
    ("secret", "value"),
    [
        ({"data": {"password": "aHVudGVyMjI="}}, Value("hunter22")), ({"data": {"password": "w6kK"}}, Value("é\n")),
        ({"data": {"password": ""}}, Value(error="key password of Secret shop/db is empty")),
        ({"data": {"password": "/w=="}}, Value(error="key password of Secret shop/db is no text in UTF-8")),
        ({"data": {"password": "AA=="}}, Value(error="key password of Secret shop/db holds a NUL character")),
        ({"data": {"other": "aHVudGVyMjI="}}, Value(error="Secret shop/db has no key password")),
        ({}, Value(error="Secret shop/db has no key password")),
        ({"data": None}, Value(error="Secret shop/db has no key password")),
    ],
)  # fmt: skip
def test_a_value_is_a_text(secret, value):
    assert value_of(secret, PASSWORD) == value


@table(
    ("told", "shown"),
    [
        ("no host hunter22", "no host ENC[x]"), ("http://hunter22/hunter22", "http://ENC[x]/ENC[x]"),
        ("?a=correct%20horse%3A7", "?a=ENC[y]"), ("correct horse:7", "ENC[y]"), ("hunter", "hunter"), ("a: abc", "a: abc"),
        ("hunter22!", "ENC[long]"),
    ],
)  # fmt: skip
def test_what_others_tell_is_shown_with_handles(told, shown):
    secrets = {"ENC[x]": "hunter22", " ENC[y]": "correct horse:7", "ENC[short]": "abc", "ENC[long]": "hunter22!"}
    assert standins.put_back(told, secrets) == shown


@pytest.mark.parametrize(
    "value", ['pa"ss7word', "pa\\ss7word", "pässword7", "hunter22\n", "p@ss/w:rd", "a b&c1", "line\nline", 'it\'s "7"']
)
def test_a_value_is_found_however_an_error_quotes_it(value):
    """Node agents report the errors of most checks as JSON with a message and a traceback."""
    messages = [
        f"refused: {value}",
        f"http://db/{quote(value)}",
        quote_plus(value),
        f"connect({value!r})",
        value.strip(),
    ]
    for message in messages:
        for ascii_only in (True, False):
            told = json.dumps([{"message": message, "traceback": message}], ensure_ascii=ascii_only)
            shown = error_line(standins.put_back(told, {"ENC[x]": value}))
            assert "ENC[x]" in shown
            assert value.strip() not in shown


def test_an_object_names_only_so_many_secrets():
    handles = [f"ENC[k8s_secret@shop/db-{number}/password]" for number in range(MOST_HANDLES + 1)]
    checks = {f"check{number}": {"instances": [{"a": handle}]} for number, handle in enumerate(handles)}
    made = made_of(service({"service.checks": checks}), options=Options(secrets=Secrets()))
    assert len(made.handles) == MOST_HANDLES
    assert [one.error.partition(": ")[2] for one in made.problems] == [
        f"more than {MOST_HANDLES} handles of Secrets are named"
    ]
