"""The admin's first page: one sentence, what needs somebody, the pools of nodes, what happened."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from checks import dispatcher, plans
from checks.explain.alerts import WORDS, Kind, Word
from checks.models import ClusterStore, Config, Cost, Move, Plan, Source, freezes
from checks.models.orders import Pause, Pin
from checks.models.troubles import Trouble
from checks.tests.balance import furnish
from checks.tests.cast import dangling, report, sent, silence
from checks.tests.operators import apply, config, confirmed, shown, superuser
from clusteragent.lib import clock, conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import utc
from nodes.goodbyes import note_goodbye
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, Runner
from operators.admin.base import row_url
from operators.pages import now
from operators.roles import Role
from operators.tests.cast import user

pytestmark = pytest.mark.django_db

NOW, FRAGMENT = "/admin/", "/admin/now/"


@pytest.fixture(autouse=True)
def _calm(warm: None) -> None:
    """Nothing is wrong."""
    Hearing.objects.update(last_pass=Now())


@pytest.fixture
def client() -> Client:
    return superuser()


def staff(*roles: Role) -> Client:
    client = Client()
    client.force_login(user("otto", *roles, is_staff=True))
    return client


def sentence(client: Client) -> str:
    response = client.get(NOW)
    said: str = response.context["now"].sentence.replace("\u202f", " ")
    assert escape(response.context["now"].sentence) in response.content.decode()
    return said


def rows(client: Client) -> dict[str, dict[str, int]]:
    """What the pools' rows count: {title: {state: number, other than 0}}."""
    pools = client.get(NOW).context["pools"]
    return {pool.title: {state: number for state, number in pool.counts if number} for pool, _ in pools}


def heads(client: Client) -> list[str]:
    """The columns of the table of pools; each row has as many cells."""
    table = client.get(NOW).content.decode().partition('id="now-nodes-table"')[2].partition("</table>")[0]
    found = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', table)
    [row] = re.findall("<tr>.*?</tr>", table.partition("<tbody>")[2], re.DOTALL)
    assert len(re.findall("<t[hd][ >]", row)) == len(found)
    return found


def told(client: Client) -> list[str]:
    """The stories, with breaking spaces."""
    page = client.get(NOW)
    return [f"{title}: {facts}".replace("\u202f", " ") for _, title, facts in page.context["stories"]]


def place(number: int, *nodes: str) -> None:
    report(*nodes)
    dispatcher.schedule([sent(f"key-{index}") for index in range(number)])
    Node.objects.update(first_seen=ago(timedelta(hours=1)))


def test_the_sentence_says_that_all_is_well(client: Client) -> None:
    place(3, "ash", "birch")
    assert sentence(client) == "Healthy. 3 configs on 2 nodes, nothing needs you."


def test_nodes_without_configs_are_not_counted_as_if_they_shared_the_work(client: Client) -> None:
    place(3, "ash", "birch")
    report("cedar", "dove")
    assert sentence(client).startswith("Healthy. 3 configs on 4 nodes (2 have none), ")
    Node.objects.filter(name="dove").delete()
    assert sentence(client).startswith("Healthy. 3 configs on 3 nodes (1 has none), ")


def test_a_story_that_took_longer_says_when_it_began_and_ended(client: Client) -> None:
    NodeEvent.objects.create(node_name="ash", kind="expired", time=ago(timedelta(minutes=2)))
    NodeEvent.objects.create(node_name="ash", kind="back")
    began, ended = NodeEvent.objects.order_by("time").values_list("time", flat=True)
    text = client.get(NOW).content.decode()
    times = re.search(r"<li><time[^>]*>(.*?)</time>\W<time[^>]*>(.*?)</time>", text)
    assert times is not None
    assert times.groups() == (f"{began:%H:%M}", f"{ended:%H:%M}")


def test_a_single_node_that_is_lost_and_was_not_replaced_is_in_the_sentence(client: Client) -> None:
    place(3, "ash", "oak-1", "oak-2")
    silence("oak-1")
    dispatcher.expire_nodes()
    assert " on 2 nodes, 1 lost, " in sentence(client)
    report("oak-3")
    assert " lost" not in sentence(client)


def test_losses_are_looked_for_once(client: Client) -> None:
    place(3, "ash", "birch", "cedar")
    silence("ash", "birch")
    dispatcher.expire_nodes(force=True)
    with CaptureQueriesContext(connection) as queries:
        contents = now.snapshot()
    assert contents.lost == 2
    assert Kind.NODES_LOST in [alert.kind for alert in contents.alerts]
    # Once for what is lost, and once for what said goodbye beside it.
    asked = [query["sql"] for query in queries if '"lost_at" >= ' in query["sql"] and "first_seen" in query["sql"]]
    assert sorted('NOT "nodes_node"."leaving"' in sql for sql in asked) == [False, True]


def test_the_sentence_has_its_plurals_right(client: Client) -> None:
    place(1, "ash")
    Source.objects.update(held_removals=["a"])
    assert sentence(client) == "Needs attention. 1 config on 1 node, 1 thing needs you."


def test_what_is_paused_is_counted_with_who_and_until_when(client: Client) -> None:
    place(4, "ash")
    keys = [config(f"key-{number}").pk for number in range(3)]
    until = clock.now() + timedelta(minutes=5)
    dispatcher.pause(keys[:2], actor="alice", until=until)
    assert sentence(client) == (
        f"Healthy. 2 configs on 1 node, nothing needs you. 2 configs are paused by alice until {utc(until, clock.now())}."
    )
    dispatcher.pause(keys[2:], actor="bob")
    assert sentence(client).endswith(
        f"3 configs are paused by alice and bob, the first until {utc(until, clock.now())}."
    )
    Pause.objects.update(until=None)
    assert sentence(client).endswith("3 configs are paused by alice and bob until resumed.")


def test_failing_checks_broken_files_and_held_removals_need_attention(client: Client) -> None:
    place(2, "ash")
    Source.objects.update(errors=[{"where": "a.yaml", "line": 1, "error": "broken"}], held_removals=["a"])
    Trouble.objects.create(config=config("key-0"), kind=Trouble.Kind.FAILING)
    assert sentence(client) == "Needs attention. 2 configs on 1 node, 3 things need you."
    assert "<title> (3) Needs attention - Cluster agent</title>" in client.get(NOW).content.decode()


def test_the_word_has_an_icon_beside_its_colour(client: Client) -> None:
    place(1, "ash")
    page = client.get(NOW).content.decode()
    assert 'class="pages-healthy"><span class="material-symbols-outlined" aria-hidden="true">check_circle' in page
    assert {*now.MARKS} == {*Word}
    assert len({mark.icon for mark in now.MARKS.values()}) == len(Word)


def test_every_kind_makes_a_word_and_the_worst_one_counts() -> None:
    assert {*WORDS} == {*Kind}
    assert Word.HEALTHY not in WORDS.values()


def test_what_runs_nowhere_is_not_healthy(client: Client) -> None:
    dispatcher.schedule([sent("one")])
    assert sentence(client) == "Not healthy. 0 configs on 0 nodes, 1 thing needs you."


def test_goodbyes_in_the_names_of_all_nodes_are_not_healthy(client: Client) -> None:
    """Nothing dangles then, and a node that dies keeps its checks: no other takes them."""
    place(4, "ash", "birch")
    for name in ("ash", "birch"):
        note_goodbye(name, "leaving")
    dispatcher.run_pass(ClusterStore.objects.get().term)
    assert sentence(client).startswith("Not healthy. 4 configs on 2 nodes, ")
    Node.objects.update(left_at=Now() - conf.GOODBYE_HOLDS - timedelta(minutes=1))
    dispatcher.run_pass(ClusterStore.objects.get().term)
    assert sentence(client).startswith("Healthy. 4 configs on 2 nodes, ")


def test_numbers_are_grouped() -> None:
    from clusteragent.lib.words import grouped_count

    assert grouped_count(100_000, "config") == "100\u202f000 configs"


def test_each_line_has_its_cause_its_list_and_its_button(client: Client) -> None:
    dispatcher.schedule([sent("one")])
    page = client.get(NOW).content.decode()
    assert "No node can take work: none reports." in page
    assert 'href="/admin/checks/config/?owner=dangling"' in page
    assert "None could be dispatched" in confirmed(client, "/admin/now/remedy/dangling/")
    report("ash")
    assert dangling() == {"one"}
    answer = confirmed(client, "/admin/now/remedy/dangling/")
    assert dangling() == set()
    assert "1 config dispatched." in answer


def test_pauses_that_are_overdue_are_resumed(client: Client) -> None:
    place(1, "ash")
    dispatcher.pause([config("key-0").pk])
    Pause.objects.update(until=ago(timedelta(minutes=1)))
    assert "Pause overdue" in client.get(NOW).content.decode()
    plan = shown(client, "/admin/now/remedy/pause_overdue/")
    assert Pause.objects.exists()
    apply(client, plan)
    assert not Pause.objects.exists()


def test_only_who_may_press_a_button_has_it() -> None:
    viewer = staff(Role.VIEWER)
    dispatcher.schedule([sent("one")])
    page = viewer.get(NOW).content.decode()
    assert re.search(r"<button [^>]*disabled[^>]*>Dispatch now", page)
    assert "/admin/now/remedy/" not in page
    assert viewer.post("/admin/now/remedy/dangling/").status_code == 403


def test_that_no_pass_runs_is_said(client: Client) -> None:
    Hearing.objects.update(last_pass=None)
    assert sentence(client) == "Not healthy. 0 configs on 0 nodes, 1 thing needs you."
    assert "No background pass runs" in client.get(NOW).content.decode()


def test_a_secret_that_is_not_the_leaders_is_said(client: Client) -> None:
    ClusterStore.objects.update(fingerprints={"the secret key": "another"})
    for url in (NOW, FRAGMENT):
        assert "On this replica the secret key is not the leader&#x27;s." in client.get(url).content.decode()


def test_there_is_no_button_for_what_nobody_can_do(client: Client) -> None:
    assert client.post("/admin/now/remedy/silent/").status_code == 404
    assert client.get("/admin/now/remedy/dangling/").status_code == 405


def test_nodes_of_one_kind_are_one_row(client: Client) -> None:
    place(0, "runner-6d4cf56db6-x7k2p", "runner-7f9bc8d7f4-bcdfg", "edge-1.a", "edge-2.a", "edge-1.b", "ash")
    assert rows(client) == {
        "runner-*": {"alive": 2},
        "edge-*.a": {"alive": 2},
        "edge-1.b": {"alive": 1},
        "ash": {"alive": 1},
    }


def test_rows_count_nodes_by_state(client: Client) -> None:
    place(0, *(f"runner-{number}" for number in range(5)))
    silence("runner-0", "runner-1")
    dispatcher.expire_nodes(force=True)
    Heartbeat.objects.filter(node__name="runner-2").update(seen_at=ago(timedelta(seconds=20)))
    Node.objects.filter(name="runner-3").cordon(draining=True)
    note_goodbye("runner-4", "leaving")
    report("runner-5")
    assert rows(client) == {"runner-*": {"lost": 2, "silent": 1, "draining": 1, "leaving": 1, "alive": 3}}


def test_states_that_no_node_has_are_no_columns(client: Client) -> None:
    place(0, "runner-1", "runner-2")
    assert heads(client) == ["Pool", "Nodes", "Alive", "Configs", "Load: mean and fullest"]
    silence("runner-1")
    dispatcher.expire_nodes(force=True)
    assert heads(client) == ["Pool", "Nodes", "Alive", "Lost", "Configs", "Load: mean and fullest"]


def test_a_row_shows_mean_load_and_the_fullest_node(client: Client) -> None:
    place(4, "runner-1", "runner-2")
    Cost.objects.bulk_create(
        Cost(config_id=config(f"key-{number}").pk, workers_needed=number / 2) for number in range(4)
    )
    [(pool, _)] = client.get(NOW).context["pools"]
    assert pool.mean == pytest.approx(3 / 8)
    assert pool.fullest is not None
    assert pool.fullest.load >= pool.mean


def test_a_rollout_is_one_story(client: Client) -> None:
    old, new = [f"runner-{number}" for number in range(3)], [f"runner-{number}" for number in range(10, 13)]
    place(6, *old)
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    report(*new)
    silence(*old)
    dispatcher.expire_nodes(force=True)
    dispatcher.redispatch(force=True)
    assert told(client) == ["Rollout of runner-*: 3 of 3 replaced, 6 configs moved, longest gap 31 s"]


def test_what_still_waits_for_a_node_is_said(client: Client) -> None:
    place(2, "ash", "birch")
    Move.objects.all().delete()
    NodeEvent.objects.all().delete()
    silence("ash")
    dispatcher.expire_nodes(force=True)
    assert told(client) == ["ash lost: 1 config waits for a node"]


def test_nothing_of_a_name_or_an_error_is_html(client: Client) -> None:
    name = '<script>alert("1")<\u2044script>'
    place(1, name)
    Source.objects.update(errors=[{"where": "<img src=x>", "line": 1, "error": "\x1b[31m<b>red</b>"}])
    for url in (NOW, FRAGMENT):
        page = client.get(url).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x>" not in page
        assert "<b>red" not in page
        assert "&lt;script&gt;" in page


def test_the_fragment_says_the_sentence_only_when_it_changed(client: Client) -> None:
    place(1, "ash")
    said = client.get(NOW).context["now"].sentence
    assert b"now-sentence" not in client.get(FRAGMENT, {"said": said}).content
    other = client.get(FRAGMENT, {"said": "Something else."}).content
    assert b'id="now-sentence" hx-swap-oob' in other
    assert b"<title>Healthy - Cluster agent</title>" in other


def test_the_fragment_is_never_a_login_page() -> None:
    answer = Client().get(FRAGMENT)
    assert (answer.status_code, answer.content) == (401, b"")
    assert staff().get(FRAGMENT).status_code == 403


def test_who_has_no_role_is_told_so() -> None:
    page = staff().get(NOW)
    assert page.status_code == 200
    assert "You may not see nodes, configs and moves yet." in page.content.decode()


def test_as_many_queries_for_ten_nodes_as_for_a_hundred(client: Client) -> None:
    numbers = []
    for nodes in (10, 110):
        place(nodes, *(f"runner-{number}" for number in range(nodes)))
        client.get(NOW)
        with CaptureQueriesContext(connection) as queries:
            client.get(NOW)
        numbers.append(len(queries))
    assert numbers[0] == numbers[1]


def test_what_is_wrong_is_asked_once(client: Client) -> None:
    client.get(NOW)
    with CaptureQueriesContext(connection) as queries:
        client.get(NOW)
    assert sum('AS "now" FROM "nodes_hearing"' in query["sql"] for query in queries) == 1


def test_troubles_of_all_kinds_are_counted_by_one_query(client: Client) -> None:
    place(4, "ash")
    for number, kind in enumerate(Trouble.Kind.values):
        Trouble.objects.create(config=config(f"key-{number}"), kind=kind, since=ago(timedelta(hours=2)))
    client.get(NOW)
    with CaptureQueriesContext(connection) as queries:
        found = client.get(NOW).context["now"].alerts
    assert {alert.kind: alert.count for alert in found if alert.kind in Trouble.Kind.values} == dict.fromkeys(
        Trouble.Kind.values, 1
    )
    counting = [query["sql"] for query in queries if "COUNT(" in query["sql"] and "MIN(" in query["sql"]]
    assert sum('FROM "checks_trouble"' in statement for statement in counting) == 1


def test_an_overloaded_node_has_links_and_a_plan_that_relieves_it(client: Client) -> None:
    place(1, "ash")
    dispatcher.schedule([sent("other")])
    Cost.objects.bulk_create(Cost(config_id=config(key).pk, workers_needed=4) for key in ("key-0", "other"))
    Runner.objects.create(node=Node.objects.get(), workers=4, overloaded_rounds=2, overloaded_since=Now())
    assert sentence(client).startswith("Not healthy. ")
    page = client.get(NOW).content.decode()
    assert "No other node has room: add nodes." in page
    assert f'href="/admin/checks/config/{config("other").pk}/change/">http_check other on ash</a>' in page
    answer = client.post("/admin/now/remedy/overloaded/", follow=True).content.decode()
    assert "No move would help" in answer
    report("birch")
    Runner.objects.create(node=Node.objects.get(name="birch"), workers=8)
    answer = client.post("/admin/now/remedy/overloaded/", follow=True)
    assert answer.request["PATH_INFO"] == f"/admin/checks/plan/{Plan.objects.get().pk}/change/"
    assert [move["to"] for move in Plan.objects.get().moves] == [Node.objects.get(name="birch").pk]


def test_a_plan_that_relieves_no_overloaded_node_is_not_offered_as_a_relief(client: Client) -> None:
    place(1, "ash")
    Node.objects.filter(name="ash").update(schedulable=False)
    report("birch")
    dispatcher.schedule([sent(f"other-{number}") for number in range(6)])
    Node.objects.filter(name="ash").update(schedulable=True)
    report("cedar")
    Runner.objects.bulk_create(
        Runner(node=node, workers=8 if node.name == "birch" else 4) for node in Node.objects.all()
    )
    Runner.objects.filter(node__name="ash").update(overloaded_rounds=2, overloaded_since=Now())
    dear = config("key-0").pk
    Cost.objects.bulk_create(
        Cost(config_id=pk, workers_needed=8 if pk == dear else 0.5)
        for pk in Config.objects.values_list("pk", flat=True)
    )
    dispatcher.pin([dear], "ash", actor="otto")
    assert "1 config of it pinned" in client.get(NOW).content.decode()
    assert plans.draft(force=True).moves
    answer = client.post("/admin/now/remedy/overloaded/", follow=True).content.decode()
    assert (
        "No move would help: what is pinned to ash needs more than all of its workers. Unpin some of it first."
        in answer
    )
    assert not Plan.objects.exclude(order__verb="pin").exclude(order__verb="reassign").exists()


def test_a_relief_that_is_not_enough_says_so_before_and_on_its_page(client: Client) -> None:
    furnish(ash=[0.65] * 20, birch=[])
    Runner.objects.bulk_create(Runner(node=node, workers=10) for node in Node.objects.all())
    Runner.objects.filter(node__name="ash").update(overloaded_rounds=2, overloaded_since=Now())
    enough = "A relief moves 5 configs at most, which is not enough: plan another one after it."
    assert enough not in client.get(NOW).content.decode()
    Cost.objects.update(workers_needed=1)
    assert enough in client.get(NOW).content.decode()
    # Without runners what was fetched long ago has run, so it may move, and a node has 4 workers.
    Runner.objects.all().delete()
    answer = client.post("/admin/now/remedy/overloaded/", follow=True).content.decode().replace("\u202f", " ")
    assert "These moves are not enough: ash stays at 375 % and birch stays at 125 %." in answer
    assert (
        "It has as many moves as one may have: plan another one after it, or a rebalance without a limit of moves."
        in answer
    )
    assert "Balancing goes on: at most 5 configs in " in answer
    freezes.freeze(actor="otto")
    assert "Nothing follows by itself: balancing is off." in client.get(row_url(Plan.objects.get())).content.decode()


def test_no_relief_is_offered_where_a_config_alone_needs_more_than_any_node_has(client: Client) -> None:
    place(1, "ash")
    dear = config("key-0")
    Cost.objects.create(config_id=dear.pk, workers_needed=9.6)
    Runner.objects.create(node=Node.objects.get(), workers=4, overloaded_rounds=2, overloaded_since=Now())
    report("birch")
    Runner.objects.create(node=Node.objects.get(name="birch"), workers=8)
    for _ in range(2):
        page = client.get(NOW).content.decode()
        assert (
            "alone needs more than any node has, which no move mends: spread its instances over several configs" in page
        )
        assert "Others have room" not in page
        assert not {"Plan a relief", "Unpin…"} & set(re.findall(r"Plan a relief|Unpin…", page))
        # A pin that nobody could do without changes nothing of it.
        dispatcher.pin([dear.pk], "ash", actor="otto")
    answer = client.post("/admin/now/remedy/overloaded/", follow=True).content.decode()
    assert "No move would help: a config alone needs more than any node has." in answer


def test_where_pins_alone_overload_a_node_the_fewest_are_unpinned_after_asking(client: Client) -> None:
    place(3, "ash")
    Runner.objects.create(node=Node.objects.get(), workers=4, overloaded_rounds=2, overloaded_since=Now())
    costs = {"key-0": 4, "key-1": 3, "key-2": 0.5}
    Cost.objects.bulk_create(Cost(config_id=config(key).pk, workers_needed=cost) for key, cost in costs.items())
    dispatcher.pin([config("key-2").pk], "ash", actor="otto")
    page = client.get(NOW).content.decode()
    assert "What is pinned" not in page
    assert "Unpin…" not in page
    dispatcher.pin([config("key-0").pk, config("key-1").pk], "ash", actor="otto")
    page = client.get(NOW).content.decode()
    assert (
        "What is pinned to ash needs more than all of its workers: no move helps before some of it is unpinned." in page
    )
    assert '/admin/checks/config/?node=ash&amp;order=pinned">pins on ash</a>' in page
    asked = client.post("/admin/now/remedy/unpin/").content.decode()
    assert "Unpin http_check key-0" in asked
    assert Pin.objects.count() == 3
    seen = re.search(r'name="seen" value="([^"]*)"', asked)
    assert seen
    answer = client.post("/admin/now/remedy/unpin/", {"seen": seen[1]}, follow=True).content.decode()
    assert "1 config unpinned" in answer
    assert set(Pin.objects.values_list("config__origins__key", flat=True)) == {"key-1", "key-2"}
    assert "What is pinned" not in client.get(NOW).content.decode()


def test_loads_are_told_as_assumed_until_the_first_stats(client: Client) -> None:
    place(1, "ash")
    pages = (NOW, "/admin/map/", f"/admin/nodes/node/{Node.objects.get().pk}/change/")
    said = "Loads are assumed, a worker for each config: "
    assert [f"{said}no runner has told stats yet." in client.get(page).content.decode() for page in pages] == [True] * 3
    assert " (assumed)" in " ".join(client.get(NOW).content.decode().split())
    Heartbeat.objects.update(client_ip="192.0.2.1")
    Runner.objects.create(node=Node.objects.get(), failures=3, failing_since=ago(timedelta(minutes=3)), error="refused")
    page = client.get(NOW).content.decode()
    assert f"{said}no runner&#x27;s stats can be read." in page
    assert "1 of 1 runner tells no stats" in page
    Cost.objects.create(config=Config.objects.get(), workers_needed=1)
    assert not any(said in client.get(page).content.decode() for page in pages)


def test_the_fullest_node_of_a_pool_is_a_link(client: Client) -> None:
    place(3, "runner-1", "runner-2")
    page = client.get(NOW)
    [(pool, _)] = page.context["pools"]
    assert f'href="/admin/nodes/node/{pool.fullest.id}/change/">{pool.fullest.name}</a>' in page.content.decode()
