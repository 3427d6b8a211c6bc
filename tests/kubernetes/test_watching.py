"""Watches of a real API server: nothing is lost or told twice, whatever happens to it."""

import functools
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from checks.sources.kubernetes.access import from_kubeconfig
from checks.sources.kubernetes.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object, Resource, Selection
from checks.sources.kubernetes.watching import Changed, Deleted, Kind, Listed, Phase, Told, Watch, Watcher
from tests.kubernetes.cluster import Cluster, Namespace
from tests.replicas import wait_for

pytestmark = pytest.mark.kubernetes

ALL = {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]}
LIST = ALL | {"verbs": ["list"]}
SPEC = {"clusterIP": "10.96.100.1", "ports": [{"port": 80}]}
# The time in which an annotation must be seen.
SOON = 2.0


def keep(service: Object) -> tuple[str, str] | None:
    """A Service's name and annotation `text`; None without the annotation."""
    text = (service["metadata"].get("annotations") or {}).get("text")
    return (service["metadata"]["name"], text) if text is not None else None


class Ear:
    """A watcher, and what it told."""

    def __init__(self, path: Path, kinds: Sequence[Kind], most: int = 0, **words: Any) -> None:
        self.told: queue.Queue[Told] = queue.Queue(most)
        self.watch = Watch(kinds, self.told, **words)
        self.watcher = Watcher(functools.partial(from_kubeconfig, path), [self.watch])

    def next(self, patience: float = 30.0) -> Told:
        return self.told.get(timeout=patience)

    def wait(self, phase: Phase) -> str:
        """Wait for a phase; return why it is so."""
        wait_for(f"{phase}", lambda: self.watch.state.phase is phase)
        return self.watch.state.why


@pytest.fixture
def hearing(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Ear]]:
    """Makes and starts watchers of the namespace's Services. token: of another user than the admin."""
    ears: list[Ear] = []

    def make(token: str = "", kinds: Sequence[Kind] = (), **words: Any) -> Ear:
        path = tmp_path / f"config-{len(ears)}"
        cluster.kubeconfig(path, token) if token else cluster.kubeconfig(path)
        ears.append(Ear(path, kinds or [Kind(Selection(SERVICES, namespace.name), keep)], **words))
        ears[-1].watcher.start()
        return ears[-1]

    yield make
    for ear in ears:
        assert ear.watcher.stop()


def changed(text: str, name: str = "web") -> Changed:
    return Changed(SERVICES, (name, text))


def test_first_there_is_a_list_then_each_change(namespace: Namespace, hearing: Callable[..., Ear]) -> None:
    namespace.service("web", {"text": "1"})
    namespace.service("plain")
    ear = hearing()
    assert ear.next() == Listed(SERVICES, [("web", "1")])
    assert ear.wait(Phase.WATCHING) == ""
    namespace.annotate("web", {"text": "2"})
    assert ear.next(SOON) == changed("2")
    namespace.annotate("web", {"text": None})
    assert ear.next(SOON) == Deleted(SERVICES, namespace.name, "web")
    namespace.annotate("web", {"text": "3"})
    assert ear.next(SOON) == changed("3")
    namespace.delete("services", "web")
    assert ear.next(SOON) == Deleted(SERVICES, namespace.name, "web")


def test_what_kubectl_says_is_told_soon(namespace: Namespace, hearing: Callable[..., Ear]) -> None:
    namespace.service("web", {"text": "1"})
    ear = hearing()
    ear.next()
    ear.wait(Phase.WATCHING)
    namespace.cluster.kubectl("-n", namespace.name, "annotate", "--overwrite", "service", "web", "text=2")
    assert ear.next(SOON) == changed("2")


def test_watches_that_end_and_begin_again_lose_and_double_nothing(
    namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "0"})
    ear = hearing(seconds=(1, 1))
    assert ear.next() == Listed(SERVICES, [("web", "0")])
    deadline, number = time.monotonic() + 5, 0
    while time.monotonic() < deadline:
        number += 1
        namespace.annotate("web", {"text": str(number)})
    assert [ear.next() for _ in range(number)] == [changed(str(each + 1)) for each in range(number)]
    assert ear.told.empty()


def test_a_restart_of_the_server_loses_and_doubles_nothing(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "0"})
    ear = hearing()
    ear.next()
    ear.wait(Phase.WATCHING)
    for number in (signal.SIGTERM, signal.SIGKILL):
        namespace.annotate("web", {"text": number.name})
        assert hears(ear, number.name)
        cluster.stop_apiserver(number)
        assert cluster.url in ear.wait(Phase.AWAY)
        cluster.start()
        ear.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "last"})
    assert hears(ear, "last")
    assert ear.told.empty()


def hears(ear: Ear, text: str) -> bool:
    """Whether the Service's new annotation is told, as a change or in a whole list, and nothing else but whole lists before."""
    new = [changed(text), Listed(SERVICES, [("web", text)])]
    while (told := ear.next()) not in new:
        assert isinstance(told, Listed)
    return True


def test_a_version_that_is_gone_is_a_new_list(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "1"})
    namespace.service("old", {"text": "1"})
    ear = hearing()
    ear.next()
    ear.wait(Phase.WATCHING)
    cluster.stop_apiserver()
    service = {"metadata": {"namespace": namespace.name, "name": "web", "annotations": {"text": "2"}}, "spec": SPEC}
    cluster.store("Service", [service])
    cluster.erase("Service", namespace.name, "old")
    cluster.forget()
    assert ear.next() == Listed(SERVICES, [("web", "2")])
    assert ear.wait(Phase.WATCHING) == ""


def test_a_server_that_stands_still_is_noticed_and_heard_again(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "1"})
    ear = hearing(idle=2.0)
    ear.next()
    ear.wait(Phase.WATCHING)
    with cluster.frozen():
        assert "watch services: " in ear.wait(Phase.AWAY)
    ear.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "2"})
    assert hears(ear, "2")


def test_a_server_that_was_restored_from_a_copy_is_read_anew(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "old"})
    cluster.backup()
    for number in range(20):
        namespace.annotate("web", {"text": f"new {number}"})
    ear = hearing(idle=2.0)
    assert ear.next() == Listed(SERVICES, [("web", "new 19")])
    ear.wait(Phase.WATCHING)
    cluster.restore()
    # The server accepts a version that it does not have yet, and is silent until then.
    assert ear.next() == Listed(SERVICES, [("web", "old")])
    namespace.annotate("web", {"text": "newest"})
    assert hears(ear, "newest")


def test_without_permission_it_says_so_and_begins_when_it_is_given(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "1"})
    ear = hearing(cluster.account(namespace.name, "agent"))
    assert f"agent may not list services in namespace {namespace.name}" in ear.wait(Phase.REFUSED)
    assert ear.told.empty()
    cluster.allow(namespace.name, "agent", LIST)
    assert ear.next() == Listed(SERVICES, [("web", "1")])
    wait_for("watching is refused", lambda: "may not watch services" in ear.watch.state.why)
    cluster.allow(namespace.name, "agent", ALL)
    ear.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "2"})
    assert ear.next(SOON) == changed("2")


def test_a_permission_that_is_taken_away_takes_nothing_else(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    namespace.service("web", {"text": "1"})
    ear = hearing(cluster.account(namespace.name, "agent", ALL), seconds=(1, 1))
    ear.next()
    ear.wait(Phase.WATCHING)
    cluster.allow(namespace.name, "agent")
    assert "may not watch services" in ear.wait(Phase.REFUSED)
    namespace.annotate("web", {"text": "2"})
    assert ear.told.empty()
    cluster.allow(namespace.name, "agent", ALL)
    assert ear.next() == changed("2")


def test_where_there_are_no_slices_it_watches_endpoints(namespace: Namespace, hearing: Callable[..., Ear]) -> None:
    def name(about: Object) -> str:
        return str(about["metadata"]["name"])

    missing = ENDPOINTSLICES._replace(version="v9")
    body = {"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}
    namespace.cluster.call("POST", namespace.path("endpoints"), body)
    kinds = [Kind(Selection(resource, namespace.name), name) for resource in (missing, ENDPOINTS)]
    ear = hearing(kinds=kinds)
    assert ear.next() == Listed(ENDPOINTS, ["web"])
    assert ear.wait(Phase.WATCHING) == ""
    assert ear.watch.resource == ENDPOINTS


def test_a_resource_that_is_not_there_is_told_and_looked_for_again(hearing: Callable[..., Ear]) -> None:
    ear = hearing(kinds=[Kind(Selection(Resource("example.com", "v1", "clusterchecks")), keep)])
    assert "list clusterchecks: not there" in ear.wait(Phase.MISSING)
    failures = ear.watch._failures
    wait_for("another try", lambda: ear.watch._failures > failures)


def test_an_object_that_can_t_be_read_is_none_and_others_are_told(
    namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    def odd(about: Object) -> str:
        return str(about["metadata"]["annotations"]["text"])

    namespace.service("plain")
    namespace.service("web", {"text": "1"})
    ear = hearing(kinds=[Kind(Selection(SERVICES, namespace.name), odd)])
    assert ear.next() == Listed(SERVICES, ["1"])
    namespace.annotate("plain", {"text": "2"})
    assert ear.next(SOON) == Changed(SERVICES, "2")


def test_it_ends_within_a_second_whatever_it_waits_for(cluster: Cluster, hearing: Callable[..., Ear]) -> None:
    watching, listing = hearing(), hearing()
    watching.next()
    with cluster.frozen():
        late = hearing()
        call = late.watcher.call(lambda client: client.get(SERVICES, "default", "kubernetes"))
        for ear in (watching, listing, late):
            assert ear.watcher.stop()
        assert call.cancelled()


def test_calls_of_others_are_made_in_its_thread(hearing: Callable[..., Ear]) -> None:
    ear = hearing()
    call = ear.watcher.call(lambda client: client.get(SERVICES, "default", "kubernetes"))
    assert call.result(10)["metadata"]["name"] == "kubernetes"


def test_who_takes_slowly_gets_everything(namespace: Namespace, hearing: Callable[..., Ear]) -> None:
    namespace.service("web", {"text": "0"})
    ear = hearing(most=3)
    ear.next()
    for number in range(50):
        namespace.annotate("web", {"text": f"n{number}"})
    assert ear.told.qsize() <= 3
    assert [ear.next() for _ in range(50)] == [changed(f"n{number}") for number in range(50)]


def test_a_flood_of_changes_is_told_whole_and_in_order(
    cluster: Cluster, namespace: Namespace, hearing: Callable[..., Ear]
) -> None:
    services, rounds = 20, 250
    for number in range(services):
        namespace.service(f"s{number}", {"text": "0"})
    ear = hearing()
    ear.next()
    ear.wait(Phase.WATCHING)
    cluster.flood([namespace.path("services", f"s{number}") for number in range(services)], rounds)
    seen: dict[str, list[str]] = {f"s{number}": [] for number in range(services)}
    for _ in range(services * rounds):
        told = ear.next()
        assert isinstance(told, Changed)
        name, text = told.object
        seen[name].append(text)
    assert all(texts == [str(number) for number in range(1, rounds + 1)] for texts in seen.values())
    assert ear.told.empty()
