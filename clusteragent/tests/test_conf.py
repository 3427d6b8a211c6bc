"""How options are read: formats, defaults, files, and errors."""

import re
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from clusteragent.lib import options
from clusteragent.lib.options import OptionError
from tests.table import table


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda value: monkeypatch.setenv("OPTION", value)


def seconds(name: str) -> timedelta:
    return options.duration(name, timedelta(seconds=7), low=timedelta(seconds=1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", 7), ("30", 30), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1500ms", 1.5), ("1.5h", 5400), (" 30 ", 30)],
)
def test_durations_are_seconds_or_go_durations(given: Callable[[str], None], value: str, expected: float) -> None:
    given(value)
    assert seconds("OPTION") == timedelta(seconds=expected)


@pytest.mark.parametrize("value", ["soon", "-1", "0", "500ms", "1d", "10 m", "1e3", "99999h"])
def test_a_wrong_duration_is_named_with_what_is_allowed(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(
        OptionError, match=rf"^OPTION is '{value}', allowed is seconds or a duration .* from 1 s to 3650 days$"
    ):
        seconds("OPTION")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ()), ("a b:c", ("a", "b:c")), ('["a b", "c"]', ("a b", "c")), ("[]", ())],
)
def test_lists_are_words_or_json(given: Callable[[str], None], value: str, expected: tuple[str, ...]) -> None:
    given(value)
    assert options.words("OPTION") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("127.0.0.1:5005", ("127.0.0.1", 5005)),
        ("[::]:5005", ("::", 5005)),
        ("agent.example.com:1", ("agent.example.com", 1)),
    ],
)
def test_addresses_have_a_host_and_a_port(given: Callable[[str], None], value: str, expected: tuple[str, int]) -> None:
    given(value)
    assert options.bind("OPTION", "0.0.0.0:1") == expected


@pytest.mark.parametrize(
    ("parse", "value"),
    [
        (lambda: options.words("OPTION"), "[1]"),
        (lambda: options.words("OPTION"), "[a"),
        (lambda: options.bind("OPTION", "0.0.0.0:1"), "5005"),
        (lambda: options.bind("OPTION", "0.0.0.0:1"), "::1:5005"),
        (lambda: options.bind("OPTION", "0.0.0.0:1"), "127.0.0.1:70000"),
        (lambda: options.flag("OPTION", True), "maybe"),
        (lambda: options.integer("OPTION", 1, 0, 9), "10"),
        (lambda: options.integer("OPTION", 1, 0, 9), "1.5"),
        (lambda: options.number("OPTION", 0.5, high=1), "nan"),
        (lambda: options.number("OPTION", 0.5, high=1), "1.1"),
        (lambda: options.choice("OPTION", "on", {"on": "ON"}), "off"),
    ],
)
def test_a_wrong_value_is_an_error(given: Callable[[str], None], parse: Callable[[], Any], value: str) -> None:
    given(value)
    with pytest.raises(OptionError, match=r"^OPTION is .*, allowed is "):
        parse()


def test_an_option_whose_libraries_are_missing_names_the_extra(given: Callable[[str], None]) -> None:
    given("true")
    for module in ("clusteragent.nowhere", "nowhere.at.all"):
        with pytest.raises(
            OptionError, match=r"^OPTION is true, .* not installed: pip install 'clusteragent\[traces\]'$"
        ):
            options.extra("OPTION", module, "traces")
    assert options.extra("OPTION", "clusteragent.lib", "traces")


def test_an_option_that_is_off_needs_no_libraries(given: Callable[[str], None]) -> None:
    given("")
    assert not options.extra("OPTION", "nowhere.at.all", "traces")


def test_an_option_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "option").write_text("from the file\n")
    monkeypatch.setenv("OPTION_FILE", str(tmp_path / "option"))
    assert options.text("OPTION", "") == "from the file"


def test_a_missing_file_of_an_option_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPTION_FILE", str(tmp_path / "option"))
    with pytest.raises(OptionError, match=r"^OPTION_FILE can't be read"):
        options.text("OPTION", "")


def test_an_option_wins_over_the_file_of_the_first_start(given: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 32)
    assert options.secret("OPTION", tmp_path / "token") == "f" * 32
    given("o" * 32)
    assert options.secret("OPTION", tmp_path / "token") == "o" * 32
    assert options.secret("OTHER", tmp_path / "none yet") == ""


def test_an_empty_token_file_is_an_error_and_not_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with pytest.raises(OptionError, match="token has 0 characters, at least 32 are needed"):
        options.secret("OPTION", tmp_path / "token")


@table("value", ["one line 1234567890123456789012345\nand another", "é" * 32, "tab\t" * 9])
def test_a_secret_that_no_header_can_have_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "token").write_text(value)
    with pytest.raises(OptionError, match=r"token has characters other than printable ASCII$"):
        options.secret("OPTION", tmp_path / "token")


def test_several_secrets_have_blanks_between(given: Callable[[str], None]) -> None:
    assert options.secrets("OTHER") == ()
    given(f"{'o' * 32} {'p' * 32}")
    assert options.secrets("OPTION") == ("o" * 32, "p" * 32)
    given(f"{'o' * 32} short")
    with pytest.raises(OptionError, match=r"^number 2 of OPTION has 5 characters, at least 32 are needed$"):
        options.secrets("OPTION")


def test_no_error_repeats_a_secret(given: Callable[[str], None], tmp_path: Path) -> None:
    given("mysql://someone:hidden@host")
    with pytest.raises(OptionError) as database:
        options.database("OPTION")
    with pytest.raises(OptionError) as token:
        options.secret("OPTION", tmp_path / "token")
    assert "hidden" not in f"{database.value}{token.value}"
    assert database.value.__suppress_context__


@pytest.mark.parametrize(
    "value", ["", "http://hooks:8080/x", "https://user:word@hooks.example.com/x?y=z", "http://[::1]:9/"]
)
def test_a_url_is_http_or_https(given: Callable[[str], None], value: str) -> None:
    given(value)
    assert options.url("OPTION") == value


@pytest.mark.parametrize(
    "value", ["hooks/s3cret", "ftp://hooks/s3cret", "https:///s3cret", "http://hooks:x/s3cret", "http://[/s3cret"]
)
def test_a_wrong_url_is_not_repeated(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(OptionError, match=r"^OPTION can't be read as a URL, allowed is http") as caught:
        options.url("OPTION")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "laika", "a.cluster.name.with.dots", "prod-1.eu", "a", "a" * 80, "a--b"])
def test_a_cluster_s_name_is_by_the_datadog_agent_s_rule(given: Callable[[str], None], name: str) -> None:
    given(name)
    assert options.cluster_name("OPTION") == name


@table("name", ["Capital", "with_underscore", "1a", "-a", "a-", "a.", "a..b", "a.-b", "a.1", "a b", "é", "a" * 81])
def test_another_cluster_s_name_is_refused_with_what_is_allowed(given: Callable[[str], None], name: str) -> None:
    given(name)
    with pytest.raises(OptionError, match=rf"^OPTION is '{re.escape(name)}', allowed is at most 80 lower-case letters"):
        options.cluster_name("OPTION")


def test_a_label_is_named_as_kubernetes_names_it(given: Callable[[str], None]) -> None:
    assert options.label("OPTION", "zone") == "zone"
    given("topology.kubernetes.io/zone")
    assert options.label("OPTION", "zone") == "topology.kubernetes.io/zone"
    given("zone=a")
    with pytest.raises(OptionError, match=r"^OPTION is 'zone=a', allowed is the name of a label, without =$"):
        options.label("OPTION", "zone")


def test_networks_are_ranges_of_both_kinds(given: Callable[[str], None]) -> None:
    assert options.networks("OPTION", ["10.0.0.0/8"]) == (ip_network("10.0.0.0/8"),)
    given("192.0.2.7 fc00::/7")
    assert options.networks("OPTION", []) == (ip_network("192.0.2.7/32"), ip_network("fc00::/7"))
    given('["0.0.0.0/0"]')
    assert options.networks("OPTION", []) == (ip_network("0.0.0.0/0"),)


@pytest.mark.parametrize(
    "value", ["10.0.0.1/8", "10/8", "everywhere", "169.254.0.0/16", "10.0.0.0/8 fe80::/10", "224.0.0.0/4", "ff00::/8"]
)
def test_a_wrong_network_is_named_with_what_is_allowed(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(OptionError, match=rf"^OPTION is '{re.escape(value)}', allowed is ranges of addresses, such as"):
        options.networks("OPTION", [])


@table(
    ("value", "expected"),
    [
        ("datadog/app=runner", ("datadog", "app=runner")),
        (
            "datadog/app.kubernetes.io/component=clusterchecks-agent",
            ("datadog", "app.kubernetes.io/component=clusterchecks-agent"),
        ),
        ("d/app == runner, tier!=test,!old", ("d", "app == runner, tier!=test,!old")),
        ("d/app in (a, b),tier notin (test)", ("d", "app in (a, b),tier notin (test)")),
        ("", None),
    ],
)
def test_a_selection_is_a_namespace_and_labels(given: Callable[[str], None], value: str, expected: object) -> None:
    given(value)
    assert options.selection("OPTION") == expected


@table(
    "value",
    [
        "app=runner",
        "datadog/",
        "/app=runner",
        "Data/app=x",
        "-d/app=x",
        "app.kubernetes.io/name=x",
        "d/a=b c",
        "d/a,",
        "d/=",
    ],
)
def test_a_wrong_selection_is_named_with_what_is_allowed(given: Callable[[str], None], value: str) -> None:
    given(value)
    with pytest.raises(OptionError, match="allowed is NAMESPACE/SELECTOR, such as datadog/app=runner"):
        options.selection("OPTION")


@table(
    ("value", "expected"),
    [
        ("https://ca.example.com", "https://ca.example.com"),
        ("https://CA.example.com:443/", "https://ca.example.com"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://xn--bro-hoa.example.com:8443/", "https://xn--bro-hoa.example.com:8443"),
        ("https://192.0.2.7:", "https://192.0.2.7"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]"),
        ("", ""),
    ],
)
def test_an_origin_is_as_browsers_name_it(given: Callable[[str], None], value: str, expected: str) -> None:
    given(value)
    assert options.origin("OPTION") == expected


@table(
    ("value", "fault"),
    [
        ("ca.example.com", "does not begin with https://"),
        ("ftp://localhost", "does not begin with https://"),
        ("https:/ca.example.com", "does not begin with https://"),
        ("http://ca.example.com", "begins with http://"),
        ("https://ca.example.com/agent", "has more than a host"),
        ("https://ca.example.com//", "has more than a host"),
        ("https://ca.example.com?x=1", "has more than a host"),
        ("https://ca.example.com/?", "has more than a host"),
        ("https://ca.example.com#x", "has more than a host"),
        ("https://ca.example.com\\x", "has more than a host"),
        ("https://a:b@ca.example.com", "names a user"),
        ("https://a@ca.example.com/agent", "names a user"),
        ("https://", "has no host"),
        ("https://:443", "has no host"),
        ("https:///agent", "has more than a host"),
        ("https://ca.example.com:0", "has a port that is no number from 1 to 65535"),
        ("https://ca.example.com:99999", "has a port that is no number from 1 to 65535"),
        ("https://ca.example.com:port", "has a port that is no number from 1 to 65535"),
        ("https://ca.example.com:-1", "has a port that is no number from 1 to 65535"),
        ("https://[::1]:x", "has a port that is no number from 1 to 65535"),
        ("https://a b", "has a blank"),
        ("https://ca.example\t.com", "has a blank"),
        ("https://büro.example.com", "has a host that is not ASCII"),
        ("https://ca..example.com", "has a host that is no name"),
        ("https://-ca.example.com", "has a host that is no name"),
        ("https://10.0.0.256", "has a host that is no name"),
        ("https://[:::1]", "has a host that is no name"),
        ("https://2001:db8::1", "has a port that is no number"),
        ("https://*.example.com", "has a host that is no name"),
    ],
)
def test_another_origin_is_refused(given: Callable[[str], None], value: str, fault: str) -> None:
    given(value)
    allowed = "allowed is https://host or https://host:port without a path"
    with pytest.raises(OptionError, match=rf"^OPTION {re.escape(fault)}.*, {re.escape(allowed)}"):
        options.origin("OPTION")


@table("url", ["postgresql://olga@localhost", "host=localhost user=olga", "postgresql://localhost:5432/"])
def test_a_database_is_named(given: Callable[[str], None], url: str) -> None:
    given(url)
    with pytest.raises(OptionError, match=r"^\w+ names no database"):
        options.database("OPTION")
