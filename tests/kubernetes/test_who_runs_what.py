"""`kubectl get clusterchecks` says who runs what: from a real cluster, through the dispatcher, and back into statuses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db.models.functions import Now

from checks import dispatcher
from checks.models import Assignment, Config, Move
from checks.sources.kubernetes import following as follower
from checks.sources.kubernetes import writing
from checks.tests.cast import owners, report
from nodes.models import Heartbeat, Node, Runner, RunnerStats
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.test_source import LISTS, LISTS_INSTRUMENTATIONS, LISTS_SLICES, TELLS, Following, following, row
from tests.kubernetes.test_statuses import GROUP, columns
from tests.replicas import wait_for

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("warm", "definition"),
]

__all__ = ["following"]

ROOT = Path(__file__).parents[2]
READS = {"apiGroups": ["clusteragent.dev"], "resources": ["clusterchecks"], "verbs": ["get", "list", "watch"]}
WRITES = {"apiGroups": ["clusteragent.dev"], "resources": ["clusterchecks/status"], "verbs": ["patch"]}


class Shop:
    """The ClusterChecks of a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace, self.name = namespace, namespace.name

    def declare(self, name: str = "db", **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": {"check": "postgres", "instances": [{"host": name}]} | spec}
        full = {"apiVersion": GROUP, "kind": "ClusterCheck"} | body
        self.namespace.cluster.call("POST", self.namespace.path("clusterchecks", group=GROUP), full)

    def edit(self, name: str = "db", **spec: Any) -> None:
        self.namespace.cluster.call("PATCH", self.namespace.path("clusterchecks", name, GROUP), {"spec": spec})

    def status(self, name: str = "db") -> dict[str, Any]:
        found = self.namespace.cluster.call("GET", self.namespace.path("clusterchecks", name, GROUP))
        return dict(found.get("status", {}))

    def version(self, name: str) -> str:
        found = self.namespace.cluster.call("GET", self.namespace.path("clusterchecks", name, GROUP))
        return str(found["metadata"]["resourceVersion"])

    def wait(self, state: str, name: str = "db") -> dict[str, Any]:
        wait_for(f"{name} is {state}", lambda: self.status(name).get("state") == state)
        return self.status(name)

    def config(self, name: str = "db") -> Config:
        return Config.objects.get(origins__key=f"clustercheck/{self.name}/{name}")

    def owner(self, name: str = "db") -> str:
        return owners()[f"clustercheck/{self.name}/{name}"]

    def kubectl(self, *words: str) -> str:
        return self.namespace.cluster.kubectl("-n", self.name, *words)


@pytest.fixture
def shop(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A namespace whose ClusterChecks are gone after the test: followers see those of all namespaces."""
    monkeypatch.setattr(follower, "STATUSES", 0.2)
    yield Shop(namespace)
    namespace.cluster.call("DELETE", namespace.path("clusterchecks", group=GROUP))


def fetch(node: str) -> None:
    """The node fetches all that it has."""
    Heartbeat.objects.filter(node__name=node).update(acknowledged=Node.objects.get(name=node).config_version)


def tell(config: Config, node: str, **stats: Any) -> None:
    """The node's runner reports a config's checks."""
    told, _ = Runner.objects.update_or_create(node=Node.objects.get(name=node), defaults={"stats_at": Now()})
    for instance in config.instances.all():
        values = {"execution_ms": 20, "failed": False, "last_error": "", **stats}
        RunnerStats.objects.update_or_create(node=told.node, check_id=instance.check_id, defaults=values)


def test_a_clustercheck_says_how_far_it_is(shop: Shop, following: Callable[..., Following]) -> None:
    following()
    shop.declare()
    assert shop.wait("Dangling")["reason"] == "no node reports, so no node can run it"
    report("ash")
    dispatcher.redispatch()
    assert shop.wait("Assigned")["node"] == "ash"
    fetch("ash")
    assert shop.wait("Acknowledged")["reason"] == "no stats from ash"
    tell(shop.config(), "ash")
    status = shop.wait("Running")
    assert "reason" not in status
    assert status["observedGeneration"] == 1
    assert status["id"] == shop.config().short_id
    _, shown = columns(shop.kubectl("get", "clusterchecks"))
    assert shown[:5] == ["db", "postgres", "ash", "Running", ""]
    assert "condition met" in shop.kubectl("wait", "--for=condition=Ready", "clustercheck/db")
    tell(shop.config(), "ash", failed=True, last_error="password=hunter22 refused")
    assert shop.wait("Failing")["reason"] == "password=******** refused"


def test_what_is_broken_is_invalid_and_an_event_and_goes_on(shop: Shop, following: Callable[..., Following]) -> None:
    report("ash")
    following()
    shop.declare()
    shop.wait("Assigned")
    shop.edit(instances=[{"host": "%%host%%"}])
    status = shop.wait("Invalid")
    assert status["node"] == "ash"
    assert status["reason"].startswith("spec.instances[0]: ")
    assert status["observedGeneration"] == 2
    wait_for("an event", lambda: status["reason"][:40] in shop.kubectl("describe", "clustercheck", "db"))
    shop.edit(instances=[{"host": "other"}])
    assert shop.wait("Assigned")["observedGeneration"] == 3


def test_an_operators_order_on_top_is_told(shop: Shop, following: Callable[..., Following]) -> None:
    report("ash", "birch")
    following()
    shop.declare(pin={"node": "ash"})
    shop.wait("Assigned")
    assert shop.owner() == "ash"
    dispatcher.pin([shop.config().pk], "birch", actor="alice")
    told = "pinned to the node birch by alice: wins over spec.pin"
    wait_for("it is told", lambda: shop.status().get("override") == told)
    assert shop.status()["node"] == "birch"
    dispatcher.unpin([shop.config().pk])
    wait_for("it is over", lambda: "override" not in shop.status() and shop.status()["node"] == "ash")


def test_a_pause_says_who_paused(shop: Shop, following: Callable[..., Following]) -> None:
    report("ash")
    following()
    shop.declare(paused=True)
    assert shop.wait("Paused")["reason"] == "spec.paused"
    shop.edit(paused=False)
    shop.wait("Assigned")
    dispatcher.pause([shop.config().pk], actor="alice")
    status = shop.wait("Paused")
    assert status["reason"] == status["override"] == "paused by alice"


def test_a_restart_writes_nothing_and_a_move_one_status(shop: Shop, following: Callable[..., Following]) -> None:
    names = [f"db-{number}" for number in range(6)]
    for name in names:
        shop.declare(name)
    report("ash", "birch")
    first = following()
    for name in names:
        shop.wait("Assigned", name)
    before = {name: shop.version(name) for name in names}
    first.end()
    following()
    seen = row().read_at
    wait_for("it is read again", lambda: row().read_at != seen)
    moved, other = names[0], {"ash": "birch", "birch": "ash"}[shop.owner(names[0])]
    dispatcher.reassign([shop.config(moved).pk], other, actor="alice")
    wait_for("it is told", lambda: shop.status(moved)["node"] == other)
    assert {name for name in names if shop.version(name) != before[name]} == {moved}


def test_without_permission_for_statuses_all_else_works_and_it_is_said(
    cluster: Cluster, shop: Shop, following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REFUSED_AGAIN", 0.5)
    report("ash")
    rules = (LISTS, LISTS_SLICES, LISTS_INSTRUMENTATIONS, TELLS, READS)
    following(cluster.account(shop.name, "agent", *rules))
    shop.declare()
    wait_for("it is said", lambda: row().warnings)
    [warning] = row().warnings
    assert warning["where"] == "API"
    assert warning["warning"].startswith("statuses are not written: ")
    assert "agent may not patch clusterchecks/status" in warning["warning"]
    shop.edit(instances=[{"host": "other"}])
    wait_for("the edit is dispatched", lambda: "other" in shop.config().text)
    cluster.allow(shop.name, "agent", *rules, WRITES)
    shop.wait("Assigned")
    wait_for("nothing is said any more", lambda: not row().warnings)


def test_the_roles_that_we_ship_are_enough(cluster: Cluster, shop: Shop, following: Callable[..., Following]) -> None:
    report("ash")
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    [role] = [one for one in documents if one["kind"] == "ClusterRole"]
    following(cluster.account(shop.name, "agent", *role["rules"]))
    shop.declare()
    shop.declare("broken", instances=[{"host": "%%host%%"}])
    shop.wait("Assigned")
    shop.wait("Invalid", "broken")
    wait_for("an event", lambda: "spec.instances[0]" in shop.kubectl("events"))
    assert row().warnings == []


def test_a_flood_of_changes_delays_neither_dispatch_nor_the_last_status(
    shop: Shop, following: Callable[..., Following], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "A_SECOND", 2)
    report("ash", "birch")
    following()
    for number in range(20):
        shop.declare(f"db-{number}")
    wait_for("all are dispatched", lambda: Assignment.objects.count() == 20)
    # Long before their statuses are written.
    assert sum(bool(shop.status(f"db-{number}")) for number in range(20)) < 20
    moves = Move.objects.count()
    monkeypatch.setattr(writing, "A_SECOND", 100)
    for number in range(20):
        assert shop.wait("Assigned", f"db-{number}")["node"] == shop.owner(f"db-{number}")
    assert Move.objects.count() == moves
