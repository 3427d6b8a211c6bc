"""A name belongs to the address that reports in it first, until that is silent or says goodbye."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.db.models import F
from django.test import RequestFactory
from rest_framework.exceptions import PermissionDenied

from clusteragent.lib import conf
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.holders import Claim, Holders, settle
from nodes.models import Heartbeat, Node, NodeEvent
from tests.map import register

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def _refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ONE_ADDRESS", "refuse")
    register("ash", 7)


def call(holders: Holders, address: str, name: str = "ash", method: str = "POST", **meta: str) -> None:
    holders.require(RequestFactory().generic(method, "/", REMOTE_ADDR=address, **meta), name)


def is_refused(*words: Any, **meta: Any) -> bool:
    try:
        call(*words, **meta)
    except PermissionDenied as error:
        return str(error.detail) == "ash reports from another address"
    return False


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
    assert settle([Claim("ash", HERE), Claim("ash", THERE)]) == [HERE, HERE]


def test_names_that_are_not_known_are_held_by_nobody() -> None:
    call(Holders(), HERE, "elm")
    call(Holders(), THERE, "elm")
    assert notes() == []


def test_where_it_is_only_told_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "ONE_ADDRESS", "tell")
    call(Holders(), HERE)
    call(Holders(), THERE)
    assert notes() == [f"{HERE} and {THERE}"]


def test_off_asks_nothing(monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any) -> None:
    monkeypatch.setattr(conf, "ONE_ADDRESS", "off")
    with django_assert_num_queries(0):
        call(Holders(), HERE)
        call(Holders(), THERE)
