"""Heartbeats that are answered before they are written: no answer is too old, and a late write undoes no later change."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from psycopg.conninfo import make_conninfo

from checks import dispatcher
from clusteragent.lib import conf, locks
from nodes.models import Hearing, Heartbeat, Node, NodeEvent
from nodes.writebehind import CHANNEL, EVERY, PROMPT, TOO_LATE
from tests.replicas import descendants, wait_for
from tests.webserver import TOLD_AFTER, Answer, WebServer, database_url, exchange, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.processes]

ADDRESS = {"X-Real-Ip": "192.0.2.1"}


@pytest.fixture(scope="module")
def started(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(database_url(), tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture
def server(started: WebServer, transactional_db: None) -> WebServer:
    Hearing.objects.update(warmup=False)
    return started


@pytest.fixture
def version(server: WebServer) -> int:
    """The version of ash, which the server has in memory."""
    beat(server, 0)
    version = change()
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
    """Lock the heartbeat of ash during the block, so that nobody can write it."""
    with transaction.atomic():
        assert Heartbeat.objects.select_for_update().get()
        yield


def answers_unseen(server: WebServer, version: int) -> bool:
    """Whether the server answers a report that it can't write yet. Such a report is written when this returns."""
    beat(server, version)
    with locked():
        before = Heartbeat.objects.get().seen_at
        is_unseen = report(server, version).status == 200
    if is_unseen:
        wait_for("it is written", lambda: Heartbeat.objects.get().seen_at > before)
    return is_unseen


def ears() -> list[int]:
    """Return the PostgreSQL processes of the sessions that listen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE query = %s AND datname = current_database()", [locks.READ_MARK]
        )
        return [pid for (pid,) in cursor.fetchall()]


def change() -> int:
    """Give ash another version; return it when no server may answer by the old one any more."""
    with transaction.atomic():
        Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
    time.sleep(TOLD_AFTER)
    return Node.objects.get().config_version


def test_what_was_answered_is_written_when_it_can_be(server, version):
    Heartbeat.objects.update(seen_at=Now() - conf.NODE_EXPIRATION_TIMEOUT, acknowledged=0)
    before = Heartbeat.objects.get().seen_at
    with locked():
        wait_for("it answers at once", lambda: report(server, version).status == 200)
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


def test_what_was_learnt_while_nobody_listened_does_not_count(server, version):
    times = 0
    for _ in range(20):
        for pid in ears():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
        # It looks, and learns what is over when it listens again.
        wait_for("nobody listens", lambda: not ears())
        assert beat(server, version)
        if ears():
            # On a busy machine it may listen before it has answered, which proves nothing.
            continue
        times += 1
        with transaction.atomic():
            Node.objects.bump_versions(Node.objects.values_list("pk", flat=True))
        new = Node.objects.get().config_version
        wait_for("it listens again", ears)
        wait_for("it is proved to", partial(answers_unseen, server, new))
        assert not beat(server, version)
        version = new
        if times == 3:
            return
    pytest.fail("it listened each time before it answered")


def test_who_listens_elsewhere_looks_before_it_answers(transactional_db: None, tmp_path: Path):
    Hearing.objects.update(warmup=False)
    elsewhere = make_conninfo(database_url(), dbname="postgres")
    with serving(database_url(), tmp_path, CLUSTERAGENT_DIRECT_DATABASE_URL=elsewhere) as server:
        beat(server, 0)
        for _ in range(5):
            version = change()
            for _ in range(20):
                beat(server, version)
            assert not answers_unseen(server, version)
            change()
            assert not beat(server, version)


def test_a_report_that_is_taken_back_stops_nothing(server, version):
    other = {"X-Real-Ip": "192.0.2.2"}
    with closing(server.connect()) as kept:
        for headers in (ADDRESS, other):
            body = json.dumps({"last_change": version})
            exchange(kept, "POST", "/api/v1/clusterchecks/status/ash", body, headers=headers)
    time.sleep(PROMPT)
    wait_for("it answers unseen again", lambda: answers_unseen(server, version))


def test_while_nothing_can_be_written_nobody_is_told_that_it_was(server, version):
    logged = len(server.log())

    def notices() -> int:
        return server.log()[logged:].count("heartbeats_not_written")

    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;"
            " CREATE TRIGGER refuse BEFORE UPDATE ON nodes_heartbeat EXECUTE FUNCTION refuse()"
        )
        try:
            # Until a write behind an answer fails, reports may be answered that are not written yet.
            wait_for("it is noticed", lambda: report(server, version) and notices())
            assert {report(server, version).status for _ in range(100)} == {500}
        finally:
            cursor.execute("DROP FUNCTION refuse() CASCADE")
    wait_for("it answers unseen again", lambda: answers_unseen(server, version))
    log = server.log()[logged:]
    assert log.count("request_failed") <= 10
    assert notices() <= 3


def lets_a_report_wait(server: WebServer, version: int) -> bool:
    """Stop the server for too long after it has answered a report and not written it; delete the heartbeat meanwhile.

    Returns False if it wrote first: on a busy machine it may just have heard too little.
    """
    # A server that asked the database before, and was kept waiting, does so until it has been told of the node again.
    wait_for("the server answers without a look", lambda: answers_unseen(server, version))
    with locked():
        if report(server, version).status != 200:
            return False
        workers = descendants(server.process.pid)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            Heartbeat.objects.all().delete()
            time.sleep(TOO_LATE)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
    return True


def test_a_report_that_waited_too_long_revives_nobody(server, version):
    wait_for("a report waits for too long", lambda: lets_a_report_wait(server, version))
    wait_for("all that waited is dealt with", lambda: server.call("GET", "/version").status == 200)
    time.sleep(5 * EVERY)
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
            # Without the words by which the server proves that it listens.
            payloads = (notice.payload for notice in session.notifies(timeout=1))
            told = [payload for payload in payloads if not payload.startswith("#")]
            assert all(len(payload) < 8000 for payload in told)
            expected = [] if "draining" in statement else list(ids)
            assert sorted(int(one) for payload in told for one in payload.split()) == expected
