"""What is annotated in a real cluster is dispatched, and stays dispatched, whatever happens to those who tell it."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection

from checks.explain import standing
from checks.models import Config, Move, Origin, Source
from checks.models.map import NotLeader
from checks.sources import files
from checks.sources.kubernetes import options
from checks.sources.kubernetes.access import choose
from checks.sources.kubernetes.following import Follower
from checks.sources.sync import accept_removals_of
from checks.tests.cast import lead, owners, report
from clusteragent.lib import conf
from tests.kubernetes.cluster import Cluster, Namespace
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

ROOT = Path(__file__).parents[2]
SERVICE, ENDPOINTS = "ad.datadoghq.com/service.checks", "ad.datadoghq.com/endpoints.checks"
SLICES = "discovery.k8s.io/v1"
LISTS = {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch"]}
LISTS_SLICES = {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
LISTS_CLUSTERCHECKS = {"apiGroups": ["clusteragent.dev"], "resources": ["clusterchecks"], "verbs": ["list", "watch"]}
LISTS_INSTRUMENTATIONS = {
    "apiGroups": ["datadoghq.com"],
    "resources": ["datadoginstrumentations"],
    "verbs": ["list", "watch"],
}
TELLS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}


def http(path: str = "/") -> str:
    """An annotation with an http_check of this path."""
    return json.dumps({"http_check": {"instances": [{"name": "web", "url": f"http://%%host%%:%%port%%{path}"}]}})


class Following:
    """A follower of a new term, in a thread."""

    def __init__(self, path: Path) -> None:
        self.follower = Follower(lead(), choose(path), options.read(), standing.under)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.follower.run()
        except NotLeader:
            pass
        finally:
            connection.close()

    def end(self) -> None:
        """End the term, and wait until the follower noticed."""
        lead()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def shop(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace whose Services are gone after the test: followers see those of all namespaces."""
    report("ash", "birch", "cedar")
    yield namespace
    namespace.cluster.call("DELETE", namespace.path("services"))
    namespace.cluster.call("DELETE", namespace.path("endpointslices", group=SLICES))


@pytest.fixture
def following(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Following]]:
    """Starts followers; token: of another user than the admin. They end with the test."""
    begun: list[Following] = []

    def make(token: str = "") -> Following:
        path = tmp_path / f"config-{len(begun)}"
        begun.append(Following(cluster.kubeconfig(path, token) if token else cluster.kubeconfig(path)))
        return begun[-1]

    yield make
    for one in begun:
        one.end()


def row() -> Source:
    return Source.objects.get_or_create(name="kubernetes")[0]


def texts(key: str = "") -> list[str]:
    """What is dispatched under keys with this beginning."""
    return sorted(Config.objects.filter(origins__key__startswith=key).values_list("text", flat=True))


def keys() -> set[str]:
    return set(Origin.objects.values_list("key", flat=True))


def wait_for_key(key: str) -> None:
    wait_for(key, lambda: key in owners())


def wait_for_text(text: str, key: str = "") -> None:
    wait_for(text, lambda: any(text in one for one in texts(key)))


def wait_for_nothing(key: str = "") -> None:
    wait_for("nothing is dispatched", lambda: not texts(key))


def untouched() -> dict[str, Any]:
    """What a restart must not change."""
    configs = list(Config.objects.order_by("pk").values_list("pk", "wire", "changed"))
    return {"owners": owners(), "configs": configs, "moves": Move.objects.count()}


def wait_until_watching() -> None:
    wait_for("all is watched", lambda: row().state.get("phase") == "watching" and row().read_at)


def test_what_is_annotated_is_dispatched_edited_in_place_and_removed(
    shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web")
    following()
    wait_until_watching()
    key = f"service/{shop.name}/web/http_check"
    shop.annotate("web", {SERVICE: http("/one")})
    wait_for_key(key)
    owner = owners()[key]
    shop.annotate("web", {SERVICE: http("/two")})
    wait_for_text("/two")
    assert owners() == {key: owner}
    assert [move.reason for move in Move.objects.order_by("pk")] == ["scheduled", "changed"]
    shop.annotate("web", {SERVICE: None})
    wait_for_nothing()
    shop.annotate("web", {SERVICE: http("/three")})
    wait_for_key(key)
    shop.delete("services", "web")
    wait_for_nothing()


def test_endpoints_come_and_go_and_belong_to_the_nodes_of_their_pods(
    shop: Namespace, following: Callable[..., Following]
) -> None:
    pod = {"kind": "Pod", "name": "web-1", "uid": "e8b3d5a6-0c52-4d3e-8f6e-0d4b7c1a2f33"}
    bound = {"addresses": ["10.9.0.1"], "nodeName": "ash", "targetRef": pod}
    shop.service("web", {ENDPOINTS: http()}, clusterIP="None")
    following()
    shop.slice("web", [bound, {"addresses": ["10.9.0.2"]}], name="web-1")
    beginning = f"endpoints/{shop.name}/web"
    wait_for_key(f"{beginning}/10.9.0.2/http_check")
    assert "10.9.0.1:80" in Config.objects.get(node_name="ash").text
    assert Config.objects.endpoints_share("ash").configs
    assert not Config.objects.endpoints_share("birch").configs
    ready = {"conditions": {"ready": False}}
    path = shop.path("endpointslices", "web-1", SLICES)
    shop.cluster.call("PATCH", path, {"endpoints": [bound | ready, {"addresses": ["10.9.0.2"]}]})
    wait_for_nothing(f"{beginning}/10.9.0.1/")
    shop.slice("web", [{"addresses": ["10.9.0.3"]}], name="web-2")
    wait_for_key(f"{beginning}/10.9.0.3/http_check")
    shop.delete("endpointslices", "web-1", SLICES)
    wait_for_nothing(f"{beginning}/10.9.0.2/")
    assert keys() == {f"{beginning}/10.9.0.3/http_check"}


def test_a_restart_of_ours_moves_and_writes_nothing(shop: Namespace, following: Callable[..., Following]) -> None:
    shop.service("web", {SERVICE: http(), ENDPOINTS: http("/of-endpoints")})
    shop.slice("web", [{"addresses": ["10.9.0.1"]}, {"addresses": ["10.9.0.2"]}])
    first = following()
    wait_for("all is there", lambda: len(owners()) == 3)
    before = untouched()
    first.end()
    following()
    seen = row().read_at
    wait_for("it is read again", lambda: row().read_at != seen)
    shop.service("last", {SERVICE: http("/last")})
    wait_for_text("/last")
    assert untouched()["owners"].items() > before["owners"].items()
    assert untouched()["configs"][:3] == before["configs"]
    assert untouched()["moves"] == before["moves"] + 1


def test_an_api_server_that_is_away_and_comes_back_moves_nothing(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web", {SERVICE: http()})
    following()
    wait_for_text("http")
    before = untouched()
    cluster.stop_apiserver()
    wait_for("it is seen", lambda: row().state["phase"] == "away" and cluster.url in row().state["why"])
    assert untouched() == before
    cluster.start()
    wait_until_watching()
    assert untouched() == before
    shop.annotate("web", {SERVICE: http("/after")})
    wait_for_text("/after")


def test_what_was_missed_is_found_in_a_new_list(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web", {SERVICE: http()})
    shop.service("old", {SERVICE: http("/old")})
    following()
    wait_for("both", lambda: len(owners()) == 2)
    before = owners()[f"service/{shop.name}/web/http_check"]
    cluster.stop_apiserver()
    cluster.erase("Service", shop.name, "old")
    cluster.forget()
    wait_for_nothing(f"service/{shop.name}/old/")
    assert owners() == {f"service/{shop.name}/web/http_check": before}


def test_without_permission_for_slices_services_are_dispatched_and_endpoints_stay(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web", {SERVICE: http(), ENDPOINTS: http("/of-endpoints")})
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    first = following()
    wait_for("both", lambda: len(owners()) == 2)
    first.end()
    token = cluster.account(shop.name, "agent", LISTS)
    following(token)
    wait_for("it is said", lambda: row().errors)
    [problem] = row().errors
    assert problem["where"] == "API"
    assert "agent may not list endpointslices in all namespaces: it needs a role with" in problem["error"]
    shop.annotate("web", {SERVICE: http("/two"), ENDPOINTS: http("/endpoints-two")})
    wait_for_text("/two")
    assert len(texts("endpoints/")) == 1
    cluster.allow(shop.name, "agent", LISTS, LISTS_SLICES)
    wait_for_text("/endpoints-two", "endpoints/")
    wait_for("nothing is wrong any more", lambda: not row().errors)


def test_the_roles_that_we_ship_are_enough(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/rbac.yaml").read_text())
    [role] = [one for one in documents if one["kind"] == "ClusterRole"]
    following(cluster.account(shop.name, "agent", *role["rules"]))
    shop.service("web", {SERVICE: http(), ENDPOINTS: http("/of-endpoints")})
    shop.service("broken", {SERVICE: "[]"})
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    wait_for("both are dispatched", lambda: len(owners()) == 2)
    wait_for("an event", shop.problems)
    assert [one["where"] for one in row().errors] == [f"service {shop.name}/broken"]
    assert row().warnings == []


def test_many_that_are_gone_after_a_restart_are_held_until_it_is_accepted(
    shop: Namespace, following: Callable[..., Following]
) -> None:
    for number in range(12):
        shop.service(f"web-{number}", {SERVICE: http(f"/{number}")})
    first = following()
    wait_for("all is there", lambda: len(owners()) == 12)
    first.end()
    for number in range(11):
        shop.delete("services", f"web-{number}")
    following()
    wait_for("removals are held", lambda: len(row().held_removals) == 11)
    assert len(owners()) == 12
    shop.annotate("web-11", {SERVICE: http("/changed")})
    wait_for_text("/changed")
    assert len(row().held_removals) == 11
    accept_removals_of(row(), actor="olga")
    wait_for("they are removed", lambda: set(owners()) == {f"service/{shop.name}/web-11/http_check"})
    wait_for("nothing is held", lambda: not row().held_removals and not row().accepted_removals)


def test_many_deletions_that_are_seen_are_carried_out(shop: Namespace, following: Callable[..., Following]) -> None:
    for number in range(12):
        shop.service(f"web-{number}", {SERVICE: http(f"/{number}")})
    following()
    wait_for("all is there", lambda: len(owners()) == 12)
    for number in range(12):
        shop.delete("services", f"web-{number}")
    wait_for_nothing()
    assert row().held_removals == []


def test_an_event_is_written_once(shop: Namespace, following: Callable[..., Following]) -> None:
    shop.service("web", {SERVICE: "[]"})
    first = following()
    [event] = wait_for("an event", shop.problems)
    assert event["message"].startswith(f"{SERVICE} is not a map of checks")
    shop.annotate("web", {"other": "text"})
    first.end()
    following()
    wait_until_watching()
    shop.service("last", {SERVICE: "[]"})
    wait_for("another event", lambda: len(shop.problems()) == 2)
    # A new term dates it anew, since it can't know whether the last one had written it.
    [same] = [one for one in shop.problems() if one["metadata"]["name"] == event["metadata"]["name"]]
    assert (same["metadata"]["uid"], same["message"]) == (event["metadata"]["uid"], event["message"])


def test_without_permission_for_events_all_else_works_and_it_is_said(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web", {SERVICE: http()})
    shop.service("other", {SERVICE: "[]"})
    following(cluster.account(shop.name, "agent", LISTS, LISTS_SLICES, LISTS_CLUSTERCHECKS, LISTS_INSTRUMENTATIONS))
    wait_for_text("http")
    wait_for("it is said", lambda: row().warnings)
    [warning] = row().warnings
    assert warning["warning"].startswith("problems are not shown at their objects: ")
    assert "agent may not create events" in warning["warning"]


def test_files_that_name_services_make_checks_of_them(
    shop: Namespace, following: Callable[..., Following], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "CONFD", (tmp_path,))
    monkeypatch.setattr(conf, "SCAN_PERIOD", timedelta(seconds=0.2))
    monkeypatch.setattr(files, "SETTLED_AFTER", 0)
    file = tmp_path / "tcp_check.yaml"
    text = (
        f'cluster_check: true\ninstances: [{{host: "%%host%%"}}]\nadvanced_ad_identifiers:\n'
        f"- kube_service: {{name: web, namespace: {shop.name}}}\n"
    )
    file.write_text(text)
    following()
    wait_until_watching()
    address = shop.service("web")["spec"]["clusterIP"]
    key = f"file/tcp_check.yaml/service/{shop.name}/web/tcp_check"
    wait_for_key(key)
    assert f"host: {address}" in Config.objects.get().text
    file.write_text(text.replace("}]", ", port: 81}]", 1))
    wait_for_text("port: 81")
    file.unlink()
    wait_for_nothing()


def test_a_broken_annotation_keeps_what_it_sent_and_is_shown(
    shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web", {SERVICE: http()})
    shop.service("other", {SERVICE: "[]"})
    following()
    wait_for_text("http")
    shop.annotate("web", {SERVICE: '{"http_check": '})
    place = f"service {shop.name}/web"

    def described(name: str) -> str:
        return shop.cluster.kubectl("-n", shop.name, "describe", "service", name)

    wait_for("it is shown", lambda: place in {one["where"] for one in row().errors})
    assert len(texts(f"service/{shop.name}/web")) == 1
    assert {one["where"] for one in row().errors} == {place, f"service {shop.name}/other"}
    wait_for(
        "it is told", lambda: "ClusterCheckProblem" in described("other") and "ClusterCheckProblem" in described("web")
    )
    shop.annotate("web", {SERVICE: http("/repaired")})
    wait_for_text("/repaired")
    wait_for(
        "only the other one is broken", lambda: [one["where"] for one in row().errors] == [f"service {shop.name}/other"]
    )
