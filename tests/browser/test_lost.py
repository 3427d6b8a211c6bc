"""A page that lost its session or its server says so over everything else; what was typed is kept, and sent afterwards."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.cluster import Cluster
from tests.browser.visit import Visit, close, fill_in_login, log_in

pytestmark = pytest.mark.processes

OVER, AWAY = "Your session is over", "the server has not answered as it should since"
UNSENT = "Nothing was sent; what you typed is still here"
NOTE = "as the team asked for in its long letter"
ADD_PIN = "/admin/checks/pin/add/"


@pytest.fixture
def visit(browser: Browser, cluster: Cluster) -> Iterator[Visit]:
    """An operator's browser with a session of its own, which may end."""
    with Visit(browser, cluster.url, None) as visit:
        _log_in(visit, cluster)
        yield visit


def _log_in(visit: Visit, cluster: Cluster) -> None:
    page = visit.context.new_page()
    log_in(page, cluster)
    close(page)


def log_out(visit: Visit) -> None:
    """Log out in another tab."""
    page = visit.context.new_page()
    page.goto("/admin/password_change/")
    page.locator("#logout-form").evaluate("form => form.requestSubmit()")
    expect(page.get_by_role("heading", name="Logged out")).to_be_visible()
    close(page)


def opened(visit: Visit, path: str) -> Page:
    page = visit.context.new_page()
    page.goto(path)
    return page


def banner(page: Page, words: str) -> Locator:
    return page.get_by_role("alert").filter(has_text=words)


def is_told(page: Page, words: str) -> None:
    """Wait until the page says it, with the time, where nothing lies over it."""
    expect(banner(page, words)).to_be_visible()
    expect(banner(page, words)).to_contain_text(re.compile(r"\d\d:\d\d:\d\d UTC"))
    expect(page).to_have_title(re.compile("^Out of date - "))
    banner(page, words).click(trial=True)


def is_over(page: Page, words: str) -> None:
    """Wait until the page says it no more."""
    expect(banner(page, words)).to_be_hidden()
    expect(page).not_to_have_title(re.compile("Out of date"))


def test_pages_of_each_kind_say_that_the_session_is_over_until_it_is_no_more(visit: Visit, cluster: Cluster) -> None:
    paths = (
        "/admin/",
        "/admin/checks/config/",
        f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/",
        ADD_PIN,
        "/admin/map/",
        "/api/operator/v1/docs/",
    )
    pages = [opened(visit, path) for path in paths]
    for page in pages:
        expect(banner(page, OVER)).to_be_hidden()
    log_out(visit)
    for page in pages:
        is_told(page, OVER)
    with visit.context.expect_page() as login:
        pages[1].get_by_role("link", name="Log in again").click()
    fill_in_login(login.value, cluster)
    expect(login.value).to_have_url(f"{cluster.url}/admin/checks/config/")
    for page in pages:
        is_over(page, OVER)


def test_a_form_that_is_sent_without_a_session_is_kept_and_sent_after_the_next_login(
    visit: Visit, cluster: Cluster
) -> None:
    page = opened(visit, ADD_PIN)
    page.get_by_label("Configs").fill("postgres db-07")
    page.locator("#id_aim").fill("ash")
    page.get_by_label("Note").fill(NOTE)
    log_out(visit)
    page.get_by_role("button", name="Save", exact=True).click()
    is_told(page, OVER)
    expect(banner(page, UNSENT)).to_be_visible()
    expect(page).to_have_url(re.compile(ADD_PIN))
    _log_in(visit, cluster)
    is_over(page, OVER)
    expect(page.get_by_label("Note")).to_have_value(NOTE)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page).to_have_url(re.compile(r"/checks/plan/\d+/change/"))


def test_a_page_of_another_user_sends_nothing_in_the_name_of_who_logged_in_since(
    visit: Visit, cluster: Cluster
) -> None:
    page = opened(visit, ADD_PIN)
    page.evaluate("document.getElementById('page-over').dataset.user = 'eve'")
    page.get_by_role("button", name="Save", exact=True).click()
    is_told(page, OVER)
    expect(banner(page, UNSENT)).to_be_visible()


def test_a_server_that_is_away_is_told_until_it_is_back_and_a_form_waits_for_it(visit: Visit, cluster: Cluster) -> None:
    node = opened(visit, f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/")
    form = opened(visit, ADD_PIN)
    form.get_by_label("Note").fill(NOTE)
    with cluster.without_operators():
        is_told(node, AWAY)
        form.get_by_role("button", name="Save", exact=True).click()
        is_told(form, AWAY)
        expect(banner(form, UNSENT)).to_be_visible()
    is_over(node, AWAY)
    is_over(form, AWAY)
    expect(form.get_by_label("Note")).to_have_value(NOTE)
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.get_by_text("This field is required").first).to_be_visible()


# Notes whether the page ever said it.
_WATCH = """
    new MutationObserver(([{target}]) => { window.wasShown ||= !target.hidden; })
        .observe(document.getElementById("page-stale"), {attributes: true})
"""


def test_a_look_that_breaks_once_says_nothing(visit: Visit) -> None:
    """As when the browser leaves the page."""
    page = opened(visit, "/admin/checks/config/")
    page.evaluate(_WATCH)
    since = page.locator("#page-stale .page-since")
    before = since.text_content()
    assert before
    page.route("**/admin/session/", lambda route: route.abort(), times=1)
    with page.expect_event("requestfailed"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    # The next one was good.
    expect(since).not_to_have_text(before)
    assert not page.evaluate("window.wasShown")


def test_without_scripts_the_login_says_that_nothing_was_done_and_leads_back(
    browser: Browser, cluster: Cluster
) -> None:
    row = f"/admin/checks/config/{cluster.number_of('postgres.d/db-07.yaml')}/change/"
    with Visit(browser, cluster.url, None, has_scripts=False) as visit, visit.page() as page:
        log_in(page, cluster)
        page.goto(row)
        visit.context.clear_cookies(name=re.compile("session"))
        page.get_by_role("button", name="Pause…").click()
        expect(page.get_by_role("alert")).to_contain_text("Your session was over: what you sent was not done.")
        fill_in_login(page, cluster)
        expect(page).to_have_url(f"{cluster.url}{row}")
