"""Traces of dispatching, as a receiver of OTLP gets them from real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks import dispatcher
from checks.models import Config
from checks.tests.cast import lead, report, sent, silence
from clusteragent.lib import conf, traces
from tests.observed.receiver import Receiver, attributes, receiving
from tests.replicas import MANAGE, Replica, wait_for
from tests.webserver import LOCAL, database_url, free_port, serving

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def run(*command: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run Python with traces, until it ends."""
    given = {"DATABASE_URL": database_url(), "CLUSTERAGENT_TRACES": "true", **options}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")} | given
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def manage(*words: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run one of our commands with traces."""
    return run(str(MANAGE), *words, **options)


def run_task(name: str, term: int, receiver: Receiver) -> None:
    """Run a task of the worker in a process of its own."""
    text = f"import django; django.setup(); from checks import tasks; print(tasks.{name}({term}))"
    place = {"DJANGO_SETTINGS_MODULE": "clusteragent.settings", "PYTHONPATH": str(MANAGE.parent)}
    answer = run("-c", text, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **place)
    assert (answer.returncode, "failed" in answer.stdout) == (0, False), answer.stdout + answer.stderr


def test_a_pass_is_a_trace_of_what_it_read_decided_and_committed(receiver: Receiver) -> None:
    report("ash", "birch", "cedar", "elm")
    dispatcher.schedule([sent(f"check {number}") for number in range(8)])
    silence("ash")
    run_task("background_pass", term := lead(), receiver)

    [whole] = receiver.named("task pass")
    assert attributes(whole)["term"] == term
    assert whole.end_time_unix_nano > whole.start_time_unix_nano
    assert {span.trace_id for span in receiver.spans} == {whole.trace_id}
    parts = ["expire_nodes", "settle", "empty_leaving_nodes", "resume_due", "redispatch", "reconcile"]
    assert receiver.within(whole) == parts
    expired, placed = receiver.named("expire_nodes")[0], receiver.named("redispatch")[0]
    assert (attributes(expired)["moves"], attributes(placed)["moves"]) == (2, 2)
    assert receiver.within(placed) == ["read", "transaction"]
    [commit] = [span for span in receiver.named("transaction") if span.parent_span_id == placed.span_id]
    assert receiver.within(commit) == ["lock", "write"]
    assert receiver.senders[0]["service.name"] == "clusteragent"


def test_an_order_is_a_decision_and_its_commit(receiver: Receiver) -> None:
    report("ash", "birch")
    dispatcher.schedule([sent("one")])
    digest = Config.objects.get().digest
    answer = manage("pause", digest, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_SERVICE_NAME="checks of ours")
    assert answer.returncode == 0, answer.stderr
    [decided], [committed] = receiver.named("decide"), receiver.named("commit")
    assert attributes(decided) == {"verb": "pause", "configs": 1}
    assert attributes(committed) == {"moves": 1}
    assert {sender["service.name"] for sender in receiver.senders} == {"checks of ours"}


def test_a_sync_tells_how_much_changed_and_no_secret(receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "conf.d/http_check.d/conf.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("cluster_check: true\ninstances:\n  - {url: http://shop, password: hush-hush}\n")
    os.utime(file, (1, 1))
    options = {"CLUSTERAGENT_CONFD": str(tmp_path / "conf.d"), "CLUSTERAGENT_KUBERNETES": "off"}
    answer = manage("syncconfigs", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **options)
    assert answer.returncode == 0, answer.stderr
    # A sync is repeated while something may be being written.
    [synced] = [
        span for span in receiver.named("sync") if attributes(span)["source"] == "file" and attributes(span)["added"]
    ]
    assert attributes(synced) == {"source": "file", "added": 1, "changed": 0, "removed": 0}
    # On a busy machine a step may be tried again.
    assert list(dict.fromkeys(receiver.within(synced))) == ["schedule", "unschedule"]
    assert b"hush-hush" not in b"".join(receiver.bodies)
    assert b"http://shop" not in b"".join(receiver.bodies)


def test_the_leaders_worker_sends_its_passes(receiver: Receiver, tmp_path: Path) -> None:
    options = {"DATABASE_URL": database_url(), "CLUSTERAGENT_VAR": str(tmp_path), "CLUSTERAGENT_KUBERNETES": "off"}
    tracing = {
        "CLUSTERAGENT_TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    replica = Replica("runagent", {**os.environ, **options, **tracing}, tmp_path / "runagent.log")
    try:
        wait_for("passes and a scan", lambda: len(receiver.named("task pass")) > 2 and receiver.named("task scan"))
    finally:
        replica.terminate()
        replica.end()
    assert "opentelemetry" not in (tmp_path / "runagent.log").read_text()


@pytest.fixture
def traced(receiver: Receiver) -> dict[str, str]:
    """Options of a web server that sends its spans at once."""
    sending = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    return {"CLUSTERAGENT_TRACES": "true", **sending}


def test_node_agents_calls_are_spans_with_what_was_done_in_them(
    receiver: Receiver, traced: dict[str, str], tmp_path: Path
) -> None:
    report("ash")
    with serving(database_url(), tmp_path, **traced) as server:
        client = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
        status = "/api/v1/clusterchecks/status/hush-hush?hush=hush"
        assert server.call("POST", status, '{"last_change": 0}', headers=client).status == 200
        assert server.call("POST", "/api/v1/clusterchecks/rebalance", token=LOCAL).status == 200
        assert server.call("HUSH", "/hush-hush").status == 404
        wait_for("all are told", lambda: receiver.named("_OTHER /"))
    [beat] = receiver.named("POST /api/v1/clusterchecks/status/<name>")
    assert attributes(beat) == {
        "port": "agents",
        "http.request.method": "POST",
        "http.route": "/api/v1/clusterchecks/status/<name>",
        "http.response.status_code": 200,
    }
    # No node agent says which trace its calls belong to.
    assert (beat.parent_span_id, beat.trace_id == bytes.fromhex("1" * 32)) == (b"", False)
    [ordered] = receiver.named("POST /api/v1/clusterchecks/rebalance")
    assert "decide" in receiver.within(ordered)
    assert b"hush" not in b"".join(receiver.bodies).lower()


def test_operators_calls_go_on_with_the_callers_trace(
    receiver: Receiver, traced: dict[str, str], tmp_path: Path
) -> None:
    with serving(database_url(), tmp_path, whom="operators", **traced) as server:
        client = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01", "Host": "localhost"}
        assert (
            server.call(
                "GET", "/api/operator/v1/nodes/hush-hush/?hush=hush", token="Bearer hush", headers=client
            ).status
            == 401
        )
        assert server.call("GET", "/admin/login/", token=None, headers={"Host": "evil.example.com"}).status == 400
        assert (
            server.call("GET", "/admin/login/", token=None, headers={"traceparent": "hush", "Host": "localhost"}).status
            == 200
        )
        wait_for("all are told", lambda: len(receiver.named("GET /admin/login/")) == 2)
    [asked] = receiver.named("GET /api/operator/v1/nodes/<name>")
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == ("1" * 32, "2" * 16)
    assert (attributes(asked)["port"], attributes(asked)["http.response.status_code"]) == ("operators", 401)
    assert not any(span.parent_span_id for span in receiver.named("GET /admin/login/"))
    assert b"hush" not in b"".join(receiver.bodies).lower()


def test_an_error_is_told_by_its_type_alone(receiver: Receiver) -> None:
    text = "from clusteragent.lib.traces import span\nwith span('outer'):\n  with span('inner'):\n    raise OSError('hush-hush')"
    place = {"PYTHONPATH": str(MANAGE.parent)}
    assert run("-c", text, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **place).returncode == 1
    assert [span.status.message for span in receiver.spans] == ["OSError", "OSError"]
    assert b"hush-hush" not in b"".join(receiver.bodies)


def test_a_receiver_that_is_away_changes_nothing() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    answer = manage("pause", Config.objects.get().digest, **away)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("Failed to export") == 1
    assert "retrying" not in answer.stderr
    assert Config.objects.get().pause


def test_a_setting_that_opentelemetry_refuses_is_told_once_and_changes_nothing() -> None:
    report("ash")
    dispatcher.schedule([sent("one")])
    answer = manage("pause", Config.objects.get().digest, OTEL_BSP_SCHEDULE_DELAY="-1")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.count("traces_failed") == 1
    assert Config.objects.get().pause


def test_spans_can_be_written_to_the_console_beside_an_answer() -> None:
    answer = manage("freeze", "--json", OTEL_TRACES_EXPORTER="console")
    assert answer.returncode == 0, answer.stderr
    assert '"service.name"' not in answer.stdout


def test_an_exporter_that_there_is_not_is_refused() -> None:
    answer = manage("status", OTEL_TRACES_EXPORTER="zipkin")
    assert answer.returncode != 0
    assert "OTEL_TRACES_EXPORTER is 'zipkin', allowed is" in answer.stderr


def test_what_is_off_loads_nothing_and_records_nothing(receiver: Receiver) -> None:
    assert not conf.TRACES
    assert traces.span("a") is traces.span("b")
    text = "import sys, django; django.setup(); print([name for name in sys.modules if 'opentelemetry' in name])"
    place = {"DJANGO_SETTINGS_MODULE": "clusteragent.settings", "PYTHONPATH": str(MANAGE.parent)}
    answer = run("-c", text, CLUSTERAGENT_TRACES="", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **place)
    assert (answer.stdout, receiver.spans) == ("[]\n", [])
