"""The first page keeps itself up to date."""

import re

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.cluster import Cluster
from tests.browser.visit import Visit

pytestmark = pytest.mark.processes


def test_the_first_page_updates_itself(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/")
    sentence = page.get_by_role("status")
    expect(sentence).to_contain_text(f"{cluster.checks} configs on 3 nodes")
    page.evaluate("window.here = true")
    with cluster.another_check("db-99"):
        expect(sentence).to_contain_text(f"{cluster.checks + 1} configs on 3 nodes")
    expect(sentence).to_contain_text(f"{cluster.checks} configs on 3 nodes")
    assert page.evaluate("window.here"), "the page was loaded anew"


def test_the_tab_s_title_follows_the_word(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/")
    expect(page).not_to_have_title(re.compile("Not healthy"))
    cluster.change("UPDATE nodes_node SET schedulable = false")
    expect(page).to_have_title(re.compile(r"^\(\d+\) Not healthy - Cluster agent$"))
    expect(page.get_by_role("status")).to_contain_text("Not healthy.")
    cluster.change("UPDATE nodes_node SET schedulable = true")
    expect(page).not_to_have_title(re.compile("Not healthy"))


def test_a_page_whose_server_fails_says_so_until_it_answers(
    browser: Browser, session: StorageState, cluster: Cluster
) -> None:
    with Visit(browser, cluster.url, session) as visit:
        page = visit.context.new_page()
        page.goto("/admin/")
        stale = page.get_by_role("alert").filter(has_text="could not be refreshed")
        expect(stale).to_be_hidden()
        page.route("**/admin/now/**", lambda route: route.abort())
        expect(stale).to_be_visible()
        expect(page).to_have_title(re.compile("^Out of date - "))
        page.unroute("**/admin/now/**")
        expect(stale).to_be_hidden()
        expect(page).not_to_have_title(re.compile("Out of date"))


@pytest.mark.parametrize("path", ["/admin/", "/admin/nodes/node/{node}/change/"])
def test_a_page_that_lost_its_session_says_so_and_shows_no_login_form(
    browser: Browser, session: StorageState, cluster: Cluster, path: str
) -> None:
    with Visit(browser, cluster.url, session) as visit:
        page = visit.context.new_page()
        page.goto(path.format(node=cluster.number_of_node("ash")))
        visit.context.clear_cookies()
        page.evaluate("htmx.ajax('GET', location.href, {target: '#content', swap: 'innerHTML'})")
        over = page.get_by_role("alert").filter(has_text="session is over")
        expect(over).to_be_visible()
        expect(page).to_have_title(re.compile("^Out of date - "))
        expect(page.get_by_label("Password")).to_have_count(0)


def test_the_palette_leads_to_what_it_finds(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/nodes/node/")
    page.keyboard.press("Control+k")
    box = page.get_by_placeholder("Type to search")
    box.fill("birch")
    box.press("Shift")  # a key, as of a person who writes
    expect(page.locator("#command-results-list li.active")).to_contain_text("birch")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/nodes/node/{cluster.number_of_node('birch')}/change/"))
