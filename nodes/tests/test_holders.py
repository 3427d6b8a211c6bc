"""A name belongs to the address that reports in it first, until that is silent or says goodbye."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from django.db.models import F
from django.test import Client, RequestFactory
from rest_framework.exceptions import PermissionDenied

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes import holders, views
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat, note_heartbeats
from nodes.holders import Holders, settle
from nodes.models import Heartbeat, Node, NodeEvent
from nodes.models.heartbeats import Claim, Report
from tests.map import register

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
HERE, THERE = "192.0.2.1", "192.0.2.2"
REPORT = {"last_change": 0}


@pytest.fixture(autouse=True)
def _refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ONE_ADDRESS", "refuse")
    register("ash", 7)


def call(holders: Holders, address: str, name: str = "ash", method: str = "POST", **meta: str) -> None:
    request = RequestFactory().generic(method, "/", REMOTE_ADDR=address, **meta)
    holders.require(request, name, is_report=method == "POST")


def is_refused(*words: Any, **meta: Any) -> bool:
    try:
        call(*words, **meta)
    except PermissionDenied as error:
        return str(error.detail) == "ash reports from another address"
    return False


def agent(address: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """The answer to a node agent at this address, by the process of the web server."""
    headers = {"Authorization": f"Bearer {conf.AUTH_TOKEN}"}
    how: Any = {"data": body, "content_type": "application/json"} if body is not None else {}
    answer = getattr(Client(REMOTE_ADDR=address), "get" if body is None else "post")(
        f"/api/v1/clusterchecks/{path}", headers=headers, **how
    )
    return answer.status_code, answer.content


def notes() -> list[str]:
    return list(NodeEvent.objects.filter(kind=NodeEvent.Kind.TWO_ADDRESSES).values_list("cause", flat=True))


def test_a_second_address_is_refused_by_every_process_and_noted() -> None:
    call(Holders(), HERE)
    for method in ("POST", "GET"):
        assert is_refused(Holders(), THERE, method=method)
        assert not is_refused(Holders(), HERE, method=method)
    assert notes() == [f"{HERE} and {THERE}"]


def test_what_agents_say_of_their_address_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    call(Holders(), HERE)
    assert is_refused(Holders(), THERE, HTTP_X_REAL_IP=HERE, HTTP_X_FORWARDED_FOR=HERE)
    monkeypatch.setattr(conf, "TRUSTED_PROXIES", (ip_network("10.0.0.1/32"),))
    assert is_refused(Holders(), "10.0.0.1", HTTP_X_FORWARDED_FOR=THERE)
    assert not is_refused(Holders(), "10.0.0.1", HTTP_X_FORWARDED_FOR=HERE)


def test_a_holder_that_is_silent_for_the_timeout_or_said_goodbye_holds_nothing() -> None:
    call(Holders(), HERE)
    Heartbeat.objects.update(seen_at=F("seen_at") - conf.NODE_EXPIRATION_TIMEOUT + timedelta(seconds=5))
    assert is_refused(Holders(), THERE)
    Heartbeat.objects.update(seen_at=F("seen_at") - timedelta(seconds=6))
    call(Holders(), THERE)
    note_heartbeat("ash", last_change=-1)
    assert is_refused(Holders(), HERE)
    note_goodbye("ash", "restarting")
    call(Holders(), HERE)


def test_a_process_that_heard_the_holder_lately_asks_nothing(django_assert_num_queries: Any) -> None:
    holders = Holders()
    call(holders, HERE)
    with django_assert_num_queries(0):
        call(holders, HERE)
        call(holders, HERE, method="GET")
    assert is_refused(holders, THERE)
    assert not is_refused(holders, HERE)


def test_a_process_that_has_not_heard_the_holder_for_long_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may hold the name by now."""
    holders = Holders()
    call(holders, HERE)
    note_goodbye("ash", "leaving")
    call(Holders(), THERE)
    Node.objects.update(leaving=False)
    monkeypatch.setattr(conf, "NODE_EXPIRATION_TIMEOUT", timedelta(0))
    Heartbeat.objects.update(seen_at=F("seen_at") + timedelta(hours=1))
    assert is_refused(holders, HERE)


def test_one_of_two_that_claim_at_once_gets_it() -> None:
    assert settle([Claim("ash", HERE, True), Claim("ash", THERE, True)]) == [HERE, HERE]


def test_a_name_is_taken_by_a_report_alone() -> None:
    call(Holders(), THERE, method="GET")
    assert settle([Claim("ash", THERE, False), Claim("ash", HERE, True)]) == [HERE, HERE]
    assert is_refused(Holders(), THERE)


class TestByTheWebServer:
    """A process that has heard nobody yet."""

    pytestmark = pytest.mark.urls("clusteragent.urls.agents")

    @pytest.fixture(autouse=True)
    def _new(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(views, "HOLDERS", Holders())

    def test_the_first_report_of_a_new_name_takes_it(self) -> None:
        """Else whoever calls before its second report would hold it, and shut the node out."""
        assert agent(HERE, "status/elm", REPORT)[0] == 200
        assert agent(THERE, "configs/elm")[0] == 403
        assert agent(THERE, "goodbye/elm", {"kind": "leaving"})[0] == 403
        assert agent(THERE, "status/elm", REPORT)[0] == 403
        assert agent(HERE, "status/elm", REPORT)[0] == 200

    def test_a_process_that_heard_a_goodbye_asks_who_has_the_name_now(self) -> None:
        assert agent(HERE, "status/ash", REPORT)[0] == 200
        assert agent(HERE, "goodbye/ash", {"kind": "restarting"})[0] == 200
        call(Holders(), THERE)
        Node.objects.update(kept_until=None)
        assert agent(HERE, "configs/ash")[0] == 403

    @pytest.mark.parametrize("kind", ["leaving", "restarting"])
    def test_who_takes_a_name_after_a_goodbye_holds_it(self, kind: str) -> None:
        """A node without configs can't show that it started again, so it leaves, as it said, for long after that."""
        for who in (HERE, THERE):
            assert agent(who, "status/elm", REPORT)[0] == 200
            assert agent(who, "goodbye/elm", {"kind": kind})[0] == 200
            assert agent(who, "status/elm", REPORT)[0] == 200, "until somebody else takes it, it is its own"
        assert agent("192.0.2.3", "status/elm", REPORT)[0] == 200
        for former in (HERE, THERE):
            assert agent(former, "status/elm", REPORT)[0] == 403
            assert agent(former, "configs/elm")[0] == 403
        assert agent("192.0.2.3", "configs/elm")[0] == 200

    def test_what_is_no_name_is_refused_before_it_is_asked_who_holds_it(self) -> None:
        """The question goes together with those of other nodes, which would fail with it."""
        refusal = 400, b"a node's name is one path segment of printable characters\n"
        assert agent(HERE, "status/a%00b", REPORT) == refusal
        assert agent(HERE, "goodbye/a%00b", {"kind": "leaving"}) == refusal
        assert agent(HERE, "configs/a%00b") == refusal


def test_an_address_that_postgresql_writes_otherwise_holds_its_name() -> None:
    for _ in range(2):
        call(Holders(), "::1.2.3.4")
    assert notes() == []


def test_names_that_are_not_known_are_held_by_nobody() -> None:
    call(Holders(), HERE, "elm")
    call(Holders(), THERE, "elm")
    assert notes() == []


def test_who_reports_on_after_its_goodbye_is_refused_once_another_has_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that heard neither the goodbye nor the other one, however often it is called."""
    one, clock = Holders(), iter(range(0, 600, 5))
    monkeypatch.setattr(holders, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    call(one, HERE)
    note_goodbye("ash", "restarting")
    call(Holders(), THERE)
    Node.objects.update(kept_until=None)
    answers = [is_refused(one, HERE) for _ in range(10)]
    assert answers == sorted(answers)
    assert answers[-1]


def test_where_it_is_not_refused_no_call_waits_for_who_holds_the_name(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    for mode in ("off", "tell"):
        monkeypatch.setattr(conf, "ONE_ADDRESS", mode)
        with django_assert_num_queries(0):
            call(Holders(), HERE)
            call(Holders(), THERE)


def alone(address: str) -> None:
    """A report of ash from this address, written by itself."""
    note_heartbeat("ash", last_change=7, peer=address)


def behind(address: str) -> None:
    """The same, written with others after its answer."""
    note_heartbeats([Report("ash", 7, peer=address, age=0.001)])


class TestTold:
    """Who holds a name is noted by its reports; nobody is refused."""

    @pytest.fixture(autouse=True)
    def _tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conf, "ONE_ADDRESS", "tell")

    @pytest.mark.parametrize("report", [alone, behind])
    def test_who_comes_back_is_noted(self, report: Callable[[str], None]) -> None:
        report(HERE)
        for _ in range(2):
            report(THERE)
            assert notes() == [], "a node that moved calls from its new address alone"
        report(HERE)
        assert notes() == [f"{HERE} and {THERE}"]

    def test_a_report_from_where_the_last_one_came_asks_nothing_more(self, django_assert_num_queries: Any) -> None:
        for report in (alone, behind):
            report(HERE)
            with django_assert_num_queries(1):
                report(HERE)

    def test_who_moved_and_comes_back_later_is_not_noted(self) -> None:
        alone(HERE)
        alone(THERE)
        Heartbeat.objects.update(peer_since=ago(conf.NODE_EXPIRATION_TIMEOUT))
        alone(HERE)
        assert notes() == []

    def test_who_takes_a_name_that_was_silent_has_no_rival(self) -> None:
        alone(HERE)
        Heartbeat.objects.update(seen_at=F("seen_at") - conf.NODE_EXPIRATION_TIMEOUT - timedelta(seconds=1))
        alone(THERE)
        alone(HERE)
        assert notes() == []

    @pytest.mark.parametrize("kind", ["leaving", "restarting"])
    def test_who_comes_back_after_a_goodbye_has_no_rival(self, kind: str) -> None:
        alone(HERE)
        alone(THERE)
        note_goodbye("ash", kind)
        alone(HERE)
        assert notes() == []

    @pytest.mark.urls("clusteragent.urls.agents")
    def test_an_address_with_a_scope_is_one_without(self) -> None:
        for scope in ("eth0", "eth1"):
            assert agent(f"fe80::1%{scope}", "status/elm", REPORT)[0] == 200
        assert Heartbeat.objects.get(node__name="elm").peer == "fe80::1"
        assert notes() == []

    def test_what_was_answered_before_something_newer_came_tells_nothing(self) -> None:
        alone(HERE)
        alone(THERE)
        note_heartbeats([Report("ash", 7, peer=HERE, age=5)])
        assert notes() == []

    @pytest.mark.urls("clusteragent.urls.agents")
    def test_the_web_server_tells_from_where_reports_come(self) -> None:
        for address in (HERE, THERE, HERE):
            assert agent(address, "status/elm", REPORT)[0] == 200
            assert agent(THERE, "configs/elm")[0] == 200
        assert notes() == [f"{HERE} and {THERE}"]

    def test_what_the_memory_repeats_has_the_address_that_holds_the_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        alone(HERE)
        assert [report.peer for _, report in Heartbeat.objects.last_reports()] == [HERE]
        monkeypatch.setattr(conf, "ONE_ADDRESS", "off")
        assert [report.peer for _, report in Heartbeat.objects.last_reports()] == [None]
