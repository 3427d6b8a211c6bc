"""An operator with a browser, who logs in and opens pages; what pages do wrong fails the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    StorageState,
    ViewportSize,
    WebError,
    expect,
)

from tests.browser.cluster import Cluster

# Milliseconds to wait for something on a page, and for a page. They are long, since everything shares two busy cores.
PATIENCE, SLOWEST_PAGE = 20_000, 60_000
Scheme = Literal["light", "dark"]
SIZE: ViewportSize = {"width": 1280, "height": 900}
# URLs that cause no network request.
_LOCAL = ("data:", "blob:", "about:")


class Visit:
    """A browser session. Collects what pages must not do: call another host, fail, or log an error."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        session: StorageState | None,
        scheme: Scheme = "light",
        has_scripts: bool = True,
    ) -> None:
        self.context = context = browser.new_context(
            base_url=url,
            ignore_https_errors=True,
            storage_state=session,
            viewport=SIZE,
            color_scheme=scheme,
            java_script_enabled=has_scripts,
        )
        context.set_default_timeout(PATIENCE)
        context.set_default_navigation_timeout(SLOWEST_PAGE)
        self.wrong: list[str] = []
        self._url = url
        context.on("request", self._look_at_request)
        context.on("response", self._look_at_response)
        context.on("weberror", self._look_at_error)
        context.on("console", self._look_at_word)

    def _look_at_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self._url}/", *_LOCAL)):
            self.wrong.append(f"asked another host: {request.url}")

    def _look_at_response(self, response: Response) -> None:
        if response.status >= 500:
            self.wrong.append(f"{response.status}: {response.url}")

    def _look_at_error(self, error: WebError) -> None:
        # What a test lets each page run may not be for the empty one of `close`.
        if error.page is not None and error.page.url == "about:blank":
            return
        self.wrong.append(f"script failed: {error.error}")

    def _look_at_word(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.wrong.append(f"complained: {message.text} ({message.location['url']})")

    @contextmanager
    def page(self) -> Iterator[Page]:
        """Open a page during the block. Raises AssertionError at its end if a page did something wrong.

        Tabs that it opened are closed, too: they would go on asking the server, and complain in other tests.
        """
        others = set(self.context.pages)
        page = self.context.new_page()
        try:
            yield page
            wrong, self.wrong = self.wrong, []
            assert not wrong, wrong
        finally:
            for opened in set(self.context.pages) - others:
                close(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def close(page: Page) -> None:
    """Close a page that may be on its way to another one: chromium may forget to, and Playwright would wait for ever
    (crbug.com/536385539). So it goes to an empty one first, which ends after SLOWEST_PAGE.
    """
    page.goto("about:blank")
    page.close()


@contextmanager
def sending(page: Page) -> Iterator[None]:
    """Within it, a click sends a form; after it, the page that answers is there. A page asks first whether its session stands, so
    a form goes out a moment after the click, and would stop whatever page is opened meanwhile.
    """
    page.evaluate("document.documentElement.dataset.sending = ''")
    yield
    expect(page.locator("html[data-sending]")).to_have_count(0)
    page.wait_for_load_state()


def log_in(page: Page, cluster: Cluster) -> None:
    """Log in by the form, as a person does."""
    page.goto(f"{cluster.url}/admin/")
    fill_in_login(page, cluster)
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def fill_in_login(page: Page, cluster: Cluster) -> None:
    """Fill in the form of the login, and send it."""
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(cluster.password)
    page.get_by_role("button", name="Log in").click()


def search(page: Page, words: str) -> None:
    """Search with the box that every page has."""
    page.get_by_role("searchbox", name="Search").fill(words)
    page.keyboard.press("Enter")
