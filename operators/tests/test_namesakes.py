"""Configs that are called alike are told apart in each list, by what sends them."""

import pytest
from django.test import Client

from checks import dispatcher
from checks.models import Config
from checks.tests.cast import report, sent
from checks.tests.operators import planned, superuser
from nodes.models import Node, NodeEvent

pytestmark = pytest.mark.django_db
FILES = ("http_check.d/a.yaml", "http_check.d/b.yaml")
TOLD = [f"http_check twin (file:{name})" for name in FILES]


@pytest.fixture
def client(warm: None) -> Client:
    """Two configs whose instances have one name, on ash, and a third one."""
    report("ash")
    for number, key in enumerate(FILES):
        dispatcher.schedule([sent(key, instances=(f"name: twin\nurl: http://{number}\n",))])
    dispatcher.schedule([sent("other", instances=("name: other\nurl: http://other\n",))])
    return superuser()


def text(client: Client, url: str) -> str:
    return client.get(url).content.decode()


def test_only_what_is_called_alike_says_more(client: Client) -> None:
    rows = list(Config.objects.order_by("pk").values_list("pk", "title", "name", "digest"))
    assert Config.objects.told_apart(rows) == [*TOLD, "http_check other"]
    assert Config.objects.told_apart([rows[0], rows[0], rows[2]]) == ["http_check twin"] * 2 + ["http_check other"]


def test_what_is_gone_is_told_by_its_short_id(client: Client) -> None:
    rows = list(Config.objects.order_by("pk").values_list("pk", "title", "name", "digest"))
    dispatcher.unschedule([("file", FILES[0])])
    gone, left, _ = Config.objects.told_apart(rows)
    assert gone.startswith("http_check twin (k")
    assert left == TOLD[1]


def test_plans_stories_searches_and_a_node_s_page_tell_them_apart(client: Client) -> None:
    plan = planned(client, "pause", FILES)
    node = f"/admin/nodes/node/{Node.objects.get().pk}/change/"
    changes = client.get("/admin/changes/")
    story = next(story for story, _, _ in changes.context["stories"] if story.cause.kind == "sent")
    unfolded = f"/admin/changes/story/?{changes.context['span'].query}&story={story.key}"
    for url in (f"/admin/checks/plan/{plan.pk}/change/", node, unfolded, "/admin/search/?q=check:http_check"):
        assert all(name in text(client, url) for name in TOLD), url


def test_a_node_s_timeline_names_the_config_that_it_did_not_run(client: Client) -> None:
    digest = Config.objects.get(origins__key="other").digest
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.NOT_RUNNING, f"http_check {digest}")
    NodeEvent.objects.note(["ash"], NodeEvent.Kind.NOT_RUNNING, f"http_check {'0' * 16}")
    page = client.get(f"/admin/nodes/node/{Node.objects.get().pk}/change/")
    table = next(table for table in page.context["tables"] if table.title.startswith("Timeline"))
    said = [row for row in table.rows if row[1] == "not running"]
    assert [(">http_check other<" in row[2], row[3][:11]) for row in said] == [(False, "http_check "), (True, "")]
