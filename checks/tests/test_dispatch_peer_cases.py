"""The peer's test cases of scheduling and expiry, replayed from data through our verbs.

Where we differ on purpose the test asserts our behaviour, and tests/peer_cases.py says why.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import Refused, Sent
from checks.models import Config, Move, freezes
from checks.sources import origins
from checks.tests.cast import config, counts, dangling, lead, owners, report, sent
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node
from tests import peer_cases

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CASES = peer_cases.cases("dispatch.json", "expiry.json")
MODES = [name for name, case in CASES.items() if case["topic"] == "advanced_mode"]


def expected_of(name: str) -> tuple[Any, Any]:
    return CASES[name]["input"], CASES[name]["expected"]


def take_in(*cases: dict[str, Any]) -> None:
    """Schedule what the filters admit of the cases' configs."""
    for case in cases:
        name = case["name"]
        fields = {
            key: value for key, value in case.items() if key in {"cluster_check", "node_name", "metrics_excluded"}
        }
        original = config(name=name, url=f"http://{name}", **fields)
        try:
            dispatcher.schedule([Sent("file", name, original, dispatcher.admit(original))])
        except Refused:
            continue


def give_up(*cases: dict[str, Any]) -> None:
    dispatcher.unschedule([("file", case["name"]) for case in cases])


def age(name: str, seconds: float) -> None:
    Heartbeat.objects.filter(node__name=name).update(seen_at=Now() - timedelta(seconds=seconds))


def on(node: str) -> list[str]:
    return sorted(key for key, owner in owners().items() if owner == node)


def test_schedule_and_unschedule():
    given, wanted = expected_of("TestScheduleUnschedule")
    take_in(*given["schedule"])
    assert list(Config.objects.values_list("name", flat=True)) == wanted["after_schedule"]["stored"]
    assert len(dangling()) == wanted["after_schedule"]["dangling"]
    give_up(*given["schedule"])
    assert list(Config.objects.values_list("name", flat=True)) == wanted["after_unschedule"]["stored"]
    assert len(dangling()) == wanted["after_unschedule"]["dangling"]


def test_schedule_and_unschedule_endpoints():
    given, wanted = expected_of("TestScheduleUnscheduleEndpoints")
    take_in(*given["schedule"])
    assert Config.objects.filter(node_name="node1").count() == wanted["endpoints_configs"]["node1"]
    give_up(*given["schedule"])
    assert Config.objects.filter(node_name="node1").count() == wanted["after_unschedule"]["node1"]


def test_an_excluded_endpoint_is_not_dispatched():
    given, wanted = expected_of("TestExcludeEndpoint")
    take_in(*given["schedule"])
    for node, number in wanted["endpoints_configs"].items():
        assert Config.objects.filter(node_name=node).count() == number


def test_a_config_can_come_go_and_come_again():
    given, wanted = expected_of("TestDescheduleRescheduleSameNode")
    assert [op[0] for op in given["ops"]] == ["add", "remove", "add"]
    report("node1")
    dispatcher.schedule([sent("cluster-check")])
    dispatcher.unschedule([("file", "cluster-check")])
    assert Config.objects.count() == wanted["stored_after_remove"]
    dispatcher.schedule([sent("cluster-check")])
    assert on("node1") == wanted["node1"]
    assert Config.objects.count() == wanted["stored"]


def test_node_status():
    """The peer's store is "active" once its warm-up is over."""
    given, wanted = expected_of("TestProcessNodeStatus")
    answers, renewed = [], []
    for step in given["steps"]:
        Hearing.objects.update(warmup=not step["active"])
        if "set_node_last_config_change" in step:
            dispatcher.schedule([sent("one")])
            age("node1", 50)
        version = Node.objects.filter(name="node1").values_list("config_version", flat=True).first() or 0
        named = {"node_last_config_change": version, "node_last_config_change-2": version - 2}
        last_change = named.get(step["last_change"], step["last_change"])
        answers.append(note_heartbeat("node1", last_change=last_change, client_ip=step["ip"]))
        renewed.append(not Node.objects.silent().exists())
    assert answers == wanted["up_to_date"]
    assert all(renewed) is wanted["heartbeat_refreshed_every_time"]
    assert Heartbeat.objects.get().client_ip == wanted["client_ip_after"]


def test_four_configs_are_spread_over_two_nodes():
    given, wanted = expected_of("TestDispatchFourConfigsTwoNodes")
    report(*given["nodes"])
    dispatcher.schedule([sent(key) for key in given["schedule"]])
    assert counts() == wanted["count"]
    assert sorted(owners()) == wanted["union"]


def test_a_dangling_config_is_flagged_and_placed_when_a_node_comes():
    _, wanted = expected_of("TestDanglingConfig")
    dispatcher.schedule([sent("cluster-check")])
    assert len(owners()) == wanted["digest_to_node"]
    assert len(dangling()) == wanted["dangling"]
    assert bool(dispatcher.redispatch()) is wanted["should_dispatch_without_node"]
    assert bool(Config.objects.flag_unscheduled()) is wanted["unscheduled_flag_at_t0"]
    Config.objects.update(dangling_since=Now() - conf.UNSCHEDULED_CHECK_THRESHOLD - timedelta(seconds=1))
    assert bool(Config.objects.flag_unscheduled()) is wanted["unscheduled_flag_within_2s"]
    report("node1")
    assert bool(dispatcher.redispatch()) is wanted["should_dispatch_after_node_registers"]
    dispatcher.unschedule([("file", "cluster-check")])
    assert len(dangling()) == wanted["dangling_after_delete"]


def test_there_is_no_reset_so_nothing_is_cleared_when_a_leader_goes():
    """The peer empties its store when it loses leadership. Our map is a table: the flag stays with the config."""
    given, wanted = expected_of("TestResetClearsUnscheduledCheckGauge")
    take_in(*({**case, "cluster_check": True} for case in given["schedule"]))
    Config.objects.update(dangling_since=Now() - timedelta(hours=1))
    assert len(Config.objects.flag_unscheduled()) == wanted["gauge_before_reset"]
    dispatcher.run_pass(lead())
    assert Config.objects.filter(unscheduled=True).count() == 1
    assert len(dangling()) == 1


def test_a_node_that_never_reported_holds_nothing():
    """The Datadog Cluster Agent creates a node by assigning to it, and expires it at the first tick; here that is refused."""
    _, wanted = expected_of("TestExpireNodes never reported")
    dispatcher.schedule([sent("one")])
    ids = Config.objects.values_list("pk", flat=True)
    with pytest.raises(LookupError):
        dispatcher.reassign(ids, "node1", actor="eve")
    assert Node.objects.known().count() == wanted["nodes_after"]
    assert len(dangling()) == wanted["dangling_after"]


def test_configs_of_an_expired_node_go_to_the_next_that_registers():
    given, wanted = expected_of("TestRescheduleDanglingFromExpiredNodes")
    report(*given["nodes"])
    dispatcher.schedule([sent(key) for key in given["schedule"]])
    for name, seconds in given["heartbeat_age_s"].items():
        age(name, seconds)
    # Ours keeps a config on a silent node while no other could take it; force does as the peer does.
    assert dispatcher.expire_nodes() == []
    assert dispatcher.expire_nodes(force=True)
    assert Node.objects.known().count() == wanted["after_expire"]["nodes"]
    assert len(dangling()) == wanted["after_expire"]["dangling"]
    report(given["then_register"])
    assert bool(dispatcher.redispatch()) is wanted["should_dispatch_dangling"]
    assert {given["then_register"]: on(given["then_register"])} == wanted["final"]
    assert Config.objects.count() == wanted["stored"]
    assert set(Move.objects.values_list("reason", flat=True)) == {"scheduled", "expired", "redispatched"}


@pytest.mark.parametrize("name", MODES)
def test_balancing_stays_on_whoever_reports(name: str):
    """By node types alone: each node is judged separately."""
    given, wanted = expected_of(name)
    assert given["initial"] is conf.ADVANCED_DISPATCHING_ENABLED
    for node, node_type in given["node_types"].items():
        note_heartbeat(node, last_change=0, node_type=node_type)
    dispatcher.run_pass(lead())
    assert freezes.why_off() == ""
    assert wanted["advanced_dispatching"] or name in peer_cases.DIFFERENT


def test_what_is_cut_stays_cut_when_another_leads(monkeypatch: pytest.MonkeyPatch):
    """The peer forgets its shards when it loses leadership, and cuts anew."""
    given, wanted = expected_of("TestResetClearsShardedConfigs")
    monkeypatch.setattr(conf, "INSTANCE_SHARDING_ENABLED", True)
    shards = next(iter(given["mark"].values()))
    origins.put("file", "shop", config(instances=tuple(f"host: {shard}" for shard in shards)))
    dispatcher.run_pass(lead())
    assert bool(origins.origins("file", "shop")) is not wanted["tracked"]
    assert Config.objects.count() == len(shards)


def test_every_case_is_replayed_or_differs():
    """Those of the handler are in the roof's tests, that of the state beside the state's."""
    folder = Path(__file__).parent
    handler = folder.parents[1] / "clusteragent" / "tests" / "test_handler.py"
    assert not peer_cases.unread(CASES, __file__, str(handler), str(folder / "test_state.py"), tables=MODES)
