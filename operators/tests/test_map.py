"""The map of nodes."""

import re
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from checks import dispatcher
from checks.dispatcher import costs
from checks.models import Config, Cost
from checks.tests.cast import report, sent
from clusteragent.lib import conf
from nodes.models import Heartbeat, Node
from operators.admin.base import row_url
from operators.pages import nodemap

pytestmark = pytest.mark.django_db

MAP = "/admin/map/"


@pytest.fixture
def fleet(warm: None) -> None:
    """web-1 is overloaded, web-2 is idle, db-1 of zone b is lost."""
    report("web-1", "web-2", "db-1")
    dispatcher.schedule([sent(f"c{number}") for number in range(6)])
    Node.objects.filter(name="db-1").update(labels={conf.DOMAIN_LABEL: "b"})
    Cost.objects.bulk_create(Cost(config=one, workers_needed=0.1) for one in Config.objects.all())


def loaded(monkeypatch: pytest.MonkeyPatch, shares: dict[int, float], *assumed: int) -> None:
    monkeypatch.setattr(costs, "told", lambda held: costs.Told(shares, set(assumed)))


def tiles(client: Client, query: str = "") -> dict[str, str]:
    """{a tile's words: its classes}."""
    text = client.get(MAP + query).content.decode().replace("\u202f", " ")
    return {title: classes for classes, title in re.findall(r'<a class="(tile [^"]*)"[^>]*title="([^"]*)"', text)}


def name_of(title: str) -> str:
    """The node of a tile with this title, which begins with its name."""
    return title.partition(",")[0]


def test_each_node_is_a_tile_that_tells_its_load_and_state(admin_client: Client, fleet: None, monkeypatch) -> None:
    ids = dict(Node.objects.values_list("name", "pk"))
    loaded(monkeypatch, {ids["web-1"]: 1.2, ids["web-2"]: 0.05})
    Heartbeat.objects.filter(node__name="db-1").delete()
    found = tiles(admin_client)
    assert {name_of(title) for title in found} == {"web-1", "web-2", "db-1"}
    assert "tile-over" in next(classes for title, classes in found.items() if "load 120 %" in title)
    assert "tile-idle" in next(classes for title, classes in found.items() if "load 5.0 %" in title)
    assert "tile-lost" in next(classes for title, classes in found.items() if ", lost, " in title)
    assert [name_of(title) for title in tiles(admin_client, "?load=over")] == ["web-1"]
    text = re.sub("<[^>]*>", "", admin_client.get(MAP).content.decode().replace("\u202f", " "))
    assert "web-1 120 %" in text
    assert "db-1 lost" in text


def test_a_load_that_is_a_guess_has_no_colour_of_a_load_and_is_in_the_legend(
    admin_client: Client, fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "assumed, not measured" not in admin_client.get(MAP).content.decode()
    ids = dict(Node.objects.values_list("name", "pk"))
    loaded(monkeypatch, {ids["web-1"]: 4, ids["web-2"]: 0.5}, ids["web-1"])
    page = admin_client.get(MAP)
    assert {band.name: number for band, number, _ in page.context["legend"] if number} == {
        "middle": 1, "idle": 1, "assumed": 1
    }  # fmt: skip
    found = {name_of(title): (title, classes) for title, classes in tiles(admin_client).items()}
    assert list(found) == ["web-2", "web-1", "db-1"]
    title, classes = found["web-1"]
    assert ", load 400 % (assumed)" in title
    assert classes.split()[-1] == "tile-assumed"
    text = re.sub("<[^>]*>", "", page.content.decode().replace("\u202f", " "))
    assert "web-1 ≈ 400 %" in text
    assert "at most 400 % on web-1 (assumed of 1 node)" in text
    assert "assumed, not measured" in text
    assert [name_of(title) for title in tiles(admin_client, "?load=assumed")] == ["web-1"]
    assert tiles(admin_client, "?load=over") == {}


def test_a_tile_leads_to_its_node_whatever_the_node_is_called(admin_client: Client, fleet: None) -> None:
    Node.objects.filter(name="web-2").update(name='<web>"2"')
    ids = dict(Node.objects.values_list("name", "pk"))
    links = re.findall(
        r'class="tile [^"]*" href="([^"]*)" title="([^"]*), load', admin_client.get(MAP).content.decode()
    )
    assert {unescape(name): url for url, name in links} == {name: row_url(Node(pk=id_)) for name, id_ in ids.items()}


def test_lost_nodes_are_named(admin_client: Client, fleet: None) -> None:
    assert "Lost:" not in admin_client.get(MAP).content.decode()
    Heartbeat.objects.filter(node__name="db-1").delete()
    assert ". Lost: db-1</p>" in admin_client.get(MAP).content.decode()


def test_they_are_in_groups(admin_client: Client, fleet: None) -> None:
    text = admin_client.get(MAP).content.decode()
    assert re.findall(r'<h2 id="group-\d+"><a href="[^"]*">([^<]*)<', text) == ["web-*", "Nodes of no pool"]
    text = admin_client.get(f"{MAP}?by=domain").content.decode()
    assert re.findall(r'<h2 id="group-\d+"><a href="[^"]*">([^<]*)<', text) == ["no zone", "zone b"]


def test_a_load_leaves_the_nodes_in_their_pools(admin_client: Client, fleet: None, monkeypatch) -> None:
    ids = dict(Node.objects.values_list("name", "pk"))
    loaded(monkeypatch, {ids["web-1"]: 1.2, ids["web-2"]: 0.05, ids["db-1"]: 0.9})
    text = admin_client.get(f"{MAP}?by=pool&load=over").content.decode()
    assert re.findall(r'<h2 id="group-\d+"><a href="[^"]*">([^<]*)<', text) == ["web-*"]
    text = admin_client.get(f"{MAP}?by=pool&load=high").content.decode()
    assert re.findall(r'<h2 id="group-\d+"><a href="[^"]*">([^<]*)<', text) == ["Nodes of no pool"]


@pytest.mark.parametrize("query", ["?by=nonsense", "?load=nonsense", "?load=", "?by=&load=over&x=y"])
def test_what_is_no_choice_is_ignored(admin_client: Client, fleet: None, query: str) -> None:
    assert admin_client.get(MAP + query).status_code == 200


def test_an_empty_cluster_says_what_to_do(admin_client: Client) -> None:
    assert "Point node agents at" in admin_client.get(MAP).content.decode()


@pytest.mark.parametrize("by", nodemap.WAYS)
def test_many_nodes_are_small_tiles_of_as_many_queries(admin_client: Client, fleet: None, by: str) -> None:
    admin_client.get(MAP)
    with CaptureQueriesContext(connection) as few:
        assert "tiles-dense" not in admin_client.get(f"{MAP}?by={by}").content.decode()
    report(*(f"new-{number}" for number in range(nodemap.DENSE)))
    with CaptureQueriesContext(connection) as many:
        assert "tiles-dense" in admin_client.get(f"{MAP}?by={by}").content.decode()
    assert len(many) == len(few)


def test_of_many_nodes_a_group_alone_has_names(admin_client: Client, fleet: None) -> None:
    report(*(f"new-{number}" for number in range(nodemap.DENSE)))
    text = admin_client.get(MAP).content.decode()
    assert "tile-name" not in text
    assert all(name_of(title) for title in tiles(admin_client))
    alone = re.findall(r'<a href="(\?[^"]*group=[^"]*)">With names</a>', text)
    assert [unescape(url) for url in alone] == [
        f"?by=pool&group={name}" for name in ("new-%2A", "web-%2A", "Nodes+of+no+pool")
    ]
    found = admin_client.get(MAP + unescape(alone[1])).content.decode()
    assert re.findall('class="tile-name"><bdi>([^<]*)<', found) == ["web-1", "web-2"]
    assert "All groups" in found
    assert "There is no such node" in admin_client.get(f"{MAP}?group=nonsense").content.decode()


@pytest.mark.parametrize(("load", "name"), [(0, "idle"), (0.2, "low"), (0.79, "middle"), (1, "high"), (1.001, "over")])
def test_each_load_has_a_band(load: float, name: str) -> None:
    assert nodemap.band_of(load).name == name
