"""Where acts are read: their list and pages in the admin, the pages of configs and nodes, and the operators' API."""

import re

import pytest
from django.test import Client

from acts.models import Act
from acts.recording import entered, record
from checks import dispatcher
from checks.tests.cast import report, sent
from checks.tests.operators import config, page_of
from nodes.models import Node
from operators.roles import Role
from operators.tests.cast import having, user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("warm")]

ACTS = "/admin/acts/act/"


@pytest.fixture(autouse=True)
def _acts() -> None:
    """eve drained ash, and olga pinned shop to it."""
    report("ash")
    dispatcher.schedule([sent("shop")])
    with entered(Act.How.COMMAND, "eve on one", lambda: "eve"):
        record(Act.Verb.DRAIN, "ash", before={"ash": {"draining": False}}, after={"draining": True}, nodes=["ash"])
    with entered(Act.How.ADMIN, "192.0.2.1", lambda: "olga"):
        record(Act.Verb.PIN, "http_check shop", plan=7, reason="near <it>", configs=[config("shop").pk])


def seen_by(role: Role) -> Client:
    client = Client()
    client.force_login(user("otto", role))
    return client


def shown(client: Client, query: str = "") -> list[str]:
    response = client.get(ACTS + query)
    assert response.status_code == 200
    return [str(act) for act in response.context["cl"].result_list]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["pin http_check shop", "drain ash"]),
        ("?person=eve", ["drain ash"]),
        ("?verb__exact=pin", ["pin http_check shop"]),
        ("?q=shop", ["pin http_check shop"]),
        ("?node=ash", ["drain ash"]),
        ("?config=x", []),
        ("?how__exact=admin", ["pin http_check shop"]),
        ("?how__exact=command", ["drain ash"]),
        ("?time_from=2000-01-01&time_to=2000-01-02", []),
    ],
)
def test_the_list_has_filters(query: str, found: list[str]) -> None:
    assert shown(seen_by(Role.OPERATOR), query) == found


def test_an_act_has_a_page_with_all_of_it_that_nobody_can_edit() -> None:
    client, act = seen_by(Role.ADMIN), Act.objects.get(person="eve")
    page = client.get(f"{ACTS}{act.pk}/change/").content.decode()
    assert "&quot;draining&quot;: false" in page
    assert "eve on one" in page
    assert client.post(f"{ACTS}{act.pk}/change/", {"person": "olga"}).status_code == 403
    assert client.post(f"{ACTS}{act.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{ACTS}add/").status_code == 403


def test_the_pages_of_a_config_and_of_a_node_show_theirs() -> None:
    client, node = seen_by(Role.OPERATOR), Node.objects.get(name="ash")
    page = client.get(page_of("shop")).content.decode()
    assert "pin http_check shop" in page
    assert "near &lt;it&gt;" in page
    assert "drain ash" not in page
    assert "drain ash" in client.get(f"/admin/nodes/node/{node.pk}/change/").content.decode()
    assert shown(client, f"?config={config('shop').pk}") == ["pin http_check shop"]


def test_the_entrance_by_a_browser_is_called_web() -> None:
    client, act = seen_by(Role.ADMIN), Act.objects.get(person="olga")
    assert "how: web" in [chip.text for chip in client.get(f"{ACTS}?how__exact=admin").context["cl"].chips]
    for page in (ACTS, f"{ACTS}{act.pk}/change/", page_of("shop")):
        assert re.search(r">\s*web\s*<", client.get(page).content.decode())


def test_viewers_see_none() -> None:
    client = seen_by(Role.VIEWER)
    assert client.get(ACTS).status_code == 403
    assert "pin http_check shop" not in client.get(page_of("shop")).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["pin", "drain"]),
        ("?person=olga", ["pin"]),
        ("?how=command", ["drain"]),
        ("?verb=drain", ["drain"]),
        ("?object=SHOP", ["pin"]),
        ("?plan=7", ["pin"]),
        ("?node=ash", ["drain"]),
        ("?until=2000-01-01T00:00:00Z", []),
    ],
)
def test_the_api_lists_them(query: str, found: list[str]) -> None:
    assert [row["verb"] for row in having(Role.OPERATOR).rows(f"acts{query}")] == found


def test_the_api_has_all_of_an_act() -> None:
    pk = config("shop").pk
    caller = having(Role.ADMIN)
    [told] = caller.rows(f"acts?config={pk}")
    assert not told.keys() & {"before", "after", "configs", "nodes"}
    row = caller.call("GET", f"acts/{told['id']}").json()
    assert row.keys() >= {"id", "time", "before", "after"}
    assert row | {"id": 0, "time": "", "before": None, "after": None} == {
        "id": 0, "time": "", "person": "olga", "how": "admin", "address": "192.0.2.1", "verb": "pin", "object": "http_check shop",
        "before": None, "after": None, "plan": 7, "reason": "near <it>", "configs": [pk], "nodes": [],
    }  # fmt: skip


def test_who_was_refused_is_not_told_as_if_they_had_refused() -> None:
    assert str(Act(verb=Act.Verb.REFUSE, object="pause 21 configs")) == "was refused: pause 21 configs"
    assert str(Act(verb=Act.Verb.PIN, object="shop")) == "pin shop"
