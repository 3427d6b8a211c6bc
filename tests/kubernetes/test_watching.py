"""Watches of a real API server: nothing is lost or told twice, whatever happens to it."""

import asyncio
import functools
import gc
import os
import queue
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from checks.sources.kubernetes import watching
from checks.sources.kubernetes.access import from_kubeconfig
from checks.sources.kubernetes.client import Client
from checks.sources.kubernetes.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object, Resource, Selection
from checks.sources.kubernetes.watching import Changed, Deleted, Kind, Listed, Phase, Told, Watch, Watcher
from tests.kubernetes.cluster import Cluster, Namespace
from tests.replicas import measured, wait_for

pytestmark = pytest.mark.kubernetes

ALL = {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]}
LIST = ALL | {"verbs": ["list"]}
SPEC = {"clusterIP": "10.96.100.1", "ports": [{"port": 80}]}
# Seconds within which an annotation must be seen.
SOON = 2.0


def keep(service: Object) -> tuple[str, str] | None:
    """A Service's name and annotation `text`; None without the annotation."""
    text = (service["metadata"].get("annotations") or {}).get("text")
    return (service["metadata"]["name"], text) if text is not None else None


class Observer:
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
def observe(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[Callable[..., Observer]]:
    """Makes and starts watchers of the namespace's Services. token: of another user than the admin."""
    observers: list[Observer] = []

    def make(token: str = "", kinds: Sequence[Kind] = (), **words: Any) -> Observer:
        path = tmp_path / f"config-{len(observers)}"
        cluster.kubeconfig(path, token) if token else cluster.kubeconfig(path)
        observers.append(Observer(path, kinds or [Kind(Selection(SERVICES, namespace.name), keep)], **words))
        observers[-1].watcher.start()
        return observers[-1]

    yield make
    for observer in observers:
        assert observer.watcher.stop()


def changed(text: str, name: str = "web") -> Changed:
    return Changed(SERVICES, (name, text))


def test_first_there_is_a_list_then_each_change(namespace: Namespace, observe: Callable[..., Observer]) -> None:
    namespace.service("web", {"text": "1"})
    namespace.service("plain")
    observer = observe()
    assert observer.next() == Listed(SERVICES, [("web", "1")])
    assert observer.wait(Phase.WATCHING) == ""
    namespace.annotate("web", {"text": "2"})
    assert observer.next() == changed("2")
    namespace.annotate("web", {"text": None})
    assert observer.next() == Deleted(SERVICES, namespace.name, "web")
    namespace.annotate("web", {"text": "3"})
    assert observer.next() == changed("3")
    namespace.delete("services", "web")
    assert observer.next() == Deleted(SERVICES, namespace.name, "web")


def test_what_kubectl_says_is_told_soon(namespace: Namespace, observe: Callable[..., Observer]) -> None:
    namespace.service("web", {"text": "1"})
    observer = observe()
    observer.next()
    observer.wait(Phase.WATCHING)
    namespace.cluster.kubectl("-n", namespace.name, "annotate", "--overwrite", "service", "web", "text=2")
    assert observer.next(SOON) == changed("2")


def test_watches_that_end_and_begin_again_lose_and_double_nothing(
    namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "0"})
    observer = observe(seconds=(1, 1))
    assert observer.next() == Listed(SERVICES, [("web", "0")])
    deadline, number = time.monotonic() + 5, 0
    while time.monotonic() < deadline:
        number += 1
        namespace.annotate("web", {"text": str(number)})
    assert [observer.next() for _ in range(number)] == [changed(str(each + 1)) for each in range(number)]
    assert observer.told.empty()


def test_a_restart_of_the_server_loses_and_doubles_nothing(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "0"})
    observer = observe()
    observer.next()
    observer.wait(Phase.WATCHING)
    for number in (signal.SIGTERM, signal.SIGKILL):
        namespace.annotate("web", {"text": number.name})
        assert sees(observer, number.name)
        cluster.stop_apiserver(number)
        assert cluster.url in observer.wait(Phase.AWAY)
        cluster.start()
        observer.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "last"})
    assert sees(observer, "last")
    assert observer.told.empty()


def test_after_a_long_outage_it_lists_again(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be one that was restored from a copy, and be past the version that was heard last by now."""
    monkeypatch.setattr(watching, "OUTAGE", 0.5)
    namespace.service("web", {"text": "0"})
    observer = observe()
    observer.next()
    observer.wait(Phase.WATCHING)
    cluster.stop_apiserver()
    observer.wait(Phase.AWAY)
    wait_for("it has tried for a while", lambda: observer.watch._failures > 3)
    cluster.start()
    assert observer.next() == Listed(SERVICES, [("web", "0")])


def sees(observer: Observer, text: str) -> bool:
    """Whether the Service's new annotation is told, as a change or in a whole list, and nothing else but whole lists before."""
    new = [changed(text), Listed(SERVICES, [("web", text)])]
    while (told := observer.next()) not in new:
        assert isinstance(told, Listed)
    return True


def test_a_version_that_is_gone_is_a_new_list(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "1"})
    namespace.service("old", {"text": "1"})
    observer = observe()
    observer.next()
    observer.wait(Phase.WATCHING)
    cluster.stop_apiserver()
    service = {"metadata": {"namespace": namespace.name, "name": "web", "annotations": {"text": "2"}}, "spec": SPEC}
    cluster.store("Service", [service])
    cluster.erase("Service", namespace.name, "old")
    cluster.forget()
    assert observer.next() == Listed(SERVICES, [("web", "2")])
    assert observer.wait(Phase.WATCHING) == ""


def test_a_server_that_stands_still_is_noticed_and_heard_again(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "1"})
    observer = observe(idle=2.0)
    observer.next()
    observer.wait(Phase.WATCHING)
    with cluster.frozen():
        assert "watch services: " in observer.wait(Phase.AWAY)
    observer.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "2"})
    assert sees(observer, "2")


def test_a_server_that_was_restored_from_a_copy_is_read_anew(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "old"})
    cluster.backup()
    for number in range(20):
        namespace.annotate("web", {"text": f"new {number}"})
    observer = observe(idle=2.0)
    assert observer.next() == Listed(SERVICES, [("web", "new 19")])
    observer.wait(Phase.WATCHING)
    cluster.restore()
    # The server accepts a version that it does not have yet, and is silent until then.
    assert observer.next() == Listed(SERVICES, [("web", "old")])
    namespace.annotate("web", {"text": "newest"})
    assert sees(observer, "newest")


def test_without_permission_it_says_so_and_begins_when_it_is_given(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "1"})
    observer = observe(cluster.account(namespace.name, "agent"))
    assert f"agent may not list services in namespace {namespace.name}" in observer.wait(Phase.REFUSED)
    assert observer.told.empty()
    cluster.allow(namespace.name, "agent", LIST)
    assert observer.next() == Listed(SERVICES, [("web", "1")])
    wait_for("watching is refused", lambda: "may not watch services" in observer.watch.state.why)
    cluster.allow(namespace.name, "agent", ALL)
    observer.wait(Phase.WATCHING)
    namespace.annotate("web", {"text": "2"})
    assert observer.next() == changed("2")


def test_a_permission_that_is_taken_away_takes_nothing_else(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    namespace.service("web", {"text": "1"})
    observer = observe(cluster.account(namespace.name, "agent", ALL), seconds=(1, 1))
    observer.next()
    observer.wait(Phase.WATCHING)
    cluster.allow(namespace.name, "agent")
    assert "may not watch services" in observer.wait(Phase.REFUSED)
    namespace.annotate("web", {"text": "2"})
    assert observer.told.empty()
    cluster.allow(namespace.name, "agent", ALL)
    assert observer.next() == changed("2")


def test_where_there_are_no_slices_it_watches_endpoints(namespace: Namespace, observe: Callable[..., Observer]) -> None:
    def name(about: Object) -> str:
        return str(about["metadata"]["name"])

    missing = ENDPOINTSLICES._replace(version="v9")
    body = {"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]}
    namespace.cluster.call("POST", namespace.path("endpoints"), body)
    kinds = [Kind(Selection(resource, namespace.name), name) for resource in (missing, ENDPOINTS)]
    observer = observe(kinds=kinds)
    assert observer.next() == Listed(ENDPOINTS, ["web"])
    assert observer.wait(Phase.WATCHING) == ""
    assert observer.watch.resource == ENDPOINTS


def test_a_resource_that_is_not_there_is_told_and_looked_for_again(observe: Callable[..., Observer]) -> None:
    observer = observe(kinds=[Kind(Selection(Resource("example.com", "v1", "clusterchecks")), keep)])
    assert "list clusterchecks: not there" in observer.wait(Phase.MISSING)
    failures = observer.watch._failures
    wait_for("another try", lambda: observer.watch._failures > failures)


def test_an_object_that_can_t_be_read_is_none_and_others_are_told(
    namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    def odd(about: Object) -> str:
        return str(about["metadata"]["annotations"]["text"])

    namespace.service("plain")
    namespace.service("web", {"text": "1"})
    observer = observe(kinds=[Kind(Selection(SERVICES, namespace.name), odd)])
    assert observer.next() == Listed(SERVICES, ["1"])
    namespace.annotate("plain", {"text": "2"})
    assert observer.next() == Changed(SERVICES, "2")


def test_it_ends_within_a_second_whatever_it_waits_for(cluster: Cluster, observe: Callable[..., Observer]) -> None:
    watching, listing = observe(), observe()
    watching.next()
    with cluster.frozen():
        late = observe()
        call = late.watcher.call(lambda client: client.get(SERVICES, "default", "kubernetes"))
        for observer in (watching, listing, late):
            assert observer.watcher.stop()
        assert call.cancelled()


def test_connections_that_begin_as_it_ends_leave_nothing_behind(observe: Callable[..., Observer]) -> None:
    """Nothing that nobody awaited, of which Python warns."""

    async def connects(_: Client) -> None:
        while True:
            async with anyio.create_task_group() as group:
                group.start_soon(asyncio.sleep, 0)

    observer = observe()
    calls = [observer.watcher.call(connects) for _ in range(5)]
    assert observer.watcher.stop()
    assert all(call.cancelled() for call in calls)
    gc.collect()


def test_calls_of_others_are_made_in_its_thread(observe: Callable[..., Observer]) -> None:
    observer = observe()
    call = observer.watcher.call(lambda client: client.get(SERVICES, "default", "kubernetes"))
    assert call.result(10)["metadata"]["name"] == "kubernetes"


def test_who_takes_slowly_gets_everything(namespace: Namespace, observe: Callable[..., Observer]) -> None:
    namespace.service("web", {"text": "0"})
    observer = observe(most=3)
    observer.next()
    for number in range(50):
        namespace.annotate("web", {"text": f"n{number}"})
    assert observer.told.qsize() <= 3
    assert [observer.next() for _ in range(50)] == [changed(f"n{number}") for number in range(50)]


def test_a_flood_of_changes_is_told_whole_and_in_order(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    services, rounds = 20, 250
    for number in range(services):
        namespace.service(f"s{number}", {"text": "0"})
    observer = observe()
    observer.next()
    observer.wait(Phase.WATCHING)
    cluster.flood([namespace.path("services", f"s{number}") for number in range(services)], rounds)
    seen: dict[str, list[str]] = {f"s{number}": [] for number in range(services)}
    for _ in range(services * rounds):
        told = observer.next()
        assert isinstance(told, Changed)
        name, text = told.object
        seen[name].append(text)
    assert all(texts == [str(number) for number in range(1, rounds + 1)] for texts in seen.values())
    assert observer.told.empty()


@pytest.mark.long
def test_whatever_happens_what_was_told_is_what_there_is(
    cluster: Cluster, namespace: Namespace, observe: Callable[..., Observer]
) -> None:
    chance = random.Random(int(os.environ.get("SEED", "1")))
    observer = observe(idle=4.0, seconds=(1, 5))
    there: dict[str, str] = {}
    for step in range(12):
        for _ in range(chance.randrange(40)):
            change_one(namespace, there, chance)
        happening = chance.choice(["killed", "ended", "forgotten", "frozen", "nothing"])
        measured(f"{step}: {happening}, {len(there)} Services")
        if happening == "frozen":
            with cluster.frozen():
                time.sleep(chance.uniform(0, 6))
        elif happening == "forgotten":
            cluster.forget()
        elif happening != "nothing":
            cluster.stop_apiserver(signal.SIGKILL if happening == "killed" else signal.SIGTERM)
            cluster.start()
    namespace.service("last", {"text": "last"})
    wanted = there | {"last": "last"}
    told: dict[str, str] = {}
    wait_for("all is told", lambda: heard(observer, told) == wanted)


def change_one(namespace: Namespace, there: dict[str, str], chance: random.Random) -> None:
    """Make, change, delete or disown a Service at random, and note what must be told."""
    name, text = f"s{chance.randrange(8)}", str(chance.randrange(10**6))
    if name not in there:
        namespace.service(name, {"text": text})
        there[name] = text
    elif chance.random() < 0.3:
        namespace.delete("services", name)
        del there[name]
    else:
        namespace.annotate(name, {"text": text})
        there[name] = text


def heard(observer: Observer, told: dict[str, str]) -> dict[str, str]:
    """Bring `told` up to date with all that was told since."""
    while not observer.told.empty():
        match observer.told.get():
            case Listed(_, objects):
                told.clear()
                told.update(objects)
            case Changed(_, (name, text)):
                told[name] = text
            case Deleted(_, _, name):
                told.pop(name, None)
    return told
