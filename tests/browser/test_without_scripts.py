"""Without scripts every page says what is wrong: scripts only improve pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.cluster import PATIENCE, Cluster
from tests.browser.pages import addresses, furnished, page_of
from tests.browser.visit import Visit
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.processes

ERROR = "could not connect to db-11.example.com:5432"
PLACED = "just-placed"
_FAILING = "SELECT 1 FROM checks_trouble WHERE kind = 'failing'"
_BROKEN = "SELECT jsonb_array_length(errors) FROM checks_source WHERE name = 'file'"
# What each page says of a check that fails, of a file that is broken, and of nodes that take nothing.
SAID = {
    "/admin/": ["Not healthy.", ERROR, "broken.yaml"],
    "/admin/failures/": [ERROR, "db-11"],
    "/admin/checks/config/?trouble=failing": ["could not connect to", "postgres db-11"],
    "/admin/checks/config/{config}/change/": [ERROR],
    "/admin/checks/source/{source}/change/": ["broken.yaml"],
    "/admin/nodes/node/": ["cordoned"],
    "/admin/nodes/node/{node}/change/": ["cordoned"],
}


@pytest.fixture(scope="module", autouse=True)
def _trouble(operator: Visit, cluster: Cluster) -> Iterator[None]:
    """A check that was just placed, one that fails, a file that is broken, and no node that takes anything."""
    file = cluster.confd / "broken.yaml"
    with (
        operator.page() as page,
        furnished(cluster, page),
        cluster.another_check(PLACED),
        cluster.failing({"postgres:db-11": ERROR}),
    ):
        file.write_text("cluster_check: true\ninstances: [{]\n")
        cluster.change("UPDATE nodes_node SET schedulable = false")
        try:
            wait_for("the failure is known", lambda: cluster.ask(_FAILING), PATIENCE)
            wait_for("the error is known", lambda: cluster.ask(_BROKEN) == [1], PATIENCE)
            yield
        finally:
            file.unlink()
            cluster.change("UPDATE nodes_node SET schedulable = true")
    wait_for("nothing fails", lambda: not cluster.ask(_FAILING), PATIENCE)
    wait_for("nothing is broken", lambda: cluster.ask(_BROKEN) == [0], PATIENCE)


@pytest.fixture
def page(browser: Browser, cluster: Cluster, session: StorageState) -> Iterator[Page]:
    """A page of an operator whose browser runs no scripts."""
    with Visit(browser, cluster.url, session, has_scripts=False) as visit, visit.page() as page:
        yield page


@table("address", addresses())
def test_every_page_is_there_and_warns(page: Page, cluster: Cluster, address: str) -> None:
    page.goto(page_of(cluster, address))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("main")).to_be_visible()
    expect(page.get_by_role("link", name="What to do").first).to_be_visible()
    # Nothing lies over it.
    page.get_by_role("heading", level=1).click(trial=True)


@table(("path", "words"), SAID.items())
def test_it_says_what_is_wrong(page: Page, cluster: Cluster, path: str, words: list[str]) -> None:
    [source] = cluster.ask("SELECT id FROM checks_source WHERE name = 'file'")
    numbers = {"config": cluster.number_of("postgres.d/db-11.yaml"), "node": cluster.number_of_node("ash")}
    page.goto(path.format(source=source, **numbers))
    for word in words:
        expect(page.get_by_role("main").get_by_text(word).first).to_be_visible()


def test_a_form_says_what_is_wrong_with_it(page: Page) -> None:
    page.goto("/admin/checks/config/add/")
    page.get_by_label("Name").fill("by-hand")
    page.get_by_label("Check").fill("http_check")
    page.locator("textarea[name=yaml]").fill("instances: [{]")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("main").get_by_text("line 1").first).to_be_visible()


def test_what_scripts_would_fetch_is_a_link_away(page: Page, cluster: Cluster) -> None:
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/")
    page.get_by_role("link", name="Where its configs would go").click()
    expect(page.get_by_role("heading", name="If ash were lost now")).to_be_visible()
    expect(page.get_by_role("main").get_by_text("would").first).to_be_visible()
    page.goto("/admin/changes/?last=1h")
    # The newest of them: of many stories the oldest are left out, and one of events alone has no moves.
    story = page.locator("details", has_text="Changes of file").first
    page.goto(story.locator("a", has_text="Its moves and events").get_attribute("href") or "")
    expect(page.get_by_role("main").get_by_role("table")).to_contain_text(PLACED)
