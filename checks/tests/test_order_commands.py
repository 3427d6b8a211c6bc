"""The commands pin, unpin, pause, resume and why."""

import json
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from acts.models import Act
from checks import dispatcher
from checks.dispatcher import committing, transaction
from checks.models import Assignment, Config, Handover, Plan
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.tests.cast import dangling, hand_over, ledger, owners, report, sent, silence
from checks.tests.operators import config
from nodes.models import Node, Runner, RunnerStats

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]


@pytest.fixture(autouse=True)
def _work(warm: None) -> None:
    """shop and mail run on ash, birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail", name="tcp_check")])
    report("birch")


def check_id(key: str) -> str:
    return config(key).instances.get().check_id


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    call_command(*command)
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    return json.loads(said(capsys, *command, "--json"))


def test_pin_moves_a_check_to_its_node_and_notes_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    answer = said(capsys, "pin", check_id("shop"), "birch", "--note", "near the shop", "--as", "olga")
    assert answer.splitlines()[0].endswith("ash → birch")
    assert "1 config pinned to birch, 1 moved" in answer
    assert owners()["shop"] == "birch"
    pin = Pin.objects.get()
    assert (pin.author, pin.note, pin.until) == ("olga (command line)", "near the shop", None)


def test_pin_takes_several_checks_and_a_pattern_or_a_label(capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, "pin", check_id("shop"), check_id("mail"), "bir*", "--pattern", "--waits")
    assert answer["configs"] == 2
    assert {(move["from_node"], move["to_node"]) for move in answer["moves"]} == {("ash", "birch")}
    assert set(Pin.objects.values_list("kind", "waits")) == {("pattern", True)}
    said(capsys, "pin", check_id("shop"), "zone=a", "--label")
    assert Pin.objects.get(config=config("shop")).kind == "label"


def test_a_pin_by_which_a_config_stops_must_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    wish = ("pin", check_id("shop"), "nobody", "--waits")
    assert "1 config would run nowhere." in said(capsys, *wish, "--dry-run")
    with pytest.raises(CommandError, match=r"1 config would run nowhere\. --accept-dangling does it all the same"):
        call_command(*wish)
    assert "shop" in owners()
    assert Act.objects.get().verb == Act.Verb.REFUSE
    said(capsys, *wish, "--accept-dangling")
    assert "shop" not in owners()


def test_a_label_without_a_value_is_refused() -> None:
    with pytest.raises(CommandError, match="zone=a"):
        call_command("pin", check_id("shop"), "zone", "--label")
    assert not Pin.objects.exists()


def test_a_pin_may_end(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pin", check_id("shop"), "birch", "--until", "2h")
    pin = Pin.objects.annotate(now=Now()).get()
    assert 7100 < (pin.until - pin.now).total_seconds() <= 7200


@pytest.mark.parametrize("end", ["soon", "2020-01-01 00:00", "0m"])
def test_an_end_that_is_none_is_refused(end: str) -> None:
    with pytest.raises(CommandError, match="--until"):
        call_command("pause", check_id("shop"), "--until", end)
    assert not Pause.objects.exists()


def test_unpin_leaves_checks_where_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pin", check_id("shop"), "birch")
    assert "1 config unpinned, 0 moved" in said(capsys, "unpin", check_id("shop"))
    assert owners()["shop"] == "birch"
    assert not Pin.objects.exists()


def test_pause_and_resume_one_check_or_all_of_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 config paused, 1 stopped running" in said(capsys, "pause", check_id("shop"), "--note", "deploy")
    assert told(capsys, "pause", "--check", "tcp_check")["configs"] == 1
    assert owners() == {}
    assert dangling() == set()
    assert told(capsys, "resume", "--check", "tcp_check")["moves"][0]["to_node"] in {"ash", "birch"}
    assert "1 config resumed, 1 came back" in said(capsys, "resume", check_id("shop"))
    assert owners().keys() == {"shop", "mail"}
    assert not Pause.objects.exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (["pin", "nope:1", "ash"], "nope:1"),
        (["pause", "nope:1"], "nope:1"),
        (["why", "nope:1"], "nope:1"),
        (["pause"], "--check"),
        (["pause", "x", "--check", "y"], "--check"),
        (["resume", "--check", "nope"], "no config is of the check nope"),
    ],
)
def test_what_can_not_be_done_is_an_error_that_says_so(command: list[str], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        call_command(*command)
    assert len(ledger()) == 2


def test_an_endpoint_check_is_not_paused() -> None:
    dispatcher.schedule([sent("pod", node_name="ash")])
    with pytest.raises(CommandError, match="endpoint check"):
        call_command("pause", check_id("pod"))


def test_why_says_what_placed_it_and_where_it_can_not_be(capsys: pytest.CaptureFixture[str]) -> None:
    Node.objects.filter(name="birch").update(labels={"disk": "slow"})
    Rule.objects.create(name="fast", forbidden={"disk": "slow"})
    text = said(capsys, "why", check_id("shop"))
    assert "It was placed on ash when it came, the only node that could have it." in text
    assert "Sent by file:shop." in text
    assert "Assigned: yes, to ash" in text
    assert "Running: unknown, no stats from ash" in text
    assert "birch: rule fast: it forbids disk=slow" in text


def test_why_tells_programs_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher.reassign([config("shop").pk], "birch", actor="eve")
    Node.objects.filter(name="ash").cordon()
    answer = told(capsys, "why", config("shop").digest)
    assert answer["sentence"] == "eve gave it to birch. It is being handed over: ash runs it until birch does."
    assert answer["origins"] == ["file:shop"]
    assert (answer["reason"], answer["actor"]) == ("operator", "eve")
    assert answer["refused"] == {"it is cordoned": ["ash"]}
    since = f"{Handover.objects.get().since:%FT%T.%f}Z"
    assert answer["handover"] == {"from_node": "ash", "promise": "overlap", "since": since}
    hand_over()
    assert told(capsys, "why", config("shop").digest)["handover"] is None
    assert answer["facts"]["assigned"]["truth"] == "yes"


def test_why_shows_no_secret_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ash = Node.objects.get(name="ash")
    Runner.objects.create(node=ash, stats_at=Now())
    RunnerStats.objects.create(
        node=ash, check_id=check_id("shop"), execution_ms=1, total_runs=1, total_errors=1, failed=True,
        last_error="password=hunter22 \x1b[2J is wrong",
    )  # fmt: skip
    text = said(capsys, "why", check_id("shop"))
    assert "Last error: password=********" in text
    assert "hunter22" not in text
    assert "\x1b" not in text


def test_a_pause_by_name_leaves_endpoint_checks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher.schedule([sent("pod", name="tcp_check", node_name="ash")])
    assert told(capsys, "pause", "--check", "tcp_check")["configs"] == 1
    assert Config.objects.filter(pause__isnull=False).get() == config("mail")


AGAIN = "It is not pinned: the next rebalance may move it away again."
ALONE = "Until it is released, nothing else is placed on its node."
BIT_BY_BIT = "The nodes get nothing new from then on, and what they have moves bit by bit."
DRY: dict[str, tuple[list[str], list[str]]] = {
    "reassign": (["reassign", "shop", "--to", "birch"], ["1 config would be reassigned", AGAIN]),
    "pin": (["pin", "shop", "birch"], ["1 config would be pinned to birch, 1 would move"]),
    "pause": (["pause", "shop"], ["1 config would be paused, 1 would stop running"]),
    "isolate": (["isolate", "shop"], ["1 config would be isolated, 1 would move", ALONE]),
    "drain": (["drain", "ash"], ["1 node would be drained", BIT_BY_BIT]),
}


@pytest.mark.parametrize("verb", DRY)
def test_a_dry_run_shows_the_moves_and_makes_none(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, told = DRY[verb]
    command = [check_id(word) if word == "shop" else word for word in words]
    before = owners(), ledger()
    lines = said(capsys, *command, "--dry-run").splitlines()
    moves = lines[: -len(told)]
    assert lines[len(moves) :] == told
    assert len(moves) == (2 if verb == "drain" else 1)
    assert all(re.search("ash → (birch|nobody)$", line) for line in moves)
    assert (owners(), ledger()) == before
    assert not any(model.objects.exists() for model in (Pin, Pause, Isolation, Plan))
    assert Node.objects.get(name="ash").schedulable


NOWHERE = "There is no such node now: until there is one, it runs elsewhere."


@pytest.mark.parametrize(
    ("words", "doubt"),
    [
        (["brich"], f"{NOWHERE} Is it meant to be birch?"),
        (["brich-*", "--pattern"], NOWHERE),
        (["bich*", "--pattern"], f"{NOWHERE} Is it meant to be birch*?"),
        (["barch*", "--pattern"], f"{NOWHERE} Is it meant to be birch*?"),
        (["zone=bb", "--label"], f"{NOWHERE} Is it meant to be zone=b?"),
        (["zone=b", "--label"], ""),
        (["bir*", "--pattern"], ""),
        (["birch", "--until", "2h"], ""),
    ],
)
def test_a_pin_that_no_node_fits_says_so_and_asks_which_is_meant(
    capsys: pytest.CaptureFixture[str], words: list[str], doubt: str
) -> None:
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    for more in (["--dry-run"], []):
        lines = said(capsys, "pin", check_id("shop"), *words, *more).splitlines()
        assert [line for line in lines if "no such node" in line] == [doubt] * bool(doubt)


def test_a_dry_run_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    end = r"^(Until|By) \d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)? UTC, in 2 h\.$"
    for words in (
        ["pause", check_id("shop"), "--until", "2h"],
        ["pin", check_id("shop"), "birch", "--until", "2h"],
        ["drain", "ash", "--by", "2h"],
        ["freeze", "--until", "2h"],
    ):
        lines = said(capsys, *words, "--dry-run").splitlines()
        assert sum(bool(re.match(end, line)) for line in lines) == 1, lines
    assert said(capsys, "freeze", "--dry-run").splitlines()[-1] == "Until somebody ends it."


def test_where_nothing_would_change_a_dry_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    shop, id_ = config("shop"), check_id("shop")

    def dry(*words: str) -> list[str]:
        return said(capsys, *words, "--dry-run").splitlines()

    assert dry("unpin", id_) == [f"Nothing would change: {shop} is not pinned."]
    assert dry("resume", id_) == ["0 configs would be resumed, 0 would come back", f"{shop} is not paused."]
    assert dry("drain", "--undo", "ash") == ["Nothing would change: ash is neither cordoned nor draining."]
    assert dry("redispatch") == ["No config waits for a node."]
    assert dry("expirenodes") == ["No node would expire: each reported within the last 30 s"]
    assert dry("pin", id_, "ash") == [
        "1 config would be pinned to ash, 0 would move",
        "1 config would stay: on the right node already.",
    ]
    assert dry("reassign", id_, "--to", "ash")[:2] == [
        "0 configs would be reassigned",
        "1 config would stay: on ash already.",
    ]
    said(capsys, "pause", id_)
    assert dry("pause", id_)[-1] == "1 config runs nowhere already."
    assert (
        dry("pin", id_, "birch")[-1] == "1 config runs nowhere now, and starts there in a pass if such a node takes it."
    )
    said(capsys, "drain", "birch")
    assert dry("pin", check_id("mail"), "birch")[-1] == "1 config would stay: no such node takes it now."
    assert dry("drain", "birch")[0] == "0 nodes would be drained: birch drains so already"


def test_what_does_nothing_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    shop, id_ = config("shop"), check_id("shop")
    assert said(capsys, "unpin", id_).splitlines() == ["0 configs unpinned, 0 moved", f"{shop} is not pinned."]
    assert said(capsys, "resume", id_).splitlines()[-1] == f"{shop} is not paused."
    assert said(capsys, "drain", "--undo", "ash") == "0 nodes uncordoned: ash is neither cordoned nor draining\n"
    assert said(capsys, "expirenodes") == "No node expired: each reported within the last 30 s\n"
    Node.objects.filter(name="birch").cordon()
    assert said(capsys, "drain", "--undo", "ash", "birch", "--dry-run").splitlines()[:2] == [
        "It gets new checks again, and keeps what it has.",
        "Of these ash is neither cordoned nor draining: nothing would change there.",
    ]
    assert said(capsys, "drain", "--undo", "ash", "birch").startswith("1 node uncordoned: ash is neither")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["release", "shop"], "shop is not isolated"),
        (["thaw"], "balancing is not frozen"),
        (["drain", "--undo", "elm"], "node elm is unknown"),
    ],
)
def test_a_dry_run_is_refused_as_the_command_is(words: list[str], error: str) -> None:
    dispatcher.schedule([sent("named", url="http://named")])
    words = [str(config("shop")) if word == "shop" else word for word in words]
    for more in (["--dry-run"], []):
        with pytest.raises(CommandError, match=error.replace("shop", re.escape(str(config("shop"))))):
            call_command(*words, *more)


def test_silence_that_is_not_believed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    silence("ash", "birch")
    [line] = said(capsys, "expirenodes").splitlines()
    assert line.startswith("No node expired: ash and birch are silent, but that is not believed yet, or nobody could")


def test_what_expires_and_is_placed_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    shop = str(config("shop"))
    none = told(capsys, "expirenodes")
    assert (none["nodes"], none["moves"]) == ([], [])
    assert none["sentences"] == ["No node expired: each reported within the last 30 s"]
    silence("ash")
    for more in (["--dry-run"], []):
        gone = told(capsys, "expirenodes", "--force", *more)
        assert (gone["nodes"], gone.get("dry_run", False)) == (["ash"], bool(more))
        assert (shop, "ash", "") in {(one["title"], one["from_node"], one["to_node"]) for one in gone["moves"]}
    dry = told(capsys, "redispatch", "--dry-run")
    done = told(capsys, "redispatch")
    assert {one["title"] for one in dry["moves"]} == {one["title"] for one in done["moves"]} >= {shop}
    assert {one["to_node"] for one in done["moves"]} == {"birch"}


def test_a_dry_run_of_resume_tells_programs_where_they_would_go(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pause", check_id("shop"))
    answer = told(capsys, "resume", check_id("shop"), "--dry-run")
    assert (answer["dry_run"], [move["from_node"] for move in answer["moves"]]) == (True, [""])
    assert "shop" not in owners()
    assert told(capsys, "drain", "ash", "--dry-run")["moves"][0]["to_node"] == "birch"


def test_what_commands_do_is_in_the_list_of_plans(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "pause", check_id("shop"), "--as", "olga")
    said(capsys, "resume", check_id("shop"), "--as", "olga")
    said(capsys, "drain", "ash", "--as", "olga")
    plans = Plan.objects.order_by("pk")
    assert [plan.order["verb"] for plan in plans] == ["pause", "resume", "drain"]
    assert {(plan.author, plan.applied_at is None) for plan in plans} == {("olga (command line)", False)}


def test_a_command_that_stops_midway_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "CHUNK", 1)
    commit = committing._commit

    def and_edit(*args: Any, **how: Any) -> Any:
        moves = commit(*args, **how)
        Config.objects.filter(pause__isnull=True).update(digest="edited")
        return moves

    monkeypatch.setattr(committing, "_commit", and_edit)
    with pytest.raises(CommandError, match=r"stopped after 1 of 2 configs: .* was edited"):
        call_command("pause", check_id("shop"), check_id("mail"))
    assert "1 stopped running" in capsys.readouterr().out
    assert Pause.objects.count() == 1


def test_no_command_lets_a_name_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher.schedule([sent("odd", name="http\x1b[2J")])
    assert said(capsys, "pause", "--check", "http\x1b[2J").startswith("http\\x1b[2J ")
    assert said(capsys, "why", check_id("odd")).startswith("http\\x1b[2J ")


def test_a_dry_run_of_what_has_no_plan_names_configs_as_people_call_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Two configs of one check can't be told apart by it."""
    Assignment.objects.all().delete()
    Config.objects.update(dangling_since=Now())
    names = {str(one) for one in Config.objects.all()}
    lines = said(capsys, "redispatch", "--dry-run").splitlines()
    assert {line.partition(": nobody → ")[0] for line in lines if "→" in line} == names
