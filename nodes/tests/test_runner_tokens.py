"""Which tokens runners are sent: those of their pools alone, in rotation too, and what is said of those that refuse ours."""

from datetime import timedelta

import pytest

from acts.models import Act
from acts.recording import entered
from checks.explain import alerts
from clusteragent import doctor
from clusteragent.lib import clock, conf
from clusteragent.lib.patterns import fits
from nodes import statsclient, tokens
from nodes.heartbeats import note_heartbeat
from nodes.models import NodeToken, Runner
from nodes.models.runners import UNSENT
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


def sent_in_all(fakes: FakeRunners, address: str) -> set[str]:
    """All tokens that the runner was sent since the last time."""
    found = {asked.authorization.removeprefix("bearer ") for asked in fakes.asked if asked.address == address}
    fakes.asked[:] = [asked for asked in fakes.asked if asked.address != address]
    return found


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
    fakes.accepts(ASH, old)
    fakes.accepts(BIRCH, new)
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([new, old], [new])
    # What a runner accepted comes first from then on.
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([old], [new])
    fakes.accepts(ASH, new)
    assert statsclient.collect()[:2] == (2, 0)
    assert (sent(fakes, ASH), sent(fakes, BIRCH)) == ([old, new], [new])


def test_who_refuses_its_pools_token_is_not_sent_the_shared_one(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = made("zone-a-*")
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (a,))
    fakes.accepts(ASH, TOKEN)
    fakes.accepts(BIRCH, TOKEN)
    assert statsclient.collect()[:2] == (2, 1)
    # Of no pool.
    assert (sent_in_all(fakes, ASH), sent_in_all(fakes, BIRCH)) == ({a}, {TOKEN})
    assert Runner.objects.get(node__name="zone-a-ash").error == "refuses our token: stats: answered 403"


@pytest.mark.parametrize("ends", [None, timedelta(seconds=-1)])
def test_nor_is_who_has_a_token_that_the_leader_was_not_given_even_an_ended_one(
    fakes: FakeRunners, ends: timedelta | None
) -> None:
    made("zone-?-*")
    NodeToken.objects.update(expires_at=ends and clock.now() + ends)
    assert statsclient.collect()[:2] == (2, 2)
    assert fakes.asked == []
    assert {one.error for one in Runner.objects.all()} == {UNSENT}


def test_a_pool_gets_its_own_token_and_no_runner_learns_the_shared_one_on_the_way(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of docs/howto/rotate-node-tokens.md."""
    for address in (ASH, BIRCH):
        fakes.accepts(address, TOKEN)
    assert statsclient.collect()[:2] == (2, 0)
    fakes.asked.clear()
    token = made("zone-*")
    assert statsclient.collect()[:2] == (2, 2)
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (token,))
    assert statsclient.collect()[:2] == (2, 2)
    fakes.accepts(ASH, token)
    assert statsclient.collect()[:2] == (2, 1)
    fakes.accepts(BIRCH, token)
    assert statsclient.collect()[:2] == (2, 0)
    assert sent_in_all(fakes, ASH) == sent_in_all(fakes, BIRCH) == {token}


def test_what_is_no_node_token_that_holds_is_sent_to_nobody_nor_is_the_shared_one(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief of a token that was just revoked still counts as alive, and nobody knows in which names."""
    revoked = made("zone-*")
    tokens.revoke(NodeToken.objects.all())
    monkeypatch.setattr(conf, "RUNNER_TOKENS", (revoked, "u" * 32))
    assert statsclient.collect()[:2] == (2, 2)
    assert fakes.asked == []
    text = (
        "Of CLUSTERAGENT_RUNNER_TOKENS 2 are no node tokens that open anything, so nobody is sent them."
        " Nor is the shared token: whose they were is not known."
    )
    assert text in [finding.text for finding in doctor.runners()]
    monkeypatch.setattr(conf, "RUNNER_TOKENS", ())
    assert statsclient.collect()[:2] == (2, 0)
    assert sent_in_all(fakes, ASH) == {TOKEN}


def test_who_refuses_our_token_is_named_and_its_stats_stay(fakes: FakeRunners) -> None:
    assert statsclient.collect()[:2] == (2, 0)
    fakes.accepts(ASH, "nt-" + "0" * 64)
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


def test_no_runner_is_sent_the_shared_token_for_a_token_that_is_revoked_or_opens_other_names(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader was given no tokens. A thief of one that is gone counts as alive for a while."""
    with entered(Act.How.COMMAND, "here", lambda: "olga"):
        made("zone-a-*")
        tokens.revoke(NodeToken.objects.all())
        tokens.declare([f"nt-{'b' * 64}"], note="birches", pattern="zone-b-*", kubernetes_pattern="", networks="")
        tokens.declare([f"nt-{'b' * 64}"], note="birches", pattern="other-*", kubernetes_pattern="", networks="")
    statsclient.collect()
    assert sent_in_all(fakes, ASH) == sent_in_all(fakes, BIRCH) == set()
    assert not tokens.for_runners().has_shared("zone-a-ash")
    monkeypatch.setattr(tokens, "REMEMBERED", timedelta())
    assert tokens.for_runners().has_shared("zone-a-ash")


@pytest.mark.parametrize(
    ("old", "is_shared", "pattern", "cut"),
    [
        ("", True, "zone-*", ["zone-a-ash", "zone-b-birch"]),
        ("", True, "zone-b-*", ["zone-b-birch"]),
        ("", True, "other-*", []),
        ("zone-a-*", True, "zone-*", ["zone-b-birch"]),
        ("", False, "zone-*", []),
    ],
)
def test_whom_a_new_token_cuts_off_is_known_before_and_on_record(
    fakes: FakeRunners, monkeypatch: pytest.MonkeyPatch, old: str, is_shared: bool, pattern: str, cut: list[str]
) -> None:
    """The same runners that told stats in the round before it, and tell none in the round after it."""
    if old:
        monkeypatch.setattr(conf, "RUNNER_TOKENS", (made(old),))
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", is_shared)
    statsclient.collect()
    told_before = set(Runner.objects.telling().values_list("node__name", flat=True))
    assert tokens.cut_off(pattern) == cut
    with entered(Act.How.COMMAND, "here", lambda: "olga"):
        made(pattern)
    act = Act.objects.latest("pk")
    assert act.after.get("without_stats") == ({"runners": len(cut), "names": cut} if cut else None)
    opened = [name for name in ("zone-a-ash", "zone-b-birch") if fits(name, pattern)]
    assert act.about == ({"nodes": opened} if opened else {})
    statsclient.collect()
    assert told_before - set(Runner.objects.telling().values_list("node__name", flat=True)) == set(cut)
    assert tokens.cut_off(pattern) == []
