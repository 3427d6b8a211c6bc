"""A lost node that reports again before others have fetched its configs gets them back, by their promise."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import settling, transaction
from checks.explain import why
from checks.models import Config, Handover, Move
from checks.models.orders import Rule
from checks.tests.cast import counts, lead, ledger, owners, report, sent, silence, versions
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat, note_heartbeats
from nodes.models import Node, NodeEvent, NodeRule
from nodes.models.heartbeats import Report

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


def poll(*names: str) -> None:
    """Let these nodes acknowledge what they have."""
    for name in names:
        note_heartbeat(name, last_change=versions()[name])


def lose_ash() -> dict[str, str]:
    """Six configs, of which ash's are given to birch and cedar when it is lost. Returns the map before that."""
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent(f"c{number}") for number in range(6)])
    before = owners()
    poll("ash", "birch", "cedar")
    expire("ash")
    return before


def expire(*names: str) -> None:
    silence(*names)
    dispatcher.run_pass(lead())
    assert not set(names) & set(counts())


def come_back(name: str = "ash") -> None:
    """The node started anew, and a pass runs."""
    note_heartbeat(name, last_change=0)
    dispatcher.run_pass(lead())


def returned() -> int:
    return Move.objects.filter(reason="returned").count()


def remembered() -> int:
    return Config.objects.exclude(former_node=None).count()


def test_what_nobody_has_fetched_goes_back() -> None:
    before = lose_ash()
    assert remembered() == 2
    come_back()
    assert owners() == before
    assert sorted(ledger()[-2:]) == [("birch", "ash", "returned"), ("cedar", "ash", "returned")]
    assert not remembered()


def test_what_was_acknowledged_stays() -> None:
    before = lose_ash()
    mine = {key for key, owner in before.items() if owner == "ash"}
    kept = {key: owner for key, owner in owners().items() if key in mine and owner == "birch"}
    poll("birch")
    come_back()
    assert owners() == before | kept
    assert counts() == {"ash": 1, "birch": 3, "cedar": 2}
    assert not remembered()


def test_once_it_was_acknowledged_it_stays_whatever_the_new_node_says_later() -> None:
    lose_ash()
    poll("birch", "cedar")
    dispatcher.run_pass(lead())
    assert not remembered()
    note_heartbeat("birch", last_change=0)
    come_back()
    assert returned() == 0


def test_a_version_from_before_acknowledges_nothing() -> None:
    told = {name: version for name, version in versions().items() if name != "ash"}
    before = lose_ash()
    for name, version in told.items():
        note_heartbeat(name, last_change=version)
    come_back()
    assert owners() == before


def test_until_the_pass_the_node_that_is_back_gets_no_list_and_the_leader_is_called() -> None:
    lose_ash()
    note_heartbeat("ash", last_change=0)
    [share] = Config.objects.shares_of(["ash"])
    assert share is not None
    assert share.unsure == "the node came back, and its configs are not dispatched again yet"
    dispatcher.run_pass(lead())
    [share] = Config.objects.shares_of(["ash"])
    assert share is not None
    assert (share.unsure, share.configs.count("check_name")) == ("", 2)


def test_the_new_node_runs_it_until_the_former_one_does_again() -> None:
    """It may have fetched it, and not said so yet."""
    lose_ash()
    come_back()
    assert Handover.objects.filter(promise="overlap").count() == 2
    [share] = Config.objects.shares_of(["birch"])
    assert share is not None
    assert share.configs.count("check_name") == 3
    poll("ash")
    settling.settle()
    assert not Handover.objects.exists()


def test_it_stays_where_it_is_when_the_node_dies_again_before_it_fetched_it() -> None:
    lose_ash()
    there = owners()
    come_back()
    expire("ash")
    assert owners() == there
    assert not remembered()


def test_what_no_two_nodes_may_run_stays() -> None:
    Rule.objects.create(name="once", handover="strict")
    lose_ash()
    come_back()
    assert returned() == 0
    assert not remembered()


def test_what_moves_at_once_goes_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "HANDOVER", "at-once")
    before = lose_ash()
    come_back()
    assert owners() == before
    assert not Handover.objects.exists()


def cordon() -> None:
    Node.objects.filter(name="ash").cordon()


def drain() -> None:
    Node.objects.filter(name="ash").cordon(draining=True)


def forbid() -> None:
    Rule.objects.create(name="elsewhere", forbidden={"zone": "a"})
    NodeRule.objects.create(pattern="ash", labels={"zone": "a"})


def limit() -> None:
    NodeRule.objects.create(pattern="ash", max_configs=0)


def pin() -> None:
    for name in ("birch", "cedar"):
        mine = Config.objects.filter(assignment__node__name=name)
        dispatcher.pin(list(mine.values_list("pk", flat=True)), name, actor="olga")


@pytest.mark.parametrize("change", [cordon, drain, forbid, limit, pin])
def test_what_the_node_may_not_have_any_more_stays(change: Callable[[], None]) -> None:
    lose_ash()
    there = owners()
    change()
    come_back()
    assert owners() == there
    assert not remembered()


def test_a_node_may_get_back_as_many_as_it_has_room_for() -> None:
    lose_ash()
    NodeRule.objects.create(pattern="ash", max_configs=1)
    come_back()
    assert counts()["ash"] == 1


def test_what_a_person_moved_meanwhile_stays() -> None:
    lose_ash()
    moved = Config.objects.exclude(former_node=None).get(assignment__node__name="birch")
    dispatcher.reassign([moved.pk], "cedar", actor="olga")
    come_back()
    assert returned() == 1
    assert owners()[moved.origins.get().key] == "cedar"


def test_what_was_paused_or_unscheduled_meanwhile_does_not_come_back() -> None:
    lose_ash()
    paused, gone = Config.objects.exclude(former_node=None)
    dispatcher.pause([paused.pk], actor="olga")
    dispatcher.unschedule([("file", gone.origins.get().key)])
    come_back()
    assert returned() == 0
    assert not remembered()
    dispatcher.resume([paused.pk], actor="olga")
    assert ledger()[-1][2] == "resumed"


def test_what_was_edited_meanwhile_goes_back_as_it_is_now() -> None:
    before = lose_ash()
    dispatcher.schedule([sent(key, url=f"http://edited-{key}") for key in before])
    come_back()
    assert owners() == before


def test_an_edit_that_was_acknowledged_counts() -> None:
    lose_ash()
    dispatcher.schedule([sent(f"c{number}", url=f"http://edited-{number}") for number in range(6)])
    poll("birch", "cedar")
    come_back()
    assert returned() == 0


def test_what_it_was_handing_over_stays_with_the_other() -> None:
    report("ash", "birch", "cedar")
    dispatcher.schedule([sent("one")])
    dispatcher.reassign([Config.objects.get().pk], "ash", actor="olga")
    poll("ash")
    settling.settle()
    dispatcher.reassign([Config.objects.get().pk], "birch", actor="olga")
    expire("ash")
    come_back()
    assert owners() == {"one": "birch"}
    assert returned() == 0


def test_a_node_that_dies_again_and_again_gets_nothing_back() -> None:
    lose_ash()
    come_back()
    poll("ash")
    settling.settle()
    expire("ash")
    there = owners()
    come_back()
    assert NodeEvent.objects.filter(node_name="ash", kind="flapping").exists()
    assert owners() == there
    assert not remembered()


def test_while_the_node_is_away_others_may_have_it_for_as_long_as_they_take() -> None:
    lose_ash()
    there = owners()
    for _ in range(3):
        dispatcher.run_pass(lead())
    assert owners() == there
    assert remembered() == 2


def test_a_report_that_was_answered_before_the_node_was_lost_brings_nothing_back() -> None:
    lose_ash()
    note_heartbeats([Report("ash", versions()["ash"], age=0.5)])
    dispatcher.run_pass(lead())
    assert returned() == 0
    assert remembered() == 2


def test_after_a_second_loss_the_last_one_who_had_it_may_get_it_back() -> None:
    lose_ash()
    there = owners()
    expire("birch")
    come_back("birch")
    assert owners() == there


def test_more_than_a_chunk_goes_back_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 2)
    report("ash", "birch")
    dispatcher.schedule([sent(f"c{number:02}") for number in range(20)])
    before = owners()
    poll("ash", "birch")
    expire("ash")
    come_back()
    assert owners() == before


def test_why_says_that_it_returned() -> None:
    lose_ash()
    come_back()
    config = Config.objects.filter(assignment__node__name="ash").first()
    assert config is not None
    told = str(why.explain(config))
    assert "It went back to ash, which was lost and reported again before" in told


def test_the_rest_of_a_configs_life_knows_nothing_of_it() -> None:
    """It dangles for another reason: no node has lost it then."""
    lose_ash()
    Rule.objects.create(name="nowhere", required={"zone": "none"})
    dispatcher.move_misplaced()
    Config.objects.update(dangling_since=F("dangling_since") - timedelta(minutes=5))
    assert Config.objects.lost_since(Now() - timedelta(hours=1)).count() == 0
