"""The jobs of an operator's day by keyboard alone, with no more presses of keys than docs/howto/jobs.md says.

A job that changes something ends with the focus on the button that does it, whose press is counted: `test_jobs.py` presses it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.cluster import PATIENCE, Cluster
from tests.browser.jobs import TABLE, Effort, Hand, allowed_keys
from tests.browser.test_orders import other_than
from tests.replicas import wait_for

pytestmark = pytest.mark.processes

ALLOWED = allowed_keys()
_ERRORS = "SELECT jsonb_array_length(errors) FROM checks_source WHERE name = 'file'"
_MISTAKEN = "instances:\n  - name: gate\n   url: https://gate.example.com\n"
_RIGHT = "instances:\n  - name: gate\n    url: https://gate.example.com\n"


@contextmanager
def doing(page: Page, job: str) -> Iterator[Hand]:
    """A job that begins on the first page. Raises AssertionError if it takes more or less than the table says."""
    page.goto("/admin/")
    hand = Hand(page)
    yield hand
    assert (hand.keys, hand.texts) == ALLOWED[job], f"{job}: change {TABLE.name} only to a lower number"


def _button(page: Page, name: str) -> Locator:
    return page.get_by_role("main").get_by_role("button", name=name)


def _end(hand: Hand, name: str) -> None:
    """Go to the button that ends the job, and count its press."""
    hand.to(_button(hand.page, name))
    hand.keys += 1


def test_who_runs_it_and_why_there(page: Page) -> None:
    for job in ("Who runs check X?", "Why is it there?"):
        with doing(page, job) as hand:
            hand.find("core-2")
            expect(page.get_by_role("region", name="Why here")).to_be_visible()


def test_what_fails(page: Page) -> None:
    with doing(page, "It fails: error, since when, whose?") as hand:
        hand.open("g", "f")
        expect(page).to_have_title(re.compile("Failures"))


def test_what_changed_then(page: Page) -> None:
    with doing(page, "What changed at 03:12?") as hand:
        hand.open("g", "e")
        hand.to(page.get_by_label("At (UTC)"))
        hand.type("03:12")
        hand.open()
        expect(page.get_by_label("At (UTC)")).to_have_value("03:12")


def test_move_it_and_keep_it_there(page: Page, cluster: Cluster) -> None:
    other = other_than(cluster.owner("redisdb.d/jobs.yaml"))
    with doing(page, "Move X to B and keep it there") as hand:
        hand.find(f"pin redisdb jobs to {other}")
        expect(page.locator("#id_configs")).to_be_focused()
        hand.open()
        _end(hand, "Apply")


def test_drain_a_node(page: Page) -> None:
    with doing(page, "Drain node N") as hand:
        hand.find("drain cedar")
        hand.to(_button(page, "Drain"))
        hand.open()
        _end(hand, "Apply")


def test_undo_the_last_move(page: Page, cluster: Cluster) -> None:
    other = other_than(cluster.owner("redisdb.d/feeds.yaml"))
    cluster.manage("reassign", "redisdb feeds", "--to", other)
    wait_for("it is there", lambda: "redisdb:feeds" in cluster.runs(other), PATIENCE)
    with doing(page, "Undo the last rebalance") as hand:
        hand.open("g", "e")
        hand.press("j", "Shift+Tab")
        expect(page.get_by_role("button", name=re.compile("^Undo Reassigned by root")).first).to_be_focused()
        hand.open()
        _end(hand, "Apply")


def test_pause_some_checks_of_a_team(page: Page) -> None:
    with doing(page, "Pause http_check of team payments for 2 h") as hand:
        hand.open("g", "c")
        hand.to(page.locator("#searchbar"))
        hand.type("http_check team:payments")
        hand.open()
        hand.press("*", "a")
        expect(page.get_by_role("combobox", name="Select action to run")).to_be_focused()
        hand.type("Paus")
        hand.to(page.get_by_role("button", name="Run"))
        hand.open()
        # What is typed there without it would be keys.
        expect(page.get_by_label("Until")).to_be_focused()
        hand.type("2 hours")
        hand.open()
        _end(hand, "Apply")


def test_add_a_check_by_hand_with_mistakes_in_it(page: Page) -> None:
    with doing(page, "Add a check by hand, with mistakes in it") as hand:
        hand.find("add config")
        expect(page.locator("#id_key")).to_be_focused()
        hand.type("gate")
        hand.press("Tab")
        hand.type("http_check")
        # Past the numbers of lines into the text.
        hand.press("Tab", "Tab", "Enter", "Control+a")
        page.keyboard.insert_text(_MISTAKEN)
        hand.texts += 1
        expect(page.get_by_role("status").filter(has_text=re.compile("line 3", re.IGNORECASE))).to_be_visible()
        hand.press("Control+a")
        page.keyboard.insert_text(_RIGHT)
        hand.texts += 1
        expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
        hand.press("Escape")
        _end(hand, "Save")


def test_all_checks_of_a_team(page: Page) -> None:
    with doing(page, "All checks with tag team:reports") as hand:
        hand.press("/")
        hand.type("team:reports")
        hand.open()
        expect(page.get_by_role("link", name="postgres db-03").first).to_be_visible()


def test_read_only_access_for_a_colleague(page: Page) -> None:
    with doing(page, "Read-only access for a colleague") as hand:
        hand.find("give access to dora")
        expect(page.get_by_label("Username")).to_be_focused()
        hand.to(page.get_by_label("viewer"))
        hand.press("Space")
        for field in ("#id_password1", "#id_password2"):
            hand.to(page.locator(field))
            hand.type("four-words-in-a-row")
        hand.open()
        expect(page.get_by_text("User dora gets the role viewer: sees everything but secrets")).to_be_visible()
        _end(hand, "Save")


def test_a_token_for_a_new_pipeline(page: Page) -> None:
    with doing(page, "A token for a new pipeline") as hand:
        hand.find("add token")
        hand.to(page.get_by_label("Or a new user for it"))
        hand.type("gate-deploys")
        hand.press("Tab", "ArrowDown", "ArrowDown", "ArrowDown")
        expect(page.get_by_label("author: sees what a viewer sees; writes and removes configs")).to_be_checked()
        hand.open()
        _end(hand, "Make the token")


def test_a_token_for_a_pipeline(page: Page, cluster: Cluster) -> None:
    cluster.manage("createtoken", "--user", "pipeline", "--role", "author")
    with doing(page, "A token for a pipeline") as hand:
        hand.find("add token")
        expect(page.locator("#id_user")).to_be_focused()
        hand.type("pipeline")
        hand.to(page.get_by_label("Or a new user for it"))
        hand.open()
        expect(page.get_by_text("It is bound to nothing")).to_be_visible()
        _end(hand, "Make the token")


def test_what_if_a_node_is_lost(page: Page, cluster: Cluster) -> None:
    with doing(page, "What if node N is lost?") as hand:
        hand.press("/")
        hand.type(cluster.owner("redisdb.d/feeds.yaml"))
        hand.open()
        expect(page.get_by_role("region", name="If it were lost now")).to_contain_text("would go to")


def test_a_source_is_broken(page: Page, cluster: Cluster) -> None:
    file = cluster.confd / "http_check.d" / "latest.yaml"
    file.write_text("cluster_check: true\ninstances:\n  - name: late\n   url: https://late.example.com\n")
    wait_for("the error", lambda: cluster.ask(_ERRORS) == [1], PATIENCE)
    with doing(page, "A source is broken: find and mend it") as hand:
        hand.press("j")
        hand.to(page.locator(".pages-need", has_text="latest.yaml").get_by_role("link", name="Show"))
        hand.open()
        expect(page.get_by_text("http_check.d/latest.yaml").first).to_be_visible()
    file.unlink()
    wait_for("no error", lambda: cluster.ask(_ERRORS) == [0], PATIENCE)


def test_the_table_has_every_job(request: pytest.FixtureRequest) -> None:
    seen = {job for job, effort in Effort.allowed().items() if not effort.clicks + effort.texts}
    assert {*ALLOWED} | seen == {*Effort.allowed()}
    assert max(keys for keys, _ in ALLOWED.values()) <= 40
