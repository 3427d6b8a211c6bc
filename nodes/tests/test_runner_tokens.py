"""Which tokens runners are sent: those of their pools alone, in rotation too, and what is said of those that refuse ours."""

import pytest

from checks.explain import alerts
from clusteragent import doctor
from clusteragent.lib import conf
from nodes import statsclient, tokens
from nodes.heartbeats import note_heartbeat
from nodes.models import NodeToken, Runner
from nodes.tests.fake_runners import FakeRunners, told
from simulation.tests.scripted_server import TOKEN

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
ASH, BIRCH = "127.2.0.1", "127.2.0.2"


@pytest.fixture
def fakes(fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch) -> FakeRunners:
    """Two runners that report, and no token that one of them accepted before."""
    monkeypatch.setattr(statsclient, "_accepted", {})
    for name, address in (("zone-a-ash", ASH), ("zone-b-birch", BIRCH)):
        note_heartbeat(name, last_change=-1, client_ip=address)
        fakes.says(address, {"ntp:1": told()})
    return fakes


def made(pattern: str) -> str:
    return tokens.make(NodeToken(note=pattern, pattern=pattern))


def sent(fakes: FakeRunners, address: str) -> list[str]:
    """The tokens that the runner was sent for its stats since the last time."""
    found = [asked.authorization.removeprefix("bearer ") for asked in fakes.asked if asked.address == address]
    fakes.asked[:] = [asked for asked in fakes.asked if asked.address != address]
    return found[:-1]


def test_a_runner_is_sent_the_token_of_its_pool_and_no_other_pools(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = made("zone-a-*"), made("zone-b-*")
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (a, b))
    fakes.accepts(ASH, a)
    fakes.accepts(BIRCH, b)
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([a], [b])


def test_in_a_rotation_each_runner_is_asked_with_the_token_that_it_has(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = made("zone-*"), made("zone-*")
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (new, old))
    # One has still the token of all.
    fakes.accepts(ASH, old)
    fakes.accepts(BIRCH, TOKEN)
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([new, old], [new, old, TOKEN])
    # What a runner accepted comes first from then on.
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([old], [TOKEN])
    for address in (ASH, BIRCH):
        fakes.accepts(address, new)
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([old, new], [TOKEN, new])


def test_what_is_no_node_token_that_holds_is_sent_to_nobody(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked = made("zone-*")
    tokens.revoke(NodeToken.objects.all())
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (revoked, "u" * 32))
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([TOKEN], [TOKEN])
    text = "Of CLUSTERAGENT_RUNNER_TOKENS 2 are no node tokens that open anything, so nobody is sent them."
    assert text in [finding.text for finding in doctor.runners()]


def test_who_refuses_our_token_is_named_and_its_stats_stay(fakes: FakeRunners) -> None:
    assert statsclient.collect()[:2] == (2, 0)
    fakes.accepts(ASH, made("zone-*"))
    assert statsclient.collect()[:2] == (2, 1)
    assert Runner.objects.get(node__name="zone-a-ash").error == "refuses our token: stats: answered 403"
    [alert] = [alert for alert in alerts.current() if alert.kind == alerts.Kind.TOKEN_REFUSED]
    assert alert.count == 1
    assert alert.cause.startswith("zone-a-ash is up, but refuses our token when asked for stats")
    assert "see CLUSTERAGENT_RUNNER_TOKENS" in alert.cause
    assert alert.since is not None
    fakes.accepts(ASH, TOKEN)
    statsclient.collect()
    assert alerts.Kind.TOKEN_REFUSED not in [alert.kind for alert in alerts.current()]
