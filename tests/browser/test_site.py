"""The site of the documentation works under the policy of the operators' port, in any light and on a phone."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from csp.utils import build_policy
from playwright.sync_api import Browser, Page, expect

from tests.test_site import ROOT, build

PAGES = ["index", "tutorial", "troubleshooting", "metrics", "reference/options", "reference/commands", "adr/index"]


class Handler(SimpleHTTPRequestHandler):
    """Serves files with the policy of the operators' port."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", str(build_policy()))
        super().end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("site")
    assert build(ROOT / "docs", folder).returncode == 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def reader(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page whose browser has nothing to complain of."""
    wrong: list[str] = []
    context = browser.new_context(base_url=url, **getattr(request, "param", {}))
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((url, "data:")) else wrong.append(asked.url))
    yield page
    context.close()
    assert not wrong


LIGHTS: list[dict[str, Any]] = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}},
]


@pytest.mark.parametrize("reader", LIGHTS, indirect=True, ids=["light", "dark phone"])
def test_each_page_shows_itself_within_the_window(reader: Page) -> None:
    for page in PAGES:
        reader.goto(f"/{page}.html")
        assert reader.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), page
    background = reader.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = reader.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(", "))) < 200) == is_dark


def test_the_search_finds_a_page(reader: Page) -> None:
    reader.goto("/index.html")
    reader.get_by_placeholder("Search").fill("quarantined")
    reader.get_by_placeholder("Search").press("Enter")
    expect(reader.locator("#search-results").get_by_role("link", name="Troubleshooting").first).to_be_visible()


def test_the_chosen_light_stays_from_page_to_page(reader: Page) -> None:
    reader.goto("/index.html")
    reader.locator(".theme-toggle-content button, .content-icon-container .theme-toggle").first.click()
    chosen = reader.evaluate("document.body.dataset.theme")
    assert chosen != "auto"
    reader.goto("/glossary.html")
    assert reader.evaluate("document.body.dataset.theme") == chosen
