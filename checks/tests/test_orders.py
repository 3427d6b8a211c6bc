"""Every verb obeys pins, pauses, isolations and rules, whatever sources send."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import NotAccepting, NotDispatchable
from checks.models import Assignment, Config, Move
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.tests.cast import config, counts, dangling, hand_over, lead, ledger, owners, report, sent, silence
from nodes.heartbeats import note_heartbeat
from nodes.models import Node, NodeRule

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def placed(*keys: str) -> dict[str, int]:
    """Dispatch configs and return {key: config's id}."""
    dispatcher.schedule([sent(key) for key in keys])
    return dict(Config.objects.values_list("origins__key", "pk"))


def expire(*names: str) -> None:
    silence(*names)
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch(force=True)


def test_a_pinned_config_moves_to_its_node_and_back_to_it_when_it_returns():
    report("ash", "birch")
    ids = placed("one", "two")
    dispatcher.pin(ids.values(), "birch", actor="olga")
    assert owners() == {"one": "birch", "two": "birch"}
    expire("birch")
    assert owners() == {"one": "ash", "two": "ash"}
    report("birch")
    dispatcher.move_misplaced()
    assert owners() == {"one": "birch", "two": "birch"}
    assert ledger()[-1] == ("ash", "birch", "pinned")


def test_a_config_whose_pin_waits_dangles_while_its_node_is_gone():
    report("ash", "birch")
    ids = placed("one")
    dispatcher.pin(ids.values(), "birch", waits=True)
    hand_over()
    expire("birch")
    assert dangling() == {"one"}
    report("birch")
    dispatcher.redispatch(force=True)
    assert owners() == {"one": "birch"}


def test_pins_aim_at_names_and_labels():
    report("ash", "birch", "cedar")
    Node.objects.filter(name="cedar").update(labels={"zone": "b"})
    ids = placed("one", "two")
    dispatcher.pin([ids["one"]], "b*", kind=Pin.Kind.PATTERN)
    dispatcher.pin([ids["two"]], "zone=b", kind=Pin.Kind.LABEL)
    assert owners() == {"one": "birch", "two": "cedar"}
    assert not Pin(kind=Pin.Kind.PATTERN, aim="[a-z]*").matches("birch", {})


def test_a_pin_that_is_over_no_longer_holds():
    report("ash", "birch")
    ids = placed("one")
    dispatcher.pin(ids.values(), "ash")
    Pin.objects.update(until=Now() - timedelta(seconds=1))
    dispatcher.reassign(ids.values(), "birch", actor="olga")
    assert owners() == {"one": "birch"}


def test_a_pinned_config_is_not_reassigned_elsewhere():
    report("ash", "birch")
    ids = placed("one")
    dispatcher.pin(ids.values(), "ash")
    with pytest.raises(NotAccepting, match="pinned to the node ash: unpin it first"):
        dispatcher.reassign(ids.values(), "birch", actor="olga")


def test_a_pin_outlives_an_edit_and_a_time_without_its_file():
    report("ash", "birch")
    ids = placed("one", "two")
    dispatcher.pin([ids["one"]], "birch")
    dispatcher.schedule([sent("one", url="http://other")])
    assert owners()["one"] == "birch"
    dispatcher.unschedule([("file", "one")])
    dispatcher.schedule([sent(f"more-{number}") for number in range(4)])
    dispatcher.unschedule([("file", "more-0"), ("file", "more-2")])
    dispatcher.schedule([sent("one")])
    assert owners()["one"] == "birch"
    assert Pin.objects.get().config == Config.objects.get(origins__key="one")


def test_a_pin_that_does_not_wait_lets_run_elsewhere_what_its_node_has_no_room_for():
    NodeRule.objects.create(pattern="birch", max_configs=1)
    report("ash", "birch")
    ids = placed("one", "two", "three")
    dispatcher.pin(ids.values(), "birch")
    expire("birch")
    report("birch")
    for _ in range(2):
        dispatcher.move_misplaced()
        assert counts() == {"ash": 2, "birch": 1}
    before = owners()
    assert dispatcher.move_misplaced() == []
    for key in ids:
        dispatcher.unschedule([("file", key)])
        dispatcher.schedule([sent(key)])
    assert (counts(), dangling()) == ({"ash": 2, "birch": 1}, set())
    assert set(owners()) == set(before)


def test_a_drained_node_gives_away_what_is_pinned_to_a_full_one():
    NodeRule.objects.create(pattern="birch", max_configs=0)
    report("ash", "birch", "cedar")
    ids = placed("one", "two")
    dispatcher.pin(ids.values(), "birch")
    Node.objects.filter(name="ash").cordon(draining=True)
    dispatcher.move_misplaced()
    assert counts() == {"cedar": 2}
    assert dispatcher.move_misplaced() == []


def test_a_paused_config_has_no_owner_and_does_not_dangle():
    report("ash")
    ids = placed("one", "two")
    dispatcher.pause([ids["one"]], actor="olga", note="maintenance")
    assert (owners(), dangling()) == ({"two": "ash"}, set())
    assert ledger()[-1] == ("ash", "", "paused")
    expire("ash")
    report("ash")
    dispatcher.redispatch(force=True)
    assert owners() == {"two": "ash"}


def test_an_edit_does_not_start_a_paused_config():
    report("ash")
    ids = placed("one")
    dispatcher.pause(ids.values())
    dispatcher.schedule([sent("one", url="http://other")])
    dispatcher.unschedule([("file", "one")])
    dispatcher.schedule([sent("one")])
    assert (owners(), dangling()) == ({}, set())
    dispatcher.resume(Config.objects.values_list("pk", flat=True), actor="olga")
    assert owners() == {"one": "ash"}
    assert not Pause.objects.exists()


def test_a_pause_ends_by_itself():
    report("ash")
    ids = placed("one")
    dispatcher.pause(ids.values())
    Pause.objects.update(until=Now() - timedelta(seconds=1))
    dispatcher.resume_due()
    assert owners() == {"one": "ash"}


def test_a_pause_of_what_became_an_endpoint_check_ends_with_no_owner():
    report("ash")
    ids = placed("one")
    dispatcher.pause(ids.values())
    Pause.objects.update(until=Now() - timedelta(seconds=1))
    dispatcher.schedule([sent("one", node_name="cedar")])
    for _ in range(2):
        dispatcher.run_pass(lead())
        assert (owners(), dangling(), Pause.objects.count()) == ({}, set(), 0)


def test_what_is_resumed_without_a_node_dangles():
    report("ash")
    ids = placed("one")
    dispatcher.pause(ids.values())
    Node.objects.cordon()
    dispatcher.resume(ids.values())
    assert dangling() == {"one"}


def test_a_paused_config_is_not_reassigned():
    report("ash")
    ids = placed("one")
    dispatcher.pause(ids.values())
    with pytest.raises(NotDispatchable, match="is paused: resume it first"):
        dispatcher.reassign(ids.values(), "ash", actor="olga")


def test_an_isolated_config_is_alone_until_it_is_released():
    report("ash", "birch")
    ids = placed(*"abcd")
    [mine] = Assignment.objects.filter(config=ids["a"]).values_list("node__name", flat=True)
    dispatcher.isolate([ids["a"]], actor="olga")
    assert [key for key, node in owners().items() if node == mine] == ["a"]
    dispatcher.schedule([sent(key) for key in "efgh"])
    assert [key for key, node in owners().items() if node == mine] == ["a"]
    with pytest.raises(NotAccepting, match="is reserved for http_check"):
        dispatcher.reassign([ids["b"]], mine, actor="olga")
    dispatcher.release([ids["a"]])
    dispatcher.schedule([sent("i")])
    assert owners()["i"] == mine


def test_an_isolated_config_whose_node_dies_is_alone_on_another():
    report("ash", "birch", "cedar")
    ids = placed(*"abcdef")
    [mine] = Assignment.objects.filter(config=ids["a"]).values_list("node__name", flat=True)
    dispatcher.isolate([ids["a"]])
    expire(mine)
    dispatcher.move_misplaced()
    [new] = Assignment.objects.filter(config=ids["a"]).values_list("node__name", flat=True)
    assert [key for key, node in owners().items() if node == new] == ["a"]
    assert len(owners()) == 6


def test_company_that_has_only_nodes_of_isolated_configs_to_go_to_stays():
    report("ash", "birch")
    ids = placed("a", "b", "c")
    for key in "ab":
        dispatcher.isolate([ids[key]])
    before = owners()
    for _ in range(3):
        assert dispatcher.move_misplaced() == []
    assert owners() == before


def test_nothing_is_isolated_where_there_is_no_other_node():
    report("ash")
    ids = placed("one", "two")
    with pytest.raises(NotAccepting, match="No other runners available"):
        dispatcher.isolate([ids["one"]])
    assert not Isolation.objects.exists()


def test_a_rule_keeps_checks_on_nodes_with_its_labels():
    report("ash", "birch")
    Node.objects.filter(name="birch").update(labels={"zone": "a"})
    Rule.objects.create(name="db", check_pattern="postgres*", required={"zone": "a"})
    dispatcher.schedule([sent(f"db-{n}", name="postgres") for n in range(3)])
    assert set(owners().values()) == {"birch"}
    ids = list(Config.objects.values_list("pk", flat=True))
    with pytest.raises(NotAccepting, match=r"node ash can't have postgres .*: rule db: it requires zone=a"):
        dispatcher.reassign(ids, "ash", actor="olga")
    Rule.objects.update(required={"zone": "b"})
    dispatcher.move_misplaced()
    assert (len(dangling()), ledger()[-1]) == (3, ("birch", "", "ineligible"))


def test_a_rule_says_how_many_a_node_may_have():
    report("ash", "birch")
    Rule.objects.create(name="few", source_pattern="file:few-*", max_per_node=1)
    dispatcher.schedule([sent(f"few-{n}") for n in range(3)])
    assert sorted(owners().values()) == ["ash", "birch"]
    dispatcher.schedule([sent("many")])
    assert len(owners()) == 3


def test_a_choice_is_written_down_with_the_candidates():
    report("ash", "birch")
    dispatcher.schedule([sent("one")])
    dispatcher.schedule([sent("two")])
    why = Move.objects.first().why
    assert why["of"] == 2
    assert [name for name, _ in why["best"]] == ["birch", "ash"]
    assert why["best"][0][1] == 0


def test_runners_come_before_node_agents():
    note_heartbeat("ash", last_change=-1, node_type=2)
    ids = placed("one", "two")
    assert set(owners().values()) == {"ash"}
    note_heartbeat("birch", last_change=-1, node_type=1)
    dispatcher.schedule([sent("three")])
    assert owners()["three"] == "birch"
    dispatcher.move_misplaced()
    assert set(owners().values()) == {"birch"}
    assert len(ids) == 2


def test_a_drained_node_gives_away_what_it_has_and_gets_nothing():
    report("ash", "birch")
    placed("one", "two")
    Node.objects.filter(name="ash").cordon(draining=True, actor="olga")
    dispatcher.move_misplaced()
    assert set(owners().values()) == {"birch"}
    assert ledger()[-1] == ("ash", "birch", "drained")


def test_a_changed_declaration_takes_away_what_it_no_longer_admits():
    report("ash", "birch")
    placed("one", "two")
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0, declared='{"exclude": ["http_check"]}')
    dispatcher.move_misplaced()
    assert dangling() == {"one", "two"}
    assert config().name == "http_check"
