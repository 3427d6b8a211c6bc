"""The look of the map: a node that is not simply alive is told from one that is."""

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
