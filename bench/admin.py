"""How long do the admin's pages take at 100 000 configs, and does their number of queries stay the same?"""

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext, override_settings

from bench import stage
from bench.report import Report, timed
from checks import dispatcher
from checks.models import Config
from checks.models.orders import Isolation
from nodes.models import Node

# {node}: the key of one of the nodes. {config}: that of one of the configs.
PAGES = {
    "now": "/admin/",
    "now, what it fetches each 5 s": "/admin/now/",
    "map": "/admin/map/",
    "failures": "/admin/failures/",
    "map by domain": "/admin/map/?by=domain",
    "changes of a day": "/admin/changes/?last=1d",
    "search": "/admin/search/?q=service-471",
    "a node": "/admin/nodes/node/{node}/change/",
    "a node, what its loss would do": "/admin/nodes/node/{node}/loss/",
    "a config": "/admin/checks/config/{config}/change/",
    "a config, where it could go": "/admin/checks/config/{config}/others/",
    "configs": "/admin/checks/config/",
    "configs, the fourth page": "/admin/checks/config/?p=4",
    "configs, by title": "/admin/checks/config/?o=1",
    "configs, the longest in this state first": "/admin/checks/config/?o=4",
    "configs, the greatest loads first": "/admin/checks/config/?o=-5",
    "configs, the longest run times first": "/admin/checks/config/?o=-6",
    "configs of a node": "/admin/checks/config/?node=node-00042",
    "configs, searched": "/admin/checks/config/?q=service-471",
    "configs, those with a tag": "/admin/checks/config/?q=tag:env:prod+-state:failing",
    "configs, those with a tag that none has": "/admin/checks/config/?q=team:nobody",
    "completions of a tag": "/admin/completions/configs/?q=tag:env",
    "completions of a tag that none has": "/admin/completions/configs/?q=tag:none",
    "completions of a check": "/admin/completions/configs/?q=check:",
    "completions of a source": "/admin/completions/configs/?q=source:",
    "configs by check": "/admin/groups/",
    "configs by team": "/admin/groups/?by=team",
    "configs by source": "/admin/groups/?by=source",
    "nodes": "/admin/nodes/node/",
    "nodes, the greatest loads first": "/admin/nodes/node/?o=-load",
    "nodes, the most failing configs first": "/admin/nodes/node/?o=-failing",
    "nodes, those that run what a team owns": "/admin/nodes/node/?q=team:web",
    "nodes, those that run what a team without configs owns": "/admin/nodes/node/?q=team:nobody",
    "nodes, those that run what a source sends": "/admin/nodes/node/?q=source:file",
    "ledger": "/admin/checks/move/",
    "ledger, by the node": "/admin/checks/move/?o=to_node",
    "ledger, by the config": "/admin/checks/move/?o=-config",
    "node events, by their kind": "/admin/nodes/nodeevent/?o=kind",
    "sources": "/admin/checks/source/",
}


# What is asked before an act: {what: the list and its action}. A person waits for it once, so it may take longer than a page.
ASKED = {
    "uncordoning a node": ("nodes/node", "uncordon", "{node}"),
    "unpinning a config": ("checks/config", "unpin", "{config}"),
    "releasing a config": ("checks/config", "release", "{config}"),
}


def run(report: Report) -> None:
    """Measure each page's time at 100 000 configs, and compare its number of queries with that at 1 000."""
    with override_settings(ALLOWED_HOSTS=["testserver"], SECURE_SSL_REDIRECT=False):
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        few = _furnish(1000, 100, client)
        many = _furnish(100_000, 10_000, client)
        for name, page in PAGES.items():
            report.add(f"admin at 100 000 configs: {name}", _took(client, page), "s", most=0.3)
            report.add("  queries, against those at 1 000 configs", many[name], "queries", floor=few[name], most=1)
        report.add("  what saving a config does, while it is written", _foreseeing(client), "s", most=1)
        dispatcher.pin([_first()], "node-*", kind="pattern", actor="bench")
        Isolation.objects.create(config_id=_first(), source="bench", key="bench")
        Node.objects.filter(name="node-00042").cordon()
        for what, asked in ASKED.items():
            report.add(f"  what follows {what}", _asking(client, *asked), "s", most=3)


def _asking(client: Client, where: str, action: str, row: str) -> float:
    url, chosen = f"/admin/{where}/", {"action": action, "_selected_action": _url(row)}

    def ask() -> None:
        if b'name="seen"' not in client.post(url, chosen, secure=True).content:
            raise RuntimeError(f"{action}: nothing is asked")

    return sorted(timed(ask) for _ in range(3))[1]


def _foreseeing(client: Client) -> float:
    written = {"key": "bench", "check": "http_check", "yaml": "instances:\n  - url: http://bench\n"}

    def ask() -> None:
        if b"1 config would be added" not in client.post("/admin/checks/config/remarks/", written, secure=True).content:
            raise RuntimeError("nothing is foreseen")

    return sorted(timed(ask) for _ in range(3))[1]


def _first() -> int:
    return Config.objects.order_by("pk").values_list("pk", flat=True)[0]


def _furnish(configs: int, nodes: int, client: Client) -> dict[str, int]:
    """Schedule `configs` on `nodes`; return {page: number of queries}."""
    stage.fresh(nodes)
    dispatcher.schedule([stage.sent(number) for number in range(configs)])
    stage.measured()
    stage.analyse()
    return {name: _queries(client, page) for name, page in PAGES.items()}


def _queries(client: Client, page: str) -> int:
    url = _url(page)
    _get(client, url)
    with CaptureQueriesContext(connection) as queries:
        _get(client, url)
    return len(queries)


def _took(client: Client, page: str) -> float:
    url = _url(page)
    return sorted(timed(lambda: _get(client, url)) for _ in range(5))[2]


def _url(page: str) -> str:
    return page.format(node=Node.objects.get(name="node-00042").pk, config=_first())


def _get(client: Client, page: str) -> None:
    response = client.get(page, follow=True, secure=True)
    if response.status_code != 200:
        raise RuntimeError(f"{page}: {response.status_code}")
