"""Lists: the bar goes on with what is typed, and chips show what filters."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import PATIENCE, Cluster
from tests.replicas import wait_for

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


# Where the lines of the names of configs, and of what sends them, break: the letters around each break.
_BROKEN = """() => [...document.querySelectorAll('#result_list .field-called a, td.field-shown_origins')].flatMap((cell) => {
    const found = [], range = document.createRange(), words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    let before = '', top = null;
    while (words.nextNode()) {
        for (let at = 0; at < words.currentNode.length; at++) {
            range.setStart(words.currentNode, at);
            range.setEnd(words.currentNode, at + 1);
            const box = range.getBoundingClientRect();
            if (box.width && top !== null && box.top > top + 4) found.push(before + range);
            if (box.width) top = box.top;
            before = String(range);
        }
    }
    return found;
})"""
# The height of what stands in a cell.
_HEIGHT = """cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return range.getBoundingClientRect().height;
}"""
_HOSTS = "SELECT 1 FROM checks_config WHERE title LIKE '%%orders.twin.example.com%%'"


@pytest.fixture
def _long_names(cluster: Cluster) -> Iterator[None]:
    """A config has a long name, and comes from a file of one."""
    file = cluster.confd / "tcp_check.d" / "the_primary_database_of_orders.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text("cluster_check: true\ninstances: [{name: pg-0.orders.twin.example.com, host: ash, port: 5432}]\n")
    wait_for("the config", lambda: cluster.ask(_HOSTS), PATIENCE)
    yield
    file.unlink()
    wait_for("no config", lambda: not cluster.ask(_HOSTS), PATIENCE)


@pytest.mark.usefixtures("_long_names")
def test_names_break_between_their_parts_and_numbers_stand_beside_their_units(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/checks/config/")
    page.locator(".field-owner a").evaluate_all(
        "links => links.forEach(link => link.textContent = 'clc-runner-6d4f9c7b5d-x7m9b')"
    )
    page.locator("td.field-run_time").evaluate_all("cells => cells.forEach(cell => cell.textContent = '548 ms')")
    page.locator("td.field-last_error").evaluate_all(
        "cells => cells.forEach(cell => cell.innerHTML = `<span>${'connection refused '.repeat(6)}</span>`)"
    )
    breaks = page.evaluate(_BROKEN)
    assert breaks
    assert [one for one in breaks if one[0].isalnum()] == []
    assert page.locator("td.field-run_time").first.evaluate(_HEIGHT) < 30
    assert page.locator("td.field-last_error > span").first.evaluate("said => said.offsetHeight") < 70


# Names, a state and an error as long as they may be in one row, and the room that the table has, and takes; the row's parts.
_WORST = """() => {
    for (const link of document.querySelectorAll('td.field-owner a')) link.textContent = 'clc-runner-6d4f9c7b5d-x7m9b';
    const row = document.querySelector('.data-row');
    const fill = (name, html) => {
        const cell = row.querySelector(`.field-${name}`);
        cell.classList.remove('is-empty');
        cell.innerHTML = html;
        return cell;
    };
    const state = fill('condition', 'failing for 24 min, pinned');
    fill('last_error', `<span>${'connection refused '.repeat(9)}</span>`);
    fill('tags', '<a class="list-chip">kubernetes_cluster:eu-c…</a> '
        + '<span class="list-last"><a class="list-chip">kubernetes_cluster:eu-c…</a> <span>+3</span></span>');
    const frame = document.querySelector('#result_list').parentElement;
    const range = document.createRange();
    range.selectNodeContents(state);
    return [frame.scrollWidth - frame.clientWidth, range.getBoundingClientRect().height, row.offsetHeight];
}"""


@pytest.mark.parametrize("width", [1280, 1360, 1600])
def test_a_row_with_an_error_makes_a_list_neither_wider_than_its_frame_nor_much_higher(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/admin/checks/config/")
    beyond, state, height = page.evaluate(_WORST)
    assert beyond <= 0
    # Two lines.
    assert state <= 34
    assert height <= 76


def test_a_time_stands_in_a_line_and_the_foot_below_all_of_the_list(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/acts/act/")
    page.locator(".field-what a").first.evaluate("link => link.textContent = 'pin http_check shop '.repeat(20)")
    time = page.locator("td.field-when").first
    assert time.evaluate(_HEIGHT) < 30
    assert "," in time.inner_text()
    line = "foot => [foot.offsetWidth, getComputedStyle(foot).borderTopWidth]"
    foot = page.locator("#page-main > div").last
    assert foot.evaluate(line) == [page.locator("#page-main").evaluate("main => main.offsetWidth"), "1px"]
