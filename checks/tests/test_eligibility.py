"""Who may run what, and the reason why not: declarations, groups, rules, pins, and runners before node agents."""

from typing import Any

import pytest

from checks import dispatcher
from checks.dispatcher.changes import Entry
from checks.eligibility import Eligibility, candidates
from checks.models import Config
from checks.models.orders import Pin, Rule
from checks.tests.cast import counts, dangling, lead, owners, report, sent
from clusteragent.lib import conf
from nodes.declarations import canonical
from nodes.models import Node, NodeType

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def declare(name: str, **lists: Any) -> None:
    Node.objects.heartbeat(name, last_change=7, declared=canonical(**lists))


def entry(check: str = "http_check", **fields: Any) -> Entry:
    return Entry(0, "", check, endpoint=False, **fields)


def eligibility() -> Eligibility:
    return Eligibility(candidates(Node.objects.accepting()))


def may_run(check: str = "http_check", **fields: Any) -> set[str]:
    judge = eligibility()
    among = judge.among(entry(check, **fields))
    return {node.name for node in judge.nodes if among is None or node.id in among}


def why_not(check: str = "http_check", **fields: Any) -> dict[str, str]:
    return eligibility().refusals(entry(check, **fields))


def test_without_any_of_it_everybody_may_run_everything():
    report("ash", "birch")
    assert eligibility().is_plain
    assert may_run() == {"ash", "birch"}
    assert why_not() == {}


def test_declarations_say_why_not():
    report("ash", "birch", "cedar")
    declare("birch", exclude=["http_check"])
    declare("cedar", include=["ntp", "dns_check"])
    assert may_run() == {"ash"}
    assert why_not() == {
        "birch": "the node declares that it does not run http_check",
        "cedar": "the node declares that it runs only dns_check, ntp",
    }


def test_exclude_takes_away_from_include():
    report("ash")
    declare("ash", include=["ntp", "http_check"], exclude=["http_check"])
    assert may_run("ntp") == {"ash"}
    assert may_run("http_check") == set()


class TestGroups:
    @pytest.fixture(autouse=True)
    def _kube(self, warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conf, "RUNNER_GROUPS", {"kubernetes_state_core": "kube"})
        report("ash")
        declare("birch", group="kube")
        declare("cedar", group="rogue")

    def test_what_a_group_claims_is_for_it_alone(self):
        assert may_run("kubernetes_state_core") == {"birch"}
        assert why_not("kubernetes_state_core") == {
            "ash": "kubernetes_state_core is for the group kube",
            "cedar": "the node's group rogue is unknown",
        }

    def test_what_none_claims_is_for_those_without_a_group(self):
        assert may_run("http_check") == {"ash"}
        assert why_not("http_check")["birch"] == "the node's group kube does not claim http_check"

    def test_a_node_of_an_unknown_group_runs_nothing(self):
        assert "cedar" not in may_run("http_check") | may_run("kubernetes_state_core")

    def test_without_the_option_groups_mean_nothing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "RUNNER_GROUPS", {})
        assert may_run("http_check") == {"ash", "birch", "cedar"}

    def test_a_declaration_holds_within_the_group(self):
        declare("birch", group="kube", exclude=["kubernetes_state_core"])
        assert may_run("kubernetes_state_core") == set()


class TestRules:
    @pytest.fixture(autouse=True)
    def _zones(self, warm: None) -> None:
        report("ash", "birch", "cedar")
        for name, zone in (("ash", "a"), ("birch", "b")):
            Node.objects.filter(name=name).update(labels={"zone": zone})

    def test_a_required_label(self):
        Rule.objects.create(name="near", check_pattern="http*", required={"zone": "a"})
        assert may_run() == {"ash"}
        assert why_not()["cedar"] == "rule near: it requires zone=a"
        assert may_run("ntp") == {"ash", "birch", "cedar"}

    def test_a_forbidden_label(self):
        Rule.objects.create(name="far", forbidden={"zone": "a"})
        assert may_run() == {"birch", "cedar"}
        assert why_not() == {"ash": "rule far: it forbids zone=a"}

    def test_all_rules_about_a_check_hold(self):
        Rule.objects.create(name="one", required={"zone": "a"})
        Rule.objects.create(name="two", forbidden={"zone": "a"})
        assert may_run() == set()

    def test_a_rule_about_origins(self):
        Rule.objects.create(name="api", source_pattern="api:*", required={"zone": "b"})
        dispatcher.schedule([sent("one"), sent("two", source="api")])
        assert owners()["two"] == "birch"

    def test_at_most_so_many_on_a_node(self):
        Rule.objects.create(name="few", max_per_node=1)
        dispatcher.schedule([sent(str(number)) for number in range(5)])
        assert counts() == {"ash": 1, "birch": 1, "cedar": 1}
        assert len(dangling()) == 2
        assert why_not()["ash"] == "rule few: at most 1 on one node"


class TestRunners:
    @pytest.fixture(autouse=True)
    def _mixed(self, warm: None) -> None:
        """ash is a runner, birch a node agent, cedar names no type."""
        Node.objects.heartbeat("ash", last_change=7, node_type=NodeType.RUNNER)
        Node.objects.heartbeat("birch", last_change=7, node_type=NodeType.NODE_AGENT, client_ip="10.0.0.2")
        report("cedar")

    def test_while_a_runner_lives_node_agents_get_nothing_new(self):
        dispatcher.schedule([sent("one"), sent("two")])
        assert counts() == {"ash": 2}
        assert why_not()["birch"] == "it is a node agent, and runners come first"

    def test_who_names_no_type_is_a_runner_if_it_sends_an_address(self):
        assert "cedar" not in may_run()
        Node.objects.heartbeat("cedar", last_change=7, client_ip="10.0.0.3")
        assert may_run() == {"ash", "cedar"}

    def test_without_a_runner_that_may_run_it_node_agents_do(self):
        declare("ash", exclude=["http_check"])
        Node.objects.heartbeat(
            "ash", last_change=7, node_type=NodeType.RUNNER, declared=canonical(exclude=["http_check"])
        )
        assert may_run() == {"birch", "cedar"}

    def test_a_pin_goes_before_runners(self):
        assert may_run(pin=Pin(aim="birch")) == {"birch"}

    def test_any_treats_all_alike(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(conf, "PLACEMENT_PREFER", "any")
        assert may_run() == {"ash", "birch", "cedar"}

    def test_what_node_agents_have_moves_to_a_runner_that_comes_at_the_budgets_pace(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        Node.objects.filter(name="ash").cordon()
        dispatcher.schedule([sent(f"{number:02}") for number in range(20)])
        assert counts() == {"birch": 10, "cedar": 10}
        Node.objects.filter(name="ash").cordon(schedulable=True)
        for moved in (5, 10, 15, 20, 20):
            dispatcher.put_right()
            assert counts()["ash"] == moved


class TestWhatChanges:
    def test_a_rule_that_comes_takes_away_what_it_forbids(self):
        report("ash", "birch")
        dispatcher.schedule([sent("one"), sent("two")])
        Node.objects.filter(name="ash").update(labels={"disk": "slow"})
        Rule.objects.create(name="quick", forbidden={"disk": "slow"})
        dispatcher.put_right()
        assert counts() == {"birch": 2}

    def test_what_nobody_may_run_dangles_and_says_so_in_the_ledger(self):
        report("ash")
        dispatcher.schedule([sent("one")])
        Rule.objects.create(name="nowhere", required={"zone": "x"})
        [move] = dispatcher.put_right()
        assert (move.source_node, move.to_node, move.reason) == ("ash", "", "ineligible")
        assert dangling() == {"one"}

    def test_an_endpoints_check_is_where_its_endpoint_is_whatever_is_declared(self):
        report("ash")
        declare("ash", include=["ntp"])
        dispatcher.schedule([sent("one", node_name="ash")])
        dispatcher.run_pass(lead())
        assert Config.objects.get().dangling_since is None
        assert Config.objects.endpoints_share("ash").configs != ""
