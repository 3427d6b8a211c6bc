"""What a person does to get a job done, counted; and how much of it the documentation allows for each job."""

from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

from playwright.sync_api import Locator, Page

TABLE = Path(__file__).parents[2] / "docs" / "howto" / "jobs.md"


@dataclass
class Effort:
    """Clicks (one that chooses from a list is a second one), texts typed into a field, and presses of Enter."""

    clicks: int = 0
    texts: int = 0
    enters: int = 0

    @classmethod
    def allowed(cls) -> dict[str, Self]:
        """What each job takes by the documentation's table."""
        lines = TABLE.read_text().splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        return {job: cls(*map(int, numbers)) for job, *numbers, _ in rows if all(map(str.isdecimal, numbers))}

    def __str__(self) -> str:
        return "{} clicks, {} texts, {} times Enter".format(*astuple(self))


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
