"""ClusterChecks of a real cluster: dispatched, edited, paused, pinned and deleted, with and without their definition."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from checks import dispatcher
from checks.models import Config, Move
from checks.models.orders import Pause, Pin
from checks.sources.kubernetes import watching
from checks.tests.cast import owners, report
from checks.tests.operators import config
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.test_source import (
    LISTS,
    LISTS_CLUSTERCHECKS,
    LISTS_INSTRUMENTATIONS,
    LISTS_SLICES,
    TELLS,
    Following,
    following,
    row,
    untouched,
    wait_for_key,
    wait_for_nothing,
    wait_for_text,
    wait_until_watching,
)
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

GROUP = "clusteragent.dev/v1alpha1"
STATUSES = {
    "apiGroups": ["clusteragent.dev"],
    "resources": ["clusterchecks", "clusterchecks/status"],
    "verbs": ["get", "patch"],
}
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Ours, without a schema: it takes whatever somebody writes.
DEFINITION = {
    "metadata": {"name": "clusterchecks.clusteragent.dev"},
    "spec": {
        "group": "clusteragent.dev",
        "scope": "Namespaced",
        "names": {"kind": "ClusterCheck", "plural": "clusterchecks", "singular": "clustercheck"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}

__all__ = ["following"]


class Shop:
    """The ClusterChecks of a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace, self.call = namespace, namespace.cluster.call

    def key(self, name: str = "db") -> str:
        return f"clustercheck/{self.namespace.name}/{name}"

    def declare(self, name: str = "db", **spec: Any) -> None:
        body = {
            "apiVersion": GROUP,
            "kind": "ClusterCheck",
            "metadata": {"name": name},
            "spec": {"check": "postgres", "instances": [{"host": name}]} | spec,
        }
        self.call("POST", self.namespace.path("clusterchecks", group=GROUP), body)

    def edit(self, name: str = "db", subresource: str = "", **fields: Any) -> None:
        """Change fields of the spec, or of a subresource. None removes one."""
        path = self.namespace.path("clusterchecks", name, GROUP)
        body = {subresource: fields} if subresource else {"spec": fields}
        self.call("PATCH", f"{path}/{subresource}" if subresource else path, body)

    def delete(self, name: str = "db") -> None:
        self.namespace.delete("clusterchecks", name, GROUP)


def is_served(cluster: Cluster) -> bool:
    """Whether the API server lists ClusterChecks."""
    groups = cluster.call("GET", "/apis")["groups"]
    return any(group["name"] == "clusteragent.dev" for group in groups)


def define(cluster: Cluster) -> None:
    cluster.call("POST", CRDS, DEFINITION)
    cluster.kubectl("wait", "--for=condition=Established", "crd/clusterchecks.clusteragent.dev")
    wait_for("ClusterChecks are served", lambda: is_served(cluster))


def undefine(cluster: Cluster) -> None:
    """Delete the definition, and with it all ClusterChecks."""
    cluster.kubectl("delete", "crd", "clusterchecks.clusteragent.dev", "--ignore-not-found")


@pytest.fixture
def bare(cluster: Cluster, namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A namespace in a cluster that knows no ClusterChecks yet, which is asked for them all the time."""
    monkeypatch.setattr(watching, "OPTIONAL", 0.2)
    report("ash", "birch", "cedar")
    yield Shop(namespace)
    undefine(cluster)


@pytest.fixture
def shop(cluster: Cluster, bare: Shop) -> Shop:
    """A namespace for ClusterChecks."""
    define(cluster)
    return bare


def reasons() -> list[str]:
    return list(Move.objects.order_by("pk").values_list("reason", flat=True))


def test_what_is_declared_is_dispatched_edited_in_place_and_removed(
    shop: Shop, following: Callable[..., Following]
) -> None:
    following()
    wait_until_watching()
    shop.declare()
    wait_for_key(shop.key())
    owner, [pk] = owners()[shop.key()], Config.objects.values_list("pk", flat=True)
    shop.declare("db2")
    wait_for_key(shop.key("db2"))
    shop.edit(instances=[{"host": "elsewhere"}], initConfig={"timeout": 5})
    wait_for_text("elsewhere", shop.key())
    assert (owners()[shop.key()], config(shop.key()).pk) == (owner, pk)
    assert str(config(shop.key()).origins.get()) == f"kubernetes: clustercheck {shop.namespace.name}/db"
    shop.delete()
    wait_for("it is gone", lambda: set(owners()) == {shop.key("db2")})
    shop.delete("db2")
    wait_for_nothing()


def test_a_broken_one_is_told_and_goes_on(shop: Shop, following: Callable[..., Following]) -> None:
    shop.declare()
    following()
    wait_for_key(shop.key())
    shop.edit(pin={"node": "ash", "label": "zone=a"})
    error = "spec.pin needs exactly one of node, pattern and label, but has node and label"
    wait_for("the problem is shown", lambda: [one["error"] for one in row().errors] == [error])
    assert set(owners()) == {shop.key()}
    shop.edit(pin=None)
    wait_for("the problem is gone", lambda: row().errors == [])


def test_one_that_is_paused_from_the_start_is_never_assigned(shop: Shop, following: Callable[..., Following]) -> None:
    shop.declare("before", paused=True)
    following()
    shop.declare(paused=True)
    shop.declare("other")
    wait_for_key(shop.key("other"))
    wait_for("all are sent", lambda: Config.objects.count() == 3)
    assert set(owners()) == {shop.key("other")}
    assert reasons() == ["scheduled"]
    shop.edit(paused=False)
    wait_for_key(shop.key())
    assert reasons() == ["scheduled", "resumed"]
    shop.edit(paused=True)
    wait_for("it is paused", lambda: set(owners()) == {shop.key("other")})
    shop.delete()
    shop.delete("before")
    wait_for("orders go with their checks", lambda: not Pause.objects.exists() and Config.objects.count() == 1)


def test_a_pin_follows_the_spec_under_those_of_people(shop: Shop, following: Callable[..., Following]) -> None:
    shop.declare(pin={"node": "birch"})
    following()
    wait_for("it is on birch", lambda: owners() == {shop.key(): "birch"})
    shop.edit(pin={"node": None, "pattern": "ced*", "waits": True})
    wait_for("it is on cedar", lambda: owners() == {shop.key(): "cedar"})
    dispatcher.pin([config(shop.key()).pk], "ash", actor="ann")
    assert owners() == {shop.key(): "ash"}
    shop.edit(pin={"pattern": "bir*"}, instances=[{"host": "later"}])
    wait_for_text("later")
    assert owners() == {shop.key(): "ash"}
    dispatcher.unpin([config(shop.key()).pk])
    wait_for("it is on birch", lambda: owners() == {shop.key(): "birch"})
    shop.edit(pin=None)
    wait_for("it is free", lambda: not Pin.objects.exists())
    assert owners() == {shop.key(): "birch"}


def test_a_new_leader_moves_nothing(shop: Shop, following: Callable[..., Following]) -> None:
    shop.declare(paused=True)
    shop.declare("pinned", pin={"node": "birch"})
    shop.declare("free")
    following().end()
    following()
    wait_for("all are sent", lambda: Config.objects.count() == 3 and len(owners()) == 2)
    wait_for("it is on birch", lambda: owners()[shop.key("pinned")] == "birch")

    def state() -> list[Any]:
        return [untouched(), list(Pin.objects.values()), list(Pause.objects.values())]

    before = state()
    following()
    shop.declare("later")
    wait_for_key(shop.key("later"))
    shop.delete("later")
    wait_for("it is gone", lambda: Config.objects.count() == 3)
    now = state()
    assert (now[0]["owners"], now[0]["configs"], now[1:]) == (before[0]["owners"], before[0]["configs"], before[1:])


def test_a_cluster_may_get_the_resource_later(
    cluster: Cluster, bare: Shop, following: Callable[..., Following]
) -> None:
    following()
    wait_until_watching()
    wait_for("it is not there", lambda: phase() == "not there")
    assert (row().warnings, row().errors) == ([], [])
    define(cluster)
    bare.declare()
    wait_for_key(bare.key())
    wait_for("it is watched", lambda: phase() == "watching")


def test_without_permission_they_alone_stay_and_that_is_told(
    cluster: Cluster, shop: Shop, following: Callable[..., Following]
) -> None:
    shop.declare()
    shop.declare("paused", paused=True)
    name = shop.namespace.name
    others = (LISTS, LISTS_SLICES, LISTS_INSTRUMENTATIONS, TELLS)
    token = cluster.account(name, "agent", *others, LISTS_CLUSTERCHECKS, STATUSES)
    first = following(token)
    wait_for_key(shop.key())
    wait_for("both are sent", lambda: Config.objects.count() == 2)
    first.end()
    before = untouched()
    cluster.allow(name, "agent", *others)
    following(token)
    wait_for("it is refused", lambda: phase() == "refused" and row().warnings)
    wait_until_watching()
    [warning] = [one["warning"] for one in row().warnings]
    assert warning.startswith("ClusterChecks are not read: ")
    assert "list clusterchecks" in warning
    assert warning.endswith("; what they sent stays")
    wait_for("the others are watched", lambda: row().state["phase"] == "watching")
    assert (row().errors, untouched()) == ([], before)
    cluster.allow(name, "agent", *others, LISTS_CLUSTERCHECKS, STATUSES)
    shop.delete("paused")
    wait_for("it is read again", lambda: Config.objects.count() == 1 and row().warnings == [])
    wait_for("its order is gone, too", lambda: not Pause.objects.exists())


def test_one_that_nests_without_an_end_hides_no_other(shop: Shop, following: Callable[..., Following]) -> None:
    def deep(name: str, depth: int) -> None:
        nested = '{"a":' * depth + "1" + "}" * depth
        named = f'"apiVersion": "{GROUP}", "kind": "ClusterCheck", "metadata": {{"name": "{name}"}}'
        body = f'{{{named}, "spec": {{"check": "x", "instances": [{nested}]}}}}'
        # Not by call(), which reads the answer.
        with shop.namespace.cluster._http() as http:
            path = shop.namespace.path("clusterchecks", group=GROUP)
            assert http.post(path, content=body, headers={"Content-Type": "application/json"}).is_success

    deep("listed", 9000)
    shop.declare()
    following()
    wait_for_key(shop.key())
    deep("watched", 9000)
    shop.declare("later")
    wait_for_key(shop.key("later"))
    wait_for("both are told", lambda: len(row().errors) == 2)
    assert {one["error"] for one in row().errors} == {"spec.instances[0] nests too deep"}


def test_a_status_is_nothing_new(shop: Shop, following: Callable[..., Following]) -> None:
    shop.declare()
    follower = following()
    wait_for_key(shop.key())
    before = untouched()
    shop.edit(subresource="status", reviewed="by Olga")
    mirror = follower.follower._source.mirror
    wait_for("it is seen", lambda: [one.status.get("reviewed") for one in mirror.clusterchecks()] == ["by Olga"])
    assert not follower.follower._source._changed
    assert untouched() == before


def phase() -> str:
    """The phase of the watch of ClusterChecks."""
    return str(next(one["phase"] for one in row().state["watches"] if one["resource"].startswith("clusterchecks")))


def test_what_an_annotation_makes_of_the_same_json_is_the_same(shop: Shop, following: Callable[..., Following]) -> None:
    instance = {"host": "db", "port": 5432, "large": 2**53 + 1, "small": 1e-7, "one": 1.0, "text": "é\u2028😀"}
    checks = {"postgres": {"instances": [instance], "ignore_autodiscovery_tags": True, "init_config": {"a": 2.0}}}
    shop.namespace.service("web", {"ad.datadoghq.com/service.checks": json.dumps(checks)})
    shop.declare(instances=[instance], initConfig={"a": 2.0})
    following()
    wait_for("both are sent", lambda: Config.objects.count() == 2)
    originals = Config.objects.values_list("original", flat=True)
    [one, other] = [(each["instances"], each["init_config"]) for each in originals]
    assert one == other
    shop.namespace.delete("services", "web")
    wait_for("it is gone", lambda: Config.objects.count() == 1)
