"""The look of the map: a node that is not simply alive is told from one that is, and names are there for everybody."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.processes

# The borders of the first tile and of the legend's, if that node were in this state, and whether its dashes are told from it.
BORDERS = """(state) => [document.querySelector('a.tile'), document.querySelector('.tile-key.tile-silent')].map((tile, index) => {
    if (!index) tile.className = `tile tile-1 tile-idle tile-${state}`;
    const {borderTopStyle, borderTopColor, backgroundColor} = getComputedStyle(tile);
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const light = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, alpha] = canvas.getImageData(0, 0, 1, 1).data;
        return alpha ? (r + g + b) / 765 : -1;
    };
    return [borderTopStyle, Math.abs(light(borderTopColor) - light(backgroundColor)) > 0.4];
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_border_of_a_tile_tells_its_state(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/admin/map/")
    expect(page.locator("a.tile")).not_to_have_count(0)
    for state in ("silent", "leaving", "restarting", "draining"):
        assert page.evaluate(BORDERS, state) == [["dashed", True], ["dashed", True]]
    assert page.evaluate(BORDERS, "lost")[0] == ["dotted", True]
    assert page.evaluate("getComputedStyle(document.querySelector('a.tile')).textDecorationLine") == "none"


# How bright the legend's samples of loads are, the fullest first.
LIGHT = """() => [...document.querySelectorAll('.tile-key')].slice(2, 5).map((tile) => {
    const canvas = document.createElement('canvas').getContext('2d');
    canvas.fillStyle = getComputedStyle(tile).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data.slice(0, 3).reduce((sum, part) => sum + part);
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_idler_a_node_the_less_its_tile_stands_out(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/admin/map/")
    expect(page.locator(".tile-key").first).to_be_visible()
    light = page.evaluate(LIGHT)
    assert light == sorted(light, reverse=scheme == "dark")


# What stands at the foot of the window while a tile has the focus, and where.
CAPTION = """() => {
    const {content, position, bottom} = getComputedStyle(document.querySelector('a.tile:focus-visible'), '::after');
    return [content, position, bottom];
}"""


@pytest.mark.parametrize("width", [1280, 390])
def test_a_tile_is_called_by_its_nodes_name_and_says_more_on_focus(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/admin/map/")
    tile = page.get_by_role("link", name=re.compile(r"^ash (?:≈ )?[\d.]+\s%$"))
    expect(tile).to_be_visible()
    expect(tile.locator(".tile-name")).to_be_visible()
    page.locator("#page-main").get_by_role("link", name="ash").first.focus()
    tile.press("Shift+Tab")
    page.keyboard.press("Tab")
    content, position, bottom = page.evaluate(CAPTION)
    assert content.startswith('"ash, load ')
    assert (position, bottom) == ("fixed", "0px")
    # Small tiles have the same name, without text.
    tile.evaluate("one => { one.parentElement.classList.add('tiles-dense'); one.textContent = ''; }")
    expect(page.get_by_role("link", name=re.compile("^ash, load "))).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
