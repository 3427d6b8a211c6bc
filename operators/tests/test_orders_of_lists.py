"""What lists are sorted by: each declared column of each list, and names in natural order."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils.html import escape
from knox.models import AuthToken

from acts.models import Act
from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Assignment, ClusterStore, Config, Cost, Plan, Source
from checks.models.orders import Pin
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import config, superuser
from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.words import natural
from nodes.models import Node, NodeEvent, Slowness
from operators.admin import changelists
from operators.admin.base import list_url, row_url
from operators.admin.configlists import NodeConfigs
from operators.roles import Role

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NAMES = ["db-1", "db-2", "db-10"]
# The cluster is one row.
LISTS = {model._meta.model_name: model for model in admin.site._registry if model is not ClusterStore}


@pytest.fixture(autouse=True)
def _configs(warm: None) -> None:
    """db-10, db-2 and db-1 run on ash, and are pinned there."""
    report("ash", "birch")
    dispatcher.schedule([sent(name, name="tcp_check", instances=(f"host: {name}",)) for name in reversed(NAMES)])
    for name in ("db-10", "db-1", "db-2"):
        dispatcher.pin([config(name).pk], "ash", actor="otto")


def in_order(text: str) -> bool:
    places = [text.index(f">tcp_check {name}<") for name in NAMES]
    return places == sorted(places)


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_list_is_sorted_by_each_of_its_columns_or_says_why_not(name: str) -> None:
    model, client = LISTS[name], superuser()
    site = admin.site._registry[model]
    Node.objects.filter(name="ash").update(draining=True, labels={conf.DOMAIN_LABEL: "b"})
    Slowness.objects.create(node=Node.objects.get(name="ash"), level=Slowness.VERY)
    report("\u0430sh")  # its first letter is Cyrillic
    page = client.get(list_url(model))
    columns = [str(column) for column in page.context["cl"].list_display if column != "action_checkbox"]
    assert columns
    assert {*columns} >= {*site.at_times}
    assert {*site.unsorted} <= {*columns}
    for column in columns:
        pages = [client.get(list_url(model, o=f"{sign}{column}")) for sign in ("", "-")]
        assert [page.status_code for page in pages] == [200, 200]
        assert [list(page.context["cl"].get_ordering_field_columns().values()) for page in pages] == [["asc"], ["desc"]]
        is_sorted = pages[0].context["cl"].get_ordering_field(column) is not None
        assert is_sorted != bool(site.unsorted.get(column)), column


def test_a_column_that_is_not_sorted_by_has_no_arrow() -> None:
    text = superuser().get(list_url(Config)).content.decode()
    assert 'href="?o=' in text
    heads = re.findall(r"<th[^>]*>.*?</th>", text[text.index("<thead") : text.index("</thead")], re.DOTALL)
    assert [re.search(r">\s*(\w+)\s*<", head)[1].lower() for head in heads[1:] if "?o=" not in head] == [
        "tags",
        "origins",
    ]
    # The heads say why, on hover.
    said = re.findall(r'<span title="Not sorted by this: ([^"]*)">(\w+)</span>', text)
    assert {head.lower(): why for why, head in said} == {
        "tags": "a config has many: the bar finds those that have one",
        "origins": "those of all configs take too long to read: source: in the bar finds those of one source",
    }


@pytest.mark.parametrize(
    "parts",
    [
        ["postgres pg-0.twin.", "example.com:5430"],
        ["file:", "http_check.d/", "the_primary_", "database_", "of_", "orders.yaml"],
        ["kubernetes: endpoints payments/", "api 10.9.0.4"],
        ["<b>shop.", "example.com"],
    ],
)
def test_a_long_name_goes_on_in_another_line_between_its_parts(parts: list[str]) -> None:
    assert changelists.breakable("".join(parts)).split("<wbr>") == [escape(part) for part in parts]


def told(client: Client, model: type[Any], column: str, order: str) -> list[str]:
    """What stands in a column of a list in this order, without tags."""
    text = client.get(list_url(model, o=order)).content.decode()
    cells = re.findall(rf'class="field-{column} [^>]*>(.*?)</t[dh]>', text, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", "", cell).split()) for cell in cells]


def test_plans_are_sorted_by_what_they_do_by_their_moves_and_by_the_highest_load_after_them() -> None:
    client = superuser()
    move = {"name": "tls", "title": "tls shop", "digest": "d"}
    for verb, moves, peak in (("pin", 2, 0.5), ("pin", 10, 1.5), ("reassign", 1, 0.7)):
        order = {"verb": verb, "node": "ash", "hold": False, "kind": "node", "aim": "ash"}
        Plan.objects.create(revision=1, order=order, moves=[move] * moves, spread={"peak": [1, peak]})
    # As this version stores them.
    plans.store(deciding.pause([config("db-1").pk]), author="otto")
    assert Plan.objects.latest("pk").size == 1
    assert told(client, Plan, "shown", "shown") == [
        "Give tls shop to ash", "Pause tcp_check db-1", "Pin 2 configs to ash", "Pin 10 configs to ash"
    ]  # fmt: skip
    assert told(client, Plan, "moving", "-moving") == ["10", "2", "1", "1"]
    assert told(client, Plan, "peak", "-peak")[0].endswith("150 %")


def test_users_and_tokens_are_sorted_by_roles_and_by_how_they_log_in() -> None:
    client = superuser()
    for name, role in (("anna", Role.VIEWER), ("zoe", Role.ADMIN), ("otto", Role.OPERATOR)):
        user = User.objects.create_user(name, password="an-unguessable-1")
        user.groups.add(Group.objects.get(name=role))
        AuthToken.objects.create(user=user)
    User.objects.create_user("robot")
    order = told(client, User, "roles", "roles")
    assert order[:3] == ["admin", "everything", "operator"]
    assert told(client, User, "logs_in_by", "logs_in_by")[-1] == "tokens alone"
    assert told(client, AuthToken, "roles", "roles") == ["admin", "operator", "viewer"]
    assert told(client, AuthToken, "shown_user", "-shown_user") == ["zoe", "otto", "anna"]


def test_names_in_any_column_are_in_natural_order() -> None:
    client = superuser()
    for name in ("web-10", "web-2", "Web-1"):
        NodeEvent.objects.create(node_name="ash", kind="flapping", cause=name)
    assert told(client, NodeEvent, "shown_cause", "-shown_cause")[:3] == ["web-10", "web-2", "Web-1"]


def test_of_a_list_that_grows_without_a_bound_the_newest_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelists, "MOST_SORTED", 3)
    for number in range(5):
        Act.objects.create(person="otto", how="API", verb="pin", object=f"config {9 - number}")
    client = superuser()

    def listed(**query: str) -> tuple[list[str], bool]:
        page = client.get(list_url(Act, **query))
        acts = [str(act) for act in page.context["cl"].result_list]
        return acts, "only the newest 3 are sorted here" in page.content.decode()

    assert listed(o="what", person="otto") == (["pin config 5", "pin config 6", "pin config 7"], True)
    assert listed(o="-what", person="otto", p="1") == (["pin config 7", "pin config 6", "pin config 5"], True)
    assert len(listed(o="when", person="otto")[0]) == 5
    assert listed(o="what", q="config 9") == (["pin config 9"], False)


def on_ash(client: Client, order: str = "") -> list[str]:
    """The configs on ash's page, in the order of a column."""
    page = client.get(row_url(Node.objects.get(name="ash")), {"o": order} if order else {})
    assert page.status_code == 200
    shown = re.findall(r'<th class="field-called[^>]*><a [^>]*>tcp_check ([^<]*)</a>', page.content.decode())
    assert shown == [one.title.removeprefix("tcp_check ") for one in page.context["configs"].result_list]
    return shown


def test_a_node_s_configs_are_sorted_by_each_column() -> None:
    """db-2 takes most, and then runs longest; db-10 fails since an hour, and db-1 does not run since a day."""
    for name, load in (("db-1", 0.2), ("db-2", 0.5), ("db-10", 0.2)):
        Cost.objects.create(config=config(name), workers_needed=load, seconds=load)
    for name, kind, hours in (("db-10", "failing", 1), ("db-1", "not_running", 24)):
        Trouble.objects.create(config=config(name), kind=kind, since=ago(timedelta(hours=hours)))
    Assignment.objects.filter(config=config("db-2")).update(since=ago(timedelta(hours=1)), reason="rebalanced")
    client = superuser()
    assert on_ash(client) == on_ash(client, "-load") == ["db-2", "db-1", "db-10"]
    expected = {
        "called": NAMES,
        "condition": ["db-1", "db-10", "db-2"],
        "load": ["db-1", "db-10", "db-2"],
        "run_time": ["db-1", "db-10", "db-2"],
        "last_error": ["db-10", "db-1", "db-2"],
        "since": ["db-2"],
        "reason": ["db-2", "db-1", "db-10"],
        "shown_origins": ["db-1", "db-10", "db-2"],
    }
    for column, order in expected.items():
        assert on_ash(client, column)[: len(order)] == order, column
        assert sorted(on_ash(client, f"-{column}")) == sorted(NAMES)
    assert set(NodeConfigs.columns) == set(expected)


def test_a_node_s_configs_tell_their_state_and_lead_to_all_in_the_same_order() -> None:
    dispatcher.schedule([sent(f"more-{number}") for number in range(60)])
    Trouble.objects.create(config=config("db-10"), kind="failing", since=ago(timedelta(hours=1)))
    page = superuser().get(row_url(Node.objects.get(name="ash")), {"o": "condition", "p": "7", "q": "nothing"})
    text = page.content.decode()
    assert re.search(r'class="field-condition[^>]*>failing for <time [^>]*>1 h</time>, pinned<', text)
    assert '?node=ash&amp;o=condition">Show all</a>' in text
    assert len(page.context["configs"].result_list) == 20


def test_configs_are_sorted_by_since_when_they_fail() -> None:
    for name, kind, hours in (("db-10", "failing", 1), ("db-2", "failing", 2), ("db-1", "slow", 24)):
        Trouble.objects.create(config=config(name), kind=kind, since=ago(timedelta(hours=hours)))
    listed = superuser().get(list_url(Config, o="last_error")).context["cl"].result_list
    assert [one.title for one in listed] == ["tcp_check db-2", "tcp_check db-10", "tcp_check db-1"]


def test_pins_and_the_rows_of_a_plan_are_in_natural_order() -> None:
    client = superuser()
    assert in_order(client.get(list_url(Pin)).content.decode())
    plan = plans.store(deciding.pause([config(name).pk for name in NAMES]), author="otto")
    assert in_order(client.get(row_url(plan)).content.decode())


def test_held_removals_are_in_natural_order() -> None:
    source, _ = Source.objects.get_or_create(name="file")
    Source.objects.filter(pk=source.pk).update(held_removals=["db-10.yaml", "db-2.yaml", "db-1.yaml"])
    text = superuser().get(row_url(source)).content.decode()
    assert text.index("db-1.yaml") < text.index("db-2.yaml") < text.index("db-10.yaml")


def test_natural_order_is_the_database_s() -> None:
    names = ["web-10", "Web-2", "web", "web-1a", "10", "9", "a" + "1" * 30, "a2"]
    assert sorted(names, key=natural) == ["9", "10", "a2", "a" + "1" * 30, "web", "web-1a", "Web-2", "web-10"]
