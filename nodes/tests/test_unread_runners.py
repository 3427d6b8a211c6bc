"""Runners whose stats can't be read are a need: failing checks are not seen there, and loads are guesses."""

from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.test import Client

from checks.explain import alerts
from checks.explain.alerts import Kind
from checks.tests.operators import superuser
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes import statsclient
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeType, Runner
from nodes.tests.fake_runners import FakeRunners, told
from operators.admin.base import address

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
ASH, BIRCH, CEDAR = "127.2.0.1", "127.2.0.2", "127.2.0.3"
LONG = timedelta(minutes=2)


@pytest.fixture
def fakes(fakes: FakeRunners) -> FakeRunners:
    """Two runners that report. Only ash tells stats: birch closes each connection."""
    for name, ip in (("ash", ASH), ("birch", BIRCH)):
        note_heartbeat(name, last_change=-1, client_ip=ip, node_type=NodeType.RUNNER)
    fakes.says(ASH, {"ntp:1": told()})
    return fakes


def rounds(lasting: timedelta = LONG) -> None:
    """Ask all in three rounds, the first of them so long ago."""
    for _ in range(3):
        statsclient.collect()
    Runner.objects.filter(failures__gt=0).update(failing_since=ago(lasting))


def unread() -> list[alerts.Alert]:
    return [alert for alert in alerts.current() if alert.kind == Kind.NO_STATS]


def test_a_runner_that_can_not_be_read_for_two_rounds_is_a_need_with_its_reason(fakes: FakeRunners) -> None:
    rounds()
    [alert] = unread()
    assert alerts.WORDS[alert.kind] == alerts.Word.NEEDS_ATTENTION
    assert (alert.count, alert.since) == (1, Runner.objects.get(node__name="birch").failing_since)
    assert alert.cause == (
        "1 of 2 runners tells no stats, so its load is a guess and failing checks are not noticed there."
        " birch: broke off, or does not speak HTTP."
    )
    assert address(alert.target) == f"/admin/nodes/node/{Node.objects.get(name='birch').pk}/change/"
    fakes.says(BIRCH, {})
    statsclient.collect()
    assert unread() == []


def test_of_many_the_one_that_fails_longest_says_why_and_a_list_has_them_all(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("10.0.0.0/8"),))
    rounds()
    Runner.objects.filter(node__name="birch").update(failing_since=ago(LONG * 2))
    note_heartbeat("cedar", last_change=-1, client_ip=CEDAR, node_type=NodeType.RUNNER)
    [alert] = unread()
    assert alert.cause == (
        "2 of 3 runners tell no stats, so their load is a guess and failing checks are not noticed there."
        f" birch: not asked: {BIRCH} is outside of CLUSTERAGENT_RUNNER_NETWORKS."
    )
    client = superuser()
    assert shown(client, address(alert.target)) == {"ash", "birch"}
    assert shown(client, "/admin/nodes/node/?q=state:no-stats") == {"ash", "birch"}
    assert shown(client, "/admin/nodes/node/?q=-state:no-stats") == {"cedar"}


def shown(client: Client, url: str) -> set[str]:
    return {node.name for node in client.get(url).context["cl"].result_list}


def test_less_than_two_rounds_say_nothing(fakes: FakeRunners) -> None:
    rounds(timedelta(minutes=1))
    assert unread() == []
    Runner.objects.update(failing_since=ago(LONG), failures=1)
    assert unread() == [], "it began before the leader was away"


def test_what_is_no_runner_or_does_not_report_is_not_missed(fakes: FakeRunners) -> None:
    rounds()
    Heartbeat.objects.filter(node__name="birch").update(node_type=NodeType.NODE_AGENT)
    assert unread() == []
    Heartbeat.objects.filter(node__name="birch").update(node_type=NodeType.RUNNER)
    assert len(unread()) == 1
    Heartbeat.objects.filter(node__name="birch").update(seen_at=ago(conf.NODE_EXPIRATION_TIMEOUT))
    assert unread() == []


def test_who_refuses_our_token_is_named_once(fakes: FakeRunners) -> None:
    fakes.says(BIRCH, {})
    fakes.accepts(BIRCH, "another")
    rounds()
    assert {alert.kind for alert in alerts.current()} & {Kind.NO_STATS, Kind.TOKEN_REFUSED} == {Kind.TOKEN_REFUSED}


def test_who_shows_another_certificate_is_named_once(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds()
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    Runner.objects.filter(node__name="birch").update(other_certificate="2" * 64)
    assert {alert.kind for alert in alerts.current()} & {Kind.NO_STATS, Kind.RUNNER_CERTIFICATE} == {
        Kind.RUNNER_CERTIFICATE
    }
