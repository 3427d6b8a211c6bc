"""The first page keeps itself up to date."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster

pytestmark = pytest.mark.processes


def test_the_first_page_updates_itself(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/")
    sentence = page.get_by_role("status")
    expect(sentence).to_contain_text(f"{cluster.checks} configs on 3 nodes")
    page.evaluate("window.here = true")
    with cluster.another_check("db-99"):
        expect(sentence).to_contain_text(f"{cluster.checks + 1} configs on 3 nodes")
    expect(sentence).to_contain_text(f"{cluster.checks} configs on 3 nodes")
    assert page.evaluate("window.here"), "the page was loaded anew"
