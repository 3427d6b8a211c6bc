"""What operators see of slow nodes: on pages, in the list, in the operators' API and in what needs them."""

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from checks.explain import alerts
from checks.tests.cast import report
from clusteragent import metrics
from clusteragent.lib import conf
from clusteragent.lib.words import percent
from nodes.models import Node, NodeEvent, Slowness
from operators.admin.base import address
from operators.roles import Role
from operators.tests.cast import Caller, having

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]
LIST = "/admin/nodes/node/"
SINCE = datetime(2026, 5, 4, 14, 5, tzinfo=UTC)


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


def make_slow(name: str, level: int = Slowness.SLOW, **values: object) -> None:
    told = {"factor": 3.2, "checks": 34, "others": 5, "since": SINCE, "level": level} | values
    Slowness.objects.create(node=Node.objects.get(name=name), **told)


@pytest.fixture
def trees() -> None:
    """ash is slow, birch very slow and given half, cedar recovering, dogwood perhaps slow, elm lost."""
    report("ash", "birch", "cedar", "dogwood", "elm")
    make_slow("ash", factor=2.4, missed=4)
    make_slow("birch", Slowness.VERY, share=0.512)
    make_slow("cedar", 0, factor=1.1, share=0.8, since=None)
    make_slow("dogwood", 0, rounds=1, since=None)
    make_slow("elm")
    Node.objects.get(name="elm").heartbeat.delete()


def names(body: str) -> list[str]:
    return [name for name in ("ash", "birch", "cedar", "dogwood", "elm") if f">{name}</a>" in body]


@pytest.mark.usefixtures("trees")
@pytest.mark.parametrize(("pace", "found"), [("slow", ["ash"]), ("very+slow", ["birch"]), ("recovering", ["cedar"])])
def test_the_list_has_a_column_and_a_filter(operator: Client, pace: str, found: list[str]) -> None:
    body = operator.get(f"{LIST}?pace={pace}").content.decode()
    assert names(body) == found
    assert "column-pace" in body


@pytest.mark.usefixtures("trees")
def test_a_pace_that_there_is_not_is_refused(operator: Client) -> None:
    body = operator.get(f"{LIST}?pace=x").content.decode()
    assert names(body) == []
    assert "Nothing is shown: there is no pace x, only slow, very slow and recovering." in body


def test_without_slow_nodes_there_is_no_column(operator: Client) -> None:
    report("ash")
    make_slow("ash", 0, rounds=1)
    assert "column-pace" not in operator.get(LIST).content.decode()


@pytest.mark.usefixtures("trees")
def test_the_page_of_a_node_says_since_when_why_and_what_it_is_given(operator: Client) -> None:
    NodeEvent.objects.note(["cedar"], NodeEvent.Kind.SLOW_NO_MORE, "its checks take 1.1 times as long as elsewhere")

    def page(name: str) -> str:
        return operator.get(f"{LIST}{Node.objects.get(name=name).pk}/change/").content.decode()

    birch = page("birch")
    assert "very slow since 2026-05-04 14:05" in birch
    assert "its checks take 3.2 times as long as elsewhere (34 checks, 5 other nodes);" in birch
    assert f"; it is given {percent(0.512)} of its share" in birch
    assert "no longer slow" in page("cedar")
    assert "take 2.4 times as long" in page("ash")
    assert "it missed 4 polls in ten minutes" in page("ash")
    assert "recovering" in page("cedar")
    assert "Pace" not in page("dogwood")
    assert "Pace" not in page("elm")


@pytest.fixture
def viewer() -> Caller:
    return having(Role.VIEWER)


@pytest.mark.usefixtures("trees")
def test_the_api_has_the_figures(viewer: Caller) -> None:
    rows = {row["name"]: row["slowness"] for row in viewer.rows("nodes")}
    assert {name for name, told in rows.items() if told} == {"ash", "birch", "cedar"}
    assert rows["birch"] == {
        "state": "very slow",
        "since": "2026-05-04T14:05:00Z",
        "factor": 3.2,
        "checks": 34,
        "other_nodes": 5,
        "missed_polls": 0,
        "share": 0.512,
        "sentence": "its checks take 3.2 times as long as elsewhere (34 checks, 5 other nodes)",
    }


@pytest.mark.usefixtures("trees")
def test_the_metrics_have_numbers_and_factors() -> None:
    lines = metrics.exposition().decode().splitlines()
    told = [
        line.split("}")[0].split(",", 1)[1] + line.split("}")[1]
        for line in lines
        if "_slow{" in line or "_slowness{" in line
    ]
    assert told == ['state="slow" 1', 'state="very slow" 1', 'node="ash" 2.4', 'node="birch" 3.2']


@pytest.mark.usefixtures("trees")
def test_each_needs_somebody_and_very_many_are_grave(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = alerts.Kind
    found = {alert.kind: alert for alert in alerts.current() if "slow" in alert.kind}
    slow, very = found[kinds.SLOW_NODE], found[kinds.VERY_SLOW_NODE]
    assert (slow.count, slow.since) == (1, SINCE)
    assert slow.cause == (
        "ash: its checks take 2.4 times as long as elsewhere (34 checks, 5 other nodes) and it missed 4 polls in ten minutes."
    )
    assert very.cause == (
        "birch: its checks take 3.2 times as long as elsewhere (34 checks, 5 other nodes). It is given less."
    )
    assert names(operator.get(address(very.target)).content.decode()) == ["birch"]
    monkeypatch.setattr(conf, "BRAKE_FRACTION", 0.3)
    Slowness.objects.filter(level=Slowness.SLOW).update(level=Slowness.VERY)
    cause = next(alert.cause for alert in alerts.current() if alert.kind == kinds.MANY_VERY_SLOW)
    assert cause.endswith(". So many at once are no matter of nodes: none is given less.")
