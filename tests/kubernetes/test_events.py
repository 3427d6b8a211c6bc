"""Problems are events on the objects that they are about, in a real API server."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.sources.kubernetes import writing
from checks.sources.kubernetes.access import from_kubeconfig
from checks.sources.kubernetes.events import Events
from checks.sources.kubernetes.watching import Watcher
from checks.sources.source import Problem
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.test_statuses import GROUP, READS
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("definition")]

GETS_SERVICES = {"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}
TELLS = {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}


@pytest.fixture
def writer(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Events]]:
    """Makes writers of events; token: of another user than the admin."""
    watchers: list[Watcher] = []

    def make(token: str = "") -> Events:
        path = cluster.kubeconfig(tmp_path / f"config-{len(watchers)}", *filter(None, [token]))
        watchers.append(Watcher(functools.partial(from_kubeconfig, path), []))
        watchers[-1].start()
        return Events(watchers[-1])

    yield make
    for watcher in watchers:
        assert watcher.stop()


@pytest.fixture
def shop(namespace: Namespace) -> Namespace:
    """A namespace with the Service web and the ClusterCheck db."""
    namespace.service("web")
    spec = {"check": "postgres", "instances": [{"host": "db"}]}
    body = {"apiVersion": GROUP, "kind": "ClusterCheck", "metadata": {"name": "db"}, "spec": spec}
    namespace.cluster.call("POST", namespace.path("clusterchecks", group=GROUP), body)
    return namespace


def problem(shop: Namespace, name: str, error: str = "it is broken") -> Problem:
    """A problem of an object such as `service web`."""
    kind, _, name = name.partition(" ")
    return Problem(f"{kind} {shop.name}/{name}", None, error)


def wait_for_events(events: Events, shop: Namespace, number: int) -> list[Any]:
    def found() -> list[Any]:
        events.step()
        return shop.problems() if len(shop.problems()) == number else []

    return list(wait_for(f"{number} events", found))


@pytest.mark.parametrize(("kind", "name"), [("service", "web"), ("clustercheck", "db")])
def test_kubectl_describes_the_problem_of_an_object(
    shop: Namespace, writer: Callable[..., Events], kind: str, name: str
) -> None:
    events = writer()
    events.want([problem(shop, f"{kind} {name}", "spec.instances[1] is no object")])
    wait_for_events(events, shop, 1)
    text = shop.cluster.kubectl("-n", shop.name, "describe", kind, name)
    assert "ClusterCheckProblem" in text
    assert "spec.instances[1] is no object" in text


def test_problems_of_nobody_are_left_out_and_equal_ones_are_told_once(
    shop: Namespace, writer: Callable[..., Events]
) -> None:
    events = writer()
    events.want([Problem("API", None, "refused"), *[problem(shop, "service web")] * 3, problem(shop, "service gone")])
    events.want([problem(shop, "service web"), problem(shop, "clustercheck db")])
    names = {event["involvedObject"]["name"] for event in wait_for_events(events, shop, 2)}
    assert names == {"web", "db"}


def test_without_permission_for_one_kind_the_others_are_told(
    shop: Namespace, writer: Callable[..., Events], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REFUSED_AGAIN", 0.5)
    events = writer(shop.cluster.account(shop.name, "agent", GETS_SERVICES, TELLS))
    events.want([problem(shop, "clustercheck db"), problem(shop, "service web")])
    [event] = wait_for_events(events, shop, 1)
    assert event["involvedObject"]["kind"] == "Service"
    [why] = events.refusals
    assert "agent may not get clusterchecks" in why
    shop.cluster.allow(shop.name, "agent", GETS_SERVICES, TELLS, READS)
    wait_for_events(events, shop, 2)
    wait_for("nothing is refused", lambda: not events.refusals)


def test_a_problem_is_told_once_in_a_term_and_what_is_over_is_not_told(
    shop: Namespace, writer: Callable[..., Events]
) -> None:
    events, web = writer(), problem(shop, "service web")
    events.want([problem(shop, "service web", "it was broken")])
    events.want([web])
    [event] = wait_for_events(events, shop, 1)
    assert event["message"] == "it is broken"
    wait_for("it is noted", lambda: web in events._told)
    events.want([web])
    assert not events._waiting
    # A new term does not know what the last one still wanted to write. The event of before is dated anew.
    again = writer()
    again.want([web, problem(shop, "clustercheck db")])
    wait_for_events(again, shop, 2)


def test_the_longest_name_has_an_event(shop: Namespace, writer: Callable[..., Events]) -> None:
    name = ".".join(["x" * 60] * 4)
    spec = {"check": "postgres", "instances": [{"host": "db"}]}
    body = {"apiVersion": GROUP, "kind": "ClusterCheck", "metadata": {"name": name}, "spec": spec}
    shop.cluster.call("POST", shop.path("clusterchecks", group=GROUP), body)
    events = writer()
    events.want([problem(shop, f"clustercheck {name}")])
    [event] = wait_for_events(events, shop, 1)
    assert event["involvedObject"]["name"] == name


def test_an_object_that_was_made_again_has_an_event_of_its_own(shop: Namespace, writer: Callable[..., Events]) -> None:
    """`kubectl describe` asks for the events of the object that there is now."""
    events = writer()
    events.want([problem(shop, "service web")])
    wait_for_events(events, shop, 1)
    events.want([])
    shop.cluster.call("DELETE", shop.path("services", "web"))
    shop.service("web")
    events.want([problem(shop, "service web")])
    first, second = wait_for_events(events, shop, 2)
    assert first["involvedObject"]["uid"] != second["involvedObject"]["uid"]
    assert "it is broken" in shop.cluster.kubectl("-n", shop.name, "describe", "service", "web")


def test_a_namespace_that_takes_no_events_keeps_none_from_others(
    cluster: Cluster, shop: Namespace, writer: Callable[..., Events]
) -> None:
    ending = cluster.namespace()
    ending.service("web")
    cluster.call("DELETE", f"/api/v1/namespaces/{ending.name}")  # no controller ends it
    events = writer()
    events.want([problem(ending, "service web"), problem(shop, "service web")])
    wait_for_events(events, shop, 1)
    assert events.refusals == []
