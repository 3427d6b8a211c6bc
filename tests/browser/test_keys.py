"""Each page can be used by keyboard alone: a way past the sidebar, keys that open pages, and a list of them."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster
from tests.browser.visit import sending
from tests.table import table

pytestmark = pytest.mark.processes

PAGES = [
    "/admin/",
    "/admin/changes/",
    "/admin/checks/config/",
    "/admin/checks/config/add/",
    "/admin/nodes/node/{node}/change/",
    "/admin/checks/plan/rebalance/",
]


@table("path", PAGES)
def test_the_first_tab_leads_past_the_sidebar_to_the_one_main_part(page: Page, cluster: Cluster, path: str) -> None:
    page.goto(path.format(node=cluster.number_of_node("ash")))
    main = page.get_by_role("main")
    expect(main).to_have_count(1)
    expect(main).to_be_visible()
    # Buttons that save are part of it.
    for button in page.locator("button[name=_save], input[name=_save]").all():
        assert button.evaluate("element => !!element.closest('main')")
    if path.endswith("/add/"):
        # A form for a new row begins at its first field.
        expect(page.locator("#id_key")).to_be_focused()
        return
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(main).to_be_focused()


def test_g_and_a_letter_open_a_page(page: Page) -> None:
    page.goto("/admin/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.type("gn")
    expect(page).to_have_url(re.compile("/admin/nodes/node/$"))
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.type("gh")
    expect(page).to_have_url(re.compile("/admin/$"))


def test_keys_are_letters_where_somebody_writes(page: Page) -> None:
    page.goto("/admin/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("/")
    box = page.get_by_role("searchbox", name="Search", exact=True)
    expect(box).to_be_focused()
    page.keyboard.type("gn?/")
    expect(box).to_have_value("gn?/")
    expect(page).to_have_url(re.compile("/admin/$"))
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_a_question_mark_lists_the_keys_of_the_sidebar(page: Page) -> None:
    page.goto("/admin/checks/rule/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys.get_by_role("link", name="Nodes")).to_be_visible()
    shown = keys.locator("a[data-key]").evaluate_all("links => links.map(link => link.dataset.key)")
    assert len(shown) == len(set(shown)) > 8
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()


def test_one_escape_closes_the_palette_whatever_is_written_in_it(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find")
    box = palette.get_by_role("searchbox")
    box.press_sequentially("ash")
    expect(palette.get_by_role("link", name="ash").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(box).to_have_value("")


def test_the_palette_opens_what_was_typed_not_what_was_found_before(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find")
    expect(palette.get_by_role("searchbox")).to_be_focused()
    hint = palette.get_by_text("an act: drain NODE")
    expect(hint).to_be_visible()
    page.keyboard.type("cedar")
    expect(palette.get_by_role("link", name="cedar").first).to_be_visible()
    expect(hint).to_be_hidden()
    # At once: nothing has been found for this yet.
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("drain birch")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/admin/nodes/node/{cluster.number_of_node('birch')}/change/$"))


def test_the_palette_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    filters = page.get_by_role("button", name="Filters")
    filters.focus()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find")
    expect(palette.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("ash")
    expect(palette.get_by_role("link", name="ash").first).to_be_visible()
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate(WITHIN_DIALOG)
    page.keyboard.press("Escape")
    expect(palette).to_be_hidden()
    expect(filters).to_be_focused()


# Past the last of a dialog, Tab leads to the browser's own buttons, and the page has the focus nowhere.
WITHIN_DIALOG = "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
MOUSE_ONLY = """() => [...document.querySelectorAll('*')]
    .filter((one) => one.hasAttribute('x-on:click') && one.checkVisibility({visibilityProperty: true}))
    .filter((one) => !one.matches('a[href], button, [role=button][tabindex="0"]')).map((one) => one.outerHTML)"""


def test_what_the_menu_of_the_user_has_needs_no_mouse(page: Page) -> None:
    page.goto("/admin/")
    page.get_by_role("button", name=re.compile("admin$")).press("Enter")
    for name in ("Light", "Dark", "System", "Log out"):
        expect(page.get_by_role("button", name=name)).to_be_visible()
    assert page.evaluate(MOUSE_ONLY) == []


@table("path", [*PAGES, "/admin/auth/user/add/", "/admin/knox/authtoken/add/", "/admin/nodes/node/"])
def test_nothing_needs_a_mouse(page: Page, cluster: Cluster, path: str) -> None:
    page.goto(path.format(node=cluster.number_of_node("ash")))
    expect(page.get_by_role("main")).to_be_visible()
    assert page.evaluate(MOUSE_ONLY) == []


# Whether what the opener opens has the focus, and does not move any more.
IS_OPENED = """([opener, within]) => {
    const part = document.activeElement.closest(within);
    return part && document.activeElement !== opener && !part.getAnimations({subtree: true}).length;
}"""


@table(("control", "within"), [("^Filters$", "#changelist-filter"), ("admin$", "nav")])
def test_what_opens_takes_the_focus_and_escape_gives_it_back(page: Page, control: str, within: str) -> None:
    page.goto("/admin/nodes/node/")
    opener = page.get_by_role("button", name=re.compile(control))
    opener.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(IS_OPENED, arg=[opener.element_handle(), within])
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(page.get_by_role("button", name=re.compile("Apply Filters|Log out"))).to_have_count(0)


def test_rows_are_gone_through_and_selected_by_keys(page: Page) -> None:
    page.goto("/admin/checks/config/?q=redisdb")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.type("jjxjxk")
    rows = page.locator("#result_list .data-row")
    expect(rows.nth(1).locator("th a")).to_be_focused()
    chosen = page.locator("input.action-select")
    assert [box.is_checked() for box in chosen.all()] == [False, True, True, False, False, False]
    # A box takes no letters, so keys work on it.
    chosen.first.focus()
    page.keyboard.type("x*")
    assert all(box.is_checked() for box in chosen.all())
    page.keyboard.press("a")
    expect(page.get_by_role("combobox", name="Select action to run")).to_be_focused()


def test_a_row_of_what_needs_somebody_leads_to_what_it_is_about(page: Page) -> None:
    page.goto("/admin/")
    expect(page.get_by_role("main")).to_be_visible()
    # As the page shows one: this cluster may need nobody.
    page.locator("section[aria-labelledby=now-needs]").evaluate(
        """part => part.innerHTML = `<ul><li class="pages-need"><a id="part-slow-1" href="#part">shop</a>
        <a id="advice-slow" href="#advice">What to do</a><a id="show-slow" href="#show">Show</a></li></ul>`"""
    )
    page.keyboard.press("j")
    expect(page.get_by_role("link", name="Show", exact=True)).to_be_focused()


@table("path", ["/admin/changes/?last=7d", "/admin/map/"])
def test_the_arrows_lead_through_a_picture_that_is_one_stop_of_tab(page: Page, path: str) -> None:
    page.goto(path)
    links = page.locator(".pages-chart, .tiles").first.get_by_role("link")
    expect(links.and_(page.locator("[tabindex='0']"))).to_have_count(1)
    links.first.focus()
    page.keyboard.press("ArrowRight")
    if links.count() > 1:
        expect(links.nth(1)).to_be_focused()
        page.keyboard.press("ArrowLeft")
    expect(links.first).to_be_focused()


def test_the_first_wrong_field_of_a_refused_form_has_the_focus(page: Page) -> None:
    page.goto("/admin/auth/user/add/?username=admin")
    page.locator("#id_password1").fill("four-words-in-a-row")
    page.locator("#id_password2").fill("four-words-in-another-row")
    with sending(page):
        page.keyboard.press("Enter")
    expect(page.locator("[aria-invalid=true]").first).to_be_focused()
    page.goto("/admin/checks/config/add/")
    page.locator("#id_key").fill("door")
    page.locator("#id_check").fill("http_check")
    page.locator(".ace_content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text("instances: 7")
    with sending(page):
        page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#id_yaml_error")).to_be_visible()
    expect(page.locator(".ace_scroller")).to_be_focused()


def test_icons_are_not_read_aloud(page: Page) -> None:
    page.goto("/admin/checks/config/")
    expect(page.get_by_role("link", name="Now", exact=True)).to_be_visible()
    expect(page.locator(".material-symbols-outlined:not([aria-hidden=true])")).to_have_count(0)


def test_r_loads_the_page_anew_but_not_while_one_writes(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_text(re.compile(r"As of \d\d:\d\d:\d\d UTC"))).to_be_visible()
    page.evaluate("window.before = true")
    page.get_by_role("searchbox").first.fill("bir")
    page.keyboard.press("r")
    assert page.evaluate("window.before")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    page.wait_for_function("window.before === undefined")
    expect(page).to_have_url(re.compile(r"/admin/nodes/node/$"))
    expect(page.get_by_role("link", name="birch").first).to_be_visible()
