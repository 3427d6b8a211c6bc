"""Secrets are never displayed; other texts stay readable."""

import base64
import json
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from checks.wire import patching, scrub
from checks.wire.patching import IntegrationConfig, PatchedConfig
from checks.wire.scrub import MASK
from tests.table import table

SECRET = "hunter2"
NAMES_OF_SECRETS = """
password passwd pwd pw pass pswd db_pass userPass passphrase dbPassword PASSWORD http-password secret client_secret
secretKey token access_token authToken tokens api_key apikey api-key apiKey X-Api-Key app_key appKey application_key
access_key secret_access_key account_key private_key privateKey tls_private_key authKey privKey auth basic_auth proxyAuth
authorization Proxy-Authorization authentication community_string community community_strings credentials creds cookie
Set-Cookie session_id jwt bearer connection_string connectionString conn_str dsn sas_signature consumer_key license_key
encryption_key ssh_key signing_key authentication_key privacy_key
"""
HARMLESS_NAMES = """
host port name url username tokenizer author keyspace key keys primary_key auth_type authProtocol privProtocol token_path
private_key_file tls_key_path secret_file auth_method min_collection_interval timeout compute significant monkey_patch
"""
SECRET_KEYS, HARMLESS_KEYS = NAMES_OF_SECRETS.split(), HARMLESS_NAMES.split()


def patched(instance: str, **fields: Any) -> PatchedConfig:
    return patching.patch(IntegrationConfig("ntp", instances=(instance,), **fields), ["env:prod"])


def shown_to_people(instance: str, **fields: Any) -> str:
    """All that is displayed of it: the readable text, and the texts of the scrubbed bytes."""
    config = patched(instance, **fields)
    body = json.loads(config.scrubbed)
    texts = [*body["instances"], body["init_config"], body["metric_config"], body["logs"]]
    return config.text + "".join(base64.b64decode(text).decode() for text in texts if text)


def shown_instance(instance: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(patched(instance).text)["instances"][0]
    return values


@table("key", SECRET_KEYS)
@table(
    "value",
    [
        SECRET,
        f"[{SECRET}, x]",
        f"{{a: {{b: [{SECRET}]}}}}",
        f"|-\n  {SECRET}\n  {SECRET}",
        f"!{SECRET} x",
        f"!{SECRET}",
    ],
)
def test_whatever_stands_below_a_secret_key_is_hidden(key: str, value: str) -> None:
    assert SECRET not in shown_to_people(f"a: 1\n{key}: {value}\n")
    assert SECRET not in shown_to_people(f"deep: [{{in: {{{key}: '{SECRET}'}}}}]\n")


@table("key", HARMLESS_KEYS)
def test_what_stands_below_another_key_is_shown(key: str) -> None:
    assert shown_instance(f"{key}: hunter\npassword: x")[key] == "hunter"


@table("key", SECRET_KEYS)
def test_a_secret_key_is_found_in_free_text(key: str) -> None:
    for text in (f"{key}: {SECRET}", f"{key}={SECRET}&x=1", f'{{"{key}": "{SECRET}", "x": 1}}', f"--{key} {SECRET}"):
        assert SECRET not in scrub.scrub(f"failed with {text}")


@table(
    ("text", "shown"),
    [
        ("postgres://user:hunter2@db:5432/x", "postgres://user:********@db:5432/x"),
        ("redis://:hunter2@db", "redis://:********@db"),
        ("postgres://user:hun/ter@2@db/x", "postgres://user:********@db/x"),
        ("user:hunter2@tcp(db:3306)/x", "user:********@tcp(db:3306)/x"),
        ("https://ghp_hunter2@example.org/x", "https://********@example.org/x"),
        ("Authorization: Basic hunter2", "Authorization: ********"),
        ("got bearer hunter2, sorry", "got bearer ********, sorry"),
        ("GET /x?api_key=hunter2&y=1", "GET /x?api_key=********&y=1"),
        ("Server=db;Pwd=hunter2;Port=1", "Server=db;Pwd=********;Port=1"),
        ("host=db password='hun ter2' port=1", "host=db password='********' port=1"),
        ('{"password": "hun\\"ter2", "x": 1}', '{"password": "********", "x": 1}'),
        ('"{\\"token\\": \\"hunter2\\", \\"x\\": 1}"', '"{\\"token\\": \\"********\\", \\"x\\": 1}"'),
        ('{"tokens":["hunter2","hunter2"],"x":1}', '{"tokens":********,"x":1}'),
        ("{'password': 'hunter2'}", "{'password': '********'}"),
        ("password: |\n  hunter2\n  hunter2\nx: 1", "password: ********\nx: 1"),
        ("run --db-password hunter2 --x 1", "run --db-password ******** --x 1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nx", "********\nx"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2", "********"),
        ("jwt-like eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.hunter2-x.", "jwt-like ********."),
        ("key 0123456789abcdef0123456789abcdef is wrong", "key ******** is wrong"),
        ("app 0123456789abcdef0123456789abcdef01234567.", "app ********."),
        ("(using password: NOhunter2)", "(using password: ********"),
        ("(using password: NO)hunter2", "(using password: ********"),
        ("using password: NO)", "using password: ********"),
        ("(using password: NOpe123)", "(using password: ********"),
        ("(using password: NO)\\\\hunter2", "(using password: ********"),
        ("(using password: NO)}hunter2", "(using password: ********"),
        ("(using password: YES))hunter2", "(using password: ********"),
        ("(using password: NO NO)", "(using password: ********"),
        ("(password: NO)", "(password: ********"),
        ("((using password: NO)), token: hunter2)", "((using password: NO)), token: ********"),
        ("password: hunter2 (using password: NO)", "password: ********"),
        ("(using password: YES) for token: hunter2", "(using password: YES) for token: ********"),
    ],
)
def test_free_text_loses_its_secrets_alone(text: str, shown: str) -> None:
    assert scrub.scrub(text) == shown
    assert scrub.scrub(shown) == shown


@table(
    "text",
    [
        "",
        "node ash is unknown",
        "invalid session token",
        "mail bob@example.org",
        "token_path=/run/x auth_type: basic",
        "password: ENC[db/password]",
        'password: ""',
        "sha256 0123456789abcdef",
        "https://example.org:8080/x?y=1",
        "ntp: instance 2: line 3: did not find expected node content",
        """(1045, "Access denied for user 'dd'@'10.0.0.79' (using password: NO)")""",
        "Error 1045 (28000): Access denied for user 'dd'@'10.0.0.79' (using password: YES)",
        r"""[{"message": "(1045, \"Access denied for user 'dd'@'10.0.0.79' (using password: NO)\")"}]""",
        r"""Access denied for user 'dd'@'10.0.0.79' (using password: NO)\nTraceback (most recent call last)""",
        "no primary (db1: Access denied for user 'dd'@'10.0.0.79' (using password: YES)), tried 3 times",
        "[Access denied for user 'dd'@'10.0.0.79' (using password: YES)] (1045)",
    ],
)
def test_free_text_without_secrets_stays(text: str) -> None:
    assert scrub.scrub(text) == text


@table(
    "instance",
    [
        "url: http://u:hunter2@h/",
        "urls: ['http://u:hunter2@h/']",
        "tags: ['token:hunter2']",
        "'http://u:hunter2@h/': x",
        "headers: ['Authorization: Basic hunter2']",
        "env: [{name: DB_PASSWORD, value: hunter2}]",
        "args: [--password, hunter2]",
        "args: ['--password=hunter2']",
        "query: \"select 'password=hunter2'\"",
        "dsn_text: 'Server=x;Password=hunter2;'",
        'nested: \'{"password": "hunter2"}\'',
        "# password: hunter2\na: 1",
    ],
)
def test_secrets_in_values_are_hidden_too(instance: str) -> None:
    assert SECRET not in shown_to_people(instance)


@table("key", ["init_config", "metric_config", "logs"])
@table("text", ["# hunter2\npassword: hunter2", "[{token: hunter2}]", '{"api_key": "hunter2"}', "# hunter2"])
def test_the_other_texts_are_shown_without_secrets_and_comments(key: str, text: str) -> None:
    assert SECRET not in shown_to_people("a: 1", **{key: text})


@table("value", ["ENC[db/password]", "ENC[a b]", "''", "~", "true"])
def test_a_handle_and_what_says_nothing_stay_visible(value: str) -> None:
    assert shown_instance(f"password: {value}")["password"] == yaml.safe_load(value)


@table("value", ["ENC[a] hunter2", "hunter2 ENC[a]", "ENC[a", "!hunter2 x", "123456", "2001-01-01"])
def test_what_only_resembles_a_handle_or_nothing_is_hidden(value: str) -> None:
    assert shown_instance(f"password: {value}")["password"] == MASK


def test_what_is_sent_keeps_its_secrets() -> None:
    config = patched("password: hunter2", init_config="token: hunter2")
    body = json.loads(config.wire)
    assert b"password: hunter2" in base64.b64decode(body["instances"][0])
    assert base64.b64decode(body["init_config"]) == b"token: hunter2\n"


def test_a_config_without_secrets_is_shown_as_it_is_sent() -> None:
    config = patched("url: http://h/", init_config="{}")
    assert config.scrubbed == config.wire


def test_a_scrubbed_config_has_the_keys_of_the_sent_one() -> None:
    config = patched("password: hunter2")
    assert list(json.loads(config.scrubbed)) == list(json.loads(config.wire))


@given(key=st.sampled_from(SECRET_KEYS), before=st.text(max_size=5), after=st.text(max_size=5))
def test_no_secret_key_escapes_the_quick_look(key: str, before: str, after: str) -> None:
    assert scrub.may_hold_secrets(before + key + after)


@given(
    text=st.lists(
        st.sampled_from(
            ["pass", "word", "token", ": ", "=", '"', "'", "{", "[", "|", "\n", " ", "--", "@", "://", "a", "ENC[", "]"]
        )
    ).map("".join)
)
def test_scrubbing_what_was_scrubbed_finds_no_more_secrets(text: str) -> None:
    once = scrub.scrub(text)
    assert scrub.scrub(scrub.scrub(once)) == scrub.scrub(once)
