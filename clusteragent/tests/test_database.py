"""Calls end in time, also on connections that are broken."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import DataError, OperationalError, connection, connections
from django.db.utils import ConnectionHandler

from clusteragent.lib import database
from tests.webserver import database_url

pytestmark = pytest.mark.django_db(transaction=True)


def run(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@pytest.fixture(autouse=True)
def outage(monkeypatch: pytest.MonkeyPatch) -> database._Outage:
    """A state of outages for this test, with no outage."""
    outage = database._Outage()
    monkeypatch.setattr(database, "_outage", outage)
    return outage


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(database, "LIMIT", 0.3)
    return 0.3


def kill_our_backend() -> None:
    pid = run("SELECT pg_backend_pid()")
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def counted(work: Callable[[], Any]) -> tuple[list[int], Callable[[], Any]]:
    """Return the work, and a list that grows with each of its runs."""
    calls: list[int] = []

    def work_and_count() -> Any:
        calls.append(1)
        return work()

    return calls, work_and_count


def test_a_kept_connection_that_died_is_replaced_and_the_work_done_once_more() -> None:
    kill_our_backend()
    calls, work = counted(lambda: run("SELECT 1"))
    assert database.ask(work) == 1
    assert len(calls) == 2


def test_a_fresh_connection_that_fails_is_not_tried_again() -> None:
    connection.close()
    calls, work = counted(lambda: run("SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(database.Lost):
        database.ask(work)
    assert len(calls) == 1


def test_a_statement_that_was_given_up_is_away_but_no_outage(outage: database._Outage) -> None:
    calls, work = counted(lambda: run("SET statement_timeout = 10; SELECT pg_sleep(1)"))
    with pytest.raises(database.Away) as error:
        database.ask(work)
    assert not isinstance(error.value, database.Lost)
    assert len(calls) == 1
    assert database.ask(lambda: run("SHOW statement_timeout")) == "1min"


def test_an_error_of_ours_stays_what_it_is() -> None:
    with pytest.raises(DataError):
        database.ask(lambda: run("SELECT 1/0"))
    assert database.ask(lambda: run("SELECT 1")) == 1


def test_a_server_that_does_not_answer_is_given_up_in_time(short_limit: float) -> None:
    connection.ensure_connection()
    calls, work = counted(lambda: run("SELECT pg_sleep(2)"))
    began = time.monotonic()
    with pytest.raises(database.Lost):
        database.ask(work)
    assert time.monotonic() - began < short_limit + 0.5
    assert len(calls) == 1
    assert connection.connection is None


def test_a_limit_within_a_limit_is_the_rest_of_it(short_limit: float) -> None:
    began = time.monotonic()
    with pytest.raises(database.Lost):
        database.ask(lambda: list(database.in_time(run("SELECT pg_sleep(0.2)") for _ in range(5))))
    assert time.monotonic() - began < short_limit + 0.5


def test_nothing_limits_work_outside_of_a_call(short_limit: float) -> None:
    assert database.remaining() is None
    assert run("SELECT pg_sleep(0.5)") == ""


def test_in_an_outage_one_call_at_a_time_finds_out_and_the_others_do_not_wait(
    outage: database._Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_PAUSE", 0)
    fail_once(outage)
    is_asking, may_answer = threading.Event(), threading.Event()

    def scout() -> None:
        with outage.turn():
            is_asking.set()
            may_answer.wait(5)

    thread = threading.Thread(target=scout)
    thread.start()
    is_asking.wait(5)
    with pytest.raises(database.Lost):
        database.ask(lambda: run("SELECT 1"))
    may_answer.set()
    thread.join()
    assert database.ask(lambda: run("SELECT 1")) == 1


def test_after_a_failure_nobody_asks_for_a_moment(outage: database._Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PAUSE", 1000)
    fail_once(outage)
    calls, work = counted(lambda: 1)
    with pytest.raises(database.Lost):
        database.ask(work)
    assert not calls


def test_what_no_call_waits_for_begins_no_outage_and_fails_in_one(outage: database._Outage) -> None:
    def fail() -> None:
        raise OperationalError("gone") from psycopg.errors.AdminShutdown()

    with pytest.raises(database.Lost):
        database.ask_aside(fail)
    assert database.ask(lambda: run("SELECT 1")) == 1
    fail_once(outage)
    calls, work = counted(lambda: 1)
    with pytest.raises(database.Lost):
        database.ask_aside(work)
    assert not calls


def fail_once(outage: database._Outage) -> None:
    with pytest.raises(database.Lost), outage.turn():
        raise database.Lost from OperationalError("gone")


def test_a_slow_first_host_delays_calls_no_longer_than_the_limit_and_the_second_is_reached(short_limit: float) -> None:
    with deaf_server() as port:
        handler = ConnectionHandler({"default": behind(port)})
        connecting = handler["default"]
        began, waits = time.monotonic(), []
        while connecting.connection is None:
            assert time.monotonic() < began + 10
            asked = time.monotonic()
            with database.limited():
                try:
                    connecting.ensure_connection()
                except OperationalError:
                    waits.append(time.monotonic() - asked)
        connecting.close()
    assert 0.2 < min(waits) <= max(waits) < short_limit + 0.5
    assert time.monotonic() - began < 2 + 2 * short_limit + 1  # connect_timeout is two seconds, once


@contextmanager
def deaf_server() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def behind(port: int) -> dict[str, Any]:
    """The URL of the tests' database as the second of two hosts."""
    settings = dict(connections["default"].settings_dict)
    host, own_port = settings["HOST"] or "", settings["PORT"] or "5432"
    return settings | {"HOST": f"127.0.0.1,{host}", "PORT": f"{port},{own_port}"}
