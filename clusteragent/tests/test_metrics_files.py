"""Documentation, dashboard and alert rules name existing metrics, with their types and labels."""

import json
import re
from pathlib import Path

import pytest
import yaml

from checks.explain.alerts import Kind
from clusteragent import metrics
from nodes.models.hearing import STALE_PASS

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "deploy/grafana/dashboard.json"
ALERTS = ROOT / "deploy/grafana/alerts.yaml"
NAME = re.compile(r"\b(?:clusteragent|cluster_checks|endpoint_checks|leader_election)_\w+")

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture
def families() -> dict[str, tuple[str, set[str]]]:
    """Every metric: {name: (type, labels)}."""
    return {family.name: (family.kind, set(family.labels)) for family in metrics.families()}


def expressions() -> list[str]:
    panels = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    rules = [rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert panels
    assert rules
    return panels + rules


def test_the_documentation_has_every_metric(families: dict[str, tuple[str, set[str]]]) -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (gauge|counter) \| ([\w, ]*) ?\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    documented = {name: (kind, set(filter(None, labels.strip().split(", ")))) for name, kind, labels in rows}
    assert documented == families


def test_the_documentation_has_every_kind_of_need_in_its_order() -> None:
    table = (ROOT / "docs/metrics.md").read_text().split("## What needs you")[1].split("##")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [str(kind) for kind in Kind]


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(families: dict[str, tuple[str, set[str]]]) -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert used <= set(families)
    assert len(used) > 10


def test_dashboard_and_alerts_group_by_labels_that_there_are(families: dict[str, tuple[str, set[str]]]) -> None:
    grouped = [
        (name, label.strip())
        for expression in expressions()
        for labels, inner in re.findall(r"by \(([\w, ]+)\) \(([^()]+)", expression)
        for name in NAME.findall(inner)
        for label in labels.split(",")
    ]
    assert grouped
    assert [(name, label) for name, label in grouped if label not in families[name][1]] == []


def test_an_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"critical", "warning"}
            assert {"summary", "description", "runbook_url"} == set(rule["annotations"])


def test_a_pass_is_too_old_for_all_at_the_same_age() -> None:
    rules = {
        rule["alert"]: rule["expr"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    }
    assert 'clusteragent_needs_you{kind="no_pass"}' in rules["ClusterAgentNoPass"]
    assert not re.search(r"last_pass_age_seconds\b\S* *[<>]", " ".join(rules.values()))
    [panel] = [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["title"] == "Last pass"]
    [red] = [step for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"] if step["color"] == "red"]
    assert red["value"] == STALE_PASS.total_seconds()
    assert f"no background pass ended for {STALE_PASS.total_seconds():g} s" in (ROOT / "docs/metrics.md").read_text()


def test_no_two_panels_share_a_place() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= covered
