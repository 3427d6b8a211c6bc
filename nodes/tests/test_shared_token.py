"""The shared token: it opens all names, who uses it is noted once there are node tokens, and it can be switched off."""

import io
import json
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models.functions import Now
from django.test import RequestFactory
from rest_framework.exceptions import PermissionDenied

from checks.explain import alerts
from clusteragent import doctor
from clusteragent.lib import conf
from nodes import authentication, statsclient, tokens
from nodes.authentication import AGENT_TOKEN, ANY_TOKEN, Names, SharedUses
from nodes.heartbeats import note_heartbeat
from nodes.models import NodeToken, Runner, SharedTokenUse
from tests.replicas import wait_for

SHARED = "s" * 32
OFF = "set CLUSTERAGENT_SHARED_TOKEN=off."


@pytest.fixture(autouse=True)
def _process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_shared_uses", SharedUses())
    monkeypatch.setattr(conf, "AUTH_TOKEN", SHARED)


def show(name: str, token: str = SHARED, names: Names = Names.NODE, **meta: str) -> None:
    AGENT_TOKEN.authenticate(RequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}", **meta), names, name)


def made(**fields: Any) -> str:
    """A token of a pool that was made long ago."""
    token = tokens.make(NodeToken(note="pool", pattern="pool-*", **fields))
    NodeToken.objects.update(time=Now() - timedelta(hours=1))
    return token


def used(**addresses: str | None) -> None:
    SharedTokenUse.objects.note(addresses)


@pytest.mark.django_db(transaction=True)
def test_who_shows_it_is_written_once_a_minute_and_by_no_call(
    monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(conf, "TRUSTED_PROXIES", (ip_network("127.0.0.1/32"),))
    made()
    with django_assert_num_queries(0):
        show("ash", REMOTE_ADDR="192.0.2.1", HTTP_X_REAL_IP="192.0.2.9")
        show("birch", REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR="192.0.2.2")
        show("no\x00name")
    assert not SharedTokenUse.objects.exists()
    monkeypatch.setattr(authentication._shared_uses, "_written_at", float("-inf"))
    with django_assert_num_queries(0):
        show("kubelet", names=Names.KUBERNETES_NODE, REMOTE_ADDR="192.0.2.3")
    wait_for("it is written", lambda: SharedTokenUse.objects.count() == 3)
    found = dict(SharedTokenUse.objects.values_list("name", "address"))
    assert found == {"ash": "192.0.2.1", "birch": "192.0.2.2", "kubelet": "192.0.2.3"}
    assert not authentication._shared_uses._seen


@pytest.mark.django_db
def test_nothing_is_written_without_node_tokens_or_again_within_half_a_minute() -> None:
    used(ash="192.0.2.1")
    assert not SharedTokenUse.objects.exists()
    made()
    used(ash="192.0.2.1")
    used(ash="192.0.2.2")
    assert SharedTokenUse.objects.get().address == "192.0.2.1"
    SharedTokenUse.objects.update(last_used_at=Now() - timedelta(seconds=40))
    used(ash="192.0.2.2", birch=None)
    assert dict(SharedTokenUse.objects.values_list("name", "address")) == {"ash": "192.0.2.2", "birch": None}


@pytest.mark.django_db
def test_made_up_names_displace_none_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    used(ash=None)
    monkeypatch.setattr("nodes.models.tokens.MOST_USES", 1)
    SharedTokenUse.objects.update(last_used_at=Now() - timedelta(hours=1))
    used(ash="192.0.2.1", other=None)
    assert [use.name for use in SharedTokenUse.objects.lately()] == ["ash"]
    SharedTokenUse.objects.update(last_used_at=Now() - timedelta(hours=25))
    assert SharedTokenUse.objects.prune(10) == 1


@pytest.mark.django_db
def test_what_is_said_of_it() -> None:
    say = SharedTokenUse.objects.sentence
    tokens.make(NodeToken(note="pool", pattern="pool-*"))
    # Nobody was noted yet, which says nothing.
    assert (
        say()
        == "The shared token opens all names. Who uses it is known five minutes after there is a first node token."
    )
    NodeToken.objects.update(time=Now() - timedelta(hours=1))
    assert say() == f"The shared token opens all names. Nobody uses it: {OFF}"
    used(ash="192.0.2.1")
    assert "for ash from 192.0.2.1. It was used for 1 name in the last five minutes: ash." in say()
    SharedTokenUse.objects.update(last_used_at=Now() - timedelta(minutes=6))
    assert say().endswith(f"for ash from 192.0.2.1. Nobody uses it now: {OFF}")


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
def test_it_needs_somebody_while_it_opens_beside_node_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> tuple[list[str], list[str]]:
        needs = [alert.cause for alert in alerts.current() if alert.kind == alerts.Kind.SHARED_TOKEN]
        return needs, [finding.text for finding in doctor.shared_token() if finding.level != doctor.Level.OK]

    assert told() == ([], [])
    made()
    used(ash="192.0.2.1")
    [need], [finding] = told()
    assert need == f"There are node tokens, and a thief of the shared one can be any node. {finding}"
    assert "last five minutes: ash." in finding
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", False)
    assert told() == ([], [])


@pytest.mark.django_db
def test_the_command_lists_it() -> None:
    made()
    used(ash="192.0.2.1")
    out = io.StringIO()
    call_command("nodetoken", "list", "--json", stdout=out)
    shared = json.loads(out.getvalue())["shared"]
    assert shared["accepted"] is True
    assert [(use["name"], use["address"]) for use in shared["used_by"]] == [("ash", "192.0.2.1")]


@pytest.mark.django_db
@pytest.mark.usefixtures("warm")
def test_switched_off_it_opens_nothing_and_is_sent_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = made()
    monkeypatch.setattr(conf, "SHARED_TOKEN_OPENS", False)
    for kind in (AGENT_TOKEN, ANY_TOKEN):
        with pytest.raises(PermissionDenied, match="invalid session token"):
            kind.authenticate(RequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {SHARED}"), Names.NODE, "pool-1")
    show("pool-1", pool)
    monkeypatch.setattr(conf, "RUNNER_NETWORKS", (ip_network("127.0.0.0/8"),))
    note_heartbeat("ash", last_change=-1, client_ip="127.2.0.1")
    assert statsclient.collect()[:2] == (1, 1)
    assert Runner.objects.get().error == "not asked: CLUSTERAGENT_RUNNER_TOKENS has no token for it"
    assert alerts.Kind.TOKEN_REFUSED in [alert.kind for alert in alerts.current()]
