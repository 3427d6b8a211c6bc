"""Which node may run which config, and why not: declarations, groups, rules, pins, and runners before node agents."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import read_snapshot
from checks.dispatcher.refusals import BALANCE, ORDER, PLACEMENT, UNDO, Purpose, Reason, Refusal
from checks.models import Assignment, Config, Move
from checks.models.orders import Pin, Rule
from checks.tests.cast import counts, dangling, lead, owners, report, sent, silence
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from nodes.declarations import canonical
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeType

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def declare(name: str, **lists: Any) -> None:
    note_heartbeat(name, last_change=7, declared=canonical(**lists))


def entry(check: str = "http_check", **fields: Any) -> Entry:
    return Entry(0, "", check, endpoint=False, **fields)


def may_run(check: str = "http_check", **fields: Any) -> set[str]:
    snapshot = read_snapshot()
    among = snapshot.within_limits(entry(check, **fields))
    return {node.name for node in snapshot.nodes if among is None or node.id in among}


def why_not(check: str = "http_check", **fields: Any) -> dict[str, str]:
    snapshot = read_snapshot()
    refusals = {node.name: snapshot.refusal(entry(check, **fields), node) for node in snapshot.nodes}
    return {name: str(why) for name, why in refusals.items() if why}


def test_without_any_of_it_everybody_may_run_everything():
    report("ash", "birch")
    assert read_snapshot().is_plain
    assert may_run() == {"ash", "birch"}
    assert why_not() == {}


def test_declarations_say_why_not():
    report("ash", "birch", "cedar")
    declare("birch", exclude=["http_check"])
    declare("cedar", include=["ntp", "dns_check"])
    assert may_run() == {"ash"}
    assert why_not() == {
        "birch": "the node declares that it does not run http_check",
        "cedar": "the node declares that it runs only dns_check and ntp",
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

    def test_brackets_of_a_pattern_are_no_class_of_characters(self):
        rule = Rule(
            check_pattern="http[_]check", source_pattern="api:[st]hop", together_with="n[t]p", apart_from="n[t]p"
        )
        assert not rule.covers("http_check", ())
        assert not rule.joins("ntp")
        assert not rule.is_apart_from("ntp")
        rule.check_pattern = "*"
        assert not rule.covers("http_check", ("api:shop",))
        assert rule.covers("http_check", ("api:[st]hop",))

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
        note_heartbeat("ash", last_change=7, node_type=NodeType.RUNNER)
        note_heartbeat("birch", last_change=7, node_type=NodeType.NODE_AGENT, client_ip="10.0.0.2")
        report("cedar")

    def test_while_a_runner_lives_node_agents_get_nothing_new(self):
        dispatcher.schedule([sent("one"), sent("two")])
        assert counts() == {"ash": 2}
        assert why_not()["birch"] == "it is a node agent, and runners come first"

    def test_who_names_no_type_is_a_runner_if_it_sends_an_address(self):
        assert "cedar" not in may_run()
        note_heartbeat("cedar", last_change=7, client_ip="10.0.0.3")
        assert may_run() == {"ash", "cedar"}

    def test_without_a_runner_that_may_run_it_node_agents_do(self):
        declare("ash", exclude=["http_check"])
        note_heartbeat("ash", last_change=7, node_type=NodeType.RUNNER, declared=canonical(exclude=["http_check"]))
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
            dispatcher.move_misplaced()
            assert counts()["ash"] == moved
            Move.objects.update(time=ago(timedelta(minutes=1)))


class TestWhatChanges:
    def test_a_rule_that_comes_takes_away_what_it_forbids(self):
        report("ash", "birch")
        dispatcher.schedule([sent("one"), sent("two")])
        Node.objects.filter(name="ash").update(labels={"disk": "slow"})
        Rule.objects.create(name="quick", forbidden={"disk": "slow"})
        dispatcher.move_misplaced()
        assert counts() == {"birch": 2}

    def test_what_nobody_may_run_dangles_and_says_so_in_the_ledger(self):
        report("ash")
        dispatcher.schedule([sent("one")])
        Rule.objects.create(name="nowhere", required={"zone": "x"})
        [move] = dispatcher.move_misplaced()
        assert (move.source_node, move.to_node, move.reason) == ("ash", "", "ineligible")
        assert dangling() == {"one"}

    def test_an_endpoints_check_is_where_its_endpoint_is_whatever_is_declared(self):
        report("ash")
        declare("ash", include=["ntp"])
        dispatcher.schedule([sent("one", node_name="ash")])
        dispatcher.run_pass(lead())
        assert Config.objects.get().dangling_since is None
        assert Config.objects.endpoints_share("ash").configs != ""


def isolate_on_birch() -> None:
    dispatcher.schedule([sent("shop")])
    dispatcher.reassign([Config.objects.get().pk], "birch", actor="eve")
    dispatcher.isolate([Config.objects.get().pk])


def label(**fields: Any) -> None:
    Rule.objects.create(name="zones", **fields)
    Node.objects.filter(name="birch").update(labels={"zone": "b"})


def claim(monkeypatch: pytest.MonkeyPatch, group: str, check: str = "ntp") -> None:
    declare("birch", group=group)
    monkeypatch.setattr(conf, "RUNNER_GROUPS", {check: "kube"})


def crowd() -> None:
    Rule.objects.create(name="wide", spread=True)
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    dispatcher.schedule([sent(key) for key in ("shop", "mail", "news")])
    Assignment.objects.update(node=Node.objects.get(name="birch"))


def rival(**fields: Any) -> None:
    Rule.objects.create(name="rivals", check_pattern="http*", apart_from="dns", **fields)
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    dispatcher.schedule([sent("dns", name="dns")])
    Assignment.objects.update(node=Node.objects.get(name="birch"))


def fill() -> None:
    dispatcher.schedule([sent("shop"), sent("mail")])
    assert counts() == {"ash": 1, "birch": 1}


AUTOMATIC = {PLACEMENT, BALANCE}
EVERYBODY = AUTOMATIC | {UNDO, ORDER}
# What makes it so that birch may not have an http_check, in which words, and whom that stops.
REFUSALS: dict[Reason, tuple[Callable[[pytest.MonkeyPatch], object], str, set[Purpose]]] = {
    Reason.WARMUP: (
        lambda _: Hearing.objects.update(warmup=True),
        "nothing is placed before the warm-up of this new database is over",
        EVERYBODY - {BALANCE},
    ),
    Reason.DRAINING: (
        lambda _: Node.objects.filter(name="birch").cordon(draining=True), "it is draining", EVERYBODY,
    ),
    Reason.CORDONED: (lambda _: Node.objects.filter(name="birch").cordon(), "it is cordoned", EVERYBODY),
    Reason.LEAVING: (lambda _: note_goodbye("birch", "leaving"), "it said that it leaves", EVERYBODY),
    Reason.RESTARTING: (
        lambda _: note_goodbye("birch", "restarting"), "it said that it restarts", EVERYBODY - {ORDER},
    ),
    Reason.SILENT: (
        lambda _: Heartbeat.objects.filter(node__name="birch").update(seen_at=ago(conf.NODE_EXPIRATION_TIMEOUT * 0.7)),
        "it is silent for longer than 15 s",
        EVERYBODY - {ORDER},
    ),
    Reason.RESERVED: (
        lambda _: isolate_on_birch(), r"it is reserved for http_check \w+, which is isolated", EVERYBODY,
    ),
    Reason.NOT_INCLUDED: (
        lambda _: declare("birch", include=["ntp"]), "the node declares that it runs only ntp", EVERYBODY,
    ),
    Reason.EXCLUDED: (
        lambda _: declare("birch", exclude=["http_check"]), "the node declares that it does not run http_check", EVERYBODY,
    ),
    Reason.UNKNOWN_GROUP: (lambda patch: claim(patch, "rogue"), "the node's group rogue is unknown", EVERYBODY),
    Reason.OTHER_GROUP: (
        lambda patch: claim(patch, "", "http_check"), "http_check is for the group kube", EVERYBODY,
    ),
    Reason.NOT_CLAIMED: (
        lambda patch: claim(patch, "kube"), "the node's group kube does not claim http_check", EVERYBODY,
    ),
    Reason.REQUIRED: (lambda _: label(required={"zone": "a"}), "rule zones: it requires zone=a", EVERYBODY),
    Reason.FORBIDDEN: (lambda _: label(forbidden={"zone": "b"}), "rule zones: it forbids zone=b", EVERYBODY),
    Reason.RULE_FULL: (
        lambda _: (label(max_per_node=1), fill()), "rule zones: at most 1 on one node", EVERYBODY,
    ),
    Reason.APART: (lambda _: rival(), "rule rivals: apart from dns, which it has", EVERYBODY),
    Reason.APART_IN_DOMAIN: (
        lambda _: rival(apart_by_domain=True), "rule rivals: apart from dns, which zone b has", EVERYBODY,
    ),
    Reason.RUNNERS_FIRST: (
        lambda _: Heartbeat.objects.filter(node__name="ash").update(client_ip="10.0.0.1"),
        "it is a node agent, and runners come first",
        AUTOMATIC,
    ),
    Reason.FLAPPING: (
        lambda _: Node.objects.filter(name="birch").update(not_before=Now() + conf.NODE_EXPIRATION_TIMEOUT),
        "it comes and goes",
        AUTOMATIC,
    ),
    Reason.FULL: (
        lambda _: (fill(), Node.objects.update(max_configs=1)), "it may have at most 1 config", EVERYBODY,
    ),
    Reason.SPREAD: (
        lambda _: crowd(), "rule wide: 3 of its configs are in zone b, and only 0 in no zone", {PLACEMENT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSALS, ids=str)
def test_each_reason_has_its_words_stops_whom_it_should_and_bounds_the_choice(
    reason: Reason, monkeypatch: pytest.MonkeyPatch
):
    happens, words, stopped = REFUSALS[reason]
    report("ash", "birch")
    happens(monkeypatch)
    found = {purpose: said(purpose) for purpose in EVERYBODY}
    assert {purpose for purpose, why in found.items() if why} == stopped
    for why in filter(None, found.values()):
        assert why.reason == reason
        assert re.fullmatch(words, str(why))
    assert ("birch" in choice_of_two()) is (PLACEMENT not in stopped)


def said(purpose: Purpose, **fields: Any) -> Refusal | None:
    """Why birch may not have an http_check."""
    snapshot = read_snapshot(purpose)
    return snapshot.refusal(entry(**fields), snapshot.named("birch"))


def test_a_pin_that_leads_nowhere_and_does_not_wait_binds_only_who_names_a_node():
    report("birch")
    for waits, stopped in ((False, {ORDER}), (True, EVERYBODY)):
        pin = Pin(aim="ash", waits=waits)
        assert {purpose for purpose in EVERYBODY if said(purpose, pin=pin)} == stopped
    report("ash")
    assert {str(said(purpose, pin=Pin(aim="ash"))) for purpose in EVERYBODY} == {"the config is pinned to the node ash"}


def test_no_reason_is_without_a_case():
    assert REFUSALS.keys() | {Reason.PINNED} == set(Reason)


def test_a_silence_that_ends_in_expiry_stops_everybody():
    report("ash", "birch")
    silence("birch")
    assert str(said(ORDER)) == "it is silent for longer than 30 s"
    assert str(said(PLACEMENT)) == "it is silent for longer than 15 s"


def test_just_after_we_were_deaf_silence_stops_only_what_balances():
    report("ash", "birch")
    silence("birch")
    Hearing.objects.update(hearing_since=Now())
    assert {purpose for purpose in EVERYBODY if said(purpose)} == {BALANCE}


def choice_of_two() -> set[str]:
    """The nodes of two http_checks that two nodes could share."""
    snapshot = read_snapshot()
    chosen = [snapshot.choose(entry()) for _ in range(2)]
    return {snapshot.by_id[node].name for node in chosen if node is not None}


def test_a_picture_takes_as_many_queries_for_two_nodes_as_for_thirty():
    numbers = []
    for size in (2, 30):
        names = [f"node-{size}-{number}" for number in range(size)]
        report(*names)
        Rule.objects.create(name=f"few {size}", max_per_node=1000)
        Rule.objects.create(name=f"files {size}", source_pattern="file:*", max_per_node=1000)
        with CaptureQueriesContext(connection) as queries:
            snapshot = read_snapshot()
            snapshot.choose(entry())
            for node in snapshot.nodes:
                snapshot.refusal(entry(), node)
        numbers.append(len(queries))
    assert numbers == [9, 9]
