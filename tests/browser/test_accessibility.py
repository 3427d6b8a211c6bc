"""axe-core finds nothing serious on the main pages, in light and in dark."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.cluster import Cluster
from tests.browser.visit import Scheme
from tests.table import table

pytestmark = pytest.mark.processes

PAGES = [
    "/admin/",
    "/admin/map/",
    "/admin/failures/",
    "/admin/history/",
    "/admin/groups/",
    "/admin/changes/",
    "/admin/search/?q=db-07",
    "/admin/checks/config/",
    "/admin/checks/config/?q=tag:team:orders",
    "/admin/checks/config/add/",
    "/admin/checks/config/{config}/change/",
    "/admin/nodes/node/",
    "/admin/nodes/node/{node}/change/",
    "/admin/checks/source/",
    "/admin/checks/move/",
    "/admin/nodes/nodeevent/",
    "/admin/acts/act/",
    "/admin/checks/clusterstore/",
]
# What light and dark differ in.
COLOURS = ["color-contrast", "link-in-text-block"]
RULES: dict[str, Any] = {"light": {}, "dark": {"runOnly": {"type": "rule", "values": COLOURS}}}


@table("scheme", ["light", "dark"])
@table("path", PAGES)
def test_no_page_keeps_anyone_out(page: Page, cluster: Cluster, path: str, scheme: Scheme) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(path.format(config=cluster.number_of("postgres.d/db-07.yaml"), node=cluster.number_of_node("ash")))
    found = Axe().run(page, options={"resultTypes": ["violations"], **RULES[scheme]}).response["violations"]
    serious = [
        (one["id"], [node["html"][:300] for node in one["nodes"]][:3])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious
