"""What all pages of the admin have in common."""

import re

import pytest

from checks.tests.operators import superuser

pytestmark = pytest.mark.django_db

PAGES = (
    "", "map/", "failures/", "groups/", "history/", "changes/", "search/?q=a", "password_change/", "nodes/node/",
    "checks/config/", "checks/config/add/", "checks/rule/add/", "checks/plan/rebalance/",
)  # fmt: skip


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_main_part_to_which_a_link_skips(page: str) -> None:
    text = superuser().get(f"/admin/{page}").content.decode()
    assert (text.count("<main"), text.count("</main>"), text.count('id="page-main"')) == (1, 1, 1)
    assert 'href="#page-main"' in text


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("page", PAGES)
def test_icons_are_hidden_from_screen_readers_without_a_script(page: str) -> None:
    text = superuser().get(f"/admin/{page}").content.decode()
    icons = re.findall(r'<\w+\s[^<>]*class="[^"]*material-symbols-outlined[^<>]*>', text)
    assert icons
    # What a script fills in has one of these, too; `after:` is no element of its own.
    assert [icon for icon in icons if "aria-hidden" not in icon and "after:material" not in icon] == []
