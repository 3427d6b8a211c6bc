"""No page violates the policy for scripts and styles: the browser would log an error, by which the visit fails."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.cluster import Cluster
from tests.browser.visit import Visit
from tests.replicas import wait_for
from tests.table import table

pytestmark = pytest.mark.processes

MODELS = [
    "auth/group",
    "auth/user",
    "checks/clusterstore",
    "checks/config",
    "checks/isolation",
    "checks/move",
    "checks/pause",
    "checks/pin",
    "checks/plan",
    "checks/rule",
    "checks/source",
    "knox/authtoken",
    "nodes/node",
    "nodes/nodeevent",
    "acts/act",
    "nodes/noderule",
    "nodes/nodetoken",
]
ADDED = ["auth/group", "auth/user", "checks/config", "checks/isolation", "checks/pause", "checks/pin", "checks/rule"]
ADDED += ["knox/authtoken", "nodes/noderule", "nodes/nodetoken"]
PAGES = [
    "/admin/",
    "/admin/map/",
    "/admin/failures/",
    "/admin/history/",
    "/admin/groups/",
    "/admin/changes/",
    "/admin/search/?q=db-07",
    "/admin/password_change/",
    "/admin/checks/plan/rebalance/",
    "/admin/checks/config/{config}/change/",
    "/admin/nodes/node/{node}/change/",
    "/admin/auth/user/{user}/change/",
    "/admin/auth/user/{user}/password/",
    "/admin/auth/user/{user}/delete/",
    "/admin/auth/user/{user}/history/",
    *(f"/admin/{model}/" for model in MODELS),
    *(f"/admin/{model}/add/" for model in ADDED),
]


@table("path", PAGES)
def test_no_page_breaks_the_policy(page: Page, cluster: Cluster, path: str) -> None:
    names = {
        "config": cluster.number_of("postgres.d/db-07.yaml"),
        "node": cluster.number_of_node("ash"),
        "user": cluster.ask("SELECT id FROM auth_user WHERE username = 'admin'")[0],
    }
    answer = page.goto(path.format(**names))
    assert answer is not None
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page.wait_for_load_state("networkidle")
    # Alpine.js shows what it made of the page; without it the page stays as it was sent.
    assert page.evaluate("!document.querySelector('[x-cloak]')")


def test_the_apis_page_works_by_it(page: Page) -> None:
    page.goto("/api/operator/v1/docs/")
    page.locator(".opblock-summary-get").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.get_by_text("Response body").first).to_be_visible()


def test_an_injected_script_does_not_run(browser: Browser, cluster: Cluster, session: StorageState) -> None:
    with Visit(browser, cluster.url, session) as visit:
        page = visit.context.new_page()
        page.goto("/admin/")
        page.evaluate(
            """() => {
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
                document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.ran = true'>");
            }"""
        )
        wait_for("the browser complains of both", lambda: page.evaluate("1") and len(visit.wrong) == 2)
        assert all("Content Security Policy" in one for one in visit.wrong)
        assert not page.evaluate("window.ran")


def test_a_session_that_is_over_is_told_and_asks_no_more(
    browser: Browser, cluster: Cluster, session: StorageState
) -> None:
    """The page that polls says so, and only looks whether somebody logged in again."""
    with Visit(browser, cluster.url, session) as visit:
        page = visit.context.new_page()
        page.goto("/admin/")
        calls: list[str] = []
        visit.context.clear_cookies()
        expect(page.get_by_text("Your session is over")).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("configs on 3 nodes")
        page.on("request", lambda request: calls.append(request.url))
        # Longer than the page would take to poll.
        wait_for("it looked thrice", lambda: page.evaluate("1") and len(calls) == 3)
        assert {urlsplit(url).path for url in calls} == {"/admin/session/"}
