"""Sessions behind a pooler are recognised, and take no lock."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from django.db import connection
from structlog.testing import capture_logs

from clusteragent import upgrade
from clusteragent.leader import Candidate
from clusteragent.lib import conf, locks
from clusteragent.lib.database import listening
from clusteragent.lib.locks import Lock
from tests.webserver import database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop the parameters of new connections, as a pooler does."""
    usual = connection.get_connection_params
    monkeypatch.setattr(connection, "get_connection_params", lambda: usual() | {"options": ""})


@pytest.mark.parametrize("take", [locks.acquire, locks.try_acquire])
def test_a_lock_is_taken_in_a_session_of_our_own_alone(take: Any) -> None:
    with psycopg.connect(database_url(), autocommit=True) as session:
        with pytest.raises(locks.Pooled, match="CLUSTERAGENT_DIRECT_DATABASE_URL"):
            take(session.cursor(), Lock.SYNC)
        [held] = session.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert held == (0,)
    with connection.cursor() as cursor:
        take(cursor, Lock.SYNC)
        assert locks.release(cursor, Lock.SYNC)


def test_another_process_of_ours_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setattr(locks, "_MARK", "another")
    with connection.cursor() as cursor, pytest.raises(locks.Pooled):
        locks.acquire(cursor, Lock.SYNC)


@pytest.mark.usefixtures("shared")
def test_nobody_leads_through_a_pooler() -> None:
    with Candidate() as candidate, pytest.raises(locks.Pooled):
        candidate.campaign()


@pytest.mark.parametrize(
    ("direct", "named"), [("", "DATABASE_URL"), ("postgresql://pooler/name", "CLUSTERAGENT_DIRECT_DATABASE_URL")]
)
@pytest.mark.usefixtures("shared")
def test_nobody_migrates_through_a_pooler_and_the_url_that_leads_there_is_named(
    direct: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "DATABASE_URL", "postgresql://pooler/name")
    monkeypatch.setattr(conf, "DIRECT_DATABASE_URL", direct)
    with pytest.raises(upgrade.DatabaseError, match=f"^{named}: The database is reached through a pooler"):
        upgrade.upgrade()


def test_who_listens_through_a_pooler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = listening.parameters()
    monkeypatch.setattr(listening, "parameters", lambda: usual | {"options": ""})
    missed: list[None] = []
    listener = listening.Listener("some", heard=lambda _: None, missed=lambda: missed.append(None))

    async def listen() -> None:
        task = asyncio.create_task(listener.run())
        async with asyncio.timeout(20):
            while not logs:
                await asyncio.sleep(0.01)
        task.cancel()

    with capture_logs() as logs:
        asyncio.run(listen())
    [line] = logs
    assert line["event"] == "not_listening"
    assert "CLUSTERAGENT_DIRECT_DATABASE_URL" in line["error"]


def test_a_direct_url_adds_to_our_options(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = "postgresql://someone@elsewhere:6543/other?options=-c%20work_mem%3D8MB"
    monkeypatch.setattr(conf, "DIRECT_DATABASE_URL", direct)
    parameters = listening.parameters()
    assert (parameters["host"], parameters["port"], parameters["dbname"]) == ("elsewhere", "6543", "other")
    assert locks.MARKED in parameters["options"]
    assert parameters["options"].endswith("-c work_mem=8MB")


@pytest.mark.parametrize(("direct", "threshold"), [("", "5"), ("postgresql://db/clusteragent", "None")])
def test_statements_are_prepared_where_there_is_no_pooler(direct: str, threshold: str) -> None:
    code = (
        "from clusteragent.settings import DATABASES; print(DATABASES['default']['OPTIONS'].get('prepare_threshold'))"
    )
    environment = os.environ | {"CLUSTERAGENT_PORT": "agents", "CLUSTERAGENT_DIRECT_DATABASE_URL": direct}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == threshold
