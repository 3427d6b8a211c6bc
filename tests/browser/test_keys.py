"""Each page can be used by keyboard alone: a way past the sidebar, keys that open pages, and a list of them."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster
from tests.table import table

pytestmark = pytest.mark.processes

PAGES = [
    "/admin/",
    "/admin/changes/",
    "/admin/checks/config/",
    "/admin/checks/config/add/",
    "/admin/nodes/node/{node}/change/",
    "/admin/checks/plan/rebalance/",
]


@table("path", PAGES)
def test_the_first_tab_leads_past_the_sidebar_to_the_one_main_part(page: Page, cluster: Cluster, path: str) -> None:
    page.goto(path.format(node=cluster.number_of_node("ash")))
    main = page.get_by_role("main")
    expect(main).to_have_count(1)
    expect(main).to_be_visible()
    # Django focuses the first field of some forms; Tab would go on from there, even after it lost the focus.
    page.evaluate("document.activeElement.blur(); getSelection().setPosition(document.body, 0)")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(main).to_be_focused()
    # Buttons that save are part of it.
    for button in page.locator("button[name=_save], input[name=_save]").all():
        assert button.evaluate("element => !!element.closest('main')")


def test_g_and_a_letter_open_a_page(page: Page) -> None:
    page.goto("/admin/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.type("gn")
    expect(page).to_have_url(re.compile("/admin/nodes/node/$"))
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.type("gh")
    expect(page).to_have_url(re.compile("/admin/$"))


def test_keys_are_letters_where_somebody_writes(page: Page) -> None:
    page.goto("/admin/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("/")
    box = page.get_by_role("searchbox", name="Search", exact=True)
    expect(box).to_be_focused()
    page.keyboard.type("gn?/")
    expect(box).to_have_value("gn?/")
    expect(page).to_have_url(re.compile("/admin/$"))
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_a_question_mark_lists_the_keys_of_the_sidebar(page: Page) -> None:
    page.goto("/admin/checks/rule/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys.get_by_role("link", name="Nodes")).to_be_visible()
    shown = keys.locator("a[data-key]").evaluate_all("links => links.map(link => link.dataset.key)")
    assert len(shown) == len(set(shown)) > 8
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()


def test_one_escape_closes_the_palette_whatever_is_written_in_it(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find")
    box = palette.get_by_role("searchbox")
    box.press_sequentially("ash")
    expect(palette.get_by_role("link", name="ash").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(box).to_have_value("")


def test_icons_are_not_read_aloud(page: Page) -> None:
    page.goto("/admin/checks/config/")
    expect(page.get_by_role("link", name="Now", exact=True)).to_be_visible()
    expect(page.locator(".material-symbols-outlined:not([aria-hidden=true])")).to_have_count(0)


def test_r_loads_the_page_anew_but_not_while_one_writes(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_text(re.compile(r"As of \d\d:\d\d:\d\d UTC"))).to_be_visible()
    page.evaluate("window.before = true")
    page.get_by_role("searchbox").first.fill("bir")
    page.keyboard.press("r")
    assert page.evaluate("window.before")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    page.wait_for_function("window.before === undefined")
    expect(page).to_have_url(re.compile(r"/admin/nodes/node/$"))
    expect(page.get_by_role("link", name="birch").first).to_be_visible()
