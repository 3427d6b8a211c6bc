"""Isolation by check ID: alone until released, with the answers of the Datadog Cluster Agent."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from checks import dispatcher, plans
from checks.dispatcher import costs, transaction
from checks.dispatcher.costs import Measured
from checks.models import ClusterStore, Config, Instance
from checks.models.orders import Isolation
from checks.plans import isolation
from checks.tests.balance import furnish, settle
from checks.tests.cast import counts, lead, owners, sent
from clusteragent.lib import conf
from nodes.models import Node
from nodes.statsclient import Round
from tests import peer_cases

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

CASES = peer_cases.cases("isolate.json")


@pytest.fixture(autouse=True)
def measured(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the runners were asked."""
    settings.ROOT_URLCONF = "clusteragent.urls.agents"
    rounds: list[str] = []

    def measure() -> Measured:
        rounds.append("asked")
        return Measured(Round(0, 0, 0.0), 0, 0)

    monkeypatch.setattr(costs, "measure", measure)
    return rounds


def check_id(key: str) -> str:
    return Instance.objects.filter(config__origins__key=key).latest("pk").check_id


def post(name: str, prefix: str = "api/v1") -> Any:
    path = f"/{prefix}/clusterchecks/isolate/check/{name}"
    return Client().post(path, b"", content_type="text/plain", headers={"Authorization": f"Bearer {conf.LOCAL_TOKEN}"})


def isolate(name: str) -> dict[str, Any]:
    answer = post(name)
    assert answer.status_code == 200
    return dict(json.loads(answer.content))


def furnished(given: dict[str, Any]) -> dict[str, str]:
    """Set up a case of the Datadog Cluster Agent, with intervals of a second. Return {its check: our check ID}."""
    nodes = {node.lower(): list(checks.values()) for node, checks in given["nodes"].items()}
    furnish(**{node: [check["AverageExecutionTime"] / 1000 for check in checks] for node, checks in nodes.items()})
    names = {
        f"{node.lower()}-{number}": name for node in given["nodes"] for number, name in enumerate(given["nodes"][node])
    }
    return {name: check_id(key) for key, name in names.items()}


def test_the_peer_s_successful_isolation():
    case = CASES["TestIsolateCheckSuccessful"]
    ids = furnished(case["input"])
    answer = isolate(ids[case["input"]["isolate"]])
    expected = case["expected"]["response"]
    assert answer == expected | {"check_id": ids["checkA2"], "check_node": expected["check_node"].lower()}
    assert counts() == {node.lower(): number for node, number in case["expected"]["num_checks"].items()}
    final = {
        node.lower(): {ids[name] for name in names} for node, names in case["expected"]["final_assignment"].items()
    }
    rows = Instance.objects.values_list("config__assignment__node__name", "check_id")
    assert {node: {name for where, name in rows if where == node} for node in final} == final


def test_the_peer_s_unknown_check():
    case = CASES["TestIsolateNonExistentCheckFails"]
    furnished(case["input"])
    assert isolate(case["input"]["isolate"]) == case["expected"]["response"]
    assert counts() == {node.lower(): number for node, number in case["expected"]["num_checks"].items()}


def test_an_only_runner_isolates_nothing():
    furnish(ash=[0.1, 0.1])
    assert isolate(check_id("ash-0")) == {
        "check_id": check_id("ash-0"),
        "check_node": "",
        "is_isolated": False,
        "reason": "No other runners available",
    }
    assert not Isolation.objects.exists()


def test_a_check_that_runs_nowhere_is_told_so():
    furnish(ash=[0.1], birch=[0.1])
    dispatcher.pause([Config.objects.get(origins__key="ash-0").pk])
    answer = isolate(check_id("ash-0"))
    assert (answer["is_isolated"], answer["check_node"]) == (False, "")
    assert "is paused" in answer["reason"]


def test_the_whole_config_is_isolated():
    """The Datadog Cluster Agent does so, too, since 2026: the instances of a config stay together."""
    furnish(ash=[0.1], birch=[0.1])
    several = sent("ash-0", instances=("url: http://one", "url: http://two", "url: http://three"))
    dispatcher.schedule([several, sent("new")])
    second = Instance.objects.filter(config__origins__key="ash-0").order_by("pk")[1].check_id
    assert isolate(second)["is_isolated"] is True
    assert [key for key, node in owners().items() if node == "ash"] == ["ash-0"]


def test_a_great_company_moves_in_chunks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transaction, "CHUNK", 2)
    furnish(ash=[0.1] * 6, birch=[0.1])
    revision = ClusterStore.objects.get().revision
    assert isolate(check_id("ash-0"))["is_isolated"] is True
    assert counts() == {"ash": 1, "birch": 6}
    assert ClusterStore.objects.get().revision == revision + 3


def test_an_isolation_holds_until_it_is_released():
    """The peer forgets it at the next rebalance, and its node gets the next new config."""
    furnish(ash=[0.1, 0.1], birch=[0.1, 0.1], cedar=[0.1])
    assert isolate(check_id("ash-0"))["is_isolated"] is True
    dispatcher.schedule([sent(f"new-{number}") for number in range(5)])
    settle()
    plans.rebalance(actor="eve", force=True, unlimited=True)
    dispatcher.move_misplaced(term=lead())
    assert [key for key, node in owners().items() if node == "ash"] == ["ash-0"]
    call_command("release", check_id("ash-0"))
    dispatcher.schedule([sent("newest")])
    assert owners()["newest"] == "ash"


def test_asked_again_without_a_note_it_keeps_the_first_one():
    furnish(ash=[0.2, 0.2], birch=[0.2])
    name = check_id("ash-0")
    isolation.isolate(name, actor="eve", note="noisy")
    assert isolate(name)["is_isolated"]
    assert Isolation.objects.values_list("author", "note").get() == ("eve", "noisy")
    isolation.isolate(name, actor="adam", note="still noisy")
    assert Isolation.objects.values_list("author", "note").get() == ("adam", "still noisy")


def test_what_may_run_nowhere_else_stays_and_is_counted():
    furnish(ash=[0.1, 0.1], birch=[0.1])
    dispatcher.pin([Config.objects.get(origins__key="ash-1").pk], "ash", waits=True)
    answer = isolate(check_id("ash-0"))
    assert (answer["is_isolated"], answer["check_node"]) == (False, "ash")
    assert answer["reason"] == "1 config may run nowhere else"


@pytest.mark.parametrize("prefix", ["api/v1", "v1/api"])
def test_runners_are_asked_first_under_both_prefixes(prefix: str, measured: list[str]):
    furnish(ash=[0.1], birch=[0.1])
    assert post(check_id("ash-0"), prefix).status_code == 200
    assert measured == ["asked"]


def test_a_slash_in_a_check_id_is_part_of_it():
    assert isolate("http_check:a/b:1f")["check_id"] == "http_check:a/b:1f"


def test_the_answer_is_the_recorded_server_s():
    assert post("abc").content == (
        b'{"check_id":"abc","check_node":"","is_isolated":false,"reason":"Unable to find check"}'
    )


class TestCommands:
    def test_isolate_says_where_it_is_alone_and_release_ends_it(self, capsys: pytest.CaptureFixture[str]):
        furnish(ash=[0.1, 0.1], birch=[0.1])
        call_command("isolate", check_id("ash-0"), "--note", "it leaks", "--as", "olga")
        assert capsys.readouterr().out == f"{check_id('ash-0')} is alone on ash\n"
        assert (Isolation.objects.get().author, Isolation.objects.get().note) == ("olga (command line)", "it leaks")
        call_command("release", check_id("ash-0"))
        assert capsys.readouterr().out == f"{check_id('ash-0')} is released\n"
        assert not Isolation.objects.exists()

    def test_as_json(self, capsys: pytest.CaptureFixture[str]):
        furnish(ash=[0.1, 0.1], birch=[0.1])
        name = check_id("ash-0")
        call_command("isolate", name, "--json")
        answer = {"check_id": name, "check_node": "ash", "is_isolated": True, "reason": ""}
        assert json.loads(capsys.readouterr().out) == answer
        call_command("release", name, "--json")
        assert json.loads(capsys.readouterr().out) == {"check_id": name}

    def test_a_config_may_be_named_by_its_title(self, capsys: pytest.CaptureFixture[str]):
        furnish(ash=[0.1, 0.1], birch=[0.1])
        config = Instance.objects.get(check_id=check_id("ash-0")).config
        call_command("isolate", str(config))
        assert capsys.readouterr().out == f"{config} is alone on ash\n"
        call_command("release", str(config))
        assert capsys.readouterr().out == f"{config} is released\n"

    def test_what_can_not_be_done_is_an_error_that_says_why(self):
        furnish(ash=[0.1])
        name = check_id("ash-0")
        for arguments, message in (
            (("isolate", name), f"{name} is not isolated: No other runners available"),
            (("isolate", "nope"), "no config has the title, digest, check ID or short ID nope"),
            (("release", name), f"{name} is not isolated"),
            (("release", "nope"), "no config has the title, digest, check ID or short ID nope"),
        ):
            with pytest.raises(CommandError, match=message):
                call_command(*arguments)


def test_a_cordoned_node_takes_no_company():
    furnish(ash=[0.1, 0.1], birch=[0.1])
    Node.objects.filter(name="birch").cordon()
    assert isolation.isolate(check_id("ash-0"), actor="eve").reason == "No other runners available"


def test_a_check_is_isolated_by_its_short_id_too():
    furnish(ash=[0.1, 0.2], birch=[])
    check = Instance.objects.filter(config__assignment__node__name="ash").earliest("pk")
    for name in (check.short_id, check.shown_id()):
        assert isolate(name)["is_isolated"]
        assert isolation.config_of(name) == check.config_id
        dispatcher.release([check.config_id])


def test_every_case_of_the_peer_is_replayed() -> None:
    assert not peer_cases.unread(CASES, __file__)


def test_a_name_that_no_text_can_be_is_found_nowhere() -> None:
    assert isolate("x%00")["reason"] == "Unable to find check"
