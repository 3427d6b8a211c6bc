"""What changed in a time: bars by reason, stories that unfold to moves, exports, undo."""

import csv
import html
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.models import Move
from checks.tests.cast import hand_over, owners, report, sent, silence
from checks.tests.operators import apply, config, shown, superuser
from clusteragent.lib import clock
from clusteragent.lib.clock import ago
from nodes.models import Heartbeat, Node, NodeEvent
from operators.pages import changes, now, stories, titles
from operators.pages.exports import harmless
from operators.pages.ranges import AROUND
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

CHANGES = "/admin/changes/"
NIGHT = datetime(2026, 11, 23, 3, 12, tzinfo=UTC)


@pytest.fixture
def client(warm: None) -> Client:
    """`one` was moved from ash to birch."""
    report("ash")
    dispatcher.schedule([sent("one")])
    report("birch")
    dispatcher.reassign([config("one").pk], "birch", actor="otto")
    return superuser()


def page(client: Client, query: str = "") -> Any:
    response = client.get(CHANGES + query)
    assert response.status_code == 200
    return response


def told(client: Client, query: str = "") -> list[str]:
    """The stories, with breaking spaces."""
    return [f"{title}: {facts}".replace("\u202f", " ") for _, title, facts in page(client, query).context["stories"]]


def unfold(client: Client, number: int = 0) -> str:
    """The moves of a story."""
    response = page(client)
    story, _, _ = response.context["stories"][number]
    url = f"{CHANGES}story/?{response.context['span'].query}&story={story.key}"
    answer = client.get(url, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    text: str = answer.content.decode()
    return text


def test_a_story_has_the_times_of_its_moves_to_the_microsecond(client: Client) -> None:
    first, *rest = (NIGHT + timedelta(microseconds=number * 333_333 + 1) for number in range(30))
    moves = [Move(config_id=1, reason=Move.Reason.REBALANCED, time=time) for time in (first, *rest)]
    Move.objects.bulk_create(moves)
    (story,) = stories.read(NIGHT, NIGHT + timedelta(minutes=1), 100).stories
    assert [step.time for step in story.steps] == [first, *rest]
    assert (story.start, story.end) == (first, rest[-1])


def test_what_has_one_cause_is_one_story(client: Client) -> None:
    assert told(client) == [
        "Reassigned by otto: 1 config moved",
        "birch joined: ",
        "Changes of file: 1 config new",
        "ash joined: ",
    ]


def test_what_follows_much_later_is_another_story(client: Client) -> None:
    Move.objects.filter(reason="scheduled").update(time=ago(timedelta(minutes=10)))
    dispatcher.schedule([sent("two")])
    assert [story for story in told(client) if story.startswith("Changes")] == ["Changes of file: 1 config new"] * 2


def test_a_check_that_moved_twice_is_said_to(client: Client) -> None:
    dispatcher.reassign([config("one").pk], "ash", actor="otto")
    assert told(client)[0] == "Reassigned by otto: 1 config moved, up to 2 times"


def test_what_a_command_orders_is_one_story_with_what_it_moves(client: Client) -> None:
    Move.objects.all().delete()
    call_command("pin", str(config("one")), "ash", "--as", "eve")
    assert [story.partition(":")[0] for story in told(client) if "inned" in story] == ["Pinned by eve"]


def test_a_drain_names_the_node_and_the_person(client: Client) -> None:
    hand_over()
    Node.objects.filter(name="birch").cordon(draining=True, actor="olga")
    dispatcher.move_misplaced()
    assert told(client)[0] == "Drain of birch by olga: 1 config moved"


def test_a_drain_that_was_ordered_twice_is_told_by_its_last_order(client: Client) -> None:
    hand_over()
    birch = Node.objects.filter(name="birch")
    birch.cordon(draining=True, by=clock.now() + timedelta(hours=9), actor="olga")
    birch.cordon(draining=True, actor="otto")
    assert told(client)[0].startswith("Drain of birch by otto:")


def test_an_order_that_drains_several_nodes_is_one_story(client: Client) -> None:
    hand_over()
    dispatcher.schedule([sent("two")])
    hand_over()
    report("cedar")
    Node.objects.filter(name__in=["ash", "birch"]).cordon(draining=True, actor="olga")
    dispatcher.move_misplaced()
    moved = Move.objects.filter(reason="drained")
    assert set(moved.values_list("source_node", flat=True)) == {"ash", "birch"}
    assert told(client)[0] == "Drain of ash and birch by olga: 2 configs moved"
    assert not any("Drain" in story for story in told(client)[1:])


def lose_birch(heard_ago: float) -> None:
    """birch, which was last heard so many seconds ago, is lost, and its config finds a node eight seconds later."""
    hand_over()
    silence("birch")
    dispatcher.expire_nodes(force=True)
    lost_at = Move.objects.filter(reason="expired").latest("pk").time
    NodeEvent.objects.filter(kind="expired").update(heard_at=lost_at - timedelta(seconds=heard_ago))
    dispatcher.redispatch(force=True)
    Move.objects.filter(reason="redispatched").update(time=lost_at + timedelta(seconds=8))


def test_the_gap_is_counted_from_when_the_node_was_last_heard(client: Client) -> None:
    lose_birch(heard_ago=16)
    assert told(client, "?since=2000-01-01&until=2100-01-01")[0] == "birch lost: 1 config moved, longest gap 24 s"


def test_where_that_was_not_noted_it_was_silent_for_the_timeout(client: Client) -> None:
    lose_birch(heard_ago=16)
    NodeEvent.objects.update(heard_at=None)
    assert told(client, "?since=2000-01-01&until=2100-01-01")[0] == "birch lost: 1 config moved, longest gap 38 s"


def test_a_node_that_was_lost_and_reports_again_did_not_restart(client: Client) -> None:
    lose_birch(heard_ago=16)
    report("birch")
    assert told(client, "?since=2000-01-01&until=2100-01-01")[0].startswith("birch lost and back: 1 config moved")


def test_two_that_were_lost_and_report_again_are_no_rollout(client: Client) -> None:
    report("runner-1", "runner-2")
    NodeEvent.objects.all().delete()
    silence("runner-1", "runner-2")
    dispatcher.expire_nodes(force=True)
    report("runner-1", "runner-2")
    assert told(client)[0] == "runner-1 and runner-2 lost and back: "


def test_one_that_said_that_it_leaves_and_is_back_restarted(client: Client) -> None:
    lose_birch(heard_ago=16)
    NodeEvent.objects.note(["birch"], "leaving")
    report("birch")
    assert told(client, "?since=2000-01-01&until=2100-01-01")[0].startswith("birch restarted: ")


def strict_move(to: str, seconds: float, handed_after: float | None) -> None:
    """A strict move of the config, so many seconds from now, and when it was handed over, if it was."""
    last, time = Move.objects.latest("pk"), clock.now() + timedelta(seconds=seconds)
    handed_at = None if handed_after is None else time + timedelta(seconds=handed_after)
    fields = {"config_id": last.config_id, "source_node": last.to_node, "reason": "operator", "actor": "eve"}
    Move.objects.create(**fields, to_node=to, time=time, promise="strict", handed_at=handed_at)


def test_a_strict_move_has_a_gap_until_it_is_handed_over(client: Client) -> None:
    hand_over()
    strict_move("ash", 1, 14)
    strict_move("birch", 20, 9)
    found = told(client, "?since=2000-01-01&until=2100-01-01")
    assert "Reassigned by eve: 1 config moved, up to 2 times, longest gap 14 s" in found


def test_the_gap_of_strict_moves_that_follow_one_another_is_that_of_all(client: Client) -> None:
    hand_over()
    strict_move("ash", 1, None)
    strict_move("birch", 6, 12)
    found = told(client, "?since=2000-01-01&until=2100-01-01")
    assert "Reassigned by eve: 1 config moved, up to 2 times, longest gap 17 s" in found


def test_a_strict_move_that_is_withdrawn_has_a_gap_until_then(client: Client) -> None:
    hand_over()
    strict_move("ash", 1, None)
    last = Move.objects.latest("pk")
    back = {"source_node": "ash", "to_node": "birch", "reason": "withdrawn", "time": last.time + timedelta(seconds=31)}
    Move.objects.create(config_id=last.config_id, **back)
    found = told(client, "?since=2000-01-01&until=2100-01-01")
    assert "Reassigned by eve: 1 config moved, longest gap 31 s" in found


def test_a_strict_pause_and_what_still_waits_have_no_gap(client: Client) -> None:
    hand_over()
    strict_move("", 1, 8)
    strict_move("birch", 60, None)
    found = told(client, "?since=2000-01-01&until=2100-01-01")
    assert "Reassigned by eve: 1 config moved" in found


def test_what_was_lost_and_then_reassigned_waits_no_longer(client: Client) -> None:
    hand_over()
    silence("birch")
    dispatcher.expire_nodes(force=True)
    assert told(client)[0] == "birch lost: 1 config waits for a node"
    dispatcher.reassign([config("one").pk], "ash", actor="eve")
    lost_at = Move.objects.filter(reason="expired").latest("pk").time
    Move.objects.filter(actor="eve").update(time=lost_at + timedelta(seconds=5))
    stories = told(client, "?since=2000-01-01&until=2100-01-01")
    assert stories[:2] == ["Reassigned by eve: 1 config placed", "birch lost: longest gap 36 s"]


def test_what_is_not_read_one_by_one_is_counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told(client)
    monkeypatch.setattr(changes, "MOST_MOVES", 1)
    assert [story.partition(":")[0] for story in told(client)] == [
        "Reassigned by otto",
        "birch joined",
        "Changes of the sources",
        "ash joined",
    ]
    assert "Changes of the sources: 1 earlier move" in told(client)
    assert len(whole) == 4
    response = page(client)
    assert "There were more than 1 move" in response.content.decode()
    assert response.context["chart"].number == 2


def test_totals_stay_while_more_moves_follow(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    Move.objects.all().delete()
    dispatcher.schedule([sent(f"new-{number}") for number in range(5)])
    keys = [page(client).context["stories"][0][0].key]
    monkeypatch.setattr(changes, "MOST_MOVES", 3)
    assert "3 configs new, and 2 more moves" in told(client)[0]
    keys.append(page(client).context["stories"][0][0].key)
    dispatcher.schedule([sent(f"later-{number}") for number in range(4)])
    assert "3 configs new, and 6 more moves" in told(client)[0]
    keys.append(page(client).context["stories"][0][0].key)
    assert len({*keys}) == 1
    assert "6 moves more" in unfold(client)


def rollout(*, restarted: int, lost: int) -> list[str]:
    """The facts of a pool whose nodes restarted, some of which died afterwards, by the last hour."""
    names = [f"runner-{number}" for number in range(restarted + lost)]
    report(*names)
    NodeEvent.objects.all().delete()
    Move.objects.all().delete()
    NodeEvent.objects.note(names, NodeEvent.Kind.RESTARTED)
    silence(*names[restarted:])
    dispatcher.expire_nodes(force=True)
    found = stories.read(hours_ago(1), hours_ago(-1), 100, {"runner-*": restarted})
    return [facts for _, _, facts in titles.titled(found.stories)]


def hours_ago(hours: int) -> datetime:
    return clock.now() - timedelta(hours=hours)


def test_deaths_are_no_part_of_a_rollout_s_success(warm: None) -> None:
    assert rollout(restarted=8, lost=3) == ["8 of 11 restarted, 3 lost"]


@pytest.mark.parametrize(
    ("came", "told"),
    [
        # A minute before the last word of what died.
        (-1, [("runner-1 and runner-2 lost", ""), ("runner-3 and runner-4 joined", "")]),
        (0.1, [("Rollout of runner-*", "2 of 9 replaced")]),
    ],
)
def test_what_died_is_replaced_only_by_what_came_after_it(warm: None, came: float, told: list[tuple[str, str]]) -> None:
    report("runner-1", "runner-2", "runner-3", "runner-4")
    NodeEvent.objects.filter(node_name__in=["runner-1", "runner-2"]).delete()
    silence("runner-1", "runner-2")
    dispatcher.expire_nodes(force=True)
    died = clock.now() - timedelta(seconds=16)
    NodeEvent.objects.filter(kind="expired").update(heard_at=died)
    NodeEvent.objects.filter(kind="registered").update(time=died + timedelta(minutes=came))
    found = stories.read(hours_ago(1), hours_ago(-1), 100, {"runner-*": 9})
    assert [(title, facts) for _, title, facts in titles.titled(found.stories)] == told


def test_what_said_goodbye_may_have_had_its_replacement_before(warm: None) -> None:
    report("runner-1", "runner-2", "runner-3")
    NodeEvent.objects.filter(node_name__in=["runner-1", "runner-2"]).delete()
    NodeEvent.objects.note(["runner-1"], NodeEvent.Kind.LEAVING)
    NodeEvent.objects.note(["runner-2"], NodeEvent.Kind.EXPIRED)
    found = stories.read(hours_ago(1), hours_ago(-1), 100, {"runner-*": 9})
    assert [facts for _, _, facts in titles.titled(found.stories)] == ["1 of 10 replaced, 1 lost"]


def pool_told(*events: tuple[float, str, str]) -> list[tuple[float, float, str, str]]:
    """The stories of node events (minute, node, kind) as (first minute, last minute, title, facts), the last one first."""
    NodeEvent.objects.all().delete()
    for minute, node, kind in events:
        time = NIGHT + timedelta(minutes=minute)
        heard = time - timedelta(seconds=30) if kind == "expired" else None
        NodeEvent.objects.create(node_name=node, kind=kind, time=time, heard_at=heard)

    def minute_of(time: datetime) -> float:
        return round((time - NIGHT) / timedelta(minutes=1), 2)

    found = stories.read(NIGHT - timedelta(hours=1), NIGHT + timedelta(days=1), 100).stories
    return [
        (minute_of(story.start), minute_of(story.end), title, facts) for story, title, facts in titles.titled(found)
    ]


@pytest.mark.parametrize("kind", ["registered", "back", "silent"])
def test_the_story_of_a_death_begins_with_it(warm: None, kind: str) -> None:
    before = pool_told((0, "clc-1", kind), (0, "clc-2", kind), (0, "clc-3", kind))
    after = pool_told((0, "clc-1", kind), (0, "clc-2", kind), (0, "clc-3", kind), (2, "clc-3", "expired"))
    assert after == [(2, 2, "clc-3 lost", ""), *before]


def test_a_goodbye_or_restart_of_another_is_no_part_of_a_death(warm: None) -> None:
    for kind, verb in (("leaving", "left"), ("restarted", "restarted")):
        found = pool_told((0, "clc-1", kind), (2, "clc-3", "expired"))
        assert found == [(2, 2, "clc-3 lost", ""), (0, 0, f"clc-1 {verb}", "")]


@pytest.mark.parametrize(("kind", "verb"), [("expired", "lost"), ("leaving", "left"), ("restarted", "restarted")])
def test_that_a_node_joined_is_not_told_of_its_end(warm: None, kind: str, verb: str) -> None:
    found = pool_told((0, "birch", "registered"), (2, "birch", kind))
    assert found == [(2, 2, f"birch {verb}", ""), (0, 0, "birch joined", "")]


def test_what_came_after_the_last_word_of_what_died_stays_with_its_death(warm: None) -> None:
    found = pool_told((0, "clc-1", "registered"), (1.75, "clc-9", "registered"), (2, "clc-3", "expired"))
    assert found == [(1.75, 2, "Rollout of clc-*", "1 replaced"), (0, 0, "clc-1 joined", "")]


def test_a_rollout_in_which_a_node_dies_stays_one_story(warm: None) -> None:
    surge = [(0, f"clc-{number}", "registered") for number in (11, 12, 13)]
    goodbyes = [(0.5, f"clc-{number}", "leaving") for number in (1, 2, 3)]
    found = pool_told(*surge, *goodbyes, (2, "clc-4", "expired"))
    assert found == [(0, 2, "Rollout of clc-*", "3 replaced, 1 lost")]


def test_a_rollout_of_nodes_that_are_new_themselves_stays_one_story(warm: None) -> None:
    names = [(0, f"clc-{number}", "registered") for number in (1, 2)]
    surge = [(1, "clc-11", "registered"), (1, "clc-1", "leaving"), (2, "clc-12", "registered"), (2, "clc-2", "leaving")]
    joined = (0, 0, "clc-1 and clc-2 joined", "")
    assert pool_told(*names, *surge) == [(1, 2, "Rollout of clc-*", "2 replaced"), joined]
    restarts = [(1, "clc-1", "restarted"), (2, "clc-2", "restarted")]
    assert pool_told(*names, *restarts) == [
        (1, 2, "Rollout of clc-*", "2 restarted"),
        joined,
    ]


def test_nodes_that_joined_together_and_then_left_are_two_stories(warm: None) -> None:
    names = [(number / 60, f"run-{number}", "registered") for number in (1, 2, 3)]
    goodbyes = [(2.8, f"run-{number}", "leaving") for number in (1, 2, 3)]
    joined = (0.02, 0.05, "run-1, run-2 and run-3 joined", "")
    assert pool_told(*names, *goodbyes) == [(2.8, 2.8, "run-1, run-2 and run-3 left", ""), joined]
    assert pool_told(*names, goodbyes[0]) == [(2.8, 2.8, "run-1 left", ""), joined]
    instead = [(3, f"run-{number}", "registered") for number in (4, 5, 6)]
    assert pool_told(*names, *goodbyes, *instead) == [(2.8, 3, "Rollout of run-*", "3 replaced"), joined]


def test_nodes_that_joined_one_by_one_and_then_left_are_two_stories(warm: None) -> None:
    names = [(number, f"run-{number}", "registered") for number in (0, 1, 2)]
    goodbyes = [(3, f"run-{number}", "leaving") for number in (0, 1, 2)]
    joined, left = (0, 2, "run-0, run-1 and run-2 joined", ""), (3, 3, "run-0, run-1 and run-2 left", "")
    assert pool_told(*names, *goodbyes) == [left, joined]


def rolled(first: int, last: int, to: int, minute: float) -> list[tuple[float, str, str]]:
    """A rollout by surge: each of these nodes is replaced by one with a number that is higher by `to`."""
    return [
        happened
        for number in range(first, last + 1)
        for happened in (
            (minute + number / 10, f"run-{number + to}", "registered"),
            (minute + number / 10 + 0.05, f"run-{number}", "leaving"),
        )
    ]


def test_a_rollout_is_not_told_anew_by_what_follows_it(warm: None) -> None:
    joined = [(number / 50, f"run-{number}", "registered") for number in (1, 2, 3, 4, 5)]
    death = (2, "run-12", "expired")
    told = [
        (1.1, 2, "Rollout of run-*", "4 replaced, 1 lost"),
        (0.02, 0.1, "run-1, run-2, run-3 and 2 more joined", ""),
    ]
    first = [*joined, *rolled(1, 5, 10, 1), death]
    assert pool_told(*first) == told
    ended = [(4, f"run-{number}", "leaving") for number in (11, 13, 14, 15)]
    left = (4, 4, "run-11, run-13, run-14 and 1 more left", "")
    assert pool_told(*first, *ended) == [left, *told]
    # Not half of it, either, while the next is under way.
    second = rolled(13, 15, 10, 2.5)
    for number in range(1, 4):
        told_anew = pool_told(*first, *second[: 2 * number])
        assert told_anew == [(3.8, 3.75 + number / 10, "Rollout of run-*", f"{number} replaced"), *told]
    recreated = [(4.5, f"run-{number}", "registered") for number in (21, 23, 24, 25)]
    assert pool_told(*first, *ended, *recreated) == [(4, 4.5, "Rollout of run-*", "4 replaced"), *told]


def test_the_end_of_what_said_goodbye_is_told_with_the_goodbye(warm: None) -> None:
    """It is half a minute later, and another story may have begun."""
    first = [(-30, f"run-{number}", "registered") for number in (1, 2, 3)] + rolled(1, 3, 10, 0)
    expiries = [(minute + 0.5, node, "expired") for minute, node, kind in first if kind == "leaving"]
    left = [(0.6, "run-11", "leaving"), (1.1, "run-11", "expired")]
    assert pool_told(*sorted([*first, *expiries, *left])) == [
        (0.6, 1.1, "run-11 left", ""),
        (0.1, 0.85, "Rollout of run-*", "3 replaced"),
        (-30, -30, "run-1, run-2 and run-3 joined", ""),
    ]


def test_a_death_after_an_announced_restart_is_one(warm: None) -> None:
    names = [f"clc-{number}" for number in (1, 2, 3, 4)]
    before = [(-30, node, "registered") for node in names]
    restarts = [(minute, node, kind) for node in names for minute, kind in ((0, "leaving"), (0.5, "restarted"))]
    deaths = [(2, node, "expired") for node in names[:2]]
    found = pool_told(*before, *sorted(restarts), *deaths)
    assert found[0] == (0, 2, "Rollout of clc-*", "2 restarted, 2 lost")


def test_a_rollouts_whole_is_what_was_there_before_it(warm: None) -> None:
    names = [f"runner-{number}" for number in range(1, 9)]
    report(*names)
    NodeEvent.objects.all().delete()
    NodeEvent.objects.note(["runner-7", "runner-8"], NodeEvent.Kind.REGISTERED)
    NodeEvent.objects.note(["runner-1"], NodeEvent.Kind.LEAVING)
    Node.objects.filter(name="runner-1").update(leaving=True)
    # Six were there: two have come, and one of the six goes.
    assert [(title, facts) for _, title, facts in titles.titled(now.snapshot().history.stories)] == [
        ("Rollout of runner-*", "1 of 6 replaced, 1 more joined")
    ]


def test_a_slow_restart_that_was_announced_is_one_story(warm: None) -> None:
    found = pool_told((0, "birch", "restarting"), (2, "birch", "expired"), (9, "birch", "back"))
    assert found == [(0, 9, "birch restarted", "")]


@pytest.mark.parametrize("later", [1, 4, 300])
def test_a_return_is_told_of_the_loss_however_late(warm: None, later: float) -> None:
    found = pool_told((0, "ash", "expired"), (later, "ash", "back"))
    assert found == [(0, later, "ash lost and back", "")]


def test_what_follows_a_late_return_is_another_story(warm: None) -> None:
    found = pool_told((0, "clc-1", "expired"), (60, "clc-1", "back"), (61, "clc-2", "leaving"))
    assert found == [(61, 61, "clc-2 left", ""), (0, 60, "clc-1 lost and back", "")]


def test_a_return_whose_loss_is_not_told_is_no_restart(warm: None) -> None:
    assert pool_told((0, "ash", "back")) == [(0, 0, "ash back", "")]
    assert pool_told((0, "clc-1", "back"), (0, "clc-2", "back")) == [(0, 0, "clc-1 and clc-2 back", "")]


def test_a_ratio_never_exceeds_its_whole(warm: None) -> None:
    names = [f"runner-{number}" for number in range(6)]
    report(*names)
    NodeEvent.objects.all().delete()
    NodeEvent.objects.note(names, NodeEvent.Kind.RESTARTED)
    found = stories.read(hours_ago(1), hours_ago(-1), 100, {"runner-*": 4})
    assert [facts for _, _, facts in titles.titled(found.stories)] == ["6 of 6 restarted"]


def test_a_node_that_died_and_came_back_is_not_lost(warm: None) -> None:
    report("runner-1", "runner-2")
    NodeEvent.objects.all().delete()
    NodeEvent.objects.note(["runner-1", "runner-2"], NodeEvent.Kind.EXPIRED)
    NodeEvent.objects.note(["runner-1", "runner-2"], NodeEvent.Kind.BACK)
    found = stories.read(hours_ago(1), hours_ago(-1), 100, {"runner-*": 2})
    assert [(title, facts) for _, title, facts in titles.titled(found.stories)] == [
        ("runner-1 and runner-2 lost and back", "")
    ]


def test_the_url_names_the_range(client: Client) -> None:
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    Move.objects.create(config_id=1, name="night", reason="rebalanced", source_node="ash", to_node="birch", time=NIGHT)
    assert told(client) == []
    assert told(client, "?since=2026-11-23T03:12&until=2026-11-23T03:13") == ["Rebalance: 1 config moved"]
    assert told(client, "?since=2026-11-23T03:12:01&until=2026-11-23T03:13") == []
    assert told(client, "?since=2026-11-23T04:12%2B01:00&until=2026-11-23T03:13Z") == ["Rebalance: 1 config moved"]


def test_a_time_of_day_is_its_last_one(client: Client) -> None:
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    now = clock.now()
    for minutes in (30, 24 * 60 - 30):
        time = now - timedelta(minutes=minutes)
        Move.objects.create(config_id=1, name="x", reason="rebalanced", source_node="ash", to_node="birch", time=time)
        shown = page(client, f"?at={time:%H:%M}").context["span"]
        assert shown.since < time < shown.until
        assert shown.until - shown.since == timedelta(minutes=20)
        assert told(client, f"?at={time:%H:%M}") == ["Rebalance: 1 config moved"]
        assert told(client, f"?at={time:%Y-%m-%dT%H:%M}") == ["Rebalance: 1 config moved"]


def test_the_story_nearest_to_a_moment_is_open_and_else_the_last_one(client: Client) -> None:
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    for minute, reason in ((12, "rebalanced"), (20, "operator")):
        time = NIGHT.replace(minute=minute)
        Move.objects.create(config_id=1, name="x", reason=reason, source_node="ash", to_node="birch", time=time)

    def opened(query: str) -> list[str]:
        text = page(client, query).content.decode()
        return re.findall(r"<details id=.story-[^>]* open[^>]*>.*?<strong>(\w+)", text, re.DOTALL)

    assert opened("?at=2026-11-23T03:13") == ["Rebalance"]
    assert opened("?at=2026-11-23T03:18") == ["Reassigned"]
    assert opened("?since=2026-11-23T03:00&until=2026-11-23T03:30") == ["Reassigned"]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?since=2026", "Times are written as"),
        ("?from=x", "Times are written as"),
        ("?from=03:00&to=x", "Times are written as"),
        ("?at=25:00", "Times are written as"),
        ("?at=tea+time", "Times are written as 03:12"),
        ("?at=0001-01-01T00:00", "Times are written as 03:12"),
        ("?last=1y", "There is no span 1y."),
        ("?since=yesterday", "Times are written as"),
        ("?since=2026-13-45T00:00", "Times are written as"),
        ("?since=9999-12-31T23:59-14:00&until=9999-12-31T23:59-14:00", "Times are written as"),
        ("?since=2026-11-23T04:00&until=2026-11-23T03:00", "The range ends before it begins."),
        ("?last=<script>alert(1)</script>", "&lt;script&gt;"),
    ],
)
def test_what_is_no_range_is_said(client: Client, query: str, problem: str) -> None:
    text = page(client, query).content.decode()
    assert problem in text
    assert "<script>alert" not in text
    assert "Reassigned by otto" in text


def test_the_bars_count_moves_by_reason(client: Client) -> None:
    Move.objects.all().delete()
    for minute, reason in ((0, "expired"), (0, "redispatched"), (0, "expired"), (30, "rebalanced")):
        Move.objects.create(config_id=1, name="x", reason=reason, time=NIGHT + timedelta(minutes=minute))
    chart = page(client, "?since=2026-11-23T03:12&until=2026-11-23T04:12").context["chart"]
    assert chart.totals == [("expired", 2), ("rebalanced", 1), ("redispatched", 1)]
    assert [(bar.left, bar.number) for bar in chart.bars] == [(0.0, 3), (480.0, 1)]
    assert [(block.colour, block.top, block.height) for block in chart.bars[0].blocks] == [
        ("red", 40.0, 80.0),
        ("orange", 0.0, 40.0),
    ]
    assert chart.bars[0].query == "since=2026-11-23T03%3A12%3A00&until=2026-11-23T03%3A13%3A00"


def test_a_story_unfolds_to_its_moves_and_they_can_be_undone(client: Client) -> None:
    text = unfold(client)
    move = Move.objects.get(reason="operator")
    assert f'name="move" value="{move.pk}"' in text
    plan = shown(client, f"{CHANGES}undo/", move=move.pk)
    assert owners() == {"one": "birch"}
    apply(client, plan)
    assert owners() == {"one": "ash"}
    assert Move.objects.latest("id").actor == "olga"


def test_a_story_of_several_moves_of_a_config_is_undone_as_one(client: Client) -> None:
    report("cedar")
    dispatcher.reassign([config("one").pk], "cedar", actor="otto")
    response = page(client)
    [story] = [story for story, _, _ in response.context["stories"] if story.moves_to_undo]
    text = response.content.decode()
    assert text.count('name="story"') == 1
    assert (
        f'value="{story.key}" aria-label="Undo Reassigned by otto of {story.start:%Y-%m-%d %H:%M:%S} UTC">Undo…<'
        in text
    )
    plan = shown(client, f"{CHANGES}undo/?{response.context['span'].query}", story=story.key)
    assert owners() == {"one": "cedar"}
    apply(client, plan)
    assert owners() == {"one": "ash"}


def test_the_last_round_of_a_story_is_undone_alone(client: Client) -> None:
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    for minutes, number in ((3, 5), (2, 2), (1, 4)):
        # A large rebalance is several transactions.
        times = [ago(timedelta(minutes=minutes) - timedelta(seconds=second)) for second in range(number)]
        fields = {"config_id": config("one").pk, "name": "x", "reason": "rebalanced", "source_node": "ash"}
        Move.objects.bulk_create([Move(**fields, to_node="birch", time=time) for time in times])
    response = page(client)
    [(story, _, _)] = response.context["stories"]
    text = response.content.decode()
    assert "Undo all 11…<" in text
    assert "Undo last 4…<" in text
    last = list(Move.objects.order_by("id").values_list("id", flat=True))[-4:]
    assert (story.last_round, len(story.moves_to_undo)) == (last, 11)
    Move.objects.filter(id__in=last).delete()
    dispatcher.reassign([config("one").pk], "ash", actor="otto")
    Move.objects.filter(actor="otto").update(reason="rebalanced", actor="")
    plan = shown(client, f"{CHANGES}undo/?{page(client).context['span'].query}", last=story.key)
    assert owners() == {"one": "ash"}
    apply(client, plan)
    assert owners() == {"one": "birch"}


def test_what_moved_at_once_is_one_round(client: Client) -> None:
    [story] = [story for story, _, _ in page(client).context["stories"] if story.moves_to_undo]
    assert story.last_round == []
    assert "Undo last" not in page(client).content.decode()


def test_of_a_time_before_all_records_nothing_is_known(client: Client) -> None:
    text = page(client, "?since=2020-01-01&until=2020-01-02").content.decode()
    assert "What moved then is not known: records go back to" in text
    assert f"{NodeEvent.objects.earliest('time').time:%Y-%m-%d %H:%M:%S}" in text
    assert "Nothing moved" not in text
    assert "Nothing happened" not in text
    NodeEvent.objects.filter(pk=NodeEvent.objects.earliest("time").pk).update(time=NIGHT)
    later = page(client, f"?since={NIGHT:%Y-%m-%dT%H:%M}:01&until={NIGHT:%Y-%m-%dT%H:%M}:02").content.decode()
    assert "Nothing moved." in later
    assert "Nothing happened." in later


def test_a_story_that_is_gone_undoes_nothing(client: Client) -> None:
    answer = client.post(f"{CHANGES}undo/?last=1h", {"story": "m999"}, follow=True).content.decode()
    assert "Nothing to undo" in answer
    assert owners() == {"one": "birch"}


def test_what_can_not_be_undone_says_why_not(client: Client) -> None:
    dispatcher.reassign([config("one").pk], "ash", actor="eve")
    assert "it has moved again since" in unfold(client, 1)
    move = Move.objects.filter(reason="operator").earliest("id")
    answer = client.post(f"{CHANGES}undo/", {"move": [move.pk, "x", "9" * 30]}, follow=True).content.decode()
    assert "Nothing to undo: it has moved again since." in answer
    assert owners() == {"one": "ash"}


def test_a_reason_why_many_moves_can_not_be_undone_is_said_once(client: Client) -> None:
    hand_over()
    dispatcher.schedule([sent("two"), sent("three")])
    hand_over()
    for key in ("two", "three"):
        dispatcher.reassign([config(key).pk], "birch", actor="eve")
    report("cedar")
    hand_over()
    Move.objects.all().delete()
    Node.objects.filter(name="birch").cordon(draining=True, by=clock.now(), actor="olga")
    dispatcher.move_misplaced()
    assert Move.objects.filter(reason="drained").count() > 1
    text = unfold(client)
    assert text.count("birch is draining") == 1
    assert f"{Move.objects.count()} moves can't be undone: birch is draining." in html.unescape(text)
    assert text.count("Undo…") == 0


def test_only_who_may_reassign_may_undo(client: Client) -> None:
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER, is_staff=True))
    assert "Undo" in unfold(client)
    assert 'name="story"' in page(client).content.decode()
    assert 'name="story"' not in page(viewer).content.decode()
    text = unfold(viewer)
    assert "birch" in text
    assert "<button" not in text
    assert viewer.post(f"{CHANGES}undo/", {"move": Move.objects.latest("id").pk}).status_code == 403
    assert owners() == {"one": "birch"}


def test_an_undo_leads_back_to_this_site_alone(client: Client) -> None:
    for back, place in (("/admin/changes/?last=1d", "/admin/changes/?last=1d"), ("https://evil.example", CHANGES)):
        assert client.post(f"{CHANGES}undo/", {"back": back}).headers["Location"] == place


def test_a_story_that_is_gone_is_said_to_be(client: Client) -> None:
    assert b"no longer in the ledger" in client.get(f"{CHANGES}story/?story=m0").content


def export(client: Client, form: str) -> str:
    response = client.get(f"{CHANGES}?last=1h&format={form}")
    assert response.headers["Content-Disposition"] == f'attachment; filename="changes.{form}"'
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def test_moves_and_events_are_given_as_csv_and_json(client: Client) -> None:
    rows = json.loads(export(client, "json"))
    assert [(row["what"], row["reason"]) for row in rows] == [
        ("node event", "registered"),
        ("move", "scheduled"),
        ("node event", "registered"),
        ("move", "operator"),
    ]
    lines = list(csv.DictReader(io.StringIO(export(client, "csv"))))
    assert [{name: str(value) for name, value in row.items()} for row in rows] == [
        {name: value for name, value in line.items() if value or name in row}
        for row, line in zip(rows, lines, strict=True)
    ]


def test_an_export_has_the_ends_of_hand_overs(client: Client) -> None:
    hand_over()
    [line] = [line for line in csv.DictReader(io.StringIO(export(client, "csv"))) if line["reason"] == "operator"]
    assert (line["promise"], line["handed_at"] > line["time"]) == ("overlap", True)


def test_an_export_without_rows_is_whole(client: Client) -> None:
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    assert json.loads(export(client, "json")) == []
    assert export(client, "csv").startswith("time,what,")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(client: Client, cell: str) -> None:
    NodeEvent.objects.update(cause=cell)
    Move.objects.update(actor=cell)
    lines = list(csv.DictReader(io.StringIO(export(client, "csv"), newline="")))
    shown = cell.replace("\t", "\\t").replace("\r", "\\r")
    assert {line["actor"] or line["cause"] for line in lines} == {f"'{shown}"}
    assert harmless("a=1") == "a=1"


def test_no_cell_moves_a_terminals_cursor() -> None:
    assert harmless("\x1b[2Jash\n\u202e\x9b") == "\\x1b[2Jash\\n\\u202e\\x9b"
    assert harmless("Zürich, 東京") == "Zürich, 東京"


def test_what_is_gone_has_no_source_to_name(client: Client) -> None:
    Move.objects.all().delete()
    dispatcher.unschedule([("file", "one")], actor="otto")
    assert told(client)[0] == "Changes of the sources by otto: 1 config gone"
    dispatcher.schedule([sent("two", source="api:shop"), sent("three")], actor="otto")
    assert told(client)[0] == "Changes of api:shop and file by otto: 2 configs new, 1 config gone"


def test_nothing_of_a_name_is_html(client: Client) -> None:
    name = "<img src=x onerror=alert(1)>\x1b[31m"
    Move.objects.update(name=name, source_node=name, to_node=name, actor=name)
    NodeEvent.objects.update(node_name=name, cause=name)
    Heartbeat.objects.all().delete()
    for text in (page(client).content.decode(), *(unfold(client, number) for number in range(3))):
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text


def test_strangers_see_nothing(client: Client) -> None:
    assert Client().get(CHANGES).headers["Location"].startswith("/admin/login/")
    assert Client().get(f"{CHANGES}story/").status_code == 401
    nobody = Client()
    nobody.force_login(user("nobody", is_staff=True))
    assert nobody.get(CHANGES).status_code == 403
    assert nobody.post(f"{CHANGES}undo/").status_code == 403


def test_as_many_queries_for_few_moves_as_for_many(client: Client) -> None:
    numbers = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            page(client)
            unfold(client)
        numbers.append(len(queries))
        dispatcher.schedule([sent(f"key-{number}") for number in range(100)])
        moved = [one.pk for one in Move.objects.filter(reason="scheduled")]
        dispatcher.reassign([Move.objects.get(pk=pk).config_id for pk in moved], "ash", actor="otto")
    assert numbers[0] == numbers[1]


def test_a_story_is_told_alike_on_the_first_page_and_in_changes(warm: None) -> None:
    rollout(restarted=5, lost=3)
    olga = superuser()
    _, title, facts = olga.get("/admin/").context["stories"][0]
    assert "5 of 8 restarted, 3 lost" in facts
    assert told(olga, "?last=1h")[0] == f"{title}: {facts}".replace("\u202f", " ")


def test_a_range_may_be_of_the_zone_that_the_page_shows(client: Client) -> None:
    asked = "?since=2026-11-23T08:42&until=2026-11-23T09:42&zone=Asia/Kolkata"
    span = page(client, asked).context["span"]
    assert (span.since, span.until) == (NIGHT, NIGHT + timedelta(hours=1))
    night = page(client, "?at=2026-11-23T08:42&zone=Asia/Kolkata")
    assert night.context["span"].since + AROUND == NIGHT
    assert "At (Asia/Kolkata)" in night.content.decode()
    assert "At (UTC)" in page(client, "?at=03:12&zone=Nowhere/../etc").content.decode()
