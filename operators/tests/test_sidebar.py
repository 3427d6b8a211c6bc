"""The sidebar: what there is to watch, to steer, what happened, and who may do it."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.test import Client
from docutils import nodes

from operators.admin.base import list_url
from operators.pages import base

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parent.parent.parent


def sidebar(client: Client) -> dict[str, list[str]]:
    groups = client.get("/admin/").context["sidebar_navigation"]
    return {group.get("title", ""): [item["title"] for item in group["items"]] for group in groups}


def test_its_entries_are_in_four_groups_and_lead_to_pages(admin_client: Client) -> None:
    found = sidebar(admin_client)
    assert list(found) == ["Watch", "Steer", "History", "Access", ""]
    assert found["Watch"][:4] == ["Now", "Map", "Nodes", "Configs"]
    assert found[""] == ["Documentation", "API"]
    groups = admin_client.get("/admin/").context["sidebar_navigation"]
    for item in (item for group in groups[:-1] for item in group["items"]):
        assert admin_client.get(item["link"]).status_code == 200, item
    [api] = [item["link"] for item in groups[-1]["items"] if item["title"] == "API"]
    assert "swagger-ui" in admin_client.get(api).content.decode()


@pytest.mark.parametrize("entry", [entry for _, entries in base.SIDEBAR for entry in entries], ids=str)
def test_the_help_of_each_page_leads_to_a_part_of_the_documentation(entry: base.Entry, admin_client: Client) -> None:
    page, _, part = entry.about.partition("#")
    text = (ROOT / f"docs/{page}.md").read_text()
    assert not part or part in {nodes.make_id(heading) for heading in re.findall(r"^#+ (.*)", text, re.MULTILINE)}
    groups = admin_client.get("/admin/").context["sidebar_navigation"]
    [item] = [item for group in groups for item in group["items"] if item.get("about") and item["title"] == entry.title]
    keys = admin_client.get(item["link"]).content.decode().partition('<dialog id="keys"')[2].partition("</dialog>")[0]
    assert re.findall(r'<a href="(\S+)">About (.*)</a>', keys) == [(item["about"], entry.title)]


def test_a_group_of_which_one_may_see_nothing_is_left_out(client: Client) -> None:
    client.force_login(viewer := User.objects.create_user("vera"))
    viewer.groups.add(Group.objects.get(name="viewer"))
    assert "Access" not in sidebar(client)
    assert "Now" in sidebar(client)["Watch"]


def test_who_may_see_nothing_has_a_first_page(client: Client) -> None:
    client.force_login(User.objects.create_user("otto", is_staff=True))
    assert sidebar(client) == {"Watch": ["Now"], "": ["Documentation"]}


# The cluster is a page, and no list.
LISTS = [
    entry for _, entries in base.SIDEBAR for entry in entries if ":" not in entry.name and entry.title != "Cluster"
]


@pytest.mark.parametrize("entry", LISTS, ids=str)
def test_a_page_names_its_room_as_the_sidebar_does(entry: base.Entry, admin_client: Client) -> None:
    [group] = [title for title, entries in base.SIDEBAR if entry in entries]
    page = admin_client.get(list_url(apps.get_model(entry.name))).content.decode()
    parts = re.findall(r'<(a|span)[^>]*class="header-part align-middle[^>]*>([^<]*)<', page)
    assert parts == [("span", group), ("a", entry.title)]


def test_tokens_are_called_so(admin_client: Client) -> None:
    page = admin_client.get("/admin/knox/authtoken/").content.decode()
    assert "Add token" in page
    assert "uth token" not in page
