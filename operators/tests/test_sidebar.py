"""The sidebar: what there is to watch, to steer, what happened, and who may do it."""

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

pytestmark = pytest.mark.django_db


def sidebar(client: Client) -> dict[str, list[str]]:
    groups = client.get("/admin/").context["sidebar_navigation"]
    return {group.get("title", ""): [item["title"] for item in group["items"]] for group in groups}


def test_its_entries_are_in_four_groups_and_lead_to_pages(admin_client: Client) -> None:
    found = sidebar(admin_client)
    assert list(found) == ["Watch", "Steer", "History", "Access", ""]
    assert found["Watch"][:4] == ["Now", "Map", "Nodes", "Configs"]
    assert found[""] == ["Documentation"]
    groups = admin_client.get("/admin/").context["sidebar_navigation"]
    for item in (item for group in groups[:-1] for item in group["items"]):
        assert admin_client.get(item["link"]).status_code == 200, item


def test_a_group_of_which_one_may_see_nothing_is_left_out(client: Client) -> None:
    client.force_login(viewer := User.objects.create_user("vera"))
    viewer.groups.add(Group.objects.get(name="viewer"))
    assert "Access" not in sidebar(client)
    assert "Now" in sidebar(client)["Watch"]


def test_who_may_see_nothing_has_a_first_page(client: Client) -> None:
    client.force_login(User.objects.create_user("otto", is_staff=True))
    assert sidebar(client) == {"Watch": ["Now"], "": ["Documentation"]}
