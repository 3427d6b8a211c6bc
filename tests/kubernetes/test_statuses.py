"""Statuses are written to a real API server when they differ from what is there, and else nothing is."""

import functools
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from checks.sources.kubernetes import statuses, writing
from checks.sources.kubernetes.access import from_kubeconfig
from checks.sources.kubernetes.conditions import Condition, Status
from checks.sources.kubernetes.resources import CLUSTERCHECKS, Object, Selection
from checks.sources.kubernetes.statuses import Key, Statuses, Wanted
from checks.sources.kubernetes.watching import Changed, Kind, Listed, Told, Watch, Watcher
from tests.kubernetes.cluster import Cluster, Namespace, Refused
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("definition")]

GROUP = "clusteragent.dev/v1alpha1"
READS = {"apiGroups": ["clusteragent.dev"], "resources": ["clusterchecks"], "verbs": ["get"]}
WRITES = {"apiGroups": ["clusteragent.dev"], "resources": ["clusterchecks/status"], "verbs": ["patch"]}


def status(
    state: str = "Running", node: str = "ash", *, ready: bool = True, reason: str = "", generation: int = 1
) -> Status:
    fields = {
        "observedGeneration": generation,
        "state": state,
        "node": node,
        "reason": reason,
        "id": "k1",
        "override": "",
    }
    return Status(generation, Condition("Ready", ready, state, reason or f"on {node}"), fields)


class Shop:
    """A namespace with ClusterChecks, and a writer of their statuses."""

    def __init__(self, namespace: Namespace, statuses: Statuses) -> None:
        self.namespace, self.statuses = namespace, statuses

    def make(self, name: str = "db", **spec: object) -> Object:
        body = {"metadata": {"name": name}, "spec": {"check": "postgres", "instances": [{"host": name}], **spec}}
        full = {"apiVersion": GROUP, "kind": "ClusterCheck"} | body
        return self.namespace.cluster.call("POST", self.namespace.path("clusterchecks", group=GROUP), full)

    def get(self, name: str = "db") -> Object:
        return self.namespace.cluster.call("GET", self.namespace.path("clusterchecks", name, GROUP))

    def key(self, name: str = "db") -> Key:
        return Key(CLUSTERCHECKS, self.namespace.name, name)

    def want(self, **wanted: Status) -> None:
        """Let these have these statuses, as if the watch had told what there is."""
        seen = {name: self.get(name).get("status", {}) for name in wanted}
        self.statuses.want({self.key(name): Wanted(one, seen[name]) for name, one in wanted.items()})
        self.statuses.step()

    def state(self, name: str = "db") -> str:
        return str(self.get(name).get("status", {}).get("state", ""))

    def wait(self, state: str, name: str = "db") -> Object:
        wait_for(f"{name} is {state}", lambda: self.state(name) == state)
        return self.get(name)

    def kubectl(self, *words: str) -> str:
        return self.namespace.cluster.kubectl("-n", self.namespace.name, *words)

    def wait_until_idle(self) -> None:
        def is_idle() -> bool:
            self.statuses.step()
            return not self.statuses._waiting and (self.statuses._writing is None or self.statuses._writing.done())

        wait_for("nothing is to be written", is_idle)


@pytest.fixture
def writer(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Statuses]]:
    """Makes writers. token: of another user than the admin. watches: beside them."""
    watchers: list[Watcher] = []

    def make(token: str = "", watches: Sequence[Watch] = ()) -> Statuses:
        path = cluster.kubeconfig(tmp_path / f"config-{len(watchers)}", *filter(None, [token]))
        watchers.append(Watcher(functools.partial(from_kubeconfig, path), watches))
        watchers[-1].start()
        return Statuses(watchers[-1])

    yield make
    for watcher in watchers:
        assert watcher.stop()


@pytest.fixture
def shop(namespace: Namespace, writer: Callable[..., Statuses]) -> Shop:
    """A namespace, and a writer that may do everything."""
    return Shop(namespace, writer())


def columns(text: str) -> list[list[str]]:
    """The rows of a table of kubectl, by its headers."""
    header, *rows = text.splitlines()
    names = header.split()
    starts = [*(header.index(name) for name in names), None]
    return [names, *([row[begin:end].strip() for begin, end in pairwise(starts)] for row in rows)]


def test_kubectl_shows_who_runs_what(shop: Shop) -> None:
    shop.make()
    shop.make("web")
    shop.want(db=status(), web=status("Dangling", "", ready=False, reason="no node reports, so no node can run it"))
    shop.wait("Running")
    shop.wait("Dangling", "web")
    header, db, web = columns(shop.kubectl("get", "clusterchecks"))
    assert header == ["NAME", "CHECK", "NODE", "STATE", "REASON", "AGE"]
    assert db[:5] == ["db", "postgres", "ash", "Running", ""]
    assert web[:5] == ["web", "postgres", "", "Dangling", "no node reports, so no node can run it"]
    wide, *_ = columns(shop.kubectl("get", "ccheck", "-o", "wide"))
    assert wide[-2:] == ["OVERRIDE", "ID"]


def test_kubectl_waits_until_it_is_ready(shop: Shop) -> None:
    shop.make()
    shop.want(db=status("Assigned", ready=False, reason="ash has not fetched this version yet"))
    shop.wait("Assigned")
    shop.want(db=status())
    assert "condition met" in shop.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "clustercheck/db")
    shop.wait("Running")


@pytest.mark.parametrize("path", ["spec", "spec.instances", "spec.pin.waits", "status.state", "status.conditions"])
def test_kubectl_explains_every_field(shop: Shop, path: str) -> None:
    def explained() -> str:
        # The API server describes a resource some seconds after it has it.
        with suppress(CalledProcessError):
            return shop.kubectl("explain", f"clustercheck.{path}")
        return ""

    text = wait_for("it is described", explained)
    assert "DESCRIPTION" in text
    assert "<empty>" not in text


BAD: list[tuple[dict[str, Any], str]] = [
    ({"instances": []}, "spec.instances: Invalid value"),
    ({"instances": None}, "spec.instances: Required value"),
    ({"instances": ["text"]}, "spec.instances[0]: Invalid value"),
    ({"check": None}, "spec.check: Required value"),
    ({"check": "../etc"}, "spec.check: Invalid value"),
    ({"check": "x" * 300}, "spec.check: Too long"),
    ({"initConfig": []}, "spec.initConfig: Invalid value"),
    ({"paused": "yes"}, "spec.paused: Invalid value"),
    ({"pin": {}}, "give exactly one of node, pattern and label"),
    ({"pin": {"node": "ash", "label": "zone=a"}}, "give exactly one of node, pattern and label"),
    ({"pin": {"label": "zone"}}, "spec.pin.label: Invalid value"),
]


@pytest.mark.parametrize(("spec", "error"), BAD)
def test_what_could_not_be_dispatched_is_refused_by_name(shop: Shop, spec: dict[str, Any], error: str) -> None:
    with pytest.raises(Refused) as refused:
        shop.make(**spec)
    assert error in str(refused.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"initConfig": None},
        {"initConfig": {"any": [1, {"thing": True}]}, "paused": True},
        {"pin": {"pattern": "runner-*", "waits": True}},
        {"pin": {"label": "zone="}},
        {"check": "kubernetes_state_core"},
        {"check": "oracle-dbm"},
    ],
)
def test_what_can_be_dispatched_is_stored_as_it_is(shop: Shop, spec: dict[str, Any]) -> None:
    stored = shop.make(**spec)["spec"]
    assert {key: stored[key] for key in spec} == spec


def test_nothing_is_written_when_nothing_changes(shop: Shop, writer: Callable[..., Statuses]) -> None:
    shop.make()
    shop.want(db=status())
    before = shop.wait("Running")
    shop.want(db=status())
    # Another process, to which the watch has not told the status yet.
    again = Shop(shop.namespace, writer())
    again.statuses.want({again.key(): Wanted(status(), {})})
    again.wait_until_idle()
    shop.wait_until_idle()
    assert shop.get()["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_transition_has_a_time_which_stays_while_the_condition_is_the_same(shop: Shop) -> None:
    shop.make()
    shop.want(db=status())
    [first] = shop.wait("Running")["status"]["conditions"]
    assert first["lastTransitionTime"]
    shop.want(db=status("Acknowledged", node="birch"))
    [second] = shop.wait("Acknowledged")["status"]["conditions"]
    assert second["lastTransitionTime"] == first["lastTransitionTime"]
    assert second["message"] == "on birch"


def test_fields_that_are_empty_now_are_removed(shop: Shop) -> None:
    shop.make()
    shop.want(db=status("Failing", ready=False, reason="no route"))
    assert shop.wait("Failing")["status"]["reason"] == "no route"
    shop.want(db=status("Dangling", node="", ready=False))
    assert shop.wait("Dangling")["status"].keys() == {"observedGeneration", "state", "id", "conditions"}


def test_conditions_of_others_stay(shop: Shop) -> None:
    shop.make()
    other = {
        "type": "Reviewed",
        "status": "True",
        "reason": "Olga",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = shop.namespace.path("clusterchecks", "db", GROUP)
    shop.namespace.cluster.call("PATCH", f"{path}/status", {"status": {"conditions": [other]}})
    shop.want(db=status())
    conditions = shop.wait("Running")["status"]["conditions"]
    assert conditions[0] == other
    assert [one["type"] for one in conditions] == ["Reviewed", "Ready"]


def test_what_is_overtaken_is_never_written(
    namespace: Namespace, writer: Callable[..., Statuses], monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(about: Object) -> str:
        return str(about.get("status", {}).get("state", ""))

    for name in ("db", "web"):
        Shop(namespace, writer()).make(name)
    told: queue.Queue[Told] = queue.Queue()
    web = Selection(CLUSTERCHECKS, namespace.name, fields="metadata.name=web")
    shop = Shop(namespace, writer(watches=[Watch([Kind(web, state)], told)]))
    assert told.get(timeout=30) == Listed(CLUSTERCHECKS, [""])
    # So slow that the second one is still waiting.
    monkeypatch.setattr(writing, "A_SECOND", 2)
    shop.want(db=status(), web=status("Assigned"))
    shop.want(web=status("Running"))
    shop.wait("Running", "web")
    assert told.get(timeout=30) == Changed(CLUSTERCHECKS, "Running")


def test_one_object_that_can_t_be_written_delays_no_other(
    cluster: Cluster, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose admission webhook does not answer."""
    shop.make("bad")
    shop.make("good")
    name = f"broken-{shop.namespace.name}"
    rule = {
        "apiGroups": ["clusteragent.dev"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["*/status"],
    }
    webhook = {
        "name": "broken.example.com",
        "rules": [rule],
        "matchConditions": [{"name": "bad", "expression": "object.metadata.name == 'bad'"}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace.name}},
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [webhook],
    }
    cluster.call("POST", path, body)
    dry = shop.namespace.path("clusterchecks", "bad", GROUP) + "/status?dryRun=All"

    def is_refused() -> bool:
        try:
            cluster.call("PATCH", dry, {"status": {"state": "Running"}})
        except Refused:
            return True
        return False

    try:
        wait_for("the webhook is in force", is_refused)
        shop.want(bad=status(), good=status())
        shop.wait("Running", "good")
        assert shop.state("bad") == ""
        assert shop.key("bad") in shop.statuses._waiting
    finally:
        cluster.call("DELETE", f"{path}/{name}")


def test_no_more_are_written_than_ten_a_second(shop: Shop) -> None:
    names = [f"web-{number}" for number in range(12)]
    for name in names:
        shop.make(name)
    began = time.monotonic()
    shop.want(**{name: status() for name in names})
    shop.wait_until_idle()
    assert time.monotonic() - began >= 11 / writing.A_SECOND
    assert {shop.state(name) for name in names} == {"Running"}


def test_a_refusal_is_told_and_tried_again(
    namespace: Namespace, writer: Callable[..., Statuses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REFUSED_AGAIN", 0.5)
    shop = Shop(namespace, writer(namespace.cluster.account(namespace.name, "agent", READS)))
    shop.make()
    shop.want(db=status())
    wait_for("it is refused", lambda: shop.statuses.refusals)
    [why] = shop.statuses.refusals
    assert "agent may not patch clusterchecks/status in namespace" in why
    assert 'apiGroups: ["clusteragent.dev"], resources: ["clusterchecks/status"], verbs: ["patch"]' in why
    namespace.cluster.allow(namespace.name, "agent", READS, WRITES)

    def is_written() -> bool:
        shop.statuses.step()
        return shop.state() == "Running"

    wait_for("it is written", is_written)
    wait_for("nothing is refused", lambda: not shop.statuses.refusals)


def test_a_refusal_is_told_also_while_it_is_tried_again(
    namespace: Namespace, writer: Callable[..., Statuses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REFUSED_AGAIN", 0.0)
    shop = Shop(namespace, writer(namespace.cluster.account(namespace.name, "agent", READS)))
    shop.make()
    shop.want(db=status())
    wait_for("it is refused", lambda: shop.statuses.refusals)
    tries = set()
    while len(tries) < 4:
        shop.statuses.step()
        assert shop.statuses.refusals
        tries.add(shop.statuses._refused[CLUSTERCHECKS][1])


def test_objects_that_are_gone_stop_nobody(shop: Shop) -> None:
    shop.make()
    gone = {shop.key("gone"): Wanted(status(), {})}
    for _ in range(2):
        shop.statuses.want(gone | {shop.key(): Wanted(status(), {})})
        shop.statuses.step()
        shop.wait("Running")
        shop.wait_until_idle()
    shop.statuses.want(gone)
    assert not shop.statuses._waiting


def test_what_somebody_else_writes_over_it_is_written_again(shop: Shop) -> None:
    shop.make()
    path = f"{shop.namespace.path('clusterchecks', 'db', GROUP)}/status"
    for _ in range(2):
        shop.want(db=status())
        shop.wait("Running")
        shop.wait_until_idle()
        # The watch tells it.
        shop.want(db=status())
        shop.namespace.cluster.call("PATCH", path, {"status": None})
        assert shop.state() == ""


def test_while_the_watch_tells_nothing_new_nothing_is_asked_again(shop: Shop) -> None:
    shop.make()
    shop.statuses.want({shop.key(): Wanted(status(), {})})
    shop.wait_until_idle()
    shop.statuses.want({shop.key(): Wanted(status(), {})})
    assert not shop.statuses._waiting


def test_what_somebody_else_wrote_over_it_unseen_is_written_again_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "TRIED_AGAIN", 0.0)
    shop.make()
    path = f"{shop.namespace.path('clusterchecks', 'db', GROUP)}/status"
    for _ in range(2):
        shop.want(db=status())
        shop.wait("Running")
        shop.wait_until_idle()
        shop.namespace.cluster.call("PATCH", path, {"status": None})


def test_what_the_schema_cuts_off_is_not_written_again_and_again(shop: Shop) -> None:
    shop.make()
    odd = status()
    odd = odd._replace(fields={**odd.fields, "unknown": "text"})
    shop.want(db=odd)
    shop.wait("Running")
    shop.wait_until_idle()
    shop.want(db=odd)
    assert not shop.statuses._waiting


def test_what_the_schema_refuses_is_not_written_again_and_again(shop: Shop) -> None:
    shop.make()
    shop.want(db=status("Strange"))
    shop.wait_until_idle()
    assert shop.state() == ""
    shop.want(db=status("Strange"))
    assert not shop.statuses._waiting
    shop.want(db=status())
    shop.wait("Running")


def test_an_api_server_that_is_away_delays_it(cluster: Cluster, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "AGAIN", 0.2)
    shop.make()
    cluster.stop_apiserver()
    shop.statuses.want({shop.key(): Wanted(status(), {})})
    shop.statuses.step()
    wait_for("it failed", lambda: shop.statuses._again)
    cluster.start()

    def is_written() -> bool:
        shop.statuses.step()
        return shop.state() == "Running"

    wait_for("it is written", is_written)
