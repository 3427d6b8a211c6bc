"""Where acts are read: their list and pages in the admin, the pages of configs and nodes, and the operators' API."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken

from acts.models import Act
from acts.recording import entered, record
from checks import dispatcher
from checks.tests.cast import report, sent
from checks.tests.operators import config, page_of
from nodes.models import Node
from operators.roles import Role
from operators.tests.cast import API, bearer, having, user
from operators.tokens import give_purpose

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
        ("?token=1a2b", []),
        ("?since=2000-01-01T03:00&until=2100-01-01T03:00:00Z", ["pin http_check shop", "drain ash"]),
        ("?until=2000-01-01T03:00:00%2B01:00", []),
        ("?since=soon", []),
        ("?since=2026-13-01T00:00", []),
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
    assert not told.keys() & {"before", "after", "foreseen", "configs", "nodes"}
    row = caller.call("GET", f"acts/{told['id']}").json()
    assert row.keys() >= {"id", "time", "before", "after"}
    assert row | {"id": 0, "time": "", "before": None, "after": None} == {
        "id": 0, "time": "", "person": "olga", "how": "admin", "address": "192.0.2.1", "credential": "", "verb": "pin",
        "object": "http_check shop",
        "before": None, "after": None, "foreseen": None, "plan": 7, "reason": "near <it>", "configs": [pk], "nodes": [],
    }  # fmt: skip


def test_two_tokens_of_one_user_are_told_apart_and_from_a_session() -> None:
    report("birch")
    ci = user("ci", Role.OPERATOR)
    tokens = [AuthToken.objects.create(ci) for _ in range(2)]
    give_purpose(tokens[0][0], "deploys of the shop")
    for _, token in tokens:
        assert bearer(token).call("POST", "nodes/ash/cordon").status_code == 200
        assert bearer(token).call("POST", "nodes/ash/uncordon").status_code == 200
    client = Client()
    client.force_login(ci)
    assert client.post(f"{API}/nodes/ash/cordon", content_type="application/json").status_code == 200
    first, second = (row.token_key for row, _ in tokens)
    cordons = Act.objects.filter(verb="cordon").order_by("pk")
    said = [f"token {first}…, for deploys of the shop", f"token {second}…", "session"]
    assert [act.credential for act in cordons] == said
    caller = having(Role.ADMIN)
    assert [row["credential"] for row in caller.rows("acts?verb=cordon")] == said[::-1]
    assert [row["verb"] for row in caller.rows(f"acts?token={second[:6]}")] == ["uncordon", "cordon"]
    seer = seen_by(Role.ADMIN)
    assert shown(seer, f"?token={first}") == ["uncordon ash", "cordon ash"]
    page = seer.get(f"{ACTS}{cordons[0].pk}/change/").content.decode()
    assert f"operators&#x27; API by {said[0]}" in page
    for _, token in tokens:
        assert token not in page


def test_what_a_token_may_not_do_is_on_record_as_refused_to_it() -> None:
    row, token = AuthToken.objects.create(user("eva", Role.VIEWER))
    assert bearer(token).call("POST", "nodes/ash/cordon").status_code == 403
    assert Act.objects.get(verb="refuse").credential == f"token {row.token_key}…"


def test_a_click_is_by_a_session_and_a_login_begins_one() -> None:
    client = Client()
    User.objects.create_superuser("boss", password="four-words-in-a-row")
    client.post("/admin/login/", {"username": "boss", "password": "wrong"})
    client.post("/admin/login/", {"username": "boss", "password": "four-words-in-a-row"})
    client.post("/admin/logout/")
    told = [
        (act.verb, act.credential) for act in Act.objects.exclude(object__in=["ash", "http_check shop"]).order_by("pk")
    ]
    assert told == [("fail to log in", ""), ("log in", "session"), ("log out", "session")]


def test_who_was_refused_is_not_told_as_if_they_had_refused() -> None:
    assert str(Act(verb=Act.Verb.REFUSE, object="pause 21 configs")) == "was refused: pause 21 configs"
    assert str(Act(verb=Act.Verb.PIN, object="shop")) == "pin shop"
