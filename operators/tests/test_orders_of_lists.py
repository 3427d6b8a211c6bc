"""What lists are sorted by: each declared column of each list, and names in natural order."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.test import Client, RequestFactory

from checks import dispatcher, plans
from checks.dispatcher import deciding
from checks.models import Assignment, Config, Cost, Source
from checks.models.orders import Pin
from checks.models.troubles import Trouble
from checks.tests.cast import report, sent
from checks.tests.operators import config, superuser
from clusteragent.lib.clock import ago
from clusteragent.lib.words import natural
from nodes.models import Node
from operators.admin.base import ReadOnlyAdmin, list_url, row_url
from operators.admin.configlists import NodeConfigs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

NAMES = ["db-1", "db-2", "db-10"]
SORTED = {
    model._meta.model_name: (model, site)
    for model, site in admin.site._registry.items()
    if isinstance(site, ReadOnlyAdmin)
}


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


@pytest.mark.parametrize("name", sorted(SORTED))
def test_a_list_is_sorted_by_each_column_that_it_offers(name: str) -> None:
    model, site = SORTED[name]
    request, client = RequestFactory().get("/"), superuser()
    request.user = client.get(list_url(model)).wsgi_request.user
    offered = set(site.get_sortable_by(request))
    # The cluster is one row.
    assert offered or name == "clusterstore"
    for column in offered & set(site.get_list_display(request)):
        for sign in ("", "-"):
            page = client.get(list_url(model, o=f"{sign}{column}"))
            assert page.status_code == 200
            assert page.context["cl"].get_ordering_field_columns(), column


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
