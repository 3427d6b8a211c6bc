"""History on pages: charts, the same as a table, and a strip of runs."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.dateparse import parse_datetime

from checks import dispatcher
from checks.explain import history
from checks.models import ClusterHistory, Config, ConfigHistory, Cost, Instance, NodeHistory
from checks.models.history import Step
from checks.tests.cast import hand_over, report, sent
from checks.tests.operators import superuser
from clusteragent.lib import clock
from nodes.models import Node, Runner, RunnerStats
from operators.roles import Role
from operators.tests.cast import having

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
PAGE = "/admin/history/"


@pytest.fixture
def client(warm: None, monkeypatch: pytest.MonkeyPatch) -> Client:
    """ash has a config that took 300 ms three and two minutes ago, and failed in the latter. Nobody noted the last minute."""
    report("ash")
    dispatcher.schedule([sent("a")])
    hand_over()
    Runner.objects.create(node=ash(), stats_at=Now(), failures=0)
    stats = RunnerStats.objects.create(
        node=ash(), check_id=Instance.objects.get().check_id, execution_ms=300, failed=False, last_error=""
    )
    Cost.objects.create(config=Config.objects.get(), workers_needed=1, seconds=0.3)
    now = clock.now()
    history.note(now - 2 * MINUTE)
    stats.failed = True
    stats.save()
    history.note(now - MINUTE)
    # No minute ends while a test runs.
    monkeypatch.setattr(clock, "now", lambda: now)
    return superuser()


def ash() -> Node:
    return Node.objects.get(name="ash")


def shown(client: Client, path: str) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.context["history"]
    return found


def of_node() -> str:
    return f"/admin/nodes/node/{ash().pk}/change/"


def of_config() -> str:
    return f"/admin/checks/config/{Config.objects.get().pk}/change/"


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_a_nodes_page_draws_what_its_table_says(client: Client) -> None:
    found = shown(client, of_node())
    assert [chart.title for chart in found["charts"]] == [
        "Load", "Configs", "Failing configs", "Configs that came and went"
    ]  # fmt: skip
    load = json.loads(found["charts"][0].data)
    assert len(load["labels"]) == 60
    assert load["labels"][-1] == f"{clock.now() - MINUTE:%H:%M}"
    [drawn] = load["datasets"]
    assert drawn["data"][-3:] == [25.0, 25.0, None]
    assert plain(found["charts"][0].said) == "25 % each minute"
    assert found["headers"] == ["load", "configs", "failing", "came", "went"]
    assert [[plain(value) for value in values] for _, values in found["rows"]] == [["25 %", "1", "0", "0", "0"]] * 2
    assert found["missing"] == "58 minutes"


def test_a_load_that_was_not_measured_is_a_gap_that_is_told(client: Client) -> None:
    latest = NodeHistory.objects.order_by("-time").values("time")[:1]
    NodeHistory.objects.filter(time=latest).update(assumed=True)
    found = shown(client, of_node())
    assert json.loads(found["charts"][0].data)["datasets"][0]["data"][-3:] == [25.0, None, None]
    assert plain(found["charts"][0].said) == "25 % each minute, not measured in 1 minute"
    assert [plain(values[0]) for _, values in found["rows"]] == ["", "25 %"]


def test_a_configs_page_has_a_strip_of_its_runs(client: Client) -> None:
    found = shown(client, of_config())
    assert [cell.state for cell in found["strip"]][-4:] == ["missing", "ok", "failing", "missing"]
    assert found["strip_said"] == "1 minute ok, 1 minute failing"
    assert found["strip"][-2].title == f"{clock.now() - 2 * MINUTE:%H:%M} failing"
    assert [values for _, values in found["rows"]] == [["300 ms", "ash", "failing"], ["300 ms", "ash", "ok"]]
    assert [way for _, way, _ in found["moves"]] == ["nowhere → ash"]


def test_the_cluster_has_a_page(client: Client) -> None:
    found = shown(client, PAGE)
    titles = [chart.title for chart in found["charts"]]
    assert titles == ["Load", "Failing configs", "Dangling configs", "Moves", "Nodes", "Configs"]
    assert len(found["rows"]) == 2
    assert 'href="/admin/history/"' in client.get("/admin/").content.decode()


@pytest.mark.parametrize(("name", "number"), [("hour", 60), ("day", 24), ("week", 168), ("year", 60)])
def test_the_address_names_how_far_back(client: Client, name: str, number: int) -> None:
    for path in (of_node(), of_config(), PAGE):
        found = shown(client, f"{path}?history={name}")
        assert len(json.loads(found["charts"][0].data)["labels"]) == number
        assert len(found["rows"]) in (1, 2)


def test_without_any_history_a_page_says_so(client: Client) -> None:
    for kind in (ClusterHistory, NodeHistory, ConfigHistory):
        kind.objects.filter(step=Step.MINUTE).delete()
    for path in (of_node(), of_config(), PAGE):
        assert b"Nothing is noted of this time" in client.get(path).content
        assert b"<canvas" not in client.get(path).content


def test_a_page_asks_as_often_for_a_week(client: Client) -> None:
    client.get(of_config())  # what is remembered for all pages
    with CaptureQueriesContext(connection) as hour:
        client.get(of_config())
    with CaptureQueriesContext(connection) as week:
        client.get(of_config() + "?history=week")
    assert len(hour) == len(week)


def test_the_operators_api_answers_it(client: Client) -> None:
    config, answered = Config.objects.get().pk, having(Role.VIEWER).get
    first, last = (point["time"] for point in answered("history"))
    assert parse_datetime(last) - parse_datetime(first) == MINUTE
    assert answered("history?span=hour")[-1] | {"time": ""} == {
        "time": "", "load": 0.25, "fullest": 0.25, "nodes": 1, "configs": 1, "dangling": 0, "failing": 0, "paused": 0,
        "moves": 0,
    }  # fmt: skip
    assert answered("nodes/ash/history")[-1] | {"time": ""} == {
        "time": "", "load": 0.25, "highest": 0.25, "configs": 1, "failing": 0, "came": 0, "went": 0
    }  # fmt: skip
    assert answered(f"configs/{config}/history")[-1] == {
        "time": last, "node": "ash", "mean_ms": 300, "longest_ms": 300, "ok": 0, "failing": 1, "unknown": 0, "paused": 0
    }  # fmt: skip
    assert answered(f"configs/{config}/history?span=week")[-1]["failing"] == 1


def test_the_operators_api_refuses_other_spans(client: Client) -> None:
    viewer = having(Role.VIEWER)
    for query in ("span=year", "spam=week"):
        assert viewer.call("GET", f"history?{query}").status_code == 400
        assert viewer.call("GET", f"nodes/ash/history?{query}").status_code == 400
