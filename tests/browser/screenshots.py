"""Makes the pictures of docs/images: `make screenshots`. It is no part of the test suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, StorageState

from tests.browser.cluster import PATIENCE, Cluster, living
from tests.browser.visit import Scheme, Visit
from tests.replicas import wait_for

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST = 200_000
POD = "clc-runner-6d4f9c7b5d-"
NODES = (*(f"{POD}{suffix}" for suffix in ("4kx2p", "9zq7d", "c8wlm", "fj5tn", "v2hrs")), "ash", "birch")
DEATHS = ((NODES[0], f"{POD}x7m9b", "25 min"), (NODES[1], f"{POD}t4nfz", "20 min"))
ERRORS = {"postgres:db-11": "could not connect to db-11.example.com:5432: connection refused"}
MOVED, WAITING = "postgres.d/db-07.yaml", "snmp.d/lab.yaml"
OPTIONS = {"DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT": "5s", "CLUSTERAGENT_REBALANCE_BUDGET": "0.05"}
# Sets the times of all events so far back.
_AGE = """
    UPDATE nodes_node SET first_seen = first_seen - interval '{0}', lost_at = lost_at - interval '{0}';
    UPDATE nodes_nodeevent SET time = time - interval '{0}';
    UPDATE checks_move SET time = time - interval '{0}';
    UPDATE checks_assignment SET since = since - interval '{0}'
"""
_HELD = "SELECT 1 FROM checks_assignment AS a JOIN nodes_node AS n ON n.id = a.node_id WHERE n.name = %s"
_DANGLING = "SELECT 1 FROM checks_config WHERE dangling_since IS NOT NULL"
_MOVED = (
    "SELECT config_id FROM checks_move WHERE name = 'postgres' AND reason = 'redispatched' ORDER BY id DESC LIMIT 1"
)
_TOLD = (
    "SELECT 1 FROM checks_instance AS i JOIN checks_assignment AS a ON a.config_id = i.config_id"
    " JOIN nodes_runnerstats AS s ON s.check_id = i.check_id AND s.node_id = a.node_id WHERE i.config_id = %s"
)
PAGES = {
    "now": "/admin/",
    "check": "/admin/checks/config/{config}/change/",
    "node": "/admin/nodes/node/{node}/change/",
    "changes": "/admin/changes/",
    "plan": "/admin/checks/plan/{plan}/change/",
    "configs": "/admin/checks/config/",
}


@pytest.fixture(scope="package")
def cluster(browser: Browser) -> Iterator[Cluster]:
    """A cluster with a history: two nodes have died, and a check fails."""
    with living(nodes=NODES, errors=ERRORS, **OPTIONS) as cluster:
        wait_for("a check fails", lambda: cluster.ask("SELECT 1 FROM checks_trouble WHERE kind = 'failing'"), PATIENCE)
        cluster.change(_AGE.format("9 days"))
        for dying, coming, age in DEATHS:
            _replace(cluster, dying, coming)
            cluster.change(_AGE.format(age))
        yield cluster


def test_the_pictures_are_made(browser: Browser, cluster: Cluster, session: StorageState) -> None:
    """Write a light and a dark picture of each page."""
    with Visit(browser, cluster.url, session) as visit, visit.page() as page:
        _order(page, cluster)
        plan = _plan(page, cluster)
    [config] = cluster.ask(_MOVED)
    wait_for("its node tells what it costs", lambda: cluster.ask(_TOLD, config), PATIENCE)
    names = {"config": config, "node": cluster.number_of_node("birch"), "plan": plan}
    IMAGES.mkdir(exist_ok=True)
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        with Visit(browser, cluster.url, session, scheme) as visit, visit.page() as page:
            for name, path in PAGES.items():
                _picture(page, path.format(**names), IMAGES / f"{name}-{scheme}.png")


def _replace(cluster: Cluster, dying: str, coming: str) -> None:
    """Let a pod die after its successor has joined."""
    cluster.join(coming)
    cluster.vanish(dying)
    wait_for(f"{dying} has nothing", lambda: not cluster.ask(_HELD, dying), PATIENCE)
    wait_for("everything runs elsewhere", lambda: not cluster.ask(_DANGLING), PATIENCE)


def _order(page: Page, cluster: Cluster) -> None:
    """Move a check by hand, and pin another to a node that does not exist."""
    page.goto(f"/admin/checks/config/{cluster.number_of(MOVED)}/change/")
    page.get_by_role("button", name="Reassign to a node").click()
    page.locator("#id_node").fill("birch")
    page.get_by_label("For 24 hours").check()
    page.get_by_label("Note").fill("birch is nearest to its database")
    _apply(page)
    page.goto(f"/admin/checks/config/{cluster.number_of(WAITING)}/change/")
    page.get_by_role("button", name="Pin").click()
    page.get_by_label("Aim").fill("oak")
    page.get_by_label("Wait").check()
    _apply(page)


def _apply(page: Page) -> None:
    page.get_by_role("button", name="Show what would move").click()
    apply, typed = page.get_by_role("button", name="Apply"), page.locator("#typed")
    apply.wait_for()
    if typed.count():
        # What would run nowhere wants its name typed.
        typed.fill(page.locator("label[for=typed] strong").inner_text())
    apply.click()
    page.get_by_text("It was applied").wait_for()


def _plan(page: Page, cluster: Cluster) -> str:
    """Make the plan of a drain without applying it; return its ID."""
    page.goto(f"/admin/nodes/node/{cluster.number_of_node('ash')}/change/")
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("button", name="Apply").wait_for()
    return page.url.split("/")[-3]


def _picture(page: Page, path: str, file: Path) -> None:
    page.goto(path)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file, animations="disabled")
    assert file.stat().st_size < LARGEST, f"{file} is too large"
