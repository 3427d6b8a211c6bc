"""What runs nowhere and gets the room that an act leaves is said before it; acts are on the pages of what they leave in place."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher
from checks.models import Config, freezes
from checks.models.orders import Pin, Rule
from checks.tests.cast import owners, report, sent
from checks.tests.operators import CONFIGS, apply, confirmed, page_of, planned, saved, superuser
from clusteragent.lib import clock
from clusteragent.lib.words import utc
from nodes.models import NodeRule
from operators.admin.base import row_url
from operators.tests.cast import bearer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

FILLED = "1 config without a node would get one: http_check late on ash."


@pytest.fixture(params=["rule", "node rule"])
def client(request: pytest.FixtureRequest) -> Client:
    """Each node may have one config: door and mail have theirs, late has none."""
    if request.param == "rule":
        Rule.objects.create(name="one each", check_pattern="http_check", max_per_node=1)
    else:
        NodeRule.objects.create(pattern="*", max_configs=1)
    client = superuser()
    report("ash")
    add = {"key": "door", "check": "http_check", "yaml": "instances:\n  - name: door\n    url: http://door\n"}
    saved(client, "/admin/checks/config/add/", **add)
    report("birch")
    dispatcher.schedule([sent("mail"), sent("late")])
    assert owners() == {"door": "ash", "mail": "birch"}
    return client


@pytest.fixture
def caller(client: Client) -> Any:
    return bearer(AuthToken.objects.create(User.objects.get(username="olga"))[1])


def id_of(key: str) -> int:
    return Config.objects.get(origins__key=key).pk


def last() -> Act:
    return Act.objects.latest("pk")


def web(*names: str) -> dict[str, Any]:
    """A pipeline's set of configs with these names."""
    return {"configs": [{"name": one, "check": "http_check", "instances": [{"url": one}]} for one in names]}


def test_a_pause_says_what_gets_the_room(client: Client) -> None:
    plan = planned(client, "pause", ["door"])
    assert FILLED in client.get(row_url(plan)).content.decode()
    apply(client, plan)
    assert FILLED in last().foreseen["sentences"]
    dispatcher.redispatch(force=True)
    assert owners()["late"] == "ash"


def test_so_do_its_call_and_its_command(caller: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told = caller.call("POST", "pauses?dry_run=1", {"configs": [id_of("door")]}).json()
    assert FILLED in told["sentences"]
    call_command("pause", "http_check door", "--dry-run")
    assert FILLED in capsys.readouterr().out


def test_what_moves_within_its_rule_leaves_no_room(client: Client) -> None:
    report("cedar")
    dispatcher.redispatch(force=True)
    dispatcher.schedule([sent("later")])
    plan = planned(client, "pause", ["late"])
    assert (
        "1 config without a node would get one: http_check later on cedar."
        in client.get(row_url(plan)).content.decode()
    )
    plan = planned(client, "isolate", ["mail"])
    assert "without a node" not in client.get(row_url(plan)).content.decode()


def test_a_config_by_hand_that_goes_says_it(client: Client) -> None:
    chosen = {"action": "unschedule", "_selected_action": [id_of("door")]}
    page = client.post(CONFIGS, chosen).content.decode()
    assert FILLED in page
    late = id_of("late")
    confirmed(client, CONFIGS, **chosen)
    assert FILLED in last().foreseen["sentences"]
    assert late in last().about["configs"]


def test_so_does_a_pipelines_set(caller: Any) -> None:
    one = {"name": "web", "check": "http_check", "instances": [{"url": "http://web", "name": "web"}]}
    dispatcher.unschedule([("admin", "door")])
    caller.call("PUT", "sources/shop", {"configs": [one]})
    holder = owners()["web"]
    assert holder
    told = caller.call("PUT", "sources/shop?dry_run=1", {"configs": []}).json()
    assert "late" not in owners()
    assert f"1 config without a node would get one: http_check late on {holder}." in told["sentences"]


def test_an_order_that_moves_nothing_is_on_the_page_of_its_node(caller: Any) -> None:
    door = id_of("door")
    number = caller.call("POST", "pins", {"configs": [door], "aim": "ash"}).json()[0]["id"]
    assert (last().verb, last().about) == ("pin", {"configs": [door], "nodes": ["ash"]})
    caller.call("DELETE", f"pins/{number}")
    assert (last().verb, last().about["nodes"]) == ("unpin", ["ash"])


def test_a_stale_plan_is_on_the_page_of_what_it_was_to_isolate(client: Client) -> None:
    plan = planned(client, "isolate", ["door"])
    dispatcher.pause([id_of("door")])
    apply(client, plan)
    assert last().verb == "refuse"
    assert id_of("door") in last().about["configs"]
    assert re.search("Isolate http_check door", last().object)
    assert last().object in client.get(page_of("door")).content.decode()


def given_by_oleg(client: Client) -> str:
    """Oleg's pin, with its note."""
    until = clock.now() + timedelta(hours=3)
    dispatcher.pin([id_of("door")], "ash", actor="oleg", until=until, note="do not touch")
    since = Pin.objects.get().time
    return f"this: http_check door, pinned to the node ash by oleg on {utc(since)} until {utc(until)}: do not touch"


def test_an_order_that_takes_the_place_of_a_colleagues_says_so(client: Client, caller: Any) -> None:
    theirs = given_by_oleg(client)
    plan = planned(client, "pin", ["door"], aim="ash", kind="node")
    said = f"It takes the place of {theirs}"
    assert said in unescape(client.get(row_url(plan)).content.decode())
    assert said in caller.call("POST", "pins?dry_run=1", {"configs": [id_of("door")], "aim": "ash"}).json()["sentences"]
    apply(client, plan)
    assert said in last().foreseen["sentences"]
    assert said not in client.get(row_url(plan)).content.decode()


def test_what_ends_an_order_says_whose_it_is(client: Client) -> None:
    theirs = given_by_oleg(client)
    number = Pin.objects.get().pk
    for url, fields in (
        (CONFIGS, {"action": "unpin", "_selected_action": id_of("door")}),
        (f"/admin/checks/pin/{number}/delete/", {}),
    ):
        assert f"It ends {theirs}" in client.post(url, fields).content.decode()
    dispatcher.pause([id_of("mail")], actor="oleg", note="broken")
    plan = planned(client, "resume", ["mail"])
    assert "It ends this: http_check mail, paused by oleg on" in client.get(row_url(plan)).content.decode()


def test_the_end_of_a_freeze_says_whose_it_is(client: Client) -> None:
    freezes.freeze(actor="oleg", note="release")
    assert "It ends this: frozen by oleg: release" in client.post("/admin/now/remedy/frozen/").content.decode()


def test_what_outlives_a_config_by_hand_is_said(client: Client) -> None:
    dispatcher.pause([id_of("door")])
    chosen = {"action": "unschedule", "_selected_action": [id_of("door")]}
    page = client.post(CONFIGS, chosen).content.decode()
    assert "Their pauses stay, and hold again for what comes under the same name." in page


def test_what_a_set_brings_gets_the_room_of_what_it_takes_away(caller: Any) -> None:
    dispatcher.unschedule([("file", "late"), ("file", "mail"), ("admin", "door")])

    caller.call("PUT", "sources/shop", web("a", "b"))
    assert len(owners()) == 2
    told = caller.call("PUT", "sources/shop?dry_run=1", web("b", "c", "d")).json()
    assert told["sentences"][:3] == [
        "1 config would be added, on ash.", "1 config would be taken away from ash.", "1 config would run nowhere.",
    ]  # fmt: skip
    # A config as large as the one that goes.
    assert "The load of ash would stay at 25\u202f%." in told["sentences"]
    caller.call("PUT", "sources/shop", web("b", "c", "d"))
    dispatcher.redispatch(force=True)
    assert owners() == {"b": "birch", "c": "ash"}


def test_who_waits_longer_gets_the_room_before_what_a_set_brings(caller: Any) -> None:
    """As it is done: what comes finds no room yet, then what goes leaves some, and who waits longest gets it."""
    dispatcher.unschedule([("file", "mail"), ("admin", "door")])

    dispatcher.redispatch(force=True)
    caller.call("PUT", "sources/shop", web("a"))
    dispatcher.schedule([sent("waiting")])
    assert set(owners()) == {"late", "a"}
    told = caller.call("PUT", "sources/shop?dry_run=1&accept_removals=1", web("b")).json()
    assert told["would_dangle"] == 1
    assert told["sentences"][1:3] == [
        "1 config would run nowhere.", f"1 config without a node would get one: http_check waiting on {owners()['a']}.",
    ]  # fmt: skip
    caller.call("PUT", "sources/shop?accept_removals=1", web("b"))
    dispatcher.redispatch(force=True)
    assert set(owners()) == {"late", "waiting"}


def test_who_waits_longest_gets_a_node_first(client: Client) -> None:
    """Whichever config is the older one."""
    dispatcher.schedule([sent("later")])
    Config.objects.filter(pk=id_of("late")).update(dangling_since=clock.now())
    Config.objects.filter(pk=id_of("later")).update(dangling_since=clock.now() - timedelta(minutes=1))
    plan = planned(client, "pause", ["door"])
    assert FILLED.replace("late ", "later ") in client.get(row_url(plan)).content.decode()
    apply(client, plan)
    report("ash", "birch")
    dispatcher.redispatch(force=True)
    assert owners() == {"later": "ash", "mail": "birch"}
