"""The alert rules, as promtool judges them."""

from pathlib import Path

import yaml

from tests.observed.programs import promtool

ALERTS = Path(__file__).parents[2] / "deploy/grafana/alerts.yaml"
CASES = Path(__file__).with_name("alerts_test.yaml")


def test_the_rules_are_valid() -> None:
    answer = promtool("check", "rules", ALERTS)
    assert answer.returncode == 0, answer.stdout


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    answer = promtool("test", "rules", CASES)
    assert answer.returncode == 0, answer.stdout


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_waits() -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = {rule["alert"] for group in groups for rule in group["rules"]}
    looks = [look for case in yaml.safe_load(CASES.read_text())["tests"] for look in case.get("alert_rule_test", ())]
    assert {look["alertname"] for look in looks if look.get("exp_alerts")} == rules
    assert {look["alertname"] for look in looks if not look.get("exp_alerts")} == rules
