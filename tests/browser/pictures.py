"""Pictures of pages, and how much of a page differs from the picture that is stored.

The browser that draws a page also makes its picture small and compares: a small picture tells a layout, and hides how another
version of the browser draws the edges of letters.
"""

import base64
import os
from pathlib import Path

from playwright.sync_api import Page

STORED = Path(__file__).parents[1] / "data" / "pictures"
# With this the pictures are made anew: `make pictures`.
IS_RENEWING = os.environ.get("PICTURES") == "renew"
# A stored picture is so many times smaller than the page.
SCALE = 4
# Letters as they were drawn where the pictures were made. Another browser, other fonts or other settings of them draw others.
LETTERS = STORED.parent / "letters.png"
WORDS = (
    "<p style='font: 16px sans-serif'>Hamburgefonstiv 0123</p><p style='font: 13px monospace'>Hamburgefonstiv 0123</p>"
)
# What differs by more than so much of 255 in one colour differs, and so much of a picture may: more where letters are others.
CONTRAST, TOLERANCE, TOLERANCE_OF_OTHERS = 40, 0.005, 0.04

# What is another at each visit looks the same: numbers, times, names of nodes, and whatever is drawn from numbers.
STILL = """async () => {
    for (const polling of document.querySelectorAll('[hx-trigger^=every]')) {
        const still = polling.cloneNode(true);
        still.removeAttribute('hx-get');
        polling.replaceWith(still);
    }
    const months = /\\b(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\\.?(?= 0)/g;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode;
        if (node.parentElement.closest('script, style, textarea')) continue;
        node.data = node.data.replace(/\\b(ash|birch|cedar)\\b/g, 'birch').replace(/[0-9][0-9.:\\u202f-]*/g, '0')
            .replace(/\\b0\\s(ms|s|min|h|d)\\b/g, '0 s').replace(months, 'May')
            // Loads are guesses until the first runs end.
            .replace(/ \\(assumed[^)]*\\)/, '').replace(/, assumed\\b/g, '');
        if (/^(The load of 0 nodes? is|Loads are) assumed/.test(node.data.trim())) node.parentElement.hidden = true;
    }
    const drawn = 'canvas, svg, progress, figcaption, .pages-bar, .strip, input[type^=date]';
    // All letters but these are of fonts that pages bring along.
    const ofTheSystem = 'pre, code, kbd, .font-mono, .ace_editor';
    for (const element of document.querySelectorAll(`${drawn}, ${ofTheSystem}`)) element.style.visibility = 'hidden';
    // Longer numbers break lines.
    for (const caption of document.querySelectorAll('figcaption')) caption.style.cssText += 'white-space: nowrap; overflow: clip';
    // Loads become known one by one.
    for (const cell of document.querySelectorAll('.field-load, .field-run_time')) {
        cell.replaceChildren();
        cell.classList.add('is-empty');
    }
    await document.fonts.ready;
}"""
# The picture, smaller.
SMALL = """async ([picture, scale]) => {
    const image = await createImageBitmap(await (await fetch(picture)).blob());
    const canvas = new OffscreenCanvas(Math.round(image.width / scale), Math.round(image.height / scale));
    const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({type: 'image/png'})).arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
}"""
# The share of two pictures' points that differ; all of them, if one picture is larger.
DIFFERENCE = """async ([one, other, contrast]) => {
    const [first, second] = await Promise.all([one, other].map(async (picture) => {
        const image = await createImageBitmap(await (await fetch(picture)).blob());
        const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, image.width, image.height);
    }));
    if (first.width !== second.width || first.height !== second.height) return 1;
    let differing = 0;
    for (let at = 0; at < first.data.length; at += 4) {
        differing += [0, 1, 2].some((channel) => Math.abs(first.data[at + channel] - second.data[at + channel]) > contrast);
    }
    return differing * 4 / first.data.length;
}"""


class Gallery:
    """Makes and compares pictures, in a page of its own: pages of ours may fetch nothing but from their server."""

    def __init__(self, desk: Page) -> None:
        self._desk = desk
        desk.set_content(WORDS)
        letters = desk.screenshot(clip={"x": 0, "y": 0, "width": 300, "height": 100})
        if IS_RENEWING:
            LETTERS.write_bytes(letters)
        are_alike = self._desk.evaluate(DIFFERENCE, [_url(letters), _url(LETTERS.read_bytes()), CONTRAST]) == 0
        self.tolerance = TOLERANCE if are_alike else TOLERANCE_OF_OTHERS

    def taken(self, page: Page) -> bytes:
        """A small picture of what the page shows, once it is at rest."""
        page.wait_for_load_state("networkidle")
        page.evaluate(STILL)
        picture = page.screenshot(animations="disabled", caret="hide")
        return base64.b64decode(self._desk.evaluate(SMALL, [_url(picture), SCALE]))

    def difference(self, picture: bytes, name: str) -> float:
        """The share of the stored picture that differs from this one; 1 if there is none."""
        stored = STORED / f"{name}.png"
        if not stored.exists():
            return 1
        return float(self._desk.evaluate(DIFFERENCE, [_url(picture), _url(stored.read_bytes()), CONTRAST]))


def _url(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"
