"""The leader's lock and lease: sessions of their own against a real server."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection

from checks.models import ClusterStore
from checks.models.map import Call
from clusteragent import leader
from clusteragent.leader import Candidate, TermOver
from tests.replicas import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def candidate() -> Iterator[Callable[[], Candidate]]:
    made: list[Candidate] = []

    def make() -> Candidate:
        made.append(Candidate())
        return made[-1]

    yield make
    for one in made:
        one.resign()


def test_one_of_two_gets_the_lock_and_the_other_waits_a_second(candidate: Callable[[], Candidate]) -> None:
    assert candidate().campaign()
    start = time.monotonic()
    assert not candidate().campaign()
    assert 0.9 < time.monotonic() - start < 5


def test_a_lock_that_was_given_back_is_free_at_once(candidate: Callable[[], Candidate]) -> None:
    first, second = candidate(), candidate()
    assert first.campaign()
    first.resign()
    assert second.campaign()


def test_each_term_is_newer_than_the_last_and_than_the_clock(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    first = session.begin_term()
    assert abs(first / 1e9 - time.time()) < 60
    assert session.begin_term() > first


def test_a_term_beyond_the_clock_is_followed_by_a_later_one_and_by_another_after_a_restore(
    candidate: Callable[[], Candidate],
) -> None:
    future, terms = 2**62, set[int]()
    for _ in range(5):
        ClusterStore.objects.update(term=future)
        terms.add(candidate().begin_term())
    assert len(terms) == 5
    assert min(terms) > future


def test_the_store_names_the_leader_of_the_term(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    term = session.begin_term()
    store = ClusterStore.objects.get()
    assert (store.term, store.leader) == (term, session.name)


def test_a_session_that_the_server_ended_begins_no_term(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    assert session.campaign()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'clusteragent leader'"
        )
    assert candidate().campaign()
    with pytest.raises(psycopg.OperationalError):
        session.begin_term()
    assert ClusterStore.objects.get().term == 0


def test_a_holder_that_stops_pinging_loses_the_lock(
    candidate: Callable[[], Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "LEASE", leader.LEASE.replace("idle_session_timeout=6s", "idle_session_timeout=200ms"))
    hung, other = candidate(), candidate()
    assert hung.campaign()
    assert other.campaign(), "the server ends the hung session within the second that the other waits"
    with pytest.raises(psycopg.OperationalError):
        hung.ping(0)


def test_the_lease_is_longer_than_five_pings_and_shorter_than_ten(candidate: Callable[[], Candidate]) -> None:
    with candidate()._session.cursor() as cursor:
        cursor.execute("SELECT setting::int FROM pg_settings WHERE name = 'idle_session_timeout'")
        assert cursor.fetchone() == (6000,)


def test_a_new_leader_waits_longer_for_a_change_of_the_map_than_a_candidate_for_the_lock(
    candidate: Callable[[], Candidate],
) -> None:
    session = candidate()
    with session._session.cursor() as cursor:
        limits = []
        for begin in (session.campaign, session.begin_term):
            begin()
            limits += cursor.execute("SELECT current_setting('lock_timeout')").fetchone() or ()
    assert limits == ["1s", "10s"]


def test_a_ping_tells_that_another_term_began(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    term = session.begin_term()
    session.ping(term)
    ClusterStore.objects.update(term=term + 1)
    with pytest.raises(TermOver, match=f"term {term} is over"):
        session.ping(term)


def test_a_call_for_a_pass_or_a_scan_is_heard(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    session.begin_term()
    assert session.calls(0.01) == set()
    ClusterStore.objects.wake()
    assert session.calls(5) == {"pass"}
    ClusterStore.objects.wake(Call.SCAN)
    assert session.calls(5) == {"scan"}


def test_a_call_that_came_during_a_ping_is_not_lost(candidate: Callable[[], Candidate]) -> None:
    session = candidate()
    term = session.begin_term()
    ClusterStore.objects.wake()
    session.ping(term)
    assert session.calls(5) == {"pass"}


def test_a_database_that_is_not_migrated_makes_no_candidate_and_keeps_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", "template1")
        with pytest.raises(psycopg.errors.UndefinedTable) as error:
            Candidate()
    assert error.tb, "its frames keep a session that is not closed"
    with connection.cursor() as cursor:
        left = "SELECT 1 FROM pg_stat_activity WHERE datname = 'template1' AND application_name = 'clusteragent leader'"
        wait_for("no session is left", lambda: cursor.execute(left).fetchone() is None)
