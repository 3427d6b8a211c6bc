"""Every page of the admin, with what each must be: nobody is kept out by it, it fits a phone, and its red means something."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, StorageState, ViewportSize, expect

from tests.browser.cluster import Cluster
from tests.browser.pages import addresses, furnished, kept_back, page_of
from tests.browser.visit import SIZE, Visit
from tests.table import table

pytestmark = pytest.mark.processes

# What light, dark and a phone differ in.
COLOURS = ["color-contrast", "link-in-text-block"]
NARROW = [*COLOURS, "scrollable-region-focusable", "target-size"]
# simplebar calls the sidebar and a wide list the same.
UNHEEDED = {"landmark-unique": {"enabled": False}}
PHONE: ViewportSize = {"width": 390, "height": 844}
# The colours of a legend and of YAML say what they stand for, and the scenery's lists of rights can be emptied.
LEGITIMATE_RED = ".tile-key, .ace_editor *, .selector-clearall, p[role=alert].pages-stale"
# Such buttons delete.
DELETING = "form:has([name=post]) button, a[href$='/delete/']"
# Names as they are written. A page that capitalises them names another thing.
NAMES = ["ash", "birch", "cedar", "dove", "http_check", "snmp", "redisdb", "limits"]
# Pages that show nothing of the cluster, and whether they are asked for with a login.
ERRORS = [
    ("/admin/login/", False),
    ("/admin/nothing/", False),
    ("/admin/nothing/", True),
    ("/admin/nodes/node/add/", True),
]

LOOK = """([legitimate, deleting, names]) => {
    const wrong = [];
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    // Red, by hue and saturation: orange and amber say something else.
    const isRed = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data;
        const [most, least] = [Math.max(r, g, b), Math.min(r, g, b)];
        return alpha > 100 && r === most && most - least > 90 && Math.abs(g - b) / (most - least) < 0.2;
    };
    const says = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const count = (selector) => document.querySelectorAll(selector).length;
    if (count('main') !== 1) wrong.push(`${count('main')} main parts`);
    if (count('h1') !== 1 || !document.querySelector('h1').innerText.trim()) wrong.push(`${count('h1')} headings`);
    for (const icon of document.querySelectorAll('.material-symbols-outlined:not([aria-hidden=true])')) {
        wrong.push(`a screen reader reads an icon: ${icon.outerHTML.slice(0, 200)}`);
    }
    for (const element of document.querySelectorAll('main *')) {
        if (!element.checkVisibility({visibilityProperty: true}) || element.closest(legitimate)) continue;
        const {color, backgroundColor} = getComputedStyle(element);
        if ((says(element) && isRed(color) || isRed(backgroundColor)) && !element.closest(deleting)) {
            wrong.push(`red, and nothing is wrong: ${element.outerHTML.slice(0, 200)}`);
        }
    }
    const shown = `${document.querySelector('h1')?.innerText} ${document.querySelector('main')?.innerText}`;
    for (const name of names) {
        for (const [found] of shown.matchAll(new RegExp(`(?<![\\\\w-])${name}(?![\\\\w-])`, 'gi'))) {
            if (found !== name) wrong.push(`${name} is written ${found}`);
        }
    }
    return wrong;
}"""
# What a page as narrow as a phone does not let anybody read.
CUT = """() => {
    const wrong = [];
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) wrong.push(`as wide as ${wide}`);
    for (const element of document.querySelectorAll('main *, h1, h1 *')) {
        const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!says || !element.checkVisibility({visibilityProperty: true})) continue;
        if (element.closest('[aria-hidden=true], option, .sr-only, .ace_editor')) continue;
        // In the second line of a list's row a text gives way, and says so; the row's page has all of it.
        const cell = element.closest('#result_list td');
        if (cell && getComputedStyle(cell).textOverflow === 'ellipsis') continue;
        const range = document.createRange();
        range.selectNodeContents(element);
        const text = range.getBoundingClientRect();
        for (let box = element; text.width && box; box = box.parentElement) {
            const [style, room] = [getComputedStyle(box), box.getBoundingClientRect()];
            if (['auto', 'scroll'].includes(style.overflowX)) break;
            const clips = (overflow) => ['hidden', 'clip'].includes(overflow) || box === document.documentElement;
            const [right, below] = [text.right > room.right + 2, text.bottom > room.bottom + 4];
            if (clips(style.overflowX) && right || clips(style.overflowY) && below) {
                wrong.push(`cut off: ${element.outerHTML.slice(0, 200)}`);
                break;
            }
        }
    }
    return wrong;
}"""


@pytest.fixture(scope="module", autouse=True)
def _furniture(operator: Visit, cluster: Cluster) -> Iterator[None]:
    with operator.page() as page, furnished(cluster, page):
        yield


def _keeping_out(page: Page, rules: list[str] | None = None) -> list[str]:
    """What axe finds of these rules, of all without any."""
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False, "rules": UNHEEDED}
    if rules:
        options |= {"runOnly": {"type": "rule", "values": rules}, "rules": {}}
    found = page.evaluate(f"axe.run({json.dumps(options)}).then(({{violations}}) => violations)")
    return [f"{one['impact']} {one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"][:3]]


def _wrong(page: Page) -> list[str]:
    """What is wrong with the page that is open: in light, in dark and on a phone."""
    page.evaluate(Axe().axe_script)
    wrong = [*_keeping_out(page), *page.evaluate(LOOK, [LEGITIMATE_RED, DELETING, NAMES])]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    wrong += [f"dark: {one}" for one in _keeping_out(page, COLOURS)]
    page.set_viewport_size(PHONE)
    wrong += [f"phone: {one}" for one in (*_keeping_out(page, NARROW), *page.evaluate(CUT))]
    return wrong


@table("address", addresses())
def test_every_page_is_for_everyone(page: Page, cluster: Cluster, address: str) -> None:
    page.set_viewport_size(SIZE)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    answer = page.goto(page_of(cluster, address))
    assert answer is not None
    assert answer.status == 200
    wrong = _wrong(page)
    assert not wrong, "\n".join(wrong)
    if address.endswith("/change/"):
        # A phone has room for the row's name alone.
        assert page.title().startswith(page.locator("h1").inner_text())


@table("address", kept_back())
def test_what_no_page_does_is_refused(page: Page, cluster: Cluster, address: str) -> None:
    assert page.context.request.get(page_of(cluster, address)).status == 403


@table(("path", "is_known"), ERRORS)
def test_pages_that_answer_no_are_for_everyone(
    browser: Browser, cluster: Cluster, session: StorageState, path: str, is_known: bool
) -> None:
    with Visit(browser, cluster.url, session if is_known else None) as visit:
        # Not as other pages: the browser logs each answer that is an error.
        page = visit.context.new_page()
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        page.goto(path)
        wrong = _wrong(page)
        assert not wrong, "\n".join(wrong)


def _palette(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Find")
    palette.get_by_role("searchbox").press_sequentially("ash")
    expect(palette.get_by_role("link", name="ash").first).to_be_visible()


def _bar(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    page.get_by_role("main").get_by_role("searchbox").or_(page.locator("main input[name=q]")).first.press_sequentially(
        "sta"
    )
    expect(page.locator("main datalist option, main [role=option]").first).to_be_attached()


def _keys(page: Page) -> None:
    page.goto("/admin/nodes/node/")
    expect(page.get_by_role("main")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


@table("opened", [_palette, _bar, _keys])
def test_what_opens_over_a_page_is_for_everyone(page: Page, opened: Callable[[Page], None]) -> None:
    page.set_viewport_size(SIZE)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    opened(page)
    wrong = _wrong(page)
    assert not wrong, "\n".join(wrong)
