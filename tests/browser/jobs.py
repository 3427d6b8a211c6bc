"""What a person does to get a job done, counted; and how much of it the documentation allows for each job."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import Locator, Page, expect

TABLE = Path(__file__).parents[2] / "docs" / "howto" / "jobs.md"
# Where the table of presses of keys begins.
BY_KEYBOARD = "## By keyboard alone"
# A press that leads nowhere within so many is a trap, or too far.
FARTHEST = 25


@dataclass
class Effort:
    """Clicks (one that chooses from a list is a second one), texts typed into a field, and presses of Enter."""

    clicks: int = 0
    texts: int = 0
    enters: int = 0

    @classmethod
    def allowed(cls) -> dict[str, Self]:
        """What each job takes by the documentation's table."""
        return {job: cls(*numbers) for job, *numbers in _rows(TABLE.read_text().partition(BY_KEYBOARD)[0])}

    def __str__(self) -> str:
        return "{} clicks, {} texts, {} times Enter".format(*astuple(self))


def allowed_keys() -> dict[str, tuple[int, int]]:
    """For each job, the most presses of keys and the texts that it takes by keyboard alone, by the documentation's table."""
    return {job: (keys, texts) for job, keys, texts in _rows(TABLE.read_text().partition(BY_KEYBOARD)[2])}


def _rows(text: str) -> list[tuple[Any, ...]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return [(job, *map(int, numbers)) for job, *numbers, _ in rows if all(map(str.isdecimal, numbers))]


class Hand:
    """An operator without a mouse. Presses of keys are counted, but for those that type a text; so are texts."""

    def __init__(self, page: Page) -> None:
        self.page, self.keys, self.texts = page, 0, 0

    def press(self, *keys: str) -> None:
        """Press keys."""
        for key in keys:
            self.page.keyboard.press(key)
            self.keys += 1

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.page.keyboard.type(text)
        self.texts += 1

    def open(self, *keys: str) -> None:
        """Press keys, by default Enter; the last one opens a page."""
        with self.page.expect_navigation():
            self.press(*(keys or ("Enter",)))

    def find(self, words: str) -> None:
        """Type into the palette, and open the first of what it finds."""
        self.press("Control+k")
        expect(self.page.get_by_label("A page, a node, a config or an act")).to_be_focused()
        self.type(words)
        self.open()

    def to(self, target: Locator) -> None:
        """Press Tab until this has the focus, past the sidebar where nothing has it. Raises AssertionError if it is too far."""
        if self.page.evaluate("document.activeElement === document.body"):
            self.press("Tab", "Enter")
        for _ in range(FARTHEST):
            if target.first.evaluate("element => element === document.activeElement"):
                assert target.first.evaluate(_HAS_RING), f"no ring around the focus on {target}"
                return
            self.press("Tab")
        raise AssertionError(f"{FARTHEST} presses of Tab don't lead to {target}")


# Whether one sees that it has the focus.
_HAS_RING = """element => {
    const {outlineStyle, outlineWidth} = getComputedStyle(element);
    return outlineStyle !== "none" && parseFloat(outlineWidth) > 0;
}"""


class Person:
    """An operator at a browser. Each method is an act of the hand, and is counted; reading is not."""

    def __init__(self, page: Page) -> None:
        self.page, self.effort = page, Effort()

    def click(self, target: Locator) -> None:
        """Click on it."""
        target.click()
        self.effort.clicks += 1

    def follow(self, name: str, *, within: Locator | None = None) -> None:
        """Click on the first link with this name."""
        self.click((within or self.page).get_by_role("link", name=name).first)

    def go(self, title: str) -> None:
        """Click on an entry of the sidebar."""
        self.follow(title, within=self.page.locator("#nav-sidebar-apps"))

    def press(self, name: str) -> None:
        """Click on the first button with this name."""
        self.click(self.page.get_by_role("button", name=name).first)

    def write(self, field: Locator, text: str) -> None:
        """Type a text into a field."""
        field.fill(text)
        self.effort.texts += 1

    def compose(self, text: str) -> None:
        """Replace what stands in the editor."""
        self.page.locator(".ace_content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(text)
        self.effort.texts += 1

    def choose(self, field: Locator, option: str) -> None:
        """Open a list, and click on one of its options."""
        field.select_option(option)
        self.effort.clicks += 2

    def enter(self) -> None:
        """Press Enter."""
        self.page.keyboard.press("Enter")
        self.effort.enters += 1

    def search(self, words: str) -> None:
        """Search with the box that every page has."""
        self.write(self.page.get_by_role("searchbox", name="Search", exact=True).first, words)
        self.enter()
