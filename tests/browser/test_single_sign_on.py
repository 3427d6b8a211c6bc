"""A person logs in by the provider's own pages, in a real browser, and is out once the provider says so."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, expect

from tests import identity_provider
from tests.browser.visit import SIZE
from tests.faults.database import Server
from tests.identity_provider import PASSWORD, IdentityProvider
from tests.replicas import wait_for
from tests.webserver import serving

pytestmark = pytest.mark.processes

ROLES = (
    "SELECT g.name FROM auth_user AS u JOIN auth_user_groups AS m ON m.user_id = u.id JOIN auth_group AS g ON g.id = m.group_id"
    " WHERE u.username = 'olga'"
)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[IdentityProvider]:
    with identity_provider.running(tmp_path) as one:
        yield one


def test_a_person_logs_in_by_the_provider_and_loses_what_the_group_loses(
    browser: Browser, provider: IdentityProvider, own_server: Server, tmp_path: Path
) -> None:
    provider.put("olga", "sre")
    options = {
        "CLUSTERAGENT_OIDC_ISSUER": provider.issuer,
        "CLUSTERAGENT_OIDC_CLIENT_ID": identity_provider.CLIENT_ID,
        "CLUSTERAGENT_OIDC_CLIENT_SECRET": provider.client_secret,
        "CLUSTERAGENT_OIDC_SCOPES": "openid profile email groups",
        "CLUSTERAGENT_OIDC_CONFIRMED_EACH": "1s",
        "CLUSTERAGENT_GROUP_ROLES": '{"operator": ["sre"]}',
        "CLUSTERAGENT_LOCAL_LOGIN": "false",
    }
    with (
        psycopg.connect(own_server.url, autocommit=True) as database,
        serving(own_server.url, tmp_path, whom="operators", **options) as server,
        browser.new_context(
            base_url=f"https://127.0.0.1:{server.port}", ignore_https_errors=True, viewport=SIZE
        ) as context,
    ):
        provider.expect(f"https://127.0.0.1:{server.port}/admin/login/provider/answer/")
        page = context.new_page()
        page.goto("/admin/checks/config/")
        page.get_by_role("link", name="Log in with single sign-on").click()
        # The provider's own pages.
        page.locator("input[name=login]").fill("olga")
        page.keyboard.press("Enter")
        page.locator("input[name=password]").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"https://127.0.0.1:{server.port}/admin/checks/config/")
        assert database.execute(ROLES).fetchall() == [("operator",)]

        provider.put("olga")
        wait_for(
            "the provider was asked again", lambda: page.goto("/admin/") and not database.execute(ROLES).fetchall()
        )
        page.goto("/admin/nodes/node/")
        expect(page).to_have_url(f"https://127.0.0.1:{server.port}/admin/login/?next=/admin/nodes/node/")
        page.get_by_role("link", name="Log in with single sign-on").click()
        expect(page.get_by_role("heading", name="You are not logged in")).to_be_visible()
        expect(page.get_by_text("none of its groups (none) has a role here")).to_be_visible()
