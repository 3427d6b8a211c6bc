"""Lists: the bar goes on with what is typed, and chips show what filters."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster

pytestmark = pytest.mark.processes


def test_the_bar_offers_how_to_go_on_and_its_chips_take_filters_away(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/checks/config/?owner=assigned")
    bar = page.locator("#searchbar")
    bar.press_sequentially("team:or")
    expect(page.locator('#filter-words option[value="team:orders"]')).to_be_attached()
    bar.fill("team:orders -check:http_check")
    bar.press("Enter")
    chips = page.get_by_role("list", name="Filters that are on").get_by_role("listitem")
    expect(chips).to_contain_text(["team:orders", "-check:http_check", "owner: assigned", "Clear all"])
    page.get_by_role("link", name="Without -check:http_check").click()
    expect(bar).to_have_value("team:orders")
    page.get_by_role("link", name="Clear all").click()
    expect(chips).to_have_count(0)
    page.locator("#result_list").get_by_role("link", name="team:orders").first.click()
    expect(bar).to_have_value("tag:team:orders")
