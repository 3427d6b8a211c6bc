"""The admin's first page, the alerts at the top of every page, and who may log in."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.test import Client

from checks.explain import alerts
from checks.models import ClusterStore, Source
from clusteragent.lib.clock import ago
from nodes.models import Hearing

pytestmark = pytest.mark.django_db

CLUSTER = "/admin/checks/clusterstore/"


@pytest.fixture(autouse=True)
def _calm(warm: None) -> None:
    """A cluster without alerts."""
    Hearing.objects.update(last_pass=ago(timedelta(seconds=1)))


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def warnings(client: Client, url: str = "/admin/nodes/node/") -> Iterator[str]:
    response = client.get(url)
    assert response.status_code == 200
    shown = response.context["cluster_warnings"]
    assert all(str(warning) in response.content.decode() for warning in shown)
    return iter(str(warning) for warning in shown)


def test_nothing_is_said_while_nothing_is_wrong(client: Client) -> None:
    assert list(warnings(client)) == []


@pytest.mark.parametrize("url", [CLUSTER, "/admin/checks/config/", "/admin/checks/config/add/", "/admin/auth/user/"])
def test_every_page_says_that_no_pass_runs(client: Client, url: str) -> None:
    Hearing.objects.update(last_pass=ago(timedelta(seconds=11)))
    (warning,) = warnings(client, url)
    assert "No background pass runs: no node expires, nothing is re-dispatched. (11 s)" in warning


def test_a_pass_that_never_ran_is_said(client: Client) -> None:
    Hearing.objects.update(last_pass=None)
    assert "nothing is re-dispatched. <a" in next(warnings(client))


def test_the_brake_is_said(client: Client) -> None:
    Hearing.objects.update(braked_since=ago(timedelta(minutes=2)))
    (warning,) = warnings(client)
    assert "none expires. (2 min)" in warning


def test_the_warm_up_is_said(client: Client) -> None:
    Hearing.objects.update(warmup=True)
    assert "It waits for the first node to report" in next(warnings(client))
    Hearing.objects.update(warm_until=ago(timedelta(minutes=-5)))
    assert "4 min left" in next(warnings(client))
    # Beside its label, and without one on other pages: said once.
    page = client.get("/admin/").content.decode()
    assert re.search(r"<strong>Warm-up</strong> Nothing is placed before the warm-up is over\.", page)


def test_troubled_sources_are_named_and_escaped(client: Client) -> None:
    Source.objects.create(name="calm", warnings=[{"where": "a", "line": 1, "warning": "odd"}])
    Source.objects.create(name="<b>files", errors=[{"where": "a", "line": 1, "error": "b"}], held_removals=["x", "y"])
    held, error = sorted(warnings(client), key=lambda line: "held" not in line)
    assert error.startswith("&lt;b&gt;files:a:1: b <a")
    assert "Source &lt;b&gt;files: 2 removals held" in held


def test_what_every_page_says_is_what_the_first_page_says(client: Client) -> None:
    """The same alerts in the same words."""
    Hearing.objects.update(last_pass=None, braked_since=ago(timedelta(minutes=2)))
    Source.objects.create(name="files", errors=[{"where": "a", "line": 1, "error": "b"}])
    shown, said = list(warnings(client)), client.get("/admin/").content.decode()
    causes = [alert.cause for alert in alerts.cluster_wide()]
    assert [alert.kind for alert in alerts.cluster_wide()] == [
        alerts.Kind.NO_PASS,
        alerts.Kind.BRAKE,
        alerts.Kind.SOURCE_ERROR,
    ]
    for cause, warning in zip(causes, shown, strict=True):
        assert cause in warning
        assert cause in said


def test_nothing_is_said_to_who_may_not_see_the_first_page() -> None:
    Hearing.objects.update(last_pass=None)
    client = Client()
    client.force_login(User.objects.create_user("otto", is_staff=True))
    assert b"background pass" not in client.get("/admin/").content


def test_nothing_is_said_to_strangers() -> None:
    Hearing.objects.update(last_pass=None)
    page = Client().get("/admin/login/")
    assert page.status_code == 200
    assert b"background pass" not in page.content


def test_the_clusters_page_shows_leader_term_and_ages(client: Client) -> None:
    ClusterStore.objects.update(leader="east", term=4711, revision=12)
    Hearing.objects.update(hearing_since=ago(timedelta(hours=2)))
    page = client.get(CLUSTER).content.decode()
    for fact in ("east", "4711", "12", "1 s ago", "2 h", "off", "over"):
        assert fact in page
    assert client.post(CLUSTER, {"leader": "me"}).status_code == 200
    assert ClusterStore.objects.get().leader == "east"


def test_operators_see_the_pages_that_they_may_see() -> None:
    user, client = User.objects.create_user("otto", is_staff=True), Client()
    user.user_permissions.set(Permission.objects.filter(codename="view_node"))
    client.force_login(user)
    page = client.get("/admin/").content.decode()
    assert 'href="/admin/nodes/node/"' in page
    assert 'href="/admin/checks/config/"' not in page
    assert client.get(CLUSTER).status_code == 403


def test_no_model_of_django_q_is_registered(client: Client) -> None:
    for model in apps.get_app_config("django_q").get_models():
        url = f"/admin/django_q/{model._meta.model_name}/"
        assert client.get(url).status_code == 404
        assert client.post(url + "add/").status_code == 404


def test_users_and_groups_are_managed_here(client: Client) -> None:
    passwords = {"password1": "correct horse 12", "password2": "correct horse 12", "usable_password": "true"}
    assert client.post("/admin/auth/user/add/", {"username": "otto"} | passwords).status_code == 302
    assert User.objects.get(username="otto").check_password("correct horse 12")
    assert client.get("/admin/auth/group/").status_code == 200


def test_the_front_door_leads_to_the_log_in_and_that_to_the_admin() -> None:
    User.objects.create_superuser("olga", password="correct horse 12")
    client = Client()
    assert client.get("/", follow=True).redirect_chain[-1][0] == "/admin/login/?next=/admin/"
    entered = client.post("/admin/login/", {"username": "olga", "password": "correct horse 12"})
    assert (entered.status_code, entered.headers["Location"]) == (302, "/admin/")
