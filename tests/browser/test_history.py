"""Charts of history are drawn, and the table beside them says the same."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.cluster import PATIENCE, Cluster
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.processes

# The last minute as it was drawn, and whether anything was: the canvas has pixels that are not empty.
DRAWN = """() => [...document.querySelectorAll('canvas.chart')].map(canvas => {
    const [line] = Chart.getChart(canvas).data.datasets;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return [line.data.filter(value => value !== null).at(-1), pixels.some(value => value)];
})"""
PATHS = ["/admin/history/", "/admin/nodes/node/{node}/change/", "/admin/checks/config/{config}/change/"]


# What its runner tells of the config whose page is looked at.
TOLD = (
    "SELECT 1 FROM checks_instance AS i JOIN checks_assignment AS a ON a.config_id = i.config_id"
    " JOIN nodes_runnerstats AS s ON s.check_id = i.check_id AND s.node_id = a.node_id WHERE i.config_id = %s"
)
CONFIG = "postgres.d/db-07.yaml"


@pytest.fixture(scope="module", autouse=True)
def _noted(cluster: Cluster) -> None:
    """The leader notes a minute after that."""
    wait_for("its runner tells of the config", lambda: cluster.ask(TOLD, cluster.number_of(CONFIG)), PATIENCE)
    cluster.change("TRUNCATE checks_clusterhistory, checks_nodehistory, checks_confighistory")
    wait_for("the leader noted a minute", lambda: cluster.ask("SELECT 1 FROM checks_clusterhistory"), PATIENCE)


def path_of(path: str, cluster: Cluster) -> str:
    return path.format(node=cluster.number_of_node("ash"), config=cluster.number_of(CONFIG))


@table("path", PATHS)
def test_a_chart_shows_what_its_table_says(page: Page, cluster: Cluster, path: str) -> None:
    page.goto(path_of(path, cluster))
    page.wait_for_load_state("networkidle")
    drawn = page.evaluate(DRAWN)
    assert drawn
    assert all(is_drawn for _, is_drawn in drawn)
    page.get_by_text("The same as a table").click()
    first = page.get_by_role("region", name="History as a table").locator("tbody tr").first.locator("td").first
    told, unit = first.inner_text().replace("\u202f", " ").split()
    shown = {"%": drawn[0][0], "s": drawn[0][0], "ms": 1000 * (drawn[0][0] or 0)}[unit]
    assert float(told) == pytest.approx(shown, abs=0.5)


# Of each chart the last label, of a strip the beginning of its last title, and what else says times.
LABELLED = """() => ({
    labels: [...document.querySelectorAll('canvas.chart')].map(canvas => Chart.getChart(canvas).data.labels.at(-1)),
    titles: [...document.querySelectorAll('.strip > span:last-child')].map(cell => cell.title),
    rows: [...document.querySelectorAll('.history tbody th time')].map(one => [one.dateTime, one.textContent]),
    zones: [...document.querySelectorAll('.history .zone')].map(one => one.textContent),
})"""
AHEAD = timedelta(hours=5, minutes=30)


@pytest.fixture
def _local(page: Page) -> Iterator[None]:
    """The page shows times of the browser's zone."""
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    page.add_init_script("localStorage.setItem('clusteragent.zone', 'local')")
    yield
    page.evaluate("localStorage.removeItem('clusteragent.zone')")


@pytest.mark.usefixtures("_local")
@table("path", PATHS)
@table(("span", "form"), [("hour", "%H:%M"), ("week", "%-d %b %H:%M")])
def test_charts_strip_and_table_follow_the_zone(page: Page, cluster: Cluster, path: str, span: str, form: str) -> None:
    page.goto(f"{path_of(path, cluster)}?history={span}")
    page.wait_for_load_state("networkidle")
    shown = page.evaluate(LABELLED)
    first = page.locator("[data-first]").first
    count = len(page.evaluate("() => Chart.getChart(document.querySelector('canvas.chart')).data.labels"))
    begun, step = first.get_attribute("data-first") or "", int(first.get_attribute("data-step") or 0)
    last = f"{datetime.fromisoformat(begun) + (count - 1) * timedelta(seconds=step) + AHEAD:{form}}"
    assert shown["labels"]
    assert set(shown["labels"]) == {last}
    assert all(title.startswith(f"{last} ") for title in shown["titles"])
    assert bool(shown["titles"]) == ("config" in path)
    assert shown["rows"]
    assert all(told == f"{datetime.fromisoformat(time) + AHEAD:{form}}" for time, told in shown["rows"])
    assert shown["zones"] == ["GMT+5:30"] * 2


@table("path", PATHS)
def test_without_scripts_the_table_is_there(
    browser: Browser, cluster: Cluster, session: StorageState, path: str
) -> None:
    context = browser.new_context(
        base_url=cluster.url, ignore_https_errors=True, storage_state=session, java_script_enabled=False
    )
    with context:
        page = context.new_page()
        page.goto(path_of(path, cluster))
        page.get_by_role("link", name="Last week").click()
        expect(page.get_by_role("link", name="Last week")).to_have_attribute("aria-current", "true")
        page.get_by_text("The same as a table").click()
        expect(page.get_by_role("region", name="History as a table").locator("tbody tr").first).to_be_visible()
