"""Times are UTC, and on demand those of the browser's zone: in lists, stories and heads, but not in what is quoted."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from operators.pages.ranges import AROUND
from tests.browser.cluster import Cluster
from tests.browser.visit import sending

pytestmark = pytest.mark.processes

AHEAD = timedelta(hours=5, minutes=30)


def later(text: str) -> str:
    """A time as a list shows it, in the zone of the test."""
    return f"{datetime.fromisoformat(text) + AHEAD:%Y-%m-%d %H:%M:%S} GMT+5:30"


def test_times_are_shown_in_the_browsers_zone_and_in_utc_again(page: Page, cluster: Cluster) -> None:
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    # Also where the address names a part of the page.
    page.goto("/admin/checks/move/#page-main")
    cell = page.locator("#result_list .field-when span").last
    told = cell.inner_text().strip().removesuffix(",")
    assert re.fullmatch(r"\d+ (s|min|h) ago", page.locator("#result_list .field-when time").last.inner_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told)
    page.get_by_role("button", name="Times in UTC", exact=True).click()
    zone = page.get_by_role("button", name="Times in GMT+5:30", exact=True)
    expect(zone).to_be_visible()
    try:
        expect(page.locator("#result_list .field-when", has_text=later(told)).first).to_be_visible()
        expect(page.get_by_text("times are GMT+5:30")).to_have_count(1)
        expect(page.get_by_text(re.compile(r"As of \d\d:\d\d:\d\d GMT\+5:30"))).to_be_visible()
        page.goto("/admin/changes/?last=1h")
        story = page.locator(".pages-story time").first
        expect(story).to_be_visible()
        [instant] = [datetime.fromisoformat(story.get_attribute("datetime") or "")]
        assert story.inner_text().endswith(f"{instant + AHEAD:%H:%M:%S}")
        # What is typed is of this zone, too.
        asked = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
        page.get_by_label("At (GMT+5:30)").fill(f"{asked + AHEAD:%H:%M}")
        page.get_by_role("button", name="Look").click()
        expect(page.get_by_label("From")).to_have_value(re.compile(f"{asked - AROUND + AHEAD:%Y-%m-%dT%H:%M}"))
        page.get_by_role("button", name="Show", exact=True).click()
        expect(page.get_by_label("From")).to_have_value(re.compile(f"{asked - AROUND + AHEAD:%Y-%m-%dT%H:%M}"))
        page.goto("/admin/checks/freeze/add/")
        expect(page.get_by_text("a time in GMT+5:30")).to_be_visible()
        page.get_by_label("Until").fill("yesterday")
        with sending(page):
            page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_text("a time in").first).to_be_visible()
        page.goto("/admin/")
        stamp = page.locator(".pages-stamp").last
        expect(stamp).to_contain_text("GMT+5:30")
    finally:
        page.get_by_role("button", name="Times in GMT+5:30", exact=True).click()
    expect(page.get_by_role("button", name="Times in UTC", exact=True)).to_be_visible()
    expect(page.locator(".pages-stamp").last).to_contain_text("UTC")


def test_what_is_quoted_keeps_its_times(page: Page, cluster: Cluster) -> None:
    page.goto("/admin/")
    page.context.new_cdp_session(page).send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    shown = page.evaluate(
        """() => {
            const part = document.createElement("div");
            part.innerHTML = "<pre>at 12:00 UTC</pre><p>until 2026-12-24 23:00 UTC</p>";
            document.getElementById("page-main").append(part);
            localise(part);
            return [part.querySelector("pre").textContent, part.querySelector("p").textContent];
        }"""
    )
    assert shown == ["at 12:00 UTC", "until 2026-12-25 04:30 GMT+5:30"]
