"""What operators do: find a config, see why it is on its node, move it, undo that; drain a node; pause some configs."""

import itertools
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.cluster import NODES, PATIENCE, Cluster
from tests.browser.visit import search, sending
from tests.replicas import wait_for

pytestmark = pytest.mark.processes

_DOORS = itertools.count(1)
SETTLED = """
    SELECT a.config_id FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id WHERE NOT n.draining
"""


@pytest.fixture
def newcomer(cluster: Cluster) -> Iterator[str]:
    """The name of a check that no other test moved: its only move is that to its first node."""
    name = f"door-{next(_DOORS)}"
    with cluster.another_check(name):
        yield name


def file_of(name: str) -> str:
    """The key of the check's file."""
    return f"http_check.d/{name}.yaml"


def other_than(node: str) -> str:
    return next(name for name in NODES if name != node)


def runs_only_on(cluster: Cluster, label: str, node: str) -> None:
    """Wait until this node agent, and no other, runs the check."""
    wait_for(
        f"{node} runs {label}", lambda: [name for name in NODES if label in cluster.runs(name)] == [node], PATIENCE
    )


def test_a_check_is_found_understood_moved_and_moved_back(page: Page, cluster: Cluster, newcomer: str) -> None:
    key, name, label = file_of(newcomer), newcomer, f"http_check:{newcomer}"
    owner = cluster.owner(key)
    other = other_than(owner)
    page.goto("/admin/")
    search(page, name)
    page.get_by_role("link", name=f"http_check {name}").click()
    expect(page.get_by_role("heading", name=f"Owner: {owner}")).to_be_visible()
    expect(page.get_by_role("region", name="Why here")).to_contain_text(f"It was placed on {owner}")

    page.get_by_role("button", name="Reassign to a node").click()
    page.locator("#id_node").fill(other)
    page.get_by_role("button", name="Show what would move").click()
    expect(page.get_by_role("heading", name=f"Give http_check {name} to {other}", exact=True)).to_be_visible()
    assert cluster.owner(key) == owner
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It was applied; 1 config moved.")).to_be_visible()
    runs_only_on(cluster, label, other)
    wait_for(f"{other} says that it runs it", lambda: cluster.has_acknowledged(other), PATIENCE)
    page.goto(f"/admin/checks/config/{cluster.number_of(key)}/change/")
    expect(page.get_by_text(f"{other} fetched this version")).to_be_visible()

    page.goto("/admin/changes/")
    story = page.locator("details", has_text="Reassigned by admin").first
    # The last story is open.
    if story.get_attribute("open") is None:
        story.locator("summary").click()
    story.get_by_role("button", name=f"Undo the move of http_check {name} to {other}").first.click()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It was applied; 1 config moved.")).to_be_visible()
    runs_only_on(cluster, label, owner)


def test_a_node_of_why_here_starts_the_move_and_the_plan_s_page_undoes_it(
    page: Page, cluster: Cluster, newcomer: str
) -> None:
    key = file_of(newcomer)
    owner, number = cluster.owner(key), cluster.number_of(key)
    page.goto(f"/admin/checks/config/{number}/change/")
    move = page.get_by_role("button", name="Move it to").first
    other = move.get_attribute("value")
    assert other not in (None, owner)
    move.click()
    expect(page.get_by_role("heading", name=f"Give http_check {newcomer} to {other}", exact=True)).to_be_visible()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It was applied; 1 config moved.")).to_be_visible()
    assert cluster.owner(key) == other
    page.get_by_role("button", name="Undo…").click()
    expect(page.get_by_role("heading", name=f"Undo the move of http_check {newcomer}", exact=True)).to_be_visible()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("It was applied; 1 config moved.")).to_be_visible()
    assert cluster.owner(key) == owner


def test_the_command_for_a_config_is_copied(page: Page, cluster: Cluster) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/admin/checks/config/{cluster.number_of('postgres.d/db-11.yaml')}/change/")
    page.get_by_text("The same elsewhere").click()
    page.get_by_role("button", name="Copy command").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("clusteragent why ")
    size = page.viewport_size
    page.set_viewport_size({"width": 390, "height": 800})
    # Charts follow the width of the window a moment later.
    page.wait_for_function("document.documentElement.scrollWidth === 390")
    assert size
    page.set_viewport_size(size)


def test_a_node_is_drained_and_gets_work_again(page: Page, cluster: Cluster, newcomer: str) -> None:
    # Other tests drain nodes too: this one has a check.
    node = cluster.owner(file_of(newcomer))
    address = f"/admin/nodes/node/{cluster.number_of_node(node)}/change/"
    page.goto("/admin/nodes/node/")
    page.get_by_role("link", name=node).click()
    page.get_by_role("button", name="Drain").click()
    expect(page.get_by_role("heading", name=f"Drain {node}", exact=True)).to_be_visible()
    assert cluster.runs(node)
    page.get_by_role("button", name="Apply").click()
    try:
        wait_for(f"{node} is empty", lambda: not cluster.runs(node), PATIENCE)
        runs_only_on(cluster, f"http_check:{newcomer}", cluster.owner(file_of(newcomer)))
        page.goto(address)
        expect(page.get_by_role("link", name="0 configs")).to_be_visible()
    finally:
        page.goto(address)
        page.get_by_role("button", name="Uncordon").click()
        page.get_by_role("button", name="Uncordon", exact=True).click()
    expect(page.get_by_text("1 node uncordoned.")).to_be_visible()
    with cluster.another_check("window"):
        assert cluster.owner(file_of("window")) == node


def _run_on_all(page: Page, query: str, action: str) -> None:
    """An action on all configs that the list shows for this query."""
    page.goto(f"/admin/checks/config/?{query}")
    page.get_by_role("checkbox", name="Select all objects").check()
    page.get_by_role("combobox", name="Select action to run").select_option(action)
    page.get_by_role("button", name="Run").click()


def test_checks_are_paused_by_filter_and_resumed(page: Page, cluster: Cluster) -> None:
    def switches() -> int:
        return sum(label.startswith("snmp:") for node in NODES for label in cluster.runs(node))

    everything = switches()
    assert everything == len(cluster.ask("SELECT id FROM checks_config WHERE name = 'snmp'"))
    _run_on_all(page, "check=snmp", "pause")
    page.get_by_label("Note").fill("new firmware")
    page.get_by_role("button", name="Show what would move").click()
    with sending(page):
        page.get_by_role("button", name="Apply").click()
    wait_for("no switch is asked", lambda: not switches(), PATIENCE)
    page.goto("/admin/")
    expect(page.get_by_role("status")).to_contain_text("nothing needs you")
    _run_on_all(page, "check=snmp", "resume")
    expect(page.get_by_text(f"{everything} configs come back.")).to_be_visible()
    page.get_by_role("button", name="Apply").click()
    wait_for("every switch is asked", lambda: switches() == everything, PATIENCE)


def _tab_to(page: Page, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"no Tab leads to {target}")


def test_all_of_it_works_by_keyboard(page: Page, cluster: Cluster) -> None:
    key, label = "redisdb.d/carts.yaml", "redisdb:carts"
    other = other_than(cluster.owner(key))
    page.goto("/admin/")
    _tab_to(page, page.get_by_role("searchbox", name="Search"))
    page.keyboard.type("carts")
    page.keyboard.press("Enter")
    _tab_to(page, page.get_by_role("link", name="redisdb carts"))
    page.keyboard.press("Enter")
    _tab_to(page, page.get_by_role("button", name="Reassign to a node"))
    page.keyboard.press("Enter")
    _tab_to(page, page.locator("#id_node"))
    page.keyboard.type(other)
    _tab_to(page, page.get_by_role("button", name="Show what would move"))
    page.keyboard.press("Enter")
    _tab_to(page, page.get_by_role("button", name="Apply"))
    page.keyboard.press("Enter")
    runs_only_on(cluster, label, other)


def test_a_rule_that_would_stop_everything_is_shown_in_red_and_asks_for_its_name(page: Page, cluster: Cluster) -> None:
    # What earlier tests ordered, or wrote and removed, is over, or was on nodes that are being drained.
    cluster.wait_until_whole()
    wait_for("nothing is handed over", lambda: not cluster.ask("SELECT config_id FROM checks_handover"), PATIENCE)
    everything = len(cluster.ask(SETTLED))
    page.goto("/admin/checks/rule/add/")
    expect(page.get_by_label("Checks")).to_have_value("")
    page.get_by_label("Name").fill("gpu only")
    page.get_by_label("Checks").fill("*")
    page.get_by_label("Required labels").fill('{"gpu": "yes"}')
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text(f"{everything} configs would run nowhere.")).to_be_visible()
    page.get_by_label("Type gpu only").fill("gpu")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("alert").filter(has_text="type gpu only to confirm it")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Required labels")).to_have_value('{"gpu": "yes"}')
    assert cluster.ask("SELECT id FROM checks_rule WHERE name = 'gpu only'") == []
    assert len(cluster.ask(SETTLED)) == everything
