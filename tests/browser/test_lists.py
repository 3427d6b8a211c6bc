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


def test_all_columns_are_in_sight_beside_the_sidebar(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/checks/config/")
    page.locator(".field-owner a").evaluate_all(
        "links => links.forEach(link => link.textContent = 'clc-runner-6d4f9c7b5d-x7m9b')"
    )
    page.locator(".field-last_error").first.evaluate("cell => cell.textContent = 'connection refused '.repeat(5)")
    last = page.locator("#result_list thead th").last
    expect(last).to_have_text("Origins")
    assert last.evaluate("head => head.getBoundingClientRect().right <= innerWidth")


def test_tags_stay_in_a_line_beside_long_names(page: Page) -> None:
    page.goto("/admin/checks/config/")
    page.locator(".field-owner a").evaluate_all(
        "links => links.forEach(link => link.textContent = 'clc-runner-6d4f9c7b5d-x7m9b')"
    )
    page.locator(".field-last_error").evaluate_all(
        "cells => cells.forEach(cell => cell.textContent = 'connection refused '.repeat(5))"
    )
    heights = page.locator("#result_list .list-chip").evaluate_all("chips => chips.map(chip => chip.offsetHeight)")
    assert heights
    assert max(heights) < 40


def test_six_rows_fit_a_small_screen_beside_long_tags(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/checks/config/")
    # As long as tags are shown.
    page.locator("#result_list .list-chip").evaluate_all(
        "chips => chips.forEach(chip => chip.textContent = 'kubernetes_cluster:eu-c…')"
    )
    bottoms = page.locator("#result_list .data-row").evaluate_all(
        "rows => rows.map(row => row.getBoundingClientRect().bottom)"
    )
    assert len([bottom for bottom in bottoms if bottom <= 900]) >= 6
    heights = page.locator("#result_list .list-chip").evaluate_all("chips => chips.map(chip => chip.offsetHeight)")
    assert max(heights) < 40
