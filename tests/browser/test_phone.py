"""On a phone nothing that is said is cut off."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.processes

# What the cells of tables say that is larger than its cell.
CUT = """() => [...document.querySelectorAll('td')].filter(cell => cell.offsetParent && cell.innerText.trim()).filter(cell => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const [text, room] = [range.getBoundingClientRect(), cell.getBoundingClientRect()];
    return text.top < room.top - 1 || text.bottom > room.bottom + 1 || text.right > room.right + 1;
}).map(cell => cell.innerText)"""
_ERRORS = "SELECT jsonb_array_length(errors) FROM checks_source WHERE name = 'file'"


@pytest.fixture(scope="module", autouse=True)
def _long_errors(cluster: Cluster) -> Iterator[None]:
    """A file whose place and error take several lines."""
    file = cluster.confd / f"{'a_check_with_a_very_long_name_' * 4}.yaml"
    file.write_text(
        "cluster_check: true\ninstances: [{}, {url: http://example.com}, some words that are no map of options]\n"
    )
    wait_for("the error", lambda: cluster.ask(_ERRORS) == [1])
    yield
    file.unlink()
    wait_for("no error", lambda: cluster.ask(_ERRORS) == [0])


@table("path", ["/admin/checks/config/", "/admin/checks/source/{source}/change/", "/admin/nodes/node/{node}/change/"])
def test_no_text_of_a_table_is_cut_off(page: Page, cluster: Cluster, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    [source] = cluster.ask("SELECT id FROM checks_source WHERE name = 'file'")
    page.goto(path.format(source=source, node=cluster.number_of_node("ash")))
    assert page.locator("td").count()
    assert page.evaluate(CUT) == []


# For each row of a list: the height of its name, whether anything stands beside or above it, and the row's height.
ROWS = """() => [...document.querySelectorAll('#result_list .data-row')].map((row) => {
    const name = row.querySelector(':scope > th').getBoundingClientRect();
    const others = [...row.querySelectorAll(':scope > td:not(.action-checkbox)')].map((cell) => cell.getBoundingClientRect());
    return [others.every((other) => !other.height || other.top >= name.bottom - 1), row.getBoundingClientRect().height];
})"""


@table(
    ("path", "most"),
    [("checks/config", 90), ("nodes/node", 70), ("checks/move", 90), ("nodes/nodeevent", 70), ("acts/act", 90)],
)
def test_a_row_is_its_name_and_below_it_what_is_known(page: Page, cluster: Cluster, path: str, most: int) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/admin/{path}/")
    rows = page.evaluate(ROWS)
    assert rows
    assert all(is_first for is_first, _ in rows)
    # Names and texts that are long take more lines: what the other tests leave in the lists is of any length.
    assert min(height for _, height in rows) <= most


# For each row of moves: whether its config stands above the rest, and what of it begins or ends beyond the page.
MOVES = """() => [...document.querySelectorAll('.pages-story[data-looked-at] tbody tr')].map((row) => {
    const name = row.querySelector('th').getBoundingClientRect();
    const cells = [...row.querySelectorAll('td')].filter((cell) => cell.innerText.trim());
    const boxes = cells.map((cell) => [cell.innerText, cell.getBoundingClientRect()]);
    return [boxes.every(([, box]) => box.top >= name.bottom - 1),
        boxes.filter(([, box]) => box.left < 0 || box.right > innerWidth).map(([text]) => text),
        cells.map((cell) => cell.dataset.label).filter(Boolean), row.getBoundingClientRect().height];
})"""


def test_a_move_is_its_config_and_below_it_all_of_the_rest(page: Page, cluster: Cluster) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/changes/?last=7d")
    story = page.locator(".pages-story", has_text="moved once").last
    story.evaluate("element => { element.dataset.lookedAt = '' }")
    # The newest one is open already.
    story.locator("details").evaluate("element => { element.open = true }")
    expect(story.locator("tbody tr").first).to_be_visible()
    rows = page.evaluate(MOVES)
    assert all(is_first and not beyond and "To" in labels for is_first, beyond, labels, _ in rows)
    assert min(height for *_, height in rows) <= 90
