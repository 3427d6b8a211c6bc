"""POST …/clusterchecks/rebalance: measures costs, applies a plan, and returns its moves for old and new clients."""

import json
from typing import Any

import pytest
from django.test import Client

from checks import plans, views
from checks.dispatcher.costs import Measured
from checks.models import Instance, Move, Plan
from checks.tests.balance import furnish
from checks.tests.cast import owners
from clusteragent.lib import conf, database
from nodes.models import Node
from nodes.statsclient import Round

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

PATHS = ["/api/v1/clusterchecks/rebalance", "/v1/api/clusterchecks/rebalance"]


@pytest.fixture(autouse=True)
def measured(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the runners were asked."""
    settings.ROOT_URLCONF = "clusteragent.urls.agents"
    rounds: list[str] = []

    def measure() -> Measured:
        rounds.append("asked")
        return Measured(Round(0, 0, 0.0), 0, 0)

    monkeypatch.setattr(views.costs, "measure", measure)
    return rounds


def call(body: bytes = b"", token: str = conf.LOCAL_TOKEN, path: str = PATHS[0]) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    return Client().post(path, body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("path", [*PATHS, "/api/v1/clusterchecks/isolate/check/http_check:1"])
@pytest.mark.parametrize("name", ["dry_run", "Dry_Run", "dry-run", "dryrun"])
def test_a_dry_run_that_there_is_not_does_not_act(path: str, name: str, measured: list[str]) -> None:
    furnish(ash=[0.4, 0.4], birch=[])
    answer = call(path=f"{path}?{name}=1")
    assert answer.status_code == 400
    assert "nothing was done" in answer.content.decode()
    assert not measured
    assert not Plan.objects.exists()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"", b"{}", b'{"force": false}', b'{"force": null, "more": 1}', b"null"])
def test_the_moves_are_told_in_both_generations_names(body: bytes, path: str, measured: list[str]):
    furnish(ash=[0.4, 0.4], birch=[])
    answer = call(body, path=path)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    move = Move.objects.first()
    assert move is not None
    assert json.loads(answer.content) == [
        {
            "check_id": Instance.objects.get(config=move.config_id).check_id,
            "digest": move.digest,
            "check_name": "http_check",
            "check_weight": 0,
            "source_node_name": "ash",
            "source_diff": 0,
            "dest_node_name": "birch",
            "dest_diff": 0,
        }
    ]
    assert (move.reason, move.actor) == ("rebalanced", "local API")
    assert sorted(owners().values()) == ["ash", "birch"]
    assert measured == ["asked"]
    assert Plan.objects.get().moved == 1


def test_where_nothing_is_to_be_done_the_list_is_empty():
    furnish(ash=[0.4], birch=[0.4])
    assert call(b"{}").content == b"[]"
    assert not Plan.objects.exists()


def test_force_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conf, "REBALANCE_MIN_IMPROVEMENT", 100)
    furnish(ash=[0.4] * 4, birch=[0.4])
    assert json.loads(call(b'{"force": false}').content) == []
    assert len(json.loads(call(b'{"Force": true}').content)) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"force", "invalid JSON: Expecting value at character 1"),
        (b"[]", "a rebalance is a JSON object, not an array"),
        (b'{"force": "yes"}', "force is a string, allowed is a boolean"),
        (b'{"force": 1}', "force is 1, allowed is a boolean"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_so_and_moves_nothing(body: bytes, text: str, measured: list[str]):
    furnish(ash=[0.4, 0.4], birch=[])
    answer = call(body)
    assert (answer.status_code, answer.content.decode()) == (500, f"{text}\n")
    assert set(owners().values()) == {"ash"}
    assert measured == []


def test_without_advanced_dispatching_it_is_refused_as_by_the_peer(
    monkeypatch: pytest.MonkeyPatch, measured: list[str]
):
    monkeypatch.setattr(conf, "ADVANCED_DISPATCHING_ENABLED", False)
    furnish(ash=[0.4, 0.4], birch=[])
    for body in (b"{}", b'{"force": true}'):
        answer = call(body)
        told = "no checks to rebalance: advanced dispatching is not enabled\n"
        assert (answer.status_code, answer.content.decode()) == (500, told)
    assert (set(owners().values()), measured) == ({"ash"}, [])


def test_node_agents_may_not(measured: list[str]):
    furnish(ash=[0.4, 0.4], birch=[])
    assert call(b"{}", token=conf.AUTH_TOKEN).status_code == 403
    assert (set(owners().values()), measured) == ({"ash"}, [])


def test_what_changes_meanwhile_is_a_conflict_that_names_it(monkeypatch: pytest.MonkeyPatch):
    furnish(ash=[0.4, 0.4], birch=[])
    make = plans.making.make

    def made(**how: Any) -> Plan:
        plan = make(**how)
        Node.objects.filter(name="birch").cordon()
        return plan

    monkeypatch.setattr(plans.making, "make", made)
    answer = call(b"{}")
    assert (answer.status_code, answer.content.decode()) == (409, "node birch is cordoned\n")
    assert set(owners().values()) == {"ash"}


def test_a_database_that_is_away_is_a_503_before_any_runner_is_asked(
    monkeypatch: pytest.MonkeyPatch, measured: list[str]
):
    def away(work: object) -> object:
        raise database.Away("the database can't answer now")

    monkeypatch.setattr(database, "ask", away)
    assert (call(b"{}").status_code, measured) == (503, [])


def test_where_cluster_checks_are_off_it_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conf, "CLUSTER_CHECKS_ENABLED", False)
    answer = call(b"{}")
    assert (answer.status_code, answer.content.decode()) == (404, "Cluster-checks are not enabled\n")
