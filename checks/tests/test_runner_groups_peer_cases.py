"""The peer's cases of what nodes declare and of runner groups, replayed from data. Where we differ the test says why.

The peer's drafts differ among each other. Ours is the strict rule: what no node may run dangles.
"""

from typing import Any

import pytest

from checks import dispatcher
from checks.balancing import plan
from checks.dispatcher.changes import Entry
from checks.dispatcher.eligibility import look
from checks.tests.cast import dangling, lead, owners, report, sent, versions
from clusteragent.lib import conf
from clusteragent.lib.options import groups
from nodes.declarations import canonical, parse
from nodes.heartbeats import note_heartbeat
from nodes.models import Node
from tests import peer_cases
from tests.table import table

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CASES = peer_cases.cases("runner_groups.json")
# Of the fields of a case: our drafts' v2 and v3 are alike in these.
ACCEPTANCE = sorted(name for name, case in CASES.items() if case["topic"] == "compat.eligibility")
SIGNATURES = sorted(name for name, case in CASES.items() if case["topic"] == "compat.signature")
CANDIDATES = sorted(name for name, case in CASES.items() if case["topic"] in {"compat.nodes", "compat.strict"})
PARSING = sorted(name for name, case in CASES.items() if case["topic"] == "groups.parse")
GROUP_NODES = sorted(name for name, case in CASES.items() if case["topic"] == "groups.nodes")


def case(name: str) -> tuple[Any, Any]:
    return CASES[name]["input"], CASES[name]["expected"]


def declare(name: str, lists: dict[str, list[str]] | None = None, *, group: str = "", node_type: int = 0) -> None:
    declared = canonical(**(lists or {}), group=group)
    note_heartbeat(name, last_change=1, node_type=node_type, declared=declared)


def eligible(check: str) -> list[str]:
    """The nodes that may get a config of this check."""
    snapshot = look()
    among = snapshot.among(Entry(0, "", check, endpoint=False))
    return [node.name for node in snapshot.nodes if among is None or node.id in among]


def claim(monkeypatch: pytest.MonkeyPatch, claims: dict[str, list[str]]) -> None:
    monkeypatch.setattr(conf, "RUNNER_GROUPS", {check: group for group in claims for check in claims[group]})


@table("name", ACCEPTANCE)
def test_what_a_declaration_admits(name: str) -> None:
    given, expected = case(name)
    admits = parse(canonical(**(given["compat"] or {}))).admits(given["check"])
    assert admits is expected.get("eligible", expected.get("accepts"))


@table("name", SIGNATURES)
def test_declarations_that_mean_the_same_are_the_same(name: str) -> None:
    """The Datadog Cluster Agent's signature has its own format. Here it is JSON, and empty without restrictions."""
    given, expected = case(name)
    kind, _, words = expected["signature"].partition("=")
    lists = {kind: words.split(",")} if words else {}
    assert canonical(**(given["compat"] or {})) == canonical(**lists)
    assert (canonical(**lists) == "") is (kind == "unrestricted")


@pytest.mark.parametrize("name", CANDIDATES)
def test_who_may_get_a_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case(name)
    # The cases have node agents beside runners, and runners come first with us unless told otherwise.
    monkeypatch.setattr(conf, "PLACEMENT_PREFER", "any")
    for worker, lists, *node_type in given["workers"]:
        declare(worker, lists, node_type=node_type[0] if node_type else 0)
    assert eligible(given["check"]) == expected.get("candidates", expected.get("eligible"))


def test_what_nobody_may_run_dangles_until_somebody_does() -> None:
    given, expected = case("TestAddWithNoEligibleWorkerDangles")
    for worker, lists, node_type in given["workers"]:
        declare(worker, lists, node_type=node_type)
    dispatcher.schedule([sent("one", name=given["schedule"])])
    assert bool(owners()) is expected["first_add"]
    assert len(dangling()) == expected["dangling"]
    name, lists, node_type = given["then_register"]
    declare(name, lists, node_type=node_type)
    assert bool(dispatcher.redispatch()) is expected["second_add"]
    assert owners() == {"one": expected["final"]}


def test_a_later_declaration_replaces_the_first() -> None:
    given, expected = case("TestProcessNodeStatusStoresCheckCompatibility v3")
    # Earlier drafts kept what came first until the node registered anew; we follow the later one.
    earlier, _ = case("TestProcessNodeStatusStoresCheckCompatibility v1/v2")
    assert earlier == given
    declare("ash", given["first"])
    declare("ash", given["second"])
    assert Node.objects.get().declared == canonical(**expected["kept"])


@table("name", PARSING)
def test_how_runner_groups_are_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case(name)
    monkeypatch.setenv("DD_CLUSTER_CHECKS_RUNNER_GROUPS", given["option"])
    claims = groups("DD_CLUSTER_CHECKS_RUNNER_GROUPS")
    assert claims == expected["check_to_group"]
    # A group all of whose checks others claimed is unknown with us: nobody would ever be given anything for it.
    assert set(claims.values()) <= set(expected["groups"])


@pytest.mark.parametrize("name", GROUP_NODES)
def test_who_of_the_groups_may_get_a_check(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case(name)
    claim(monkeypatch, given["runner_groups"])
    for worker, group in given["node_group"].items():
        declare(worker, group=group)
    assert eligible(given["check"]) == expected["candidates"]


def test_what_a_group_claims_dangles_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case("TestAddWithNoGroupWorkerDangles")
    claim(monkeypatch, given["runner_groups"])
    for worker, group in given["node_group"].items():
        declare(worker, group=group)
    dispatcher.schedule([sent("one", name=given["schedule"])])
    assert bool(owners()) is expected["first_add"]
    assert len(dangling()) == expected["dangling"]
    name, group = given["then_register"]
    declare(name, group=group)
    dispatcher.redispatch()
    assert owners() == {"one": expected["final"]}


def test_a_node_that_changes_its_group_loses_what_it_no_longer_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given, expected = case("TestGroupChangeRedispatchesConfigs")
    claim(monkeypatch, given["runner_groups"])
    for worker, group in given["node_group"].items():
        declare(worker, group=group)
    dispatcher.schedule([sent(check, name=check) for check in given["placed"]])
    assert owners() == given["placed"]
    before = versions()["runner-1"]
    declare("runner-1", group="kube")
    dispatcher.run_pass(lead())
    assert sorted(dangling()) == expected["dangling"]
    assert "runner-1" not in owners().values()
    after = versions()["runner-1"]
    assert (after > before) is expected["runner1_last_change_increases"]
    declare("runner-1", group="kube")
    dispatcher.run_pass(lead())
    assert (versions()["runner-1"] == after) is expected["same_group_again_is_noop"]


def test_each_set_of_eligible_nodes_is_balanced_on_its_own() -> None:
    given, expected = case("TestRebalanceCohortsKeyedByEligibleSet")
    owners = {check: node for node, stats in given["nodes"].items() for check in stats}
    costs = {check: stat["AverageExecutionTime"] / 15_000 for s in given["nodes"].values() for check, stat in s.items()}
    declared = {node: parse(canonical(**lists)) for node, lists in given["compat"].items()}

    def may_run(check: str) -> frozenset[str]:
        return frozenset(node for node in declared if declared[node].admits(given["check_names"][check]))

    after = owners | {
        move.digest: move.to for move in plan(costs, owners, given["workers"], eligible=may_run, force=given["force"])
    }
    assert expected["always"].items() <= after.items()
    assert sum(owners[check] != node for check, node in after.items()) == 1


def test_what_is_where_it_may_not_run_moves_and_the_rest_stays() -> None:
    """The first draft repaired that by a rebalance, and preferred runners that include a check. Here no rebalance is needed."""
    given, expected = case("TestRebalanceUsingUtilizationRespectsEligibility (v1, misplaced)")
    names = given["config_names"]
    for node, stats in given["nodes"].items():
        report(node)
        Node.objects.exclude(name=node).cordon()
        dispatcher.schedule([sent(given["check_to_config"][check], name=check) for check in stats])
        Node.objects.all().cordon(schedulable=True)
    before = owners()
    assert set(before) == set(names)
    for node, lists in given["compat"].items():
        declare(node, lists)
    dispatcher.run_pass(lead())
    # The first draft held configs that nobody claims on those that exclude; ours as well, since the other includes others.
    assert owners() == expected["final_node"]
    assert sorted(digest for digest in names if before[digest] != owners()[digest]) == sorted(expected["moved"])


def test_every_case_is_replayed_here_or_differs() -> None:
    tables = {*ACCEPTANCE, *SIGNATURES, *CANDIDATES, *PARSING, *GROUP_NODES}
    assert not peer_cases.unread(CASES, __file__, tables=tables)
