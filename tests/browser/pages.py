"""Every page of the admin: from the patterns of the operators' port, so that a new one can't be forgotten."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.urls import URLPattern, URLResolver, get_resolver
from playwright.sync_api import Page

from tests.browser.cluster import PATIENCE, Cluster
from tests.replicas import wait_for

# What has an address and is no page, with the reason.
NO_PAGES = {
    "login/": "for people who are not logged in: test_pages_that_answer_no",
    "login/provider/": "leads to the provider: test_single_sign_on",
    "login/provider/answer/": "takes what the provider answers: test_single_sign_on",
    "logout/": "takes forms, and ends the session",
    "session/": "data",
    "now/": "a part of the first page",
    "now/remedy/<str:kind>/": "takes forms",
    "changes/story/": "a part of Changes",
    "changes/undo/": "takes forms",
    "checks/config/<int:pk>/others/": "a part of a config's page",
    "nodes/node/<int:pk>/loss/": "a part of a node's page",
    "nodes/domain-loss/": "a part of Map",
    "completions/(?P<rows>configs|nodes)/$": "data",
    "operators/savedview/save/": "takes forms",
    "operators/savedview/<int:pk>/delete/": "takes forms",
    "checks/plan/<int:pk>/apply/": "takes forms",
    "checks/plan/<int:pk>/undo/": "takes forms",
    "checks/plan/<int:pk>/anew/": "takes forms",
    "checks/config/remarks/": "data",
    "checks/config/template/": "data",
    "autocomplete/": "data",
    "jsi18n/": "a script",
    "r/<path:content_type_id>/<path:object_id>/": "leads to other sites, of which there are none",
}
# Nobody may add or delete such rows by hand.
UNADDED = (
    "acts/act",
    "checks/clusterstore",
    "checks/plan",
    "checks/move",
    "checks/source",
    "nodes/node",
    "nodes/nodeevent",
)
UNDELETED = (*UNADDED, "checks/config", "checks/freeze")
# Values for patterns that are not about a row.
VALUES = {
    "^documentation/(?P<page>[-\\w]+(?:/[-\\w]+)?)/$": ["documentation/troubleshooting/"],
    "^(?P<app_label>acts|checks|nodes|auth|knox)/$": [f"{app}/" for app in ("acts", "checks", "nodes", "auth", "knox")],
    # What is not found: test_pages_that_answer_no.
    "(?P<url>.*)$": [],
    "search/": ["search/", "search/?q=db-07"],
}
# Django leads from there to the page itself.
_FORWARDED = "/<path:object_id>/"
_ROW = re.compile(r"<(?:path:object_id|int:pk|id)>")
_OVER = re.compile('class="tile tile-[0-9] tile-over')
# A row of each kind that the cluster does not have by itself. None of them moves anything. dove was lost long ago.
_FURNITURE = """
    INSERT INTO checks_pin (source, key, config_id, author, note, kind, aim, waits, until)
        SELECT o.source, o.key, o.config_id, 'admin', 'furniture', 'node', n.name, false, now() + interval '3 hours'
        FROM checks_origin AS o JOIN checks_assignment AS a ON a.config_id = o.config_id
        JOIN nodes_node AS n ON n.id = a.node_id WHERE o.key = 'redisdb.d/limits.yaml';
    INSERT INTO checks_pause (source, key, author, note) VALUES ('file', 'later.yaml', 'admin', 'furniture');
    INSERT INTO checks_isolation (source, key, author, note, reason)
        VALUES ('file', 'later.yaml', 'admin', 'furniture', 'isolated');
    INSERT INTO checks_freeze (author, note, until, ended_at, ended_by)
        VALUES ('admin', 'furniture', now(), now(), 'admin');
    INSERT INTO checks_rule (name, check_pattern, source_pattern, required, forbidden, author, note)
        VALUES ('lab', 'lab_*', '*', '{"zone": "lab"}', '{}', 'admin', 'furniture');
    INSERT INTO nodes_noderule (pattern, network, labels, author, note)
        VALUES ('lab-*', '', '{"zone": "lab"}', 'admin', 'furniture');
    INSERT INTO knox_authtoken (digest, token_key, created, expiry, user_id)
        SELECT repeat('0', 128), 'furniture', now(), now() + interval '90 days', id FROM auth_user WHERE username = 'admin';
    INSERT INTO nodes_nodetoken (key, digest, note, pattern, kubernetes_pattern, networks, expires_at, author)
        VALUES ('nt-furnitur', '\\x00', 'furniture', 'runner-*', '', '10.1.0.0/16', now() - interval '1 day', 'admin');
    INSERT INTO operators_savedview (owner_id, of, name, query, is_shared)
        SELECT id, 'checks.config', 'furniture', '{"gone": "1"}', false FROM auth_user WHERE username = 'admin';
    INSERT INTO auth_group (name) VALUES ('furniture');
    INSERT INTO nodes_node (name, labels, config_version) VALUES ('dove', '{}', 7)
"""
_CLEARED = """
    DELETE FROM checks_pin WHERE note = 'furniture'; DELETE FROM checks_pause WHERE note = 'furniture';
    DELETE FROM checks_isolation WHERE note = 'furniture'; DELETE FROM checks_freeze WHERE note = 'furniture';
    DELETE FROM checks_rule WHERE note = 'furniture'; DELETE FROM nodes_noderule WHERE note = 'furniture';
    DELETE FROM knox_authtoken WHERE token_key = 'furniture';
    DELETE FROM nodes_nodetoken WHERE note = 'furniture';
    DELETE FROM operators_savedview WHERE name = 'furniture';
    DELETE FROM auth_group WHERE name = 'furniture'; DELETE FROM nodes_node WHERE name = 'dove'
"""


def addresses() -> list[str]:
    """The addresses of all pages, as patterns of rows: `/admin/nodes/node/<path:object_id>/change/`."""
    return [f"/admin/{value}" for route in _routes() for value in VALUES.get(route, [route])]


def kept_back() -> list[str]:
    """The addresses that answer 403 even to an administrator, as patterns of rows."""
    adding = [f"/admin/{kind}/add/" for kind in UNADDED]
    return [*adding, *(f"/admin/{kind}/<path:object_id>/delete/" for kind in UNDELETED)]


def _routes() -> list[str]:
    given = dict.fromkeys(_under_admin(get_resolver("clusteragent.urls.operators").url_patterns))
    missing = [route for route in NO_PAGES if route not in given]
    assert not missing, f"there is no such address: {missing}"
    left_out = {*NO_PAGES, *(address.removeprefix("/admin/") for address in kept_back())}
    return [route for route in given if route not in left_out and not route.endswith(_FORWARDED)]


def _under_admin(patterns: Any, before: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _under_admin(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and route.startswith("admin/"):
            yield route.removeprefix("admin/")


def page_of(cluster: Cluster, address: str) -> str:
    """The URL of an address, with the key of the newest row of its kind. Raises AssertionError if there is none."""
    if not _ROW.search(address):
        return address
    label, name = address.split("/")[2:4]
    model = apps.get_model(label, name)
    key = model._meta.pk.column
    rows = cluster.ask(f"SELECT {key} FROM {model._meta.db_table} ORDER BY {key} DESC LIMIT 1")
    assert rows, f"there is no {name}"
    return _ROW.sub(str(rows[0]), address)


def plan_a_pause(cluster: Cluster, page: Page) -> str:
    """Make a plan, without applying it; return its ID."""
    page.goto(f"/admin/checks/config/{cluster.number_of('redisdb.d/limits.yaml')}/change/")
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("Note").fill("a plan that nobody applies")
    page.get_by_role("button", name="Show what would").click()
    page.get_by_role("button", name="Apply").wait_for()
    return page.url.split("/")[-3]


@contextmanager
def furnished(cluster: Cluster, page: Page) -> Iterator[None]:
    """A row of each kind during the block, which leaves the cluster healthy."""
    # At first a node may tell that its first runs took long.
    wait_for(
        "no node is overloaded", lambda: not _OVER.search(page.context.request.get("/admin/map/").text()), PATIENCE
    )
    plan_a_pause(cluster, page)
    cluster.change(_FURNITURE)
    try:
        yield
    finally:
        cluster.change(_CLEARED)
