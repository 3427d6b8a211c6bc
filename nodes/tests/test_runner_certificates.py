"""Certificates of runners that are pinned: who shows another one is sent nothing, and what ends that."""

import hashlib
import ssl
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from acts.models import Act
from acts.recording import entered
from checks.explain import alerts
from clusteragent import doctor, weaknesses
from clusteragent.lib import conf
from nodes import runnercertificates, statsclient
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent, Runner
from nodes.runnercertificates import Compared, NoOffer
from nodes.tests.fake_runners import FakeRunners, told
from simulation.runners import server_tls
from simulation.tests.scripted_server import TOKEN
from simulation.tests.scripted_server import server_tls as usual_tls

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
ASH, BIRCH = "127.2.0.1", "127.2.0.2"


@pytest.fixture
def fakes(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> FakeRunners:
    """The runner of ash, which has fetched configs, where certificates are pinned."""
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    fakes.says(ASH, {"ntp:1": told()})
    fetched("ash", ASH)
    return fakes


def fetched(name: str, address: str) -> None:
    """Let the node report that it has its configs."""
    note_heartbeat(name, last_change=0, client_ip=address)
    Node.objects.filter(name=name).update(config_version=7)
    note_heartbeat(name, last_change=7, client_ip=address)


def collect() -> int:
    """How many runners told no stats."""
    return statsclient.collect().failed


def ash() -> Runner:
    return Runner.objects.get(node__name="ash")


def swapped(fakes: FakeRunners) -> None:
    """Keep the certificate of ash, then let it show another one, and ask it again."""
    assert collect() == 0
    fakes.received.clear()
    fakes.shows(ASH, server_tls())
    assert collect() == 1


def test_the_first_certificate_that_a_runner_shows_is_kept(fakes: FakeRunners) -> None:
    assert collect() == 0
    kept = ash()
    assert len(kept.certificate) == 64
    assert kept.certificate_since is not None
    assert collect() == 0
    assert (ash().certificate, ash().certificate_since) == (kept.certificate, kept.certificate_since)


def test_who_shows_another_certificate_gets_no_byte(fakes: FakeRunners) -> None:
    assert collect() == 0
    assert f"bearer {TOKEN}".encode() in fakes.received[ASH].lower()
    before = ash()
    fakes.received.clear()
    fakes.shows(ASH, server_tls())
    assert collect() == 1
    assert fakes.received.get(ASH, b"") == b""
    runner = ash()
    assert runner.error.startswith(
        f"shows another certificate than the one that it began with: SHA256:{runner.other_certificate[:16]}"
    )
    assert f"instead of SHA256:{before.certificate[:16]}…, kept since 2" in runner.error
    assert (runner.certificate, runner.stats_at) == (before.certificate, before.stats_at)


def test_with_any_certificate_it_is_sent_the_token_as_ever(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", False)
    assert collect() == 0
    fakes.received.clear()
    fakes.shows(ASH, server_tls())
    assert collect() == 0
    assert f"bearer {TOKEN}".encode() in fakes.received[ASH].lower()
    assert (ash().certificate, ash().other_certificate) == ("", "")


def test_it_is_the_certificate_of_the_handshake_that_is_kept(fakes: FakeRunners) -> None:
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((ASH, fakes.port)))
    assert collect() == 0
    assert ash().certificate == hashlib.sha256(der).hexdigest()


def test_a_runner_that_shows_the_kept_one_again_is_asked_again(fakes: FakeRunners) -> None:
    swapped(fakes)
    fakes.shows(ASH, usual_tls())
    assert collect() == 0
    assert (ash().other_certificate, ash().error) == ("", "")
    assert alerts.Kind.RUNNER_CERTIFICATE not in [alert.kind for alert in alerts.current()]


def test_a_fresh_start_ends_what_is_kept(fakes: FakeRunners) -> None:
    swapped(fakes)
    other = ash().other_certificate
    note_heartbeat("ash", last_change=0, client_ip=ASH)
    assert (ash().certificate, ash().certificate_since, ash().other_certificate) == ("", None, "")
    # It has fetched nothing: if it started again now, nobody would know.
    assert collect() == 0
    assert ash().certificate == ""
    note_heartbeat("ash", last_change=7, client_ip=ASH)
    Heartbeat.objects.update(seen_at=Now())
    NodeEvent.objects.all().delete()
    assert collect() == 0
    assert ash().certificate == other


def test_what_a_fresh_start_did_not_end_the_next_round_ends(fakes: FakeRunners) -> None:
    """Whoever noted the start was cut off between the report and that."""
    swapped(fakes)
    Heartbeat.objects.update(acknowledged=0)
    collect()
    assert (ash().certificate, ash().other_certificate) == ("", "")
    assert collect() == 0


@pytest.mark.parametrize(("last_change", "is_kept"), [(0, False), (7, True)])
def test_a_lost_node_that_comes_back_keeps_its_certificate_unless_it_starts_anew(
    fakes: FakeRunners, last_change: int, is_kept: bool
) -> None:
    assert collect() == 0
    Heartbeat.objects.all().delete()
    note_heartbeat("ash", last_change=last_change, client_ip=ASH)
    assert bool(ash().certificate) is is_kept


def test_a_node_that_starts_while_it_is_asked_is_not_kept_to_its_former_certificate(fakes: FakeRunners) -> None:
    since = Node.objects.annotate(now=Now()).get().now
    collect()
    Runner.objects.update(certificate="", certificate_since=None)
    note_heartbeat("ash", last_change=0, client_ip=ASH)
    note_heartbeat("ash", last_change=7, client_ip=ASH)
    assert runnercertificates.note({ash().pk: Compared("", "a" * 64)}, since) == {}
    assert ash().certificate == ""


def test_a_refusal_by_a_certificate_that_is_kept_no_more_counts_for_nothing(fakes: FakeRunners) -> None:
    since = Node.objects.annotate(now=Now()).get().now
    collect()
    assert runnercertificates.note({ash().pk: Compared("b" * 64, "c" * 64)}, since) == {}
    assert ash().other_certificate == ""


def test_who_shows_another_needs_somebody_and_has_an_event(fakes: FakeRunners) -> None:
    swapped(fakes)
    # It had not answered for long.
    Runner.objects.update(failing_since=Now() - timedelta(hours=1))
    collect()
    [alert] = [alert for alert in alerts.current() if alert.kind == alerts.Kind.RUNNER_CERTIFICATE]
    assert alert.count == 1
    assert alert.cause.startswith("ash shows another certificate than the one that it began with")
    assert (alert.target.model, alert.target.pk) == (Node, ash().pk)
    assert alerts.WORDS[alert.kind] == alerts.Word.NEEDS_ATTENTION
    [event] = NodeEvent.objects.filter(kind=NodeEvent.Kind.CERTIFICATE)
    assert alert.since == event.time
    assert event.cause == f"shows SHA256:{ash().other_certificate[:16]}… instead of SHA256:{ash().certificate[:16]}…"


def test_what_is_accepted_is_kept_from_then_on_and_on_record(fakes: FakeRunners) -> None:
    swapped(fakes)
    before = ash()
    [offer] = runnercertificates.offers(["ash"])
    with entered(Act.How.COMMAND, "here", lambda: "olga"):
        assert runnercertificates.accept([offer]) == ["ash"]
    act = Act.objects.get()
    assert (act.verb, act.object) == (Act.Verb.CHANGE, "certificate of ash")
    assert act.before == {"ash": f"SHA256:{before.certificate}"}
    assert act.after == {"ash": f"SHA256:{before.other_certificate}"}
    assert act.about == {"nodes": ["ash"]}
    assert runnercertificates.offers(["ash"]) == []
    assert collect() == 0
    # The former one is the strange one now.
    fakes.shows(ASH, usual_tls())
    assert collect() == 1


def test_what_is_not_shown_any_more_is_not_accepted(fakes: FakeRunners) -> None:
    swapped(fakes)
    offers = runnercertificates.offers(["ash"])
    fakes.shows(ASH, server_tls())
    collect()
    with pytest.raises(NoOffer, match=r"^ash does not show that certificate any more$"):
        runnercertificates.accept(offers)
    assert ash().certificate == offers[0].kept


def test_the_doctor_sends_nothing_either_and_names_the_default(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    swapped(fakes)
    [finding] = doctor.runners()
    assert "ash (127.2.0.1: shows another certificate" in finding.text
    assert fakes.received.get(ASH, b"") == b""
    name = "runners' certificates"
    assert name not in [one.name for one in weaknesses.found(with_database=True)]
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", False)
    assert name in [one.name for one in weaknesses.found(with_database=True)]


def test_other_runners_are_asked_as_ever(fakes: FakeRunners) -> None:
    fakes.says(BIRCH, {"ntp:1": told()})
    fetched("birch", BIRCH)
    swapped(fakes)
    assert Runner.objects.get(node__name="birch").failures == 0
    assert Runner.objects.get(node__name="birch").other_certificate == ""
