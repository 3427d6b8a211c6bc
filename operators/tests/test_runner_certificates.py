"""What operators see of a runner that shows another certificate, and how they accept it: admin, operators' API, command."""

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from acts.models import Act
from checks.tests.cast import report
from checks.tests.operators import confirmed
from clusteragent import metrics
from clusteragent.lib import conf
from nodes.models import Heartbeat, Node, Runner
from operators.roles import Role
from operators.tests.cast import having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
LIST = "/admin/nodes/node/"
KEPT, OTHER = "ab12" * 16, "cd34" * 16
SINCE = datetime(2026, 5, 4, 14, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def ash(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The runner of ash, which shows another certificate than the one that is kept; that of birch does not."""
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", True)
    report("ash", "birch")
    for name, other in (("ash", OTHER), ("birch", "")):
        node = Node.objects.get(name=name)
        certificates = {"certificate": KEPT, "certificate_since": SINCE, "other_certificate": other}
        Runner.objects.update_or_create(node=node, defaults=certificates)
    return Runner.objects.get(node__name="ash")


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


def kept(name: str = "ash") -> str:
    return str(Runner.objects.get(node__name=name).certificate)


def chosen(*names: str) -> dict[str, Any]:
    keys = Node.objects.filter(name__in=names).values_list("pk", flat=True)
    return {"action": "accept_certificate", "_selected_action": list(keys)}


def facts(operator: Client, name: str) -> dict[str, Any]:
    pk = Node.objects.get(name=name).pk
    return dict(operator.get(f"{LIST}{pk}/change/").context["facts"])


def test_the_nodes_page_says_what_is_kept_and_what_it_shows(operator: Client) -> None:
    told = facts(operator, "ash")
    assert told["Certificate"] == f"SHA256:{KEPT}, kept since 2026-05-04 14:05 UTC"
    assert told["Shows another certificate"] == f"SHA256:{OTHER}, so it is sent nothing"
    assert "Shows another certificate" not in facts(operator, "birch")


def test_it_is_told_nowhere_while_any_certificate_is_accepted(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", False)
    assert not {"Certificate", "Shows another certificate"} & facts(operator, "ash").keys()
    assert 'kind="runner_certificate"} 0' in metrics.exposition().decode()


def test_the_page_of_the_node_alone_offers_the_button(operator: Client) -> None:
    page = {
        name: operator.get(f"{LIST}{Node.objects.get(name=name).pk}/change/").content.decode()
        for name in ("ash", "birch")
    }
    assert "accept_certificate" in page["ash"]
    assert "accept_certificate" not in page["birch"]


def test_the_first_page_and_the_metrics_tell_it(operator: Client) -> None:
    page = operator.get("/admin/").content.decode()
    assert "Runner certificate" in page
    assert "ash shows another certificate than the one that it began with" in page
    assert f"{LIST}{Node.objects.get(name='ash').pk}/change/" in page
    assert 'kind="runner_certificate"} 1' in metrics.exposition().decode()


def test_two_of_them_are_each_linked(operator: Client) -> None:
    Runner.objects.update(other_certificate=OTHER)
    page = operator.get("/admin/").content.decode()
    assert "ash and birch show other certificates than those that they began with" in page
    for name in ("ash", "birch"):
        assert f'href="{LIST}{Node.objects.get(name=name).pk}/change/">{name}</a>' in page


def test_accepting_shows_both_certificates_first(operator: Client, ash: Runner) -> None:
    asked = operator.post(LIST, chosen("ash"))
    text = asked.content.decode()
    assert f"ash shows SHA256:{OTHER} instead of SHA256:{KEPT}, kept since 2026-05-04 14:05 UTC." in text
    assert kept() == KEPT
    assert "1 certificate accepted." in confirmed(operator, LIST, **chosen("ash"))
    assert kept() == OTHER


def test_what_it_shows_when_that_is_answered_must_be_what_was_seen(operator: Client, ash: Runner) -> None:
    asked = operator.post(LIST, chosen("ash"))
    Runner.objects.filter(pk=ash.pk).update(other_certificate="ef56" * 16)
    page = operator.post(LIST, chosen("ash") | {"seen": asked.context["seen"]}).content.decode()
    assert "Nothing was done, since something changed." in page
    assert kept() == KEPT


def test_a_node_that_shows_no_other_is_refused_on_record(operator: Client) -> None:
    page = operator.post(LIST, chosen("ash", "birch"), follow=True).content.decode()
    assert "Not accepted: birch shows no other certificate than the one that is kept." in page
    assert Act.objects.get(verb=Act.Verb.REFUSE).object == "accept the certificate of ash and birch"
    assert kept() == KEPT


def test_the_api_tells_and_accepts_it() -> None:
    caller = having(Role.OPERATOR)
    certificate = {"kept": KEPT, "since": "2026-05-04T14:05:00Z", "other": OTHER}
    assert caller.call("GET", "nodes/ash").json()["certificate"] == certificate
    dry = caller.call("POST", "nodes/ash/accept-certificate?dry_run=1").json()
    assert dry["sentences"][0].startswith(f"ash shows SHA256:{OTHER} instead of SHA256:{KEPT}")
    assert kept() == KEPT
    answer = caller.call("POST", "nodes/ash/accept-certificate")
    assert (answer.status_code, answer.json()["certificate"]["kept"]) == (200, OTHER)
    refused = caller.call("POST", "nodes/ash/accept-certificate")
    assert (refused.status_code, refused.json()) == (
        409, {"detail": "ash shows no other certificate than the one that is kept"}
    )  # fmt: skip


def test_a_lost_node_is_refused() -> None:
    Heartbeat.objects.filter(node__name="ash").delete()
    refused = having(Role.OPERATOR).call("POST", "nodes/ash/accept-certificate")
    assert (refused.status_code, refused.json()) == (
        409,
        {"detail": "node ash is lost: it gets nothing until it reports again"},
    )
    assert kept() == KEPT


def test_the_command_shows_and_accepts_it() -> None:
    shown, done = StringIO(), StringIO()
    call_command("acceptcertificate", "ash", "--dry-run", stdout=shown)
    assert f"ash shows SHA256:{OTHER} instead of SHA256:{KEPT}" in shown.getvalue()
    assert "Compare it with the node agent's own first." in shown.getvalue()
    assert kept() == KEPT
    call_command("acceptcertificate", "ash", "--json", stdout=done)
    assert json.loads(done.getvalue()) == {"accepted": ["ash"]}
    assert kept() == OTHER
    act = Act.objects.latest("pk")
    assert f"ash shows SHA256:{OTHER} instead of SHA256:{KEPT}" in act.foreseen["sentences"][0]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("birch", "birch shows no other certificate than the one that is kept"),
        ("bitch", "node bitch is unknown, did you mean birch?"),
    ],
)
def test_the_command_says_why_there_is_nothing_to_accept(name: str, why: str) -> None:
    with pytest.raises(CommandError, match=f"^{why}".replace("?", r"\?")):
        call_command("acceptcertificate", name)


def test_the_command_names_the_option_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", False)
    with pytest.raises(CommandError, match="CLUSTERAGENT_RUNNER_CERTIFICATES is not `pinned`"):
        call_command("acceptcertificate", "ash")


def test_the_list_offers_it_where_certificates_are_pinned(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Accept certificate" in operator.get(LIST).content.decode()
    monkeypatch.setattr(conf, "RUNNER_CERTIFICATES_PINNED", False)
    assert "Accept certificate" not in operator.get(LIST).content.decode()


def test_the_page_that_asks_has_the_command_and_the_call(operator: Client) -> None:
    told = {label: text for _, label, text in operator.post(LIST, chosen("ash")).context["elsewhere"]}
    assert told["command that does the same"] == "clusteragent acceptcertificate ash"
    assert told["call that does the same"].endswith("/api/operator/v1/nodes/ash/accept-certificate")
    call_command(*told["command that does the same"].split()[1:])
    assert kept() == OTHER
