"""One browser and one live cluster for all of these tests."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect, sync_playwright

from tests.browser import chromium
from tests.browser.cluster import Cluster, living
from tests.browser.visit import PATIENCE, Visit, log_in


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser. Without one the tests are skipped; where CI is set, they fail."""
    with sync_playwright() as playwright:
        browser = chromium.launch(playwright)
        if browser is None:
            missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            missing("there is no browser here: apt-get install chromium")
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def cluster(browser: Browser) -> Iterator[Cluster]:
    """A live cluster, started only if there is a browser."""
    with living() as cluster:
        yield cluster


@pytest.fixture(scope="package")
def session(browser: Browser, cluster: Cluster) -> StorageState:
    """The cookies of an operator who is logged in."""
    with Visit(browser, cluster.url, None) as visit, visit.page() as page:
        log_in(page, cluster)
        return visit.context.storage_state()


@pytest.fixture(scope="package")
def operator(browser: Browser, cluster: Cluster, session: StorageState) -> Iterator[Visit]:
    """An operator who is logged in. One for all tests, so that the browser caches scripts."""
    with Visit(browser, cluster.url, session) as visit:
        yield visit


@pytest.fixture
def page(operator: Visit) -> Iterator[Page]:
    """A page of an operator who is logged in."""
    with operator.page() as page:
        yield page


@pytest.fixture
def strangers_page(browser: Browser, cluster: Cluster) -> Iterator[Page]:
    """A page of somebody who is not logged in."""
    with Visit(browser, cluster.url, None) as visit, visit.page() as page:
        yield page
