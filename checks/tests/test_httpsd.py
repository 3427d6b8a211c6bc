"""Prometheus HTTP service discovery: what options say, the configs of targets, and URLs that are away."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.models import Config, Origin, Source
from checks.sources import Report, httpsd, sync
from checks.sources.httpsd import Away, Discovery, HTTPDiscovery, InvalidDiscovery, InvalidTargets, Target
from checks.sources.source import BrokenConfig
from checks.tests.cast import lead
from clusteragent.apps import check_discoveries
from clusteragent.lib import conf
from tests.replicas import wait_for
from tests.table import table

TEMPLATE = {
    "name": "openmetrics",
    "instances": [{"openmetrics_endpoint": "http://%%host%%:%%port%%/metrics", "tags": ["a"]}],
}
TARGET = Target("10.0.0.1", "9100")
GROUPS = [{"targets": ["10.0.0.1:9100", "db:9100"], "labels": {"__meta_zone": "a", "team": "b", "__path__": "/x"}}]


def discovery(url: str = "http://sd.example/targets", **template: Any) -> Discovery:
    (found,) = httpsd.read_discoveries(json.dumps([{"url": url, "check_template": TEMPLATE | template}]))
    return found


def instance(of: Any, target: Target = TARGET) -> str:
    (text,) = httpsd.config_of(discovery(instances=[{"x": of}]), target).instances
    return text.removeprefix("x:").removeprefix(" ").removesuffix("\n")


@pytest.fixture
def answers() -> Iterator[dict[str, Any]]:
    """What a real server answers: status, body, encoding. It is asked at `url`."""
    said: dict[str, Any] = {"status": 200, "body": json.dumps(GROUPS).encode(), "asked": 0}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said["asked"] += 1
            self.send_response(said["status"])
            if "Location" in said:
                self.send_header("Location", said.pop("Location"))
            if said["body"][:2] == b"\x1f\x8b":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(said["body"])

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    said["url"] = f"http://127.0.0.1:{server.server_port}/sd"
    yield said
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def source(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPDiscovery]:
    monkeypatch.setattr(httpsd, "POLL_INTERVAL", 0.02)
    found = HTTPDiscovery([discovery(answers["url"])])
    yield found
    found.close()


def keys(source: HTTPDiscovery) -> list[str]:
    return [found.key.rpartition("openmetrics/")[2] for found in source.scan().found]


def errors(source: HTTPDiscovery) -> list[str]:
    return [problem.error for problem in source.scan().problems]


def test_a_target_makes_a_config():
    (target, _) = httpsd.read_targets(json.dumps(GROUPS))
    config = httpsd.config_of(discovery(), target)
    assert (config.name, config.provider, config.cluster_check) == ("openmetrics", "prometheus-http-sd", True)
    assert (config.source, config.init_config) == ("prometheus_http_sd:http://sd.example/targets", "{}\n")
    # The labels' tags follow those of the template.
    assert config.instances == ("openmetrics_endpoint: http://10.0.0.1:9100/metrics\ntags:\n- a\n- team:b\n- zone:a\n",)


@table(
    ("name", "host", "port"),
    [
        ("10.0.0.1:9100", "10.0.0.1", "9100"),
        ("db", "db", ""), ("[fd00::1]:9100", "fd00::1", "9100"), ("fd00::1", "fd00::1", ""),
        ("db:", "db", ""), ("", "", ""),
    ],
)  # fmt: skip
def test_a_target_is_a_host_and_perhaps_a_port(name, host, port):
    (target,) = httpsd.read_targets(json.dumps([{"targets": [name]}]))
    assert (target.host, target.port, target.labels) == (host, port, ())


@table(
    ("of", "expected"),
    [
        # Variables stay texts, here: the peer writes them so.
        ("%%port%%", '"9100"'),
        ("a %%host%% b", "a 10.0.0.1 b"), ([{"z": "%%host%%"}], "\n- z: 10.0.0.1"),
        ("%%other%%", "'%%other%%'"),
        (5, "5"), (5.0, "5"), (1000000, "1e+06"), (999999, "999999"), (0.5, "0.5"), (True, "true"), (None, "null"),
        ("yes", '"yes"'),
    ],
)  # fmt: skip
def test_values_of_a_template(of, expected):
    assert instance(of) == expected


@table(
    ("of", "expected"),
    [
        ("http://%%host%%:%%port%%/", "http://[fd00::1]:9100/"),
        ("http://%%host%%/", "http://[fd00::1]/"),
        ("%%host%%:%%port%%", "'[fd00::1]:9100'"),
        ("%%host%%", "fd00::1"),
    ],
)
def test_an_ipv6_address_gets_brackets_in_urls_and_before_ports(of, expected):
    assert instance(of, Target("fd00::1", "9100")) == expected


@table(
    ("of", "target"),
    [
        ("%%env_DD_API_KEY%%", Target("a", "")),
        ("%%host%%", Target("%%env_DD_API_KEY%%", "")),
        ("%%%%host%%%%", Target("env_DD_API_KEY", "")),
        ("x", Target("a", "", (("team", "%%env_DD_API_KEY%%"),))),
        ("x", Target("a", "", (("‰env_A‰", ""),))),
    ],
)
def test_no_target_names_a_variable_that_node_agents_would_resolve(of, target):
    with pytest.raises(BrokenConfig, match="environment"):
        instance(of, target)


def test_equal_targets_have_keys_of_their_own():
    targets = httpsd.read_targets(
        json.dumps([{"targets": ["a:1", "a:1"]}, {"targets": ["a:1", "b/c#2:1"], "labels": {"x": "y"}}])
    )
    assert [target.key for target in targets] == ["a:1", "a:1/2", "a:1/3", "b%2Fc%232:1"]


def test_places_hold_no_credentials_and_equal_ones_are_counted():
    urls = [f"https://user:hunter2@sd.example/targets?token={number}" for number in range(2)]
    entries = [{"url": url, "check_template": json.dumps(TEMPLATE)} for url in urls]
    one, other = httpsd.read_discoveries(json.dumps(entries))
    assert one.place == other.place == "https://sd.example/targets"
    assert (one.beginning, other.beginning) == (f"{one.place}/openmetrics/", f"{one.place}/openmetrics/2/")
    assert "hunter2" not in httpsd.config_of(one, Target("a", "1")).source


@table(
    ("text", "error"),
    [
        ("x", "is not JSON: expecting value at character 1"),
        ("{}", 'is not a list of maps, such as [{"url": "…", "check_template": {…}}]'),
        ("[{}]", "entry 1: url is not an address that begins with http:// or https://"),
        ('[{"url": "ftp://x"}]', "entry 1: url is not an address that begins with http:// or https://"),
        ('[{"url": "http://[x"}]', "entry 1: url is not an address that begins with http:// or https://"),
        ('[{"url": "http://x"}]', "entry 1: check_template needs the name of a check"),
        ('[{"url": "http://x", "check_template": "{"}]',
         "entry 1: check_template is not JSON: expecting property name enclosed in double quotes at character 2"),
        ('[{"url": "http://x", "check_template": {"name": "a"}}]', "entry 1: check_template needs a list with an instance"),
        ('[{"url": "http://x", "check_template": {"name": "a", "instances": [{}], "init_config": []}}]',
         "entry 1: check_template has an init_config that is not a map"),
    ],
)  # fmt: skip
def test_options_that_cant_be_read(text, error):
    with pytest.raises(InvalidDiscovery) as raised:
        httpsd.read_discoveries(text)
    assert str(raised.value) == error


def test_the_older_options_are_one_more_discovery(monkeypatch):
    monkeypatch.setattr(conf, "HTTP_SD_CONFIGS", json.dumps([{"url": "http://one/sd", "check_template": TEMPLATE}]))
    monkeypatch.setattr(conf, "HTTP_SD_URL", "http://one/sd")
    monkeypatch.setattr(conf, "HTTP_SD_CHECK_TEMPLATE", json.dumps(TEMPLATE))
    assert [one.number for one in httpsd.discoveries_of_options()] == [1, 2]
    assert not list(check_discoveries(None))
    assert httpsd.by_options().is_used


def test_options_that_cant_be_read_are_an_error_of_the_start(monkeypatch):
    monkeypatch.setattr(conf, "HTTP_SD_URL", "http://one/sd")
    (error,) = check_discoveries(None)
    source = httpsd.by_options()
    assert source.is_used
    assert errors(source) == ["the older form: check_template is empty"]
    assert source.scan().keeps("anything")
    assert error.msg == "DD_PROMETHEUS_HTTP_SD_CONFIGS: the older form: check_template is empty"


def test_no_options_are_no_discoveries():
    assert httpsd.read_discoveries(" ") == httpsd.read_discoveries("[]") == ()


@table(
    "text",
    [
        "",
        "x",
        "{}",
        "5",
        "[5]",
        '[{"targets": {}}]',
        '[{"targets": [5]}]',
        '[{"labels": []}]',
        '[{"labels": {"a": 1}}]',
        "[" * 99999,
    ],
)
def test_answers_that_are_no_targets(text):
    with pytest.raises(InvalidTargets, match="its answer"):
        httpsd.read_targets(text)


@table("text", ["[]", "null", "[{}]", '[{"targets": null, "labels": null}]'])
def test_answers_without_targets(text):
    assert httpsd.read_targets(text) == []


@given(host=st.text(), labels=st.dictionaries(st.text(), st.text(), max_size=3))
def test_no_target_makes_it_fail_otherwise(host, labels):
    for target in httpsd.read_targets(json.dumps([{"targets": [host, f"{host}:1"], "labels": labels}])):
        try:
            config = httpsd.config_of(discovery(), target)
        except BrokenConfig:
            continue
        assert config.instances[0]
        assert target.key.isascii()


def test_targets_that_come_and_go_are_found(source, answers):
    first = source.scan()
    assert first.found == []
    assert first.unsettled == {answers["url"]}
    assert first.keeps(f"{answers['url']}/openmetrics/any:1")
    assert wait_for("targets", lambda: keys(source)) == ["10.0.0.1:9100", "db:9100"]
    assert not source.scan().unsettled
    answers["body"] = gzip.compress(json.dumps([{"targets": ["db:9100", "web:80"]}]).encode())
    wait_for("a change", lambda: keys(source) == ["db:9100", "web:80"])
    answers["body"] = b"[]"
    wait_for("no targets", lambda: not keys(source))
    assert source.scan().problems == []


def test_an_edited_target_has_another_version(source, answers):
    before = wait_for("targets", lambda: source.scan().found)
    answers["body"] = json.dumps([GROUPS[0] | {"labels": {"team": "c"}}]).encode()
    wait_for("an edit", lambda: source.scan().found[0].version != before[0].version)
    assert "team:c" in source.scan().found[0].read().config.instances[0]


@table(
    ("answer", "error"),
    [
        ({"status": 503}, "it answers 503, not 200"),
        ({"status": 204, "body": b""}, "it answers 204, not 200"),
        ({"body": b"x"}, "its answer is not JSON: expecting value at character 1"),
        ({"body": b"[\xff]"}, "its answer is not UTF-8"),
        ({"body": b"\x1f\x8b" + b"x" * 20}, "it does not answer: DecodingError"),
        ({"body": b" " * 2000}, "its answer has more than 1000 bytes"),
    ],
)
def test_what_is_no_answer_keeps_the_targets_and_is_a_problem(source, answers, monkeypatch, answer, error):
    monkeypatch.setattr(httpsd, "MAX_BYTES", 1000)
    good = {"status": 200, "body": json.dumps(GROUPS).encode()}
    answers.update(good)
    wait_for("targets", lambda: keys(source) and not errors(source))
    answers.update(answer)
    wait_for("a problem", lambda: errors(source) == [error])
    assert keys(source) == ["10.0.0.1:9100", "db:9100"]
    assert not source.scan().readable


def test_a_url_that_never_answered_keeps_what_the_store_has(source, answers):
    answers["status"] = 500
    source.scan()
    wait_for("a problem", lambda: errors(source))
    scan = source.scan()
    assert scan.keeps(f"{answers['url']}/openmetrics/db:9100")
    assert not scan.unsettled


def test_a_redirect_is_followed(answers):
    answers.update({"status": 302, "Location": "/elsewhere"})
    with httpx.Client(follow_redirects=True) as client, pytest.raises(Away, match="it"):
        httpsd.fetch(client, answers["url"])
    assert answers["asked"] > 1


@pytest.mark.django_db
def test_what_urls_tell_is_dispatched(source, answers):
    wait_for("targets", lambda: keys(source))
    report = sync(lead(), sources=[source])
    assert len(report.added) == 2
    assert set(Origin.objects.values_list("source", flat=True)) == {"prometheus_http_sd"}
    answers["body"] = json.dumps([{"targets": ["db:9100"]}]).encode()
    wait_for("a change", lambda: keys(source) == ["db:9100"])
    report = sync(lead(), sources=[source])
    assert (len(report.removed), len(report.changed)) == (1, 1)
    assert Config.objects.count() == 1
    # Options may be others in another terminal.
    for elsewhere in (HTTPDiscovery(()), source):
        assert sync(sources=[elsewhere], accept_removals=True) == Report()
    assert Config.objects.count() == 1
    # When the option goes, the usual guards judge the removal.
    report = sync(lead(), sources=[HTTPDiscovery(())], accept_removals=True)
    assert len(report.removed) == 1


@pytest.mark.django_db
def test_the_next_leader_s_replica_takes_over_what_it_finds_as_it_was(source, answers, monkeypatch):
    """Otherwise it would read all again at each scan, and what is gone would wait for a replica that scans no more."""
    wait_for("targets", lambda: keys(source))
    sync(lead(), sources=[source])
    monkeypatch.setattr(conf, "REPLICA", "next")
    again = HTTPDiscovery([discovery(answers["url"])])
    try:
        wait_for("targets", lambda: keys(again))
        report = sync(lead(), sources=[again])
    finally:
        again.close()
    assert [*report.added, *report.changed, *report.removed] == []
    assert set(Origin.objects.values_list("scanned_by", flat=True)) == {"next"}


@pytest.mark.django_db
def test_without_options_there_is_no_source():
    sync(lead(), sources=[HTTPDiscovery(())])
    assert not Source.objects.filter(name=httpsd.SOURCE).exists()


def test_a_rule_that_fails_leaves_nothing_out(answers, monkeypatch):
    numbers = "[" + ",".join(["1"] * 1000) + "]"
    rule = f"target.host == 'db' || {numbers}.all(a, {numbers}.all(b, a * b > 0))"
    entry = {"url": answers["url"], "check_template": TEMPLATE, "exclude_filter": rule}
    source = HTTPDiscovery(httpsd.read_discoveries(json.dumps([entry])))
    assert wait_for("targets", lambda: keys(source)) == ["10.0.0.1:9100"]
    source.close()


def test_rules_leave_targets_out(answers, monkeypatch):
    monkeypatch.setattr(httpsd, "POLL_INTERVAL", 0.02)
    rule = 'target.host == "db" && target.port == "9100" && target.labels["team"] == "b"'
    entry = {"url": answers["url"], "check_template": TEMPLATE, "exclude_filter": rule}
    source = HTTPDiscovery(httpsd.read_discoveries(json.dumps([entry])))
    assert wait_for("targets", lambda: keys(source)) == ["10.0.0.1:9100"]
    source.close()
    with pytest.raises(InvalidDiscovery, match="undeclared reference"):
        httpsd.read_discoveries(json.dumps([entry | {"exclude_filter": "target.nonsense == 1"}]))
