"""Who listens is told once of each thing that begins or ceases to need somebody, whatever fails and whoever leads."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.db.models.functions import Now
from structlog.testing import capture_logs

from checks.models import Source
from checks.tasks import FAILED, NOT_LEADER
from checks.tests.cast import lead, report, silence
from clusteragent import webhook
from clusteragent.lib import conf
from clusteragent.models import Announcement
from nodes.models import Hearing, Heartbeat, hearing

pytestmark = pytest.mark.django_db


class Receiver:
    """What was told, and how it is answered: a status, or none at all."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.status: int | None = 200

    def numbers(self) -> list[int]:
        return [message["number"] for message in self.told]

    def kinds(self, word: str) -> list[list[str]]:
        return [[one["kind"] for one in message[word]] for message in self.told]


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    told = Receiver()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            told.paths.append(self.path)
            if told.status is not None:
                self.send_response(told.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(conf, "WEBHOOK", f"http://127.0.0.1:{server.server_port}/hook/s3cret")
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def healthy(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    Hearing.objects.update(last_pass=Now())
    monkeypatch.setattr(hearing, "STALE_PASS", timedelta(hours=1))


@pytest.fixture
def term() -> int:
    return lead()


def held() -> None:
    """A source holds removals back: that needs somebody."""
    Source.objects.filter(name="file").update(held_removals=["one"])


def accepted() -> None:
    Source.objects.filter(name="file").update(held_removals=[])


def wait_over() -> None:
    """The pause between two attempts is over."""
    Announcement.objects.filter(next_attempt__isnull=False).update(next_attempt=Now() - timedelta(seconds=1))


def test_nothing_is_told_while_all_is_well(receiver: Receiver, term: int) -> None:
    assert webhook.announce(term) == "nothing to tell"
    assert receiver.told == []


def test_what_begins_and_what_is_over_is_told_once(receiver: Receiver, term: int) -> None:
    held()
    assert webhook.announce(term) == "message 1 told"
    assert webhook.announce(term) == "nothing to tell"
    accepted()
    webhook.announce(term)
    webhook.announce(term)
    assert receiver.numbers() == [1, 2]
    assert receiver.kinds("new") == [["held_removals"], []]
    assert receiver.kinds("over") == [[], ["held_removals"]]
    assert receiver.paths == ["/hook/s3cret"] * 2


def test_a_message_says_which_what_how_many_since_when_and_where(
    receiver: Receiver, term: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CLUSTER_NAME", "prod")
    report("ash", "birch")
    silence("ash")
    webhook.announce(term)
    [message] = receiver.told
    since = Heartbeat.objects.get(node__name="ash").seen_at.isoformat(timespec="seconds")
    assert message == {
        "number": 1,
        "cluster": "prod",
        "text": "Cluster agent prod\nNew (silent, 1): ash is not heard.",
        "new": [
            {
                "kind": "silent",
                "subject": "",
                "count": 1,
                "cause": "ash is not heard.",
                "since": since,
                "link": "/admin/nodes/node/?state=silent",
            }
        ],
        "over": [],
        "needs_you": 1,
    }


def test_the_text_names_the_first_ten(receiver: Receiver, term: int) -> None:
    Source.objects.bulk_create(Source(name=f"api:{number}", held_removals=["x"]) for number in range(14))
    webhook.announce(term)
    [message] = receiver.told
    lines = message["text"].splitlines()
    assert len(lines) == 12
    assert lines[-1] == "… and 4 more"
    assert len(message["new"]) == 14


def test_more_of_the_same_is_no_news(receiver: Receiver, term: int) -> None:
    held()
    webhook.announce(term)
    Source.objects.filter(name="file").update(held_removals=["one", "two"])
    assert webhook.announce(term) == "nothing to tell"


@pytest.mark.parametrize("status", [500, 404, 301, 429, None])
def test_what_is_not_taken_is_sent_again_with_its_number(receiver: Receiver, term: int, status: int | None) -> None:
    receiver.status = status
    held()
    assert webhook.announce(term) == "message 1 failed"
    receiver.status = 204
    wait_over()
    assert webhook.announce(term) == "message 1 told"
    assert receiver.numbers() == [1, 1]
    assert receiver.told[0] == receiver.told[1]
    assert Announcement.objects.get().attempts == 0


def test_an_attempt_waits_twice_as_long_as_the_one_before(receiver: Receiver, term: int) -> None:
    receiver.status = 500
    held()
    pauses = []
    for _ in range(8):
        webhook.announce(term)
        assert webhook.announce(term) == "nothing to tell"
        row: Any = Announcement.objects.annotate(now=Now()).get()
        pauses.append(round((row.next_attempt - row.now).total_seconds()))
        wait_over()
    assert pauses == [pytest.approx(expected, abs=10) for expected in (15, 30, 60, 120, 240, 480, 600, 600)]


def test_what_changes_meanwhile_is_told_after_what_was_pending(receiver: Receiver, term: int) -> None:
    receiver.status = 500
    held()
    webhook.announce(term)
    accepted()
    receiver.status = 200
    wait_over()
    webhook.announce(term)
    webhook.announce(term)
    assert receiver.numbers() == [1, 1, 2]
    assert receiver.kinds("over") == [[], [], ["held_removals"]]


def test_a_new_leader_neither_repeats_nor_loses(receiver: Receiver, term: int) -> None:
    held()
    webhook.announce(term)
    report("ash", "birch")
    silence("ash")
    receiver.status = 503
    webhook.announce(term)
    receiver.status = 200
    wait_over()
    assert webhook.announce(term + 1) == NOT_LEADER
    new = lead()
    assert webhook.announce(term) == NOT_LEADER
    assert webhook.announce(new) == "message 2 told"
    assert webhook.announce(new) == "nothing to tell"
    assert receiver.kinds("new") == [["held_removals"], ["silent"], ["silent"]]
    assert receiver.numbers() == [1, 2, 2]


def test_a_leader_that_dies_while_it_sends_leaves_the_message_to_the_next(receiver: Receiver, term: int) -> None:
    held()
    message = webhook.due(webhook.alerts.current())
    assert message is not None
    assert webhook.announce(lead()) == "nothing to tell"
    wait_over()
    webhook.announce(lead())
    assert receiver.told == [message]


def test_an_arrival_that_is_noted_late_forgets_no_later_message(receiver: Receiver, term: int) -> None:
    held()
    webhook.announce(term)
    receiver.status = 500
    accepted()
    webhook.announce(term)
    webhook.arrived(1)
    assert Announcement.objects.get().pending["number"] == 2


def test_without_a_webhook_nothing_is_looked_at(term: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "WEBHOOK", "")
    held()
    assert webhook.announce(term) == "no webhook"
    assert not Announcement.objects.exists()


def test_neither_the_address_nor_a_secret_of_a_source_is_told(
    receiver: Receiver, term: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [{"where": "a.yaml", "line": 1, "error": "can't read: password: hunter2secret"}]
    Source.objects.filter(name="file").update(errors=errors)
    receiver.status = 500
    with capture_logs() as logs:
        webhook.announce(term)
        monkeypatch.setattr(conf, "WEBHOOK", "http://127.0.0.1:9/hook/s3cret")
        wait_over()
        webhook.announce(term)
    said = json.dumps([receiver.told, logs, list(Announcement.objects.values("told", "pending", "then_told"))])
    assert "hunter2secret" not in said
    assert "s3cret" not in said
    assert [line["error"] for line in logs] == ["it answered 500", "ConnectError"]


def test_no_proxy_of_the_environment_is_used(receiver: Receiver, term: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    held()
    assert webhook.announce(term) == "message 1 told"


def test_an_error_of_ours_is_the_tasks_own(receiver: Receiver, term: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook.alerts, "current", lambda: 1 // 0)
    with capture_logs() as logs:
        assert webhook.announce(term) == FAILED
    assert [line["event"] for line in logs] == ["announce_failed"]
