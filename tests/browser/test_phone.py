"""On a phone nothing that is said is cut off, but for the second line of a list's row, whose page has all of it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import PATIENCE, Cluster
from tests.browser.pages import furnished
from tests.browser.visit import sending
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.processes

# What the cells of tables say that is larger than its cell.
CUT = """() => [...document.querySelectorAll('td:not(#result_list td)')].filter(cell => {
    if (!cell.offsetParent || !cell.innerText.trim()) return false;
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


# For each row of a list: whether all the rest stands below its name, and the height of the rest.
ROWS = """() => [...document.querySelectorAll('#result_list .data-row')].map((row) => {
    const name = row.querySelector(':scope > th').getBoundingClientRect();
    const others = [...row.querySelectorAll(':scope > td:not(.action-checkbox)')].map((cell) => cell.getBoundingClientRect());
    const shown = others.filter((other) => other.height);
    const isBelow = shown.every((other) => other.top >= name.bottom - 1 && other.width);
    return [isBelow, row.getBoundingClientRect().height - name.height];
})"""
# What stands in cells that a row need not show, and what a row shows of a value that is not there.
EMPTY = """() => [...document.querySelectorAll('#result_list .data-row > td')].filter((cell) => cell.offsetParent)
    .map((cell) => cell.innerText.trim()).filter((text) => text === '-')"""

# What is wrong is said whole.
WRONG = ".field-shown_state, .field-condition, .field-load, .field-failing, .field-peak, .field-pace"
CUT_SHORT = f"""() => [...document.querySelectorAll('{WRONG}')]
    .filter((cell) => cell.scrollWidth > cell.clientWidth || cell.getBoundingClientRect().right > innerWidth)
    .map((cell) => cell.innerText)"""


# The sides of what a thumb shall hit in rows.
BOXES = """() => [...document.querySelectorAll('#result_list .data-row :is(.action-checkbox input, a)')]
    .filter((one) => one.checkVisibility()).map((box) => box.getBoundingClientRect()).flatMap((box) => [box.width, box.height])"""

LISTS = (
    "checks/config/", "checks/config/?trouble=failing", "nodes/node/", "checks/move/", "nodes/nodeevent/", "acts/act/",
    "checks/plan/", "checks/pin/", "checks/rule/", "auth/user/", "checks/source/",
)  # fmt: skip
_FAILING = "SELECT 1 FROM checks_trouble WHERE kind = 'failing'"
# More columns are shown while a node is slow.
_SLOW = """
    INSERT INTO nodes_slowness
        (node_id, level, since, checks, others, missed, rounds, share, step, heading, steps, discount)
    SELECT id, 2, now(), 0, 0, 0, 0, 1, 0.2, 0, 0, 1 FROM nodes_node WHERE name = 'ash'
    ON CONFLICT (node_id) DO UPDATE SET level = 2, since = now()
"""


@pytest.fixture
def _full(page: Page, cluster: Cluster) -> Iterator[None]:
    """There is a row of each kind, a node is slow, and a config fails with a long error."""
    error = "could not connect to the database server: timeout expired after 10 s, tried 3 times " * 3
    with furnished(cluster, page), cluster.failing({"postgres:db-11": error}):
        wait_for("a check fails", lambda: cluster.ask(_FAILING), PATIENCE)
        cluster.change(_SLOW)
        yield
        cluster.change("UPDATE nodes_slowness SET level = 0, since = NULL")
    wait_for("nothing fails", lambda: not cluster.ask(_FAILING), PATIENCE)


@pytest.mark.usefixtures("_full")
@table("path", LISTS)
def test_a_row_is_its_name_and_below_it_a_line_of_what_is_known(page: Page, cluster: Cluster, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/admin/{path}")
    rows = page.evaluate(ROWS)
    assert rows
    assert all(is_first for is_first, _ in rows)
    # Only a long name takes more than one line.
    assert max(rest for _, rest in rows) <= 46
    assert page.evaluate(EMPTY) == []
    assert page.evaluate(CUT_SHORT) == []
    assert min(page.evaluate(BOXES), default=24) >= 24
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


# A row as it is while its node is drained, and what of it is cut or beyond its frame.
DRAINED = """() => {
    const row = document.querySelector('#result_list .data-row:not(:has(.field-pace:not(.is-empty)))');
    const fill = (name, html) => {
        const cell = row.querySelector(`.field-${name}`) ?? row.appendChild(document.createElement('td'));
        cell.className = `field-${name}`;
        cell.innerHTML = html;
    };
    fill('failing', '<a>12</a>');
    fill('shown_schedulable', '<span class="inline-block px-2">DRAINING</span>');
    fill('shown_drain', '12 left, by 07:31:22 UTC');
    const end = row.getBoundingClientRect().right;
    return [...row.children].filter((cell) => cell.scrollWidth > cell.clientWidth + 1 || cell.getBoundingClientRect().right > end)
        .map((cell) => cell.innerText);
}"""


def test_the_row_of_a_drained_node_is_not_cut(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/nodes/node/")
    assert page.evaluate(DRAINED) == []


def test_a_row_of_a_plan_is_its_name_and_below_it_what_is_known(page: Page, cluster: Cluster) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/")
    rows = page.locator(".data-row").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.getBoundingClientRect().top))"
    )
    assert rows
    assert all(top > row[0] for row in rows for top in row[1:] if top)


def test_the_button_of_an_order_stands_above_its_many_configs(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/checks/config/?q=postgres")
    page.get_by_role("checkbox", name="Select all objects").check()
    page.get_by_role("combobox", name="Select action to run").select_option("pause")
    with sending(page):
        page.get_by_role("button", name="Run").click()
    button = page.get_by_role("button", name="Show what would move")
    assert button.evaluate("one => one.getBoundingClientRect().bottom <= innerHeight")


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
    story = page.locator(".pages-story", has_text="configs placed").last
    story.evaluate("element => { element.dataset.lookedAt = '' }")
    # The newest one is open already.
    story.locator("details").evaluate("element => { element.open = true }")
    expect(story.locator("tbody tr").first).to_be_visible()
    rows = page.evaluate(MOVES)
    assert all(is_first and not beyond and "To" in labels for is_first, beyond, labels, _ in rows)
    assert min(height for *_, height in rows) <= 90


# How many lines the heading of the page has, and how wide it is.
_HEADING = """() => {
    const box = document.querySelector('h1 .header-part:last-child').getBoundingClientRect();
    return [Math.round(box.height / 20), box.width];
}"""


def test_a_long_heading_has_a_line_of_its_own(page: Page, cluster: Cluster) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    [config] = cluster.ask("SELECT id FROM checks_config WHERE title LIKE 'postgres db-11%%'")
    page.goto(f"/admin/checks/config/{config}/change/")
    page.locator("h1 .header-part").last.evaluate(
        "part => part.textContent = 'postgres orders-primary.twin.example.com:5432'"
    )
    lines, width = page.evaluate(_HEADING)
    assert lines <= 2
    assert width > 200
    search = page.get_by_role("searchbox", name="Search", exact=True)
    heading = page.locator("h1")
    assert search.evaluate("box => box.getBoundingClientRect().top") >= heading.evaluate(
        "box => box.getBoundingClientRect().bottom"
    )
    # Beside a short one there is room.
    page.goto("/admin/checks/config/")
    assert page.locator("header").first.evaluate("head => head.firstElementChild.offsetHeight") < 70
