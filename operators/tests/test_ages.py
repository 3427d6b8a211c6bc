"""Times in lists and on pages: how far they are away, with the time itself on hover or beside it, past and to come."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from knox.models import AuthToken

from checks import dispatcher
from checks.models import Plan, Source, freezes
from checks.models.orders import Isolation, Pause, Pin
from checks.tests.cast import report, sent
from checks.tests.operators import CONFIGS, config, page_of, planned, superuser
from clusteragent.lib import clock
from nodes.models import Hearing, Node, NodeEvent
from operators.admin.base import aged, dated, list_url, row_url

pytestmark = pytest.mark.django_db

# A time as every page has it.
TIME = re.compile(r'<time datetime="([^"]*)" title="(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)">([^<]*)</time>')


@pytest.fixture
def client(warm: None) -> Client:
    """shop is pinned and isolated on ash, mail is paused for three hours."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail")])
    until = clock.now() + timedelta(hours=3, seconds=30)
    dispatcher.pin([config("shop").pk], "ash", actor="olga", until=until)
    Isolation.objects.create(config=config("shop"), source="file", key="shop", author="olga")
    dispatcher.pause([config("mail").pk], actor="olga", until=until)
    return superuser()


def ages(page: Any) -> list[str]:
    assert page.status_code == 200
    return [text for _, _, text in TIME.findall(page.content.decode())]


def test_a_time_is_past_or_to_come() -> None:
    now = clock.now()
    told = {aged(now + timedelta(seconds=seconds), now) for seconds in (0, 0.5)}
    assert [TIME.findall(one)[0][2] for one in sorted(told)] == ["0 s ago"] * 2
    assert ">in 2 h 59 min<" in aged(now + timedelta(hours=2, minutes=59), now)
    assert ">in 2 h<" in aged(now + timedelta(hours=2, seconds=59), now)
    assert ">in 59 min<" in aged(now + timedelta(minutes=59, seconds=59), now)
    assert ">in 1 d<" in aged(now + timedelta(hours=47), now)
    assert ">3 d ago<" in aged(now - timedelta(days=3), now)
    assert dated(now, now).startswith(f"<span>{now:%Y-%m-%d %H:%M:%S},</span> <time")
    assert (aged(None, now), dated(None, now)) == ("", "")


@pytest.mark.parametrize("rows", ["checks/pin", "checks/pause", "checks/isolation", "checks/move", "acts/act"])
def test_lists_say_how_long_ago_it_was(client: Client, rows: str) -> None:
    client.post("/admin/operators/savedview/save/", {"of": "checks.config", "query": "owner=assigned", "name": "mine"})
    found = ages(client.get(f"/admin/{rows}/"))
    assert found
    assert all(age.endswith(" s ago") or age == "in 3 h" for age in found)
    assert ("in 3 h" in found) == (rows in ("checks/pin", "checks/pause"))


@pytest.mark.parametrize("order", [Pin, Pause, Isolation])
def test_pages_of_orders_have_the_time_and_its_age(client: Client, order: Any) -> None:
    page = client.get(row_url(order.objects.get()))
    assert ages(page)
    assert re.search(r"<span>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,</span> <time", page.content.decode())


def test_plans_say_when_they_were_made_and_applied(client: Client) -> None:
    plan = planned(client, "resume", ["mail"])
    client.post(f"/admin/checks/plan/{plan.pk}/apply/")
    assert Plan.objects.get().applied_at
    assert len(ages(client.get("/admin/checks/plan/"))) == 2
    assert len(ages(client.get(row_url(plan)))) >= 2


def test_freezes_users_tokens_sources_and_rules_have_ages(client: Client) -> None:
    freeze = freezes.freeze(actor="olga", until=clock.now() + timedelta(hours=2, seconds=30))
    assert sorted(ages(client.get("/admin/checks/freeze/"))) == ["0 s ago", "in 2 h"]
    assert sorted(ages(client.get(row_url(freeze)))) == ["0 s ago", "in 2 h"]
    freezes.thaw(actor="olga")
    assert "ended by olga <time" in client.get("/admin/checks/freeze/").content.decode()
    olga = User.objects.get(username="olga")
    assert ages(client.get("/admin/auth/user/"))
    assert len(ages(client.get(row_url(olga)))) == 2
    token, _ = AuthToken.objects.create(olga, expiry=timedelta(days=3, seconds=30))
    assert "in 3 d" in ages(client.get("/admin/knox/authtoken/"))
    assert "in 3 d" in ages(client.get(row_url(token)))
    Source.objects.update_or_create(name="file", defaults={"read_at": clock.now(), "scanned_at": clock.now()})
    assert len(ages(client.get("/admin/checks/source/"))) == 2


def test_nodes_and_their_events_have_ages(client: Client) -> None:
    Hearing.objects.update(last_pass=clock.now())
    NodeEvent.objects.create(node_name="ash", kind=NodeEvent.Kind.CORDONED)
    for url in (
        "/admin/nodes/node/",
        "/admin/nodes/nodeevent/",
        row_url(Node.objects.get()),
        "/admin/checks/clusterstore/",
    ):
        assert ages(client.get(url)), url


def test_configs_have_ages(client: Client) -> None:
    Node.objects.cordon()
    dispatcher.schedule([sent("db")])
    page = client.get(CONFIGS).content.decode()
    assert re.search(r'dangling for <time [^>]*title="[^"]*">\d+ s</time>', page)
    assert re.search(r"<span>\d{4}-\d\d-\d\d [^<]*</span> <time", client.get(page_of("db")).content.decode())


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model._meta.label_lower)
def test_each_list_says_once_of_when_it_is(client: Client, model: type[Model]) -> None:
    page = client.get(list_url(model), follow=True)
    assert page.status_code == 200
    assert page.content.decode().count("As of ") == 1
