"""Helpers for tests of the dispatcher: nodes ash, birch and cedar, and small configs."""

from datetime import timedelta

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Now

from checks import dispatcher
from checks.dispatcher import Sent, settling
from checks.models import Assignment, ClusterStore, Config, Move
from checks.wire.patching import IntegrationConfig
from clusteragent.lib import conf
from nodes.heartbeats import note_heartbeat
from nodes.models import Heartbeat, Node


def config(name: str = "http_check", url: str = "http://one", **fields: object) -> IntegrationConfig:
    values = {"instances": (f"url: {url}\n",), "init_config": "{}", "cluster_check": True, "provider": "file", **fields}
    return IntegrationConfig(name=name, **values)  # type: ignore[arg-type]


def sent(key: str, source: str = "file", replica: str = "", **fields: object) -> Sent:
    """What the origin `source:key` sends: by default a config that differs from that of every other key."""
    original = config(**{"url": f"http://{key}", **fields})  # type: ignore[arg-type]
    return Sent(source, key, original, dispatcher.admit(original), replica)


def report(*names: str) -> None:
    for name in names:
        note_heartbeat(name, last_change=-1)


def silence(*names: str) -> None:
    """Let these nodes be silent slightly longer than the timeout."""
    age = conf.NODE_EXPIRATION_TIMEOUT + timedelta(seconds=1)
    Heartbeat.objects.filter(node__name__in=names).update(seen_at=Now() - age)


def hand_over() -> None:
    """Let all node agents acknowledge what they have, so that nothing is being handed over any more."""
    Heartbeat.objects.update(acknowledged=Subquery(Node.objects.filter(pk=OuterRef("node")).values("config_version")))
    settling.settle()


def settled_on_ash(number: int) -> None:
    """So many configs on ash, all of them acknowledged; and birch, which has nothing."""
    report("ash")
    dispatcher.schedule([sent(f"key-{each}") for each in range(number)])
    hand_over()
    report("birch")


def owners() -> dict[str, str]:
    """The assignments: {origin's key: node's name}."""
    rows = Assignment.objects.values_list("config__origins__key", "node__name")
    return dict(rows)


def dangling() -> set[str]:
    return set(Config.objects.dangling().values_list("origins__key", flat=True))


def counts() -> dict[str, int]:
    names = dict(Node.objects.values_list("pk", "name"))
    return {names[node]: int(cost) for node, cost in Assignment.objects.counts().items()}


def versions() -> dict[str, int]:
    return dict(Node.objects.values_list("name", "config_version"))


def lead() -> int:
    """Begin a term and return it."""
    ClusterStore.objects.update(term=ClusterStore.objects.get().term + 1)
    return ClusterStore.objects.get().term


def ledger() -> list[tuple[str, str, str]]:
    """The moves in order: (from, to, reason)."""
    return list(Move.objects.order_by("pk").values_list("source_node", "to_node", "reason"))
