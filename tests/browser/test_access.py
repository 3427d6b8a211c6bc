"""Before access is given or taken, a page says who gains or loses what; nothing is done until that is confirmed."""

from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster

_SUPERUSER = "SELECT is_superuser FROM auth_user WHERE username = 'oscar'"
_BOUNDS = """
    SELECT b.checks FROM operators_bound AS b JOIN auth_group AS g ON g.id = b.group_id WHERE g.name = 'operator'
"""


def test_a_superuser_is_made_only_once_that_was_shown(page: Page, cluster: Cluster) -> None:
    cluster.manage("createtoken", "--user", "oscar", "--role", "operator")
    page.goto("/admin/auth/user/?q=oscar")
    page.get_by_role("link", name="oscar", exact=True).click()
    page.get_by_label("Superuser status").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Save user oscar")).to_be_visible()
    expect(
        page.get_by_text("User oscar becomes a superuser, who may do everything, also what no role allows.")
    ).to_be_visible()
    assert cluster.ask(_SUPERUSER) == [False]
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_label("Superuser status")).not_to_be_checked()
    page.get_by_label("Superuser status").check()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert cluster.ask(_SUPERUSER) == [True]


def test_a_bound_is_shown_with_the_users_whom_it_binds(page: Page, cluster: Cluster) -> None:
    cluster.manage("createtoken", "--user", "olivia", "--role", "operator")

    def bind(checks: str) -> None:
        page.goto("/admin/auth/group/")
        page.get_by_role("link", name="operator", exact=True).click()
        page.get_by_label("Bound to checks").fill(checks)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("link", name="olivia", exact=True)).to_be_visible()

    bind("tls*")
    expect(page.get_by_text("Group operator is bound to tls*: what it allows,")).to_be_visible()
    assert cluster.ask(_BOUNDS) == []
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert cluster.ask(_BOUNDS) == [["tls*"]]
    bind("")
    expect(page.get_by_text("Group operator is bound no more: what it allows,")).to_be_visible()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert cluster.ask(_BOUNDS) == []
