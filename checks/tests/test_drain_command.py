"""The command `drain` and its undoing."""

import json
import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models import F

from acts.models import Act
from checks import dispatcher
from checks.management.commands import drain as command
from checks.models import Config, Plan
from checks.models.orders import Pin
from checks.tests.cast import hand_over, lead, sent
from clusteragent.lib import clock
from nodes.heartbeats import note_heartbeat
from nodes.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def trees(warm: None) -> None:
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)


def drain(*words: str) -> str:
    out = StringIO()
    call_command("drain", *words, stdout=out)
    return out.getvalue().strip()


def code(*words: str) -> tuple[int, list[str]]:
    """The exit status, and the lines that were written."""
    out = StringIO()
    with pytest.raises((SystemExit, CommandError)) as end:
        call_command("drain", *words, stdout=out)
    if isinstance(end.value, CommandError):
        return end.value.returncode, [str(end.value)]
    return int(end.value.code or 0), out.getvalue().splitlines()


def draining() -> list[str]:
    return list(Node.objects.filter(draining=True, schedulable=False).values_list("name", flat=True))


def test_nodes_are_drained_and_uncordoned() -> None:
    assert drain("ash", "birch", "--accept-no-node") == "2 nodes drained"
    assert draining() == ["ash", "birch"]
    assert drain("ash", "--undo") == "1 node uncordoned"
    assert draining() == ["birch"]


def test_programs_get_json() -> None:
    assert json.loads(drain("ash", "--json")) == {"nodes": ["ash"], "changed": 1, "stay": 0}
    assert json.loads(drain("ash", "--json")) == {"nodes": ["ash"], "changed": 0, "stay": 0}


def test_what_leaves_no_node_that_takes_work_must_be_meant() -> None:
    refused = r"No node would take work then: .* --accept-no-node does it all the same"
    for words in (("ash", "birch"), ("ash", "birch", "--wait")):
        with pytest.raises(CommandError, match=refused):
            drain(*words)
    assert draining() == []
    assert {(act.verb, act.object) for act in Act.objects.all()} == {("refuse", "drain ash and birch")}
    assert "2 nodes would be drained" in drain("ash", "birch", "--dry-run")
    Node.objects.filter(name="birch").cordon()
    # It took no work before.
    assert drain("birch") == "1 node drained"
    with pytest.raises(CommandError, match="No node would take work then"):
        drain("ash")


def test_an_unknown_node_is_named_and_nothing_is_done() -> None:
    with pytest.raises(CommandError, match="node oak is unknown"):
        drain("ash", "oak")
    assert draining() == []


def place(number: int) -> None:
    """Configs on ash."""
    Node.objects.filter(name="birch").cordon()
    dispatcher.schedule([sent(f"key-{one}") for one in range(number)])
    hand_over()
    Node.objects.filter(name="birch").cordon(schedulable=True)


def test_a_deadline_is_given_renewed_and_taken_back() -> None:
    assert drain("ash", "--by", "2h") == "1 node drained"
    left = Node.objects.get(name="ash").drain_by - clock.now()
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    assert drain("ash", "--by", "2100-12-24 08:00") == "1 node drained"
    assert f"{Node.objects.get(name='ash').drain_by:%F %H:%M}" == "2100-12-24 08:00"
    assert drain("ash", "--by", "2100-12-24 08:00") == "0 nodes drained: ash drains so already"
    assert drain("ash") == "1 node drained"
    assert Node.objects.get(name="ash").drain_by is None


def test_its_note_stands_in_the_plan_and_on_record() -> None:
    place(1)
    drain("ash", "--note", "a new disk")
    assert Plan.objects.get().order["note"] == "a new disk"
    assert Act.objects.get(verb=Act.Verb.DRAIN).reason == "a new disk"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--by", "soon"], "--by soon: That is neither a span nor a time: 90s, 30m, 2h"),
        (["--by", "2020-01-01"], "--by 2020-01-01: That is over already."),
        (["--by", "2h", "--undo"], "not with --undo or --check"),
        (["--by", "2h", "--check"], "not with --undo or --check"),
        (["--note", "a new disk", "--undo"], "--note is the reason of a drain: not with --undo or --check"),
        (["--note", "a new disk", "--check"], "--note is the reason of a drain: not with --undo or --check"),
    ],
)
def test_a_bad_deadline_is_named_and_nothing_is_done(words: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        drain("ash", *words)
    assert draining() == []


class TestCheck:
    def test_it_says_whether_the_node_may_be_stopped(self) -> None:
        place(3)
        assert code("ash", "--check") == (1, ["node ash is not being drained, and has 3 configs"])
        drain("ash")
        assert code("ash", "--check") == (1, ["node ash: 3 of 3 left to move"])
        dispatcher.run_pass(lead())
        assert code("ash", "--check") == (1, ["node ash: none of 3 left to move, 3 being handed over"])
        hand_over()
        assert code("ash", "--check") == (1, ["node ash: nothing left, but not fetched yet"])
        hand_over()
        assert code("ash", "--check") == (0, ["node ash is empty: safe to stop"])

    def test_of_several_nodes_all_must_be_empty(self) -> None:
        place(3)
        drain("birch")
        assert code("ash", "birch", "--check")[0] == 1
        assert code("birch", "--check")[0] == 0

    def test_what_can_not_go_is_told_with_the_reason(self) -> None:
        place(2)
        Node.objects.filter(name="birch").cordon()
        drain("ash", "--accept-no-node")
        lines = ["node ash: 2 of 2 left to move", "2 configs can't go to another node: every other node is cordoned"]
        assert code("ash", "--check") == (1, lines)

    def test_programs_get_json(self) -> None:
        place(1)
        drain("ash")
        status, lines = code("ash", "--check", "--json")
        [told] = json.loads("".join(lines))["drains"]
        assert status == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", told.pop("since"))
        assert told == {
            "name": "ash", "by": None, "moved": 0, "left": 1, "handing_over": 0, "is_empty": False, "stuck": [],
            "sentence": "node ash: 1 of 1 left to move",
        }  # fmt: skip

    def test_an_unknown_node_and_a_database_that_is_away_can_not_be_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert code("oak", "--check") == (2, ["node oak is unknown"])

        def fail(name: str) -> Any:
            raise OperationalError("connection refused")

        monkeypatch.setattr(command.drains, "of", fail)
        assert code("ash", "--check") == (2, ["the database is away: connection refused"])


class TestWait:
    """Instead of the time between two looks, what happens meanwhile."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What happens between the looks of the command, in turn."""
        events: list[Any] = []
        monkeypatch.setattr(command.time, "sleep", lambda _: events.pop(0)())
        return events

    def test_it_ends_when_the_node_is_empty(self, meanwhile: list[Any]) -> None:
        place(3)
        meanwhile += [lambda: None, lambda: dispatcher.run_pass(lead()), hand_over, hand_over]
        assert code("ash", "--wait") == (0, [
            "1 node drained",
            "node ash: 3 of 3 left to move",
            "node ash: none of 3 left to move, 3 being handed over",
            "node ash: nothing left, but not fetched yet",
            "node ash is empty: safe to stop",
        ])  # fmt: skip
        assert draining() == ["ash"]

    def test_it_ends_at_the_deadline_with_what_is_left(self, meanwhile: list[Any]) -> None:
        place(2)
        pinned = {"source": "file", "key": "k", "kind": "node", "aim": "ash", "waits": True}
        Pin.objects.create(config=Config.objects.earliest("pk"), **pinned)
        meanwhile += [
            lambda: dispatcher.run_pass(lead()),
            lambda: Node.objects.update(drain_by=F("drain_by") - timedelta(hours=1)),
        ]
        status, lines = code("ash", "--by", "1h", "--wait")
        assert status == 1
        assert lines[-1].endswith(", which is over")
        # It is said once, and at once.
        reason = "1 config can't go to another node: the config is pinned to the node ash"
        assert lines.index(reason) == 2
        assert lines.count(reason) == 1

    def test_it_ends_when_someone_uncordons_the_node(self, meanwhile: list[Any]) -> None:
        place(2)
        meanwhile += [lambda: drain("ash", "--undo")]
        assert code("ash", "--wait")[0] == 1

    def test_without_a_deadline_what_drains_already_keeps_its_own(self) -> None:
        drain("ash", "--by", "2h")
        by = Node.objects.get(name="ash").drain_by
        assert code("ash", "birch", "--wait", "--accept-no-node")[0] == 0
        assert draining() == ["ash", "birch"]
        assert Node.objects.get(name="ash").drain_by == by

    def test_an_unknown_node_can_not_be_told(self) -> None:
        assert code("ash", "oak", "--wait") == (2, ["node oak is unknown"])
        assert draining() == []


def test_what_can_go_nowhere_is_said_before_and_when_it_is_ordered() -> None:
    dispatcher.schedule([sent("one"), sent("two")])
    said = "2 configs can't go to another node as it is now; --check says why"
    closing = "No node would take work then: nothing new is placed, and the checks of a node that dies run nowhere."
    assert closing in drain("ash", "birch", "--dry-run").splitlines()
    would = "2 configs can go to no other node now, and would stay."
    assert would in drain("ash", "birch", "--dry-run").splitlines()
    assert drain("ash", "birch", "--accept-no-node").splitlines() == ["2 nodes drained", said]
    assert drain("ash", "--undo") == "1 node uncordoned"
    assert said not in drain("birch")


@pytest.mark.parametrize("words", [("--by", ""), ("--by", "", "--wait"), ("--by", " ")])
def test_an_empty_deadline_is_refused_and_takes_none_away(words: tuple[str, ...]) -> None:
    drain("ash", "--by", "9m")
    by = Node.objects.get(name="ash").drain_by
    with pytest.raises(CommandError, match="--by"):
        drain("ash", *words)
    assert Node.objects.get(name="ash").drain_by == by is not None
