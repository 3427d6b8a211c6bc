"""The log-in, which nobody can bypass."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster
from tests.browser.visit import log_in

pytestmark = pytest.mark.processes


def test_an_operator_logs_in_and_sees_first_whether_all_is_well(strangers_page: Page, cluster: Cluster) -> None:
    log_in(strangers_page, cluster)
    expect(strangers_page.get_by_role("status")).to_contain_text(f"{cluster.checks} configs on 3 nodes")


def test_a_wrong_password_opens_nothing(strangers_page: Page) -> None:
    strangers_page.goto("/admin/checks/config/")
    strangers_page.get_by_label("Username").fill("admin")
    strangers_page.get_by_label("Password").fill("a guess")
    strangers_page.get_by_role("button", name="Log in").click()
    expect(strangers_page.get_by_text("The name or the password is wrong")).to_be_visible()
    expect(strangers_page.get_by_role("navigation")).to_have_count(0)
