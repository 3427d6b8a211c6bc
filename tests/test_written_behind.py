"""Heartbeats that are answered before they are written: no answer is too old, and nothing late undoes what came since."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from checks import dispatcher
from clusteragent.lib import conf
from nodes.behind import CHANNEL, TOO_LATE
from nodes.models import Hearing, Heartbeat, Node, NodeEvent
from tests.replicas import descendants, wait_for
from tests.webserver import Answer, WebServer, database_url, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

# Seconds after a commit from which on no answer is of before it.
TOLD_AFTER = 0.2
ADDRESS = {"X-Real-Ip": "192.0.2.1"}


@pytest.fixture
def server(transactional_db: None, tmp_path: Path) -> Iterator[WebServer]:
    Hearing.objects.update(warmup=False)
    with serving(database_url(), tmp_path) as server:
        yield server


@pytest.fixture
def version(server: WebServer) -> int:
    """The version of ash, which the server knows well."""
    beat(server, 0)
    with transaction.atomic():
        Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
    version = Node.objects.get().config_version
    wait_for("the server answers without a look", lambda: answers_unseen(server, version))
    return version


def report(server: WebServer, version: int, **headers: str) -> Answer:
    body = json.dumps({"last_change": version})
    return server.call("POST", "/api/v1/clusterchecks/status/ash", body, headers=ADDRESS | headers)


def beat(server: WebServer, version: int, **headers: str) -> bool:
    answer = report(server, version, **headers)
    assert answer.status == 200, answer
    is_up_to_date: bool = json.loads(answer.body)["isuptodate"]
    return is_up_to_date


@contextmanager
def locked() -> Iterator[None]:
    """While nobody can write that ash was heard."""
    with transaction.atomic():
        assert Heartbeat.objects.select_for_update().get()
        yield


def answers_unseen(server: WebServer, version: int) -> bool:
    beat(server, version)
    with locked():
        return report(server, version).status == 200


def ears() -> list[int]:
    """The processes of PostgreSQL that serve who listens."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_backend_pid()' AND datname = current_database()"
        )
        return [pid for (pid,) in cursor.fetchall()]


def change() -> int:
    """Give ash another version, and return it when nobody may be told otherwise any more."""
    with transaction.atomic():
        Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
    time.sleep(TOLD_AFTER)
    return Node.objects.get().config_version


def test_what_was_answered_is_written_when_it_can_be(server, version):
    Heartbeat.objects.update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT, acknowledged=0)
    before = Heartbeat.objects.get().seen_at
    with locked():
        assert beat(server, version)
        assert Heartbeat.objects.get().seen_at == before
    wait_for("it is written", lambda: Heartbeat.objects.get().seen_at > before)
    assert Heartbeat.objects.get().acknowledged == version


def test_a_node_is_told_of_another_version_at_its_first_report_after_it(server, version):
    for _ in range(5):
        new = change()
        assert not beat(server, version)
        assert beat(server, new)
        version = new


def test_a_node_that_is_lost_is_told_so(server, version):
    Heartbeat.objects.update(seen_at=Now() - 2 * conf.NODE_EXPIRATION_TIMEOUT)
    assert dispatcher.expire_nodes(force=True) == []
    assert not Heartbeat.objects.exists()
    time.sleep(TOLD_AFTER)
    assert not beat(server, version)
    assert NodeEvent.objects.filter(kind="back").exists()


def test_who_hears_nothing_looks_before_it_answers(server, version):
    stopped = ears()
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        new = change()
        assert not beat(server, version)
        assert beat(server, new)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_what_changed_while_nobody_listened_is_known(server, version):
    for pid in ears():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    new = change()
    assert not beat(server, version)
    wait_for("it listens again", lambda: answers_unseen(server, new))
    assert not beat(server, version)


def test_a_report_that_waited_too_long_revives_nobody(server, version):
    workers = descendants(server.process.pid)
    with locked():
        wait_for("it answers at once", lambda: report(server, version).status == 200)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            Heartbeat.objects.all().delete()
            time.sleep(TOO_LATE)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
    wait_for("it is given up", lambda: "heartbeats_too_late" in server.log())
    assert not Heartbeat.objects.exists()


def test_another_address_or_a_fresh_start_is_written_before_it_is_answered(server, version):
    assert beat(server, version, **{"X-Real-Ip": "192.0.2.2"})
    assert Heartbeat.objects.get().client_ip == "192.0.2.2"
    assert not beat(server, 0, **{"X-Real-Ip": "192.0.2.2"})
    assert Heartbeat.objects.get().acknowledged == 0
    assert NodeEvent.objects.filter(kind="restarted").exists()


def test_every_change_of_a_version_and_every_loss_is_told_whoever_makes_it():
    ids = range(10**17, 10**17 + 1000)
    with psycopg.connect(database_url(), autocommit=True) as session, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO nodes_node (id, name, labels) SELECT id, id, '{}' FROM unnest(%s) AS id", [list(ids)]
        )
        cursor.execute("INSERT INTO nodes_heartbeat (node_id) SELECT id FROM nodes_node")
        session.execute(f"LISTEN {CHANNEL}".encode())
        for statement in (
            "UPDATE nodes_node SET config_version = config_version + 1",
            "DELETE FROM nodes_heartbeat",
            "UPDATE nodes_node SET draining = true",
        ):
            cursor.execute(statement)
            told = [notice.payload for notice in session.notifies(timeout=1)]
            assert all(len(payload) < 8000 for payload in told)
            expected = [] if "draining" in statement else list(ids)
            assert sorted(int(one) for payload in told for one in payload.split()) == expected
