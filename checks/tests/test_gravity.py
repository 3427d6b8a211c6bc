"""What is grave: what somebody must get up for at night. docs/operations.md says of each kind of alert why."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now

from checks import dispatcher
from checks.explain import alerts
from checks.explain.alerts import WORDS, Kind, Word
from checks.models import Assignment, Config, Move
from checks.models.troubles import Trouble
from checks.sources.sync import ACTOR
from checks.tests.cast import report, sent, silence
from checks.tests.operators import superuser
from nodes.models import Node
from operators.admin.base import address

pytestmark = pytest.mark.django_db
OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"


@pytest.fixture(autouse=True)
def _cast(warm: None) -> None:
    report("ash", "birch", "cedar")


def placed(number: int, check: str = "http_check") -> list[int]:
    """So many configs of a check, all of them with a node."""
    dispatcher.schedule([sent(f"{check}-{each}", name=check) for each in range(number)])
    return list(Config.objects.filter(name=check).order_by("pk").values_list("pk", flat=True))


def troubled(ids: list[int], kind: Trouble.Kind, minutes: int, well: int | None = 1) -> None:
    """Trouble since so many minutes, and a good run so many minutes before; None: none is known."""
    since = Now() - timedelta(minutes=minutes)
    good = None if well is None else Now() - timedelta(minutes=minutes + well)
    Trouble.objects.bulk_create(
        Trouble(config_id=one, kind=kind, since=since, last_error="refused", last_good=good) for one in ids
    )


def found() -> dict[str, alerts.Alert]:
    return {str(alert.kind): alert for alert in alerts.current()}


def listed(alert: alerts.Alert) -> set[str]:
    """What the page to which it leads lists."""
    response = superuser().get(address(alert.target), secure=True)
    return {str(row) for row in response.context["cl"].result_list}


def test_the_documentation_says_of_each_kind_whether_it_is_grave_and_why() -> None:
    rows = re.findall(
        r"^\| \[`(\w+)`\]\(troubleshooting\.md#\1\) \| ([a-z ]+) \| (\S.*) \|$", OPERATIONS.read_text(), re.MULTILINE
    )
    assert [(kind, word.capitalize()) for kind, word, _ in rows] == [(str(kind), str(WORDS[kind])) for kind in Kind]


def test_the_gravest_come_first() -> None:
    words = [WORDS[kind] for kind in Kind if kind != Kind.SECRET_DIFFERS]
    assert words == sorted(words, reverse=True, key=list(Word).index)


def test_a_tenth_that_began_to_fail_within_an_hour_is_grave() -> None:
    ids = placed(40)
    troubled(ids[:4], Trouble.Kind.FAILING, minutes=10)
    assert found().keys() >= {"failing"}
    troubled(ids[4:6], Trouble.Kind.FAILING, minutes=10)
    alert = found()["many_failing"]
    assert "failing" not in found()
    assert alert.count == 6
    assert alert.cause.startswith(
        "6 of 40 configs began to fail within an hour. The last run of http_check http_check-0, "
    )
    assert alert.target.query == {"trouble": "failing"}
    Trouble.objects.update(since=Now() - timedelta(minutes=61))
    assert "many_failing" not in found()
    assert found()["failing"].count == 6


def test_what_may_have_failed_for_ever_did_not_begin_to() -> None:
    ids = placed(40)
    troubled(ids[:4], Trouble.Kind.FAILING, minutes=10)
    troubled(ids[4:6], Trouble.Kind.FAILING, minutes=10, well=None)
    troubled(ids[6:8], Trouble.Kind.FAILING, minutes=10, well=61)
    assert "many_failing" not in found()
    alert = found()["failing"]
    assert alert.count == 8
    assert alert.cause.startswith(
        "8 of 40 configs fail, and 4 of them are not known to have run well within an hour before. The last run of http_check"
    )
    Trouble.objects.update(last_good=Now() - timedelta(minutes=11))
    assert found()["many_failing"].cause.startswith("8 of 40 configs began to fail within an hour.")


def test_a_check_of_which_most_do_not_run_is_grave() -> None:
    ids = placed(8, "snmp")
    placed(40)
    troubled(ids[:4], Trouble.Kind.NOT_RUNNING, minutes=10)
    assert "many_not_running" not in found()
    troubled(ids[4:6], Trouble.Kind.NOT_RUNNING, minutes=10)
    assert found()["many_not_running"].cause.startswith("No node runs 6 of 8 configs of snmp.")


def lose(*names: str) -> None:
    silence(*names)
    dispatcher.expire_nodes(force=True)


def test_several_lost_nodes_need_somebody_and_very_many_are_grave() -> None:
    report(*(f"oak-{number}" for number in range(13)))
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    lose("oak-0")
    assert "nodes_lost" not in found()
    lose("oak-1", "oak-2")
    alert = found()["nodes_lost"]
    assert alert.count == 3
    assert alert.cause.startswith(
        "oak-0, oak-1 and oak-2 are lost within an hour, so 3 of 13 nodes of oak-* are missing."
    )
    assert listed(alert) == {"oak-0", "oak-1", "oak-2"}
    lose("oak-3")
    assert found().keys() & {"nodes_lost", "many_nodes_lost"} == {"many_nodes_lost"}
    Node.objects.lost().update(lost_at=Now() - timedelta(minutes=61))
    assert not found().keys() & {"nodes_lost", "many_nodes_lost"}


def test_what_was_replaced_said_goodbye_or_was_cordoned_is_no_loss() -> None:
    report("oak-0", "oak-1", "oak-2", "oak-3")
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    Node.objects.filter(name="oak-0").cordon(actor="olga")
    Node.objects.filter(name="oak-1").update(leaving=True)
    lose("oak-0", "oak-1", "oak-2", "oak-3")
    assert found()["nodes_lost"].count == 2
    report("oak-4")
    assert "nodes_lost" not in found()


def test_a_node_whose_drain_was_not_over_is_lost_and_a_drained_one_was_to_go() -> None:
    report("oak-0", "oak-1")
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    placed(10)
    Node.objects.filter(name="oak-0").cordon(draining=True, actor="olga")
    oak = Node.objects.get(name="oak-1")
    Node.objects.filter(pk=oak.pk).cordon(draining=True, actor="olga")
    Assignment.objects.filter(node=oak).update(node=Node.objects.get(name="ash"))
    lose("oak-0", "oak-1", "cedar")
    losses = alerts.not_replaced()
    assert (losses.names, losses.missing) == (["cedar", "oak-0"], 2)
    Move.objects.update(time=Now() - timedelta(minutes=1))
    assert alerts.not_replaced().names == ["cedar"], "an earlier loss emptied it"


def test_nodes_that_joined_with_a_lost_one_or_in_another_pool_came_for_none() -> None:
    report(*(f"oak-{number}" for number in range(6)))
    lose("ash", "birch", "oak-0")
    report("elm-1", "elm-2", "elm-3")
    alert = found()["many_nodes_lost"]
    assert (
        "ash, birch and oak-0 are lost within an hour, so 3 of 9 nodes with names of their own and of oak-* are missing."
        in alert.cause
    )
    report("birch")
    assert (
        "ash and oak-0 are lost within an hour, so 2 of 9 nodes with names of their own and of oak-* are missing."
        in found()["nodes_lost"].cause
    )


def test_how_many_are_lost_is_judged_by_what_was_there_before() -> None:
    report(*(f"oak-{number}" for number in range(4)))
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    lose("ash", "birch", "cedar")
    report(*(f"elm-{number}" for number in range(30)))
    assert "ash, birch and cedar are lost within an hour, so 3 of 3 nodes with names of their own are missing." in (
        found()["many_nodes_lost"].cause
    )
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    assert "nodes_lost" in found()


def test_of_lost_nodes_those_are_named_whose_pool_is_smaller() -> None:
    report("oak-0", "oak-1", "oak-2")
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    lose("ash", "birch", "oak-0")
    report("oak-3")
    alert = found()["nodes_lost"]
    assert alert.cause.startswith(
        "ash and birch are lost within an hour, so 2 of 3 nodes with names of their own are missing."
    )
    assert alert.count == 2


def test_a_rollout_whose_new_nodes_die_loses_as_many_as_there_were() -> None:
    report(*(f"oak-{number}" for number in range(6)))
    Node.objects.filter(name__startswith="oak-").update(first_seen=Now() - timedelta(days=1))
    report(*(f"oak-1{number}" for number in range(6)))
    for number in range(6):
        Node.objects.filter(name=f"oak-{number}").update(leaving=True)
        lose(f"oak-{number}")
    assert "nodes_lost" not in found()
    lose("oak-10", "oak-11", "oak-12", "oak-13")
    assert "so 4 of 6 nodes of oak-* are missing." in found()["many_nodes_lost"].cause


def test_a_rollout_that_first_brings_more_nodes_loses_none() -> None:
    report(*(f"oak-{number}" for number in range(6)))
    Node.objects.update(first_seen=Now() - timedelta(days=1))
    report("oak-6", "oak-7", "oak-8")
    lose("oak-0", "oak-1", "oak-2")
    assert alerts.not_replaced().missing == 0
    report("oak-9", "oak-10", "oak-11")
    lose("oak-3", "oak-4", "oak-5")
    assert alerts.not_replaced().missing == 0
    lose("oak-9")
    assert alerts.not_replaced().missing == 1


def test_much_that_sources_took_away_without_a_hold_needs_somebody() -> None:
    placed(40)
    origins = [("file", f"http_check-{number}") for number in range(12)]
    dispatcher.pause(list(Config.objects.filter(origins__key="http_check-0").values_list("pk", flat=True)))
    dispatcher.unschedule(origins[:8], actor=ACTOR)
    assert "many_removed" not in found()
    dispatcher.unschedule(origins[8:], actor=ACTOR)
    alert = found()["many_removed"]
    assert alert.count == 12
    assert "took away 12 configs of 40 within an hour" in alert.cause
    assert len(listed(alert)) == 12
    Move.objects.update(time=Now() - timedelta(minutes=61))
    assert "many_removed" not in found()


def test_what_people_took_away_was_meant() -> None:
    placed(40)
    dispatcher.unschedule([("file", f"http_check-{number}") for number in range(12)], actor="otto")
    assert "many_removed" not in found()
