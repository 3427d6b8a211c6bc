"""A node's page: how it is, what it has, its timeline, what its loss would do, and a lost node is forgotten."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from checks import dispatcher
from checks.explain import loss
from checks.models import Config, Cost, Move
from checks.models.orders import Rule
from checks.tests.cast import hand_over, ledger, owners, report, sent, silence
from checks.tests.operators import config, confirmed, superuser
from clusteragent.lib.clock import ago
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node, NodeEvent, NodeRule, NodeType, Runner, RunnerStats
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(warm: None) -> Client:
    return superuser()


def place(number: int, *nodes: str) -> None:
    report(*nodes)
    dispatcher.schedule([sent(f"key-{index}") for index in range(number)])


def url(name: str) -> str:
    return f"/admin/nodes/node/{Node.objects.get(name=name).pk}/change/"


def page(client: Client, name: str = "ash") -> Any:
    response = client.get(url(name))
    assert response.status_code == 200
    return response


def facts(client: Client, name: str = "ash") -> dict[str, str]:
    return {fact: str(value).replace("\u202f", " ") for fact, value in page(client, name).context["facts"]}


def timeline(client: Client, name: str = "ash") -> list[tuple[str, str]]:
    """What happened and why, the last thing first."""
    [table] = page(client, name).context["tables"]
    return [(row[1], row[3]) for row in table.rows]


def loss_of(client: Client, name: str = "ash") -> str:
    answer = client.get(f"/admin/nodes/node/{Node.objects.get(name=name).pk}/loss/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().replace("\u202f", " ").split())


def test_a_load_that_is_a_guess_says_so_on_the_page_and_in_the_list(client: Client) -> None:
    place(3, "ash")
    Cost.objects.create(config=config("key-0"), workers_needed=1)
    assert facts(client)["Load of all workers"].endswith(">75 %, assumed</a>")
    listing = client.get("/admin/nodes/node/").content.decode().replace("\u202f", " ")
    assert ">75 %, assumed</a>" in listing
    Cost.objects.bulk_create(Cost(config=config(f"key-{number}"), workers_needed=1) for number in (1, 2))
    assert facts(client)["Load of all workers"].endswith(">75 %</a>")
    assert ", assumed</a>" not in client.get("/admin/nodes/node/").content.decode()


def test_the_head_says_how_the_node_is(client: Client) -> None:
    place(2, "ash")
    ash = Node.objects.get(name="ash")
    Heartbeat.objects.update(
        seen_at=ago(timedelta(seconds=3)), client_ip="10.1.2.3", node_type=NodeType.RUNNER, acknowledged=7
    )
    Cost.objects.bulk_create(Cost(config_id=config(f"key-{number}").pk, workers_needed=1) for number in range(2))
    Runner.objects.create(node=ash, workers=8, stats_at=ago(timedelta(seconds=7)))
    RunnerStats.objects.create(
        node=ash, check_id="x", execution_ms=1, total_runs=1, total_errors=0, failed=False, last_error=""
    )
    shown = facts(client)
    assert shown.pop("Configs").endswith(">2 configs</a>")
    assert shown.pop("Load of all workers").endswith(">25 %</a>")
    assert shown.pop("Last heard").endswith(">3 s ago</time>")
    assert re.fullmatch("1 check ID, .*>[78] s ago</time>", shown.pop("Running by its stats"), re.DOTALL)
    assert shown == {
        "State": "alive",
        "Address": "10.1.2.3",
        "Type": "cluster check runner",
        "Acknowledged": f"version 7, not yet {ash.config_version}",
    }


def test_what_was_acknowledged_may_be_the_last(client: Client) -> None:
    report("ash")
    assert facts(client)["Acknowledged"] == "nothing yet: it had no configs"
    place(1)
    version = Node.objects.get().config_version
    Heartbeat.objects.update(acknowledged=version)
    assert facts(client)["Acknowledged"] == f"version {version}, the last one"


def test_a_drain_shows_its_progress(client: Client) -> None:
    place(8, "ash")
    report("birch")
    Node.objects.filter(name="ash").cordon(draining=True, actor="otto")
    dispatcher.move_misplaced()
    assert ": 3 of 8 left to move, 5 being handed over<" in page(client).content.decode()
    assert facts(client)["Hands over"] == "5 configs"
    hand_over()
    drain = page(client).context["drain"]
    assert (drain.moved, drain.left) == (5, 3)
    assert drain.share == pytest.approx(5 / 8)
    assert ": 3 of 8 left to move<" in page(client).content.decode()
    assert facts(client)["State"] == "alive, draining"
    assert "uncordon" in [name for name, _ in page(client).context["row_actions"]]
    # All of it that changes is fetched again, and only while it drains.
    live = 'hx-select="#node-live" hx-select-oob="#node-foot"'
    assert (live in page(client).content.decode(), live in page(client, "birch").content.decode()) == (True, False)


def test_a_drain_shows_its_deadline_and_what_can_not_go(client: Client) -> None:
    place(2, "ash")
    by = datetime(2100, 12, 24, 8, tzinfo=UTC)
    Node.objects.filter(name="ash").cordon(draining=True, by=by, actor="otto")
    shown = page(client).content.decode()
    assert ": 2 of 2 left to move, by 2100-12-24 08:00 UTC<" in shown
    assert "2 configs can&#x27;t go to another node: no other node reports" in shown
    assert timeline(client)[0] == ("draining", "otto, by 2100-12-24 08:00 UTC")


def test_the_timeline_has_moves_and_events(client: Client) -> None:
    place(1, "ash")
    report("birch")
    dispatcher.reassign([config("key-0").pk], "birch", actor="otto")
    Node.objects.filter(name="ash").cordon(actor="olga")
    assert timeline(client) == [
        ("cordoned", "olga"),
        ("gave, to birch", "operator by otto"),
        ("got", "scheduled"),
        ("registered", ""),
    ]
    assert timeline(client, "birch")[0] == ("got, from ash", "operator by otto")


def test_the_loss_says_where_the_checks_would_go_and_changes_nothing(client: Client) -> None:
    place(4, "ash")
    report("birch", "cedar")
    for number in range(4):
        Cost.objects.create(config_id=config(f"key-{number}").pk, workers_needed=1)
    before = owners(), ledger()
    text = loss_of(client)
    assert "4 configs would go to 2 nodes." in text
    assert "would have a load of 50 %; now it has 0 %." in text
    assert "birch: 2, cedar: 2." in text
    assert (owners(), ledger()) == before


def test_the_loss_tells_what_would_wait_from_what_no_node_could_have(client: Client) -> None:
    report("ash")
    dispatcher.schedule([sent(f"key-{number}", name="postgres" if number > 6 else "redisdb") for number in range(9)])
    report("birch", "cedar", "dogwood", "elm")
    Node.objects.exclude(name__in=("ash", "birch")).update(schedulable=False)
    Rule.objects.create(name="only z", check_pattern="postgres", required={"zone": "z"})
    text = loss_of(client)
    assert "4 configs would go to 1 node." in text
    assert "3 configs would wait for up to a minute, so that no node gets too many at once." in text
    assert "2 configs would find no node." in text


def test_the_loss_obeys_the_rules(warm: None) -> None:
    place(3, "ash")
    report("birch", "cedar")
    Node.objects.filter(name="birch").update(labels={"zone": "b"})
    Rule.objects.create(name="only b", required={"zone": "b"}, max_per_node=2)
    found = loss.of(["ash"])
    assert (found.placed, found.homeless) == ({"birch": 2}, 1)
    assert found.reasons == {
        "no node can have it: rule only b: at most 2 on one node (1 node) and rule only b: it requires zone=b (1 node)": 1
    }


def test_what_would_find_no_node_is_said(client: Client) -> None:
    place(1, "ash")
    assert "1 config would find no node." in loss_of(client)


def test_of_a_node_without_checks_nothing_would_move(client: Client) -> None:
    report("ash", "birch")
    assert "Nothing would move: it has no configs." in loss_of(client)


def test_a_lost_node_can_be_forgotten(client: Client) -> None:
    place(1, "ash", "birch")
    silence("ash")
    dispatcher.expire_nodes(force=True)
    shown = page(client)
    assert [name for name, _ in shown.context["row_actions"]] == ["forget"]
    text = shown.content.decode()
    assert "It has no config." in text
    assert "There is nothing here yet" not in text
    ash = Node.objects.get(name="ash")
    assert client.get(f"/admin/nodes/node/{ash.pk}/loss/").status_code == 404
    answer = confirmed(client, "/admin/nodes/node/", action="forget", _selected_action=ash.pk)
    assert "1 node forgotten." in answer.replace("\u202f", " ")
    assert not Node.objects.filter(name="ash").exists()
    assert Move.objects.filter(source_node="ash").exists()
    assert NodeEvent.objects.filter(node_name="ash").exists()


def test_a_lost_node_keeps_when_and_why_it_was_lost_and_what_it_last_said(client: Client) -> None:
    place(1, "ash", "birch")
    Heartbeat.objects.update(client_ip="10.1.2.3", node_type=NodeType.RUNNER)
    silence("ash")
    dispatcher.expire_nodes(force=True)
    shown = facts(client)
    assert list(shown) == ["State", "Lost", "Why", "Last heard", "Address", "Type", "Configs"]
    assert (shown["Why"], shown["Address"], shown["Type"]) == (
        "it was silent for longer than 30 s", "10.1.2.3", "cluster check runner",
    )  # fmt: skip
    assert shown["Last heard"].endswith(">31 s ago</time>")
    row = client.get("/admin/nodes/node/?state=lost").content.decode().replace("\u202f", " ")
    missing = [
        known for known in (r"3\d s ago", r"10\.1\.2\.3", "cluster check runner") if not re.search(f">{known}</", row)
    ]
    assert not missing
    assert "Lost at" not in page(client).content.decode()
    NodeEvent.objects.update(heard_at=None, address=None, node_type=None, cause=NodeEvent.REFUSES)
    shown = facts(client)
    assert (shown["Why"], shown["Last heard"], shown["Type"]) == (NodeEvent.REFUSES, "not noted", "unknown")
    report("ash")
    assert "Lost" not in facts(client)


def test_labels_are_shown_as_forms_take_them(client: Client) -> None:
    report("ash")
    assert not re.search(r">\s*{}\s*<", page(client).content.decode())
    Node.objects.update(labels={"zone": "a", "disk": "ssd"})
    assert "disk=ssd, zone=a" in page(client).content.decode()
    NodeRule.objects.create(pattern="ash", labels={"zone": "a"})
    Rule.objects.create(name="disks", required={"disk": "ssd"}, forbidden={"a": "b c"})
    assert ">zone=a<" in client.get("/admin/nodes/noderule/").content.decode()
    rules = client.get("/admin/checks/rule/").content.decode()
    assert ">disk=ssd<" in rules
    assert escape('{"a": "b c"}') in rules


def test_the_page_of_an_overloaded_node_says_so_with_the_first_page_s_button(client: Client) -> None:
    place(2, "ash")
    report("birch")
    Runner.objects.bulk_create(Runner(node=node, workers=4) for node in Node.objects.all())
    Cost.objects.bulk_create(Cost(config_id=config(f"key-{number}").pk, workers_needed=3) for number in range(2))
    assert page(client).context["needs"] == []
    Runner.objects.update(overloaded_rounds=2, overloaded_since=Now())
    text = page(client).content.decode().replace("\u202f", " ")
    assert "ash is at 150 % of its 4 workers, most by http_check key-0 (3 workers)" in text
    assert 'action="/admin/now/remedy/overloaded/"' in text
    assert f'href="/admin/checks/config/{config("key-1").pk}/change/">http_check key-1 on ash</a>' in text
    assert page(client, "birch").context["needs"] == []
    assert 'class="load-over"' in text
    assert client.get("/admin/nodes/node/").content.decode().count('class="load-over"') == 1
    assert "pages-beyond" in client.get("/admin/").content.decode()
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER, is_staff=True))
    text = page(viewer).content.decode()
    assert "Plan a relief" not in text.partition('action="/admin/now/remedy/overloaded/"')[2]


def test_a_known_node_is_not_forgotten(client: Client) -> None:
    place(1, "ash")
    chosen = {"action": "forget", "_selected_action": Node.objects.get().pk}
    answer = client.post("/admin/nodes/node/", chosen, follow=True).content.decode()
    assert "1 node not lost, so not forgotten." in answer
    assert owners() == {"key-0": "ash"}


def test_viewers_look_and_do_nothing(warm: None) -> None:
    place(1, "ash")
    viewer = Client()
    viewer.force_login(user("vera", Role.VIEWER, is_staff=True))
    assert page(viewer).context["row_actions"] == []
    assert "would find no node" in loss_of(viewer)
    silence("ash")
    report("birch")
    dispatcher.expire_nodes(force=True)
    ash = Node.objects.get(name="ash")
    viewer.post("/admin/nodes/node/", {"action": "forget", "_selected_action": ash.pk})
    assert Node.objects.filter(pk=ash.pk).exists()
    assert Client().get(f"/admin/nodes/node/{ash.pk}/loss/").status_code == 401


def test_nothing_of_a_name_is_html(client: Client) -> None:
    name = "<img src=x onerror=alert(1)>\u202e"
    note_heartbeat(name, last_change=-1)
    place(1)
    report("ash")
    NodeEvent.objects.update(cause="<b>bold</b>\x1b[31m")
    for text in (page(client, name).content.decode(), loss_of(client, name)):
        assert "<img src=x" not in text
        assert "<b>bold" not in text


def test_as_many_queries_for_few_checks_as_for_many(client: Client) -> None:
    numbers = []
    for number in (5, 105):
        place(number, "ash", *(f"node-{number}-{index}" for index in range(number)))
        dispatcher.reassign(list(Config.objects.values_list("pk", flat=True)), "ash", actor="otto")
        page(client)
        with CaptureQueriesContext(connection) as queries:
            page(client)
            loss_of(client)
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]


def test_a_node_s_name_and_the_ways_to_it_from_outside_can_be_copied(warm: None) -> None:
    report("ash")
    node = Node.objects.get(name="ash")
    text = superuser().get(f"/admin/nodes/node/{node.pk}/change/").content.decode()
    copied = re.findall(r'aria-label="([^"]*)">([^<]*)</code>', text)
    assert ("name", "ash") in copied
    assert ("command", "clusteragent whatif --remove ash") in copied
    assert any(label == "call of the API" and "/api/operator/v1/nodes/ash" in words for label, words in copied)
