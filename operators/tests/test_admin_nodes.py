"""What operators see of the nodes, and what they may do to them."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from acts.models import Act
from checks import dispatcher
from checks.models import Config, Cost, Origin
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import confirmed
from clusteragent.lib import clock, conf
from clusteragent.lib.clock import ago
from nodes.declarations import canonical
from nodes.heartbeats import note_heartbeat
from nodes.models import Hearing, Heartbeat, Node, NodeEvent, NodeType
from operators.admin.filters import CLOSED
from operators.pages.now import members
from operators.pages.pools import pools

pytestmark = pytest.mark.django_db

LIST = "/admin/nodes/node/"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga"))
    return client


@pytest.fixture
def onlooker() -> Client:
    """May see nodes, and change nothing."""
    user = User.objects.create_user("otto", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_node", "view_nodeevent"]))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def trees() -> None:
    """ash lives, birch is silent, cedar is lost."""
    Hearing.objects.update(last_pass=ago(timedelta(0)), warmup=False)
    for name in ("ash", "birch", "cedar"):
        note_heartbeat(name, last_change=0, node_type=NodeType.NODE_AGENT, client_ip="10.0.0.7")
    Heartbeat.objects.filter(node__name="birch").update(seen_at=ago(timedelta(seconds=20)))
    Heartbeat.objects.filter(node__name="cedar").delete()


@pytest.fixture
def pair(warm: None) -> None:
    """ash and birch live."""
    for name in ("ash", "birch"):
        note_heartbeat(name, last_change=0)


def give_ash(number: int) -> None:
    """So many configs on ash."""
    Node.objects.filter(name="birch").update(schedulable=False)
    dispatcher.schedule([sent(f"key-{each}") for each in range(number)])


def page_of(name: str) -> str:
    return reverse("admin:nodes_node_change", args=[Node.objects.get(name=name).pk])


def names(client: Client, query: str) -> list[str]:
    response = client.get(LIST + query)
    assert response.status_code == 200
    return [node.name for node in response.context["cl"].result_list]


def act(client: Client, action: str, *chosen: str) -> Any:
    keys = list(Node.objects.filter(name__in=chosen).values_list("pk", flat=True))
    return client.post(LIST, {"action": action, "_selected_action": keys}, follow=True)


def uncordoned(client: Client, name: str) -> str:
    return confirmed(client, LIST, action="uncordon", _selected_action=[Node.objects.get(name=name).pk])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["ash", "birch", "cedar"]),
        ("?state=alive", ["ash"]),
        ("?state=silent", ["birch"]),
        ("?state=lost", ["cedar"]),
        ("?type=node_agent", ["ash", "birch"]),
        ("?type=runner", []),
        ("?schedulable=no", ["cedar"]),
        ("?schedulable=yes", ["ash", "birch"]),
        ("?state=", ["ash", "birch", "cedar"]),
        ("?state=draining", []),
    ],
)
def test_the_list_shows_what_its_filters_ask_for(operator: Client, trees: None, query: str, found: list[str]) -> None:
    assert names(operator, query) == found


def test_an_option_that_a_filter_lacks_is_refused(operator: Client, trees: None) -> None:
    page = operator.get(f"{LIST}?state=draining").content.decode()
    assert page.count("Nothing is shown: there is no state draining, only alive, silent and lost.") == 1
    assert "state: draining" in page, "it can be taken off"


def test_a_draining_node_is_alive_and_draining_and_a_lost_one_is_neither(operator: Client, trees: None) -> None:
    Node.objects.exclude(name="birch").cordon(draining=True)
    assert names(operator, "?q=state:alive") == names(operator, "?q=state:draining") == ["ash"]
    assert names(operator, "?schedulable=draining") == ["ash"]
    counts: Counter[str] = Counter()
    for pool in pools(members()):
        counts.update(dict(pool.counts))
    assert +counts == {"alive": 1, "silent": 1, "lost": 1, "draining": 1}


def test_the_first_click_on_a_number_sorts_the_greatest_first(operator: Client, pair: None) -> None:
    give_ash(2)
    heads = re.findall(r'<a href="([^"]*)">\s*(Load|Configs|Name)\s*</a>', operator.get(LIST).content.decode())
    first = {column: names(operator, unescape(url)) for url, column in heads}
    assert first == {column: ["ash", "birch"] for column in ("Load", "Configs", "Name")}
    assert names(operator, "?o=-configs") == ["ash", "birch"]
    again = re.search(r'<a href="([^"]*)">\s*Configs\s*</a>', operator.get(LIST + "?o=-configs").content.decode())
    assert again is not None
    assert names(operator, unescape(again[1])) == ["birch", "ash"]


def test_the_list_is_in_the_order_in_which_people_count(operator: Client, warm: None) -> None:
    ordered = ["Web-1", "web-2", "web-9-3", "web-10", "web-10-2", f"web-{'9' * 30}", "zone"]
    for name in reversed(ordered):
        note_heartbeat(name, last_change=0)
    number = operator.get(LIST).context["cl"].list_display.index("called")
    assert names(operator, "") == ordered
    assert names(operator, f"?o={number}") == ordered
    assert names(operator, f"?o=-{number}") == ordered[::-1]


def test_the_list_says_how_long_ago_a_node_was_heard(operator: Client, trees: None) -> None:
    assert re.search(r"\b2\d s ago", operator.get(LIST + "?q=birch").content.decode())


def test_the_list_reads_the_state_by_the_clock_even_when_no_pass_ever_ran(operator: Client, trees: None) -> None:
    Hearing.objects.update(last_pass=None)
    Heartbeat.objects.filter(node__name="ash").update(seen_at=ago(timedelta(hours=1)))
    assert names(operator, "?state=silent") == ["ash", "birch"]


def test_a_nodes_page_shows_its_events(operator: Client, trees: None) -> None:
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.CORDONED, cause="<b>olga</b>")
    page = operator.get(page_of("ash")).content.decode()
    assert "10.0.0.7" in page
    assert "&lt;b&gt;olga&lt;/b&gt;" in page
    assert "<b>olga</b>" not in page


def test_cordon_and_uncordon_say_who_did_it(operator: Client, trees: None) -> None:
    report("oak")
    keys = [Node.objects.get(name=name).pk for name in ("ash", "birch")]
    assert "2 nodes cordoned." in confirmed(operator, LIST, action="cordon", _selected_action=keys)
    assert names(operator, "?schedulable=no") == ["ash", "birch", "cedar"]
    assert "1 node uncordoned." in uncordoned(operator, "ash")
    assert names(operator, "?schedulable=no") == ["birch", "cedar"]
    events = NodeEvent.objects.filter(node_name="ash", cause="olga").values_list("kind", flat=True)
    assert list(events) == [NodeEvent.Kind.UNCORDONED, NodeEvent.Kind.CORDONED]


def test_cordoning_shows_first_what_follows_and_asks_why(operator: Client, pair: None) -> None:
    dispatcher.schedule([sent(f"key-{number}") for number in range(4)])
    Node.objects.filter(name="ash").cordon(draining=True)
    fields = {"action": "cordon", "_selected_action": [Node.objects.get(name="ash").pk]}
    asked = operator.post(LIST, fields)
    assert "It gets nothing new, and keeps what it has: 2 configs. Nothing moves" in asked.content.decode()
    assert "The drain of ash ends: what is left there stays." in asked.content.decode()
    assert Node.objects.get(name="ash").draining
    operator.post(LIST, fields | {"seen": asked.context["seen"], "note": "a new disk"})
    assert not Node.objects.get(name="ash").draining
    assert Act.objects.get(verb=Act.Verb.CORDON).reason == "a new disk"


def test_a_lost_node_among_others_is_uncordoned_too(operator: Client, trees: None) -> None:
    report("oak")
    Node.objects.filter(name__in=["ash", "birch"]).cordon()
    Heartbeat.objects.filter(node__name="ash").delete()
    keys = list(Node.objects.filter(name__in=["ash", "birch"]).values_list("pk", flat=True))
    page = operator.post(LIST, {"action": "uncordon", "_selected_action": keys}).content.decode()
    assert "ash: lost now, so that holds once it reports." in page
    assert "uncordoned." in confirmed(operator, LIST, action="uncordon", _selected_action=keys)
    assert set(Node.objects.filter(name__in=["ash", "birch"]).values_list("schedulable", flat=True)) == {True}


def test_uncordoning_ends_a_drain(operator: Client, pair: None) -> None:
    Node.objects.filter(name="ash").cordon(draining=True)
    assert "1 node uncordoned." in uncordoned(operator, "ash")
    assert set(Node.objects.accepting().values_list("name", flat=True)) == {"ash", "birch"}
    assert not Node.objects.filter(draining=True).exists()


def test_a_nodes_page_offers_what_makes_sense(operator: Client, pair: None) -> None:
    offered = {}
    for how in ({}, {"schedulable": False}, {"schedulable": False, "draining": True}, {"leaving": True}):
        Node.objects.filter(name="ash").update(**{"schedulable": True, "draining": False} | how)
        page = operator.get(page_of("ash")).content.decode()
        offered[tuple(how)] = {name for name in ("cordon", "drain", "uncordon") if f'value="{name}"' in page}
    assert offered == {
        (): {"cordon", "drain"},
        ("schedulable",): {"drain", "uncordon"},
        ("schedulable", "draining"): {"uncordon"},
        ("leaving",): {"cordon", "drain", "uncordon"},
    }


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({}, "yes"),
        ({"schedulable": False}, "cordoned"),
        ({"schedulable": False, "draining": True}, "draining"),
        ({"leaving": True}, "leaving"),
        ({"kept_until": Now() + conf.NODE_EXPIRATION_TIMEOUT}, "restarting"),
        ({"not_before": Now() + conf.NODE_EXPIRATION_TIMEOUT}, "flapping"),
        ({"kept_until": Now(), "not_before": Now()}, "yes"),
    ],
)
def test_lists_and_pages_say_why_a_node_gets_nothing_new(
    operator: Client, pair: None, how: dict[str, Any], word: str
) -> None:
    Node.objects.filter(name="ash").update(**how)
    found = operator.get(f"{LIST}?schedulable={word}").context["cl"].result_list
    assert "ash" in [node.name for node in found]
    page = operator.get(page_of("ash")).content.decode()
    assert [state for state in CLOSED if state in page] == ([] if word == "yes" else [word])
    others = operator.get(f"{LIST}?schedulable={'no' if word == 'yes' else 'yes'}").context["cl"].result_list
    assert "ash" not in [node.name for node in others]


def test_a_lost_node_is_not_schedulable(operator: Client, trees: None) -> None:
    changes = operator.get(f"{LIST}?schedulable=no").context["cl"]
    shown = {node.name: changes.model_admin.shown_schedulable(node) for node in changes.result_list}
    assert shown == {"cedar": "lost"}


def test_an_empty_list_says_how_to_attach_a_node_agent(operator: Client) -> None:
    page = operator.get(LIST).content.decode()
    assert "DD_EXTRA_CONFIG_PROVIDERS=clusterchecks" in page
    assert "howto/runners" in page
    assert "DD_EXTRA" not in operator.get(f"{LIST}?q=ash").content.decode()


def test_the_list_says_how_far_drains_are_and_by_when(operator: Client, pair: None) -> None:
    assert "shown_drain" not in operator.get(LIST).context["cl"].list_display
    by = clock.now().replace(microsecond=0) + timedelta(hours=2)
    Node.objects.filter(name="ash").cordon(draining=True, by=by)
    changes = operator.get(LIST).context["cl"]
    assert "shown_drain" in changes.list_display
    shown = {node.name: changes.model_admin.shown_drain(node) for node in changes.result_list}
    assert shown["birch"] == ""
    assert shown["ash"] == "empty: safe to stop"
    Node.objects.filter(name="ash").update(draining=False, schedulable=True)
    give_ash(2)
    Node.objects.filter(name="ash").update(draining=True, drain_by=clock.now(), schedulable=False)
    shown = operator.get(LIST).content.decode()
    assert re.search(r"2 left, by [-\d :]+ UTC, which is over", shown)


def test_a_node_that_is_behind_for_seconds_is_fetching_and_later_it_is_late(operator: Client, pair: None) -> None:
    def shown() -> dict[str, str]:
        changes = operator.get(LIST).context["cl"]
        return {node.name: changes.model_admin.up_to_date(node) for node in changes.result_list}

    assert shown() == {"ash": "yes", "birch": "yes"}
    give_ash(1)
    assert shown() == {"ash": "fetching", "birch": "yes"}
    Node.objects.filter(name="ash").update(config_version=F("config_version") - 31 * 10**9)
    assert shown() == {"ash": "late", "birch": "yes"}
    Heartbeat.objects.filter(node__name="ash").delete()
    assert shown()["ash"] == ""


def test_a_nodes_page_shows_what_it_declares(operator: Client, pair: None) -> None:
    assert "it may run everything" in operator.get(page_of("ash")).content.decode()
    declared = canonical(include=["ntp", "dns_check"], exclude=["ntp"], group="kube")
    Node.objects.filter(name="ash").update(declared=declared)
    assert "only dns_check; group kube" in operator.get(page_of("ash")).content.decode()


def test_who_may_only_look_can_not_cordon(onlooker: Client, trees: None) -> None:
    assert onlooker.get(LIST).status_code == 200
    assert b'value="cordon"' not in onlooker.get(page_of("ash")).content
    assert act(onlooker, "cordon", "ash").status_code == 403
    assert not Node.objects.filter(schedulable=False).exists()


def test_nobody_edits_adds_or_deletes_a_node_by_hand(operator: Client, trees: None) -> None:
    page = page_of("ash")
    assert operator.post(page, {"name": "oak"}).status_code == 403
    assert operator.get(LIST + "add/").status_code == 403
    assert operator.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
    assert act(operator, "delete_selected", "ash").status_code == 200
    assert set(Node.objects.values_list("name", flat=True)) == {"ash", "birch", "cedar"}


def test_events_are_found_by_node_and_by_day(operator: Client, trees: None) -> None:
    events = "/admin/nodes/nodeevent/"
    assert len(operator.get(events + "?q=birch").context["cl"].result_list) == 1
    assert len(operator.get(events + "?kind__exact=registered").context["cl"].result_list) == 3
    assert not operator.get(events + "?time_from=2001-01-01&time_to=2001-12-31").context["cl"].result_list
    assert len(operator.get(events + "?time_from=2001-01-01&time_to=9999-12-31").context["cl"].result_list) == 3
    assert len(operator.get(events + "?time_from=nonsense&time_to=2001-13-41").context["cl"].result_list) == 3
    assert operator.get(events + "add/").status_code == 403


def test_a_later_page_is_reached_by_its_number(operator: Client) -> None:
    Node.objects.bulk_create(Node(name=f"n{number:03}") for number in range(201))
    first, last = operator.get(LIST), operator.get(LIST + "?p=3")
    assert "1 to 100 of 201" in first.content.decode()
    assert [node.name for node in last.context["cl"].result_list] == ["n200"]
    assert "201 to 201 of 201" in last.content.decode()


@pytest.mark.parametrize("query", ["?p=0", "?p=-3", "?p=99999999999999999999"])
def test_an_impossible_page_leads_back_to_the_list(operator: Client, query: str) -> None:
    response = operator.get(LIST + query)
    assert (response.status_code, response.headers["Location"]) == (302, LIST + "?e=1")


def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    operator: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    Hearing.objects.update(last_pass=Now(), warmup=False)
    for number in range(5):
        note_heartbeat(f"n{number}", last_change=0)
    operator.get(LIST)
    with django_assert_num_queries(24):
        operator.get(LIST)
    Node.objects.bulk_create(Node(name=f"m{number}") for number in range(200))
    Heartbeat.objects.bulk_create(Heartbeat(node=node) for node in Node.objects.lost())
    with django_assert_num_queries(24):
        operator.get(LIST)


def measured(load: dict[str, float]) -> None:
    """So many workers are kept busy by the config of each of these keys."""
    ids = dict(Origin.objects.filter(key__in=load).values_list("key", "config_id"))
    Cost.objects.bulk_create(Cost(config_id=ids[key], workers_needed=workers) for key, workers in load.items())


def test_the_hottest_node_is_first_and_its_load_leads_to_what_makes_it(operator: Client, warm: None) -> None:
    for number, name in enumerate(("ash", "birch")):
        report(name)
        dispatcher.schedule([sent(f"{name}-{each}") for each in range(2)])
        Node.objects.filter(name=name).update(schedulable=False)
        measured({f"{name}-0": 0.5, f"{name}-1": 1.0 + number})
    note_heartbeat("cedar", last_change=0)
    Heartbeat.objects.filter(node__name="cedar").delete()
    assert names(operator, "?o=-load") == ["birch", "ash", "cedar"]
    assert names(operator, "?o=load") == ["cedar", "ash", "birch"]
    page = operator.get(LIST).content.decode()
    [url] = re.findall(r'href="(/admin/checks/config/\?node=birch&amp;o=-load)">\d+\u202f%<', page)
    listed = operator.get(url.replace("&amp;", "&")).context["cl"].result_list
    assert [one.origins.get().key for one in listed] == ["birch-1", "birch-0"]
    own = operator.get(page_of("birch")).context["configs"].result_list
    assert [one.origins.get().key for one in own] == ["birch-1", "birch-0"]


def test_a_column_is_also_sorted_by_its_name_for_who_has_fewer_columns(onlooker: Client, trees: None) -> None:
    assert names(onlooker, "?o=-called") == ["cedar", "birch", "ash"]
    assert names(onlooker, "?o=-shown_state.called") == ["birch", "cedar", "ash"]
    assert set(names(onlooker, "?o=-address.nonsense..-")) == {"ash", "birch", "cedar"}


def test_the_list_counts_the_failing_configs_of_each_node(operator: Client, pair: None) -> None:
    give_ash(3)
    failing = Config.objects.order_by("pk")[:2]
    Trouble.objects.bulk_create(Trouble(config=one, kind="failing") for one in failing)
    Trouble.objects.create(config=failing[0], kind="slow")
    changes = operator.get(LIST + "?o=-failing").context["cl"]
    assert [(node.name, node.failing) for node in changes.result_list] == [("ash", 2), ("birch", 0)]
    page = operator.get(LIST).content.decode()
    assert 'href="/admin/checks/config/?node=ash&amp;trouble=failing">2</a>' in page
