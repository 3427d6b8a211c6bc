"""schedule and unschedule: new configs are placed, changed ones keep their node, removed ones are deleted."""

import pytest

from checks import dispatcher
from checks.dispatcher import NotLeader, Refused, transaction
from checks.models import ClusterStore, Config, Instance, Origin
from checks.tests.cast import config, counts, dangling, lead, ledger, owners, report, sent, silence, versions
from checks.wire.patching import UnpatchableConfig
from clusteragent.lib import conf
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def test_new_configs_are_spread_to_within_one():
    report("ash", "birch", "cedar")
    moves = dispatcher.schedule([sent(f"c{i}") for i in range(10)])
    assert len(moves) == 10
    assert sorted(counts().values()) == [3, 3, 4]


def test_a_config_goes_to_the_node_that_has_least():
    report("ash", "birch")
    dispatcher.schedule([sent(f"c{i}") for i in range(4)])
    report("cedar")
    dispatcher.schedule([sent("new"), sent("newer")])
    assert owners()["new"] == owners()["newer"] == "cedar"


def test_equal_loads_are_decided_by_name():
    report("cedar", "birch", "ash")
    dispatcher.schedule([sent("one")])
    assert owners() == {"one": "ash"}


def test_without_a_node_a_config_dangles_until_one_comes():
    assert dispatcher.schedule([sent("one")]) == []
    assert dangling() == {"one"}
    report("ash")
    moves = dispatcher.redispatch()
    assert [(move.to_node, move.reason) for move in moves] == [("ash", "redispatched")]
    assert not dangling()


def test_cordoned_lost_and_silent_nodes_get_nothing():
    report("ash", "birch", "cedar")
    Node.objects.filter(name="ash").cordon()
    silence("birch")
    dispatcher.schedule([sent(f"c{i}") for i in range(3)])
    assert counts() == {"cedar": 3}


def test_the_same_again_changes_nothing():
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    before = owners(), versions(), ClusterStore.objects.get().revision, Config.objects.get(origins__key="one").changed
    assert dispatcher.schedule([sent("one"), sent("two")]) == []
    assert (
        owners(),
        versions(),
        ClusterStore.objects.get().revision,
        Config.objects.get(origins__key="one").changed,
    ) == before


def test_a_changed_config_stays_and_only_its_node_gets_a_new_version():
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    identity = Config.objects.get(origins__key="one").pk
    before, owner = versions(), owners()["one"]
    moves = dispatcher.schedule([sent("one", url="http://elsewhere"), sent("two")])
    assert [(m.source_node, m.to_node, m.reason) for m in moves] == [(owner, owner, "changed")]
    changed = Config.objects.get(origins__key="one")
    assert (changed.pk, owners()["one"]) == (identity, owner)
    assert "http://elsewhere" in changed.text
    assert {name for name, version in versions().items() if version != before[name]} == {owner}


def test_check_ids_follow_the_bytes():
    report("ash")
    dispatcher.schedule([sent("one", instances=("url: http://a\n", "url: http://b\n"))])
    before = set(Instance.objects.values_list("check_id", flat=True))
    dispatcher.schedule([sent("one", instances=("url: http://a\n", "url: http://c\n"))])
    after = set(Instance.objects.values_list("check_id", flat=True))
    assert len(before) == len(after) == 2
    assert before.isdisjoint(after)  # the config's digest is part of each ID


def test_two_origins_that_send_the_same_make_one_config_which_lives_while_one_remains():
    report("ash", "birch")
    dispatcher.schedule([sent("one", url="http://same"), sent("two", url="http://same")])
    assert Config.objects.count() == 1
    dispatcher.unschedule([("file", "one")])
    assert set(owners()) == {"two"}
    moves = dispatcher.unschedule([("file", "two")])
    assert [move.reason for move in moves] == ["unscheduled"]
    assert not Config.objects.exists()


def test_an_origin_that_changes_parts_from_a_shared_config_and_stays_on_its_node():
    report("ash", "birch")
    dispatcher.schedule([sent("filler")])
    dispatcher.schedule([sent("one", url="http://same"), sent("two", url="http://same")])
    home = owners()["one"]
    dispatcher.schedule([sent("two", url="http://other")])
    assert Config.objects.count() == 3
    assert owners()["one"] == owners()["two"] == home


def test_an_origin_whose_bytes_become_another_s_joins_it_and_leaves_nothing_behind():
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    dispatcher.schedule([sent("one", url="http://two")])
    assert Config.objects.count() == 1
    assert owners()["one"] == owners()["two"] == "birch"
    assert ledger()[-1] == ("ash", "", "changed")


def test_two_configs_may_trade_their_bytes_in_one_chunk():
    report("ash", "birch")
    dispatcher.schedule([sent("one"), sent("two")])
    dispatcher.schedule([sent("one", url="http://two"), sent("two", url="http://one")])
    texts = {o.key: o.config.text for o in Origin.objects.select_related("config")}
    assert "http://two" in texts["one"]
    assert "http://one" in texts["two"]
    assert len(owners()) == 2


def test_a_chain_of_changes_in_one_chunk_works_in_either_order():
    report("ash")
    dispatcher.schedule([sent("one"), sent("two")])
    dispatcher.schedule([sent("two", url="http://three"), sent("one", url="http://two")])
    dispatcher.schedule([sent("one", url="http://one"), sent("two", url="http://two")])
    texts = {o.key: o.config.text for o in Origin.objects.select_related("config")}
    assert "http://one" in texts["one"]
    assert "http://two" in texts["two"]


def test_the_last_of_two_sendings_of_one_origin_counts():
    report("ash")
    dispatcher.schedule([sent("one", url="http://old"), sent("one", url="http://new")])
    assert "http://new" in Config.objects.get().text


def test_the_same_key_of_two_sources_is_two_origins():
    report("ash")
    dispatcher.schedule([sent("one"), sent("one", source="admin", url="http://by-hand")])
    assert Config.objects.count() == 2
    dispatcher.unschedule([("file", "one")])
    assert Origin.objects.get().source == "admin"


def test_unscheduling_what_nobody_sent_changes_nothing():
    report("ash")
    dispatcher.schedule([sent("one")])
    before = versions()
    assert dispatcher.unschedule([("file", "nope"), ("nope", "one")]) == []
    assert versions() == before


def test_the_ledger_has_that_a_config_without_an_owner_is_gone():
    dispatcher.schedule([sent("one")])
    [move] = dispatcher.unschedule([("file", "one")])
    assert (move.source_node, move.to_node, move.reason) == ("", "", "unscheduled")
    assert not Config.objects.exists()


def test_an_endpoint_check_comes_and_goes_without_the_ledger():
    report("ash")
    dispatcher.schedule([sent("pod", node_name="kubelet-1", ad_identifiers=("redis",))])
    assert dispatcher.unschedule([("file", "pod")]) == []


def test_an_endpoint_check_is_stored_for_its_node_and_has_no_owner():
    report("ash")
    dispatcher.schedule([sent("pod", node_name="kubelet-1", ad_identifiers=("redis",))])
    stored = Config.objects.get()
    assert (stored.node_name, stored.dangling_since) == ("kubelet-1", None)
    assert owners() == {}
    assert not Config.objects.dispatchable().exists()


def test_a_config_may_become_an_endpoint_s_and_come_back():
    report("ash")
    dispatcher.schedule([sent("one")])
    dispatcher.schedule([sent("one", node_name="kubelet-1")])
    assert owners() == {}
    assert ledger()[-1] == ("ash", "", "changed")
    dispatcher.schedule([sent("one")])
    assert owners() == {"one": "ash"}


def test_a_config_that_becomes_an_endpoint_s_forgets_that_it_was_lost_and_unscheduled():
    report("ash")
    dispatcher.schedule([sent("one")])
    silence("ash")
    dispatcher.expire_nodes(force=True)
    Config.objects.update(unscheduled=True)
    dispatcher.schedule([sent("one", node_name="kubelet-1")])
    stored = Config.objects.get()
    assert (stored.former_node, stored.unscheduled) == (None, False)


def test_a_dangling_config_may_change_and_still_dangles():
    dispatcher.schedule([sent("one")])
    since = Config.objects.get().dangling_since
    dispatcher.schedule([sent("one", url="http://new")])
    assert Config.objects.get().dangling_since == since


def test_a_file_that_another_replica_reads_becomes_that_replica_s_and_nothing_moves():
    report("ash")
    dispatcher.schedule([sent("one", replica="a")])
    before = versions()
    assert dispatcher.schedule([sent("one", replica="b")]) == []
    assert Origin.objects.get().scanned_by == "b"
    assert versions() == before


def test_more_than_a_chunk_is_scheduled_and_unscheduled(monkeypatch):
    monkeypatch.setattr(transaction, "CHUNK", 4)
    report("ash", "birch", "cedar")
    assert len(dispatcher.schedule([sent(f"c{i}") for i in range(10)])) == 10
    assert sorted(counts().values()) == [3, 3, 4]
    assert len(dispatcher.unschedule([("file", f"c{i}") for i in range(10)])) == 10
    assert not Config.objects.exists()


def test_a_term_that_is_over_schedules_nothing():
    report("ash")
    term = lead()
    lead()
    for verb in (
        lambda: dispatcher.schedule([sent("one")], term=term),
        lambda: dispatcher.unschedule([("file", "one")], term=term),
        lambda: dispatcher.run_pass(term),
    ):
        with pytest.raises(NotLeader, match=f"term {term} is over"):
            verb()
    assert not Config.objects.exists()


def test_the_revision_rises_with_every_change_of_the_map():
    report("ash")
    dispatcher.schedule([sent("one")])
    first = ClusterStore.objects.get().revision
    dispatcher.schedule([sent("two")])
    assert ClusterStore.objects.get().revision > first


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"cluster_check": False}, "not a cluster check"),
        ({"metrics_excluded": True}, "excluded from metrics"),
        ({"ad_identifiers": ("redis",)}, "a template"),
        ({"name": "ntp"}, "exclude_checks"),
    ],
)
def test_a_filter_refuses_and_names_its_rule(monkeypatch, fields, rule):
    monkeypatch.setattr(conf, "EXCLUDE_CHECKS", frozenset({"ntp"}))
    with pytest.raises(Refused, match=rule):
        dispatcher.admit(config(**fields))


def test_a_broken_instance_is_refused():
    with pytest.raises(UnpatchableConfig):
        dispatcher.admit(config(instances=("just text",)))
