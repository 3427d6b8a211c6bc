"""The vendor's DatadogInstrumentation in a real cluster: its checks follow it, its Service, and the Service's endpoints."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from checks.sources.kubernetes import watching
from tests.kubernetes.cluster import Cluster, Namespace, Refused
from tests.kubernetes.test_source import (
    ENDPOINTS,
    LISTS,
    LISTS_SLICES,
    Following,
    following,
    http,
    keys,
    row,
    shop,
    texts,
    untouched,
    wait_for_nothing,
    wait_until_watching,
)
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

CRD = "datadoginstrumentations.datadoghq.com"
DEFINITION = Path(__file__).parents[1] / "data/kubernetes/datadoginstrumentations.yaml"
GROUP = "datadoghq.com/v1alpha1"
CHECK = {"integration": "nginx", "instances": [{"url": "http://%%host%%:%%port%%/status"}]}

__all__ = ["following", "shop"]


def is_served(cluster: Cluster) -> bool:
    try:
        return "items" in cluster.call("GET", f"/apis/{GROUP}/datadoginstrumentations")
    except Refused:
        return False


def define(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(DEFINITION))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{CRD}")
    wait_for("it is served", lambda: is_served(cluster))


@pytest.fixture(autouse=True)
def clean(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watching, "OPTIONAL", 0.2)
    yield
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")


def declare(shop: Namespace, *checks: dict[str, Any], name: str = "for-web", **target: str) -> None:
    """Make the resource, or replace its spec."""
    aimed = {"apiVersion": "v1", "kind": "Service", "name": "web"} | target
    spec = {"targetRef": aimed, "config": {"checks": list(checks)}}
    path = shop.path("datadoginstrumentations", group=GROUP)
    body = {"apiVersion": GROUP, "kind": "DatadogInstrumentation", "metadata": {"name": name}, "spec": spec}
    if name in {one["metadata"]["name"] for one in shop.cluster.call("GET", path)["items"]}:
        shop.cluster.call("PATCH", f"{path}/{name}", {"spec": spec})
    else:
        shop.cluster.call("POST", path, body)


def key(shop: Namespace, ip: str = "10.9.0.1", check: str = "nginx") -> str:
    return f"instrumentation/{shop.name}/for-web/endpoints/{shop.name}/web/{ip}/{check}"


def test_its_checks_follow_it_and_the_endpoints_of_its_service(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    define(cluster)
    following()
    wait_until_watching()
    declare(shop, CHECK)
    shop.service("web")
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    wait_for("its check", lambda: keys() == {key(shop)})
    shop.slice("web", [{"addresses": ["10.9.0.1"]}, {"addresses": ["10.9.0.2"]}], name="web-2")
    wait_for("two checks", lambda: keys() == {key(shop), key(shop, "10.9.0.2")})
    tls = {"integration": "tls", "instances": [{"server": "%%host%%"}]}
    declare(shop, CHECK | {"instances": [{"url": "http://%%host%%/other"}]}, tls)
    wait_for("four", lambda: len(keys()) == 4)
    wait_for("the edit", lambda: any("10.9.0.1/other" in text for text in texts()))
    shop.annotate("web", {ENDPOINTS: http().replace("http_check", "tls")})
    annotated = {f"endpoints/{shop.name}/web/10.9.0.{number}/tls" for number in (1, 2)}
    wait_for("the annotation wins", lambda: keys() == {key(shop), key(shop, "10.9.0.2"), *annotated})
    shop.annotate("web", {ENDPOINTS: None})
    shop.delete("datadoginstrumentations", "for-web", GROUP)
    wait_for_nothing()


def test_its_condition_says_whether_its_checks_are_dispatched(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    def condition() -> dict[str, Any]:
        found = cluster.call("GET", shop.path("datadoginstrumentations", "for-web", GROUP))
        [one] = found.get("status", {}).get("conditions", [{}])
        return dict(one)

    define(cluster)
    following()
    declare(shop, CHECK)
    shop.service("web")
    wait_for("no endpoint", lambda: condition().get("reason") == "NoChecks")
    assert condition()["status"] == "False"
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    wait_for("it is dispatched", lambda: condition()["status"] == "True")
    assert (condition()["type"], condition()["message"]) == ("ChecksReady", "1 check dispatched")
    declare(shop, {"integration": "nginx"})
    wait_for("it is broken", lambda: condition()["reason"] == "Invalid")
    assert condition()["message"].startswith("spec.config.checks[0].instances is no list")


def test_a_new_term_moves_nothing_and_a_broken_one_goes_on(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    define(cluster)
    shop.service("web")
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    declare(shop, CHECK)
    first = following()
    wait_for("its check", lambda: keys() == {key(shop)})
    before = untouched()
    first.end()
    following()
    wait_until_watching()
    declare(shop, {"integration": "nginx"})
    error = "spec.config.checks[0].instances is no list with an instance, which may be {}"
    wait_for("the problem", lambda: [one["error"] for one in row().errors] == [error])
    assert row().errors[0]["where"] == f"datadoginstrumentation {shop.name}/for-web"
    assert untouched() == before


def test_a_definition_that_comes_later_is_read_without_a_restart(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    shop.service("web")
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    following()
    wait_until_watching()
    assert (row().errors, row().warnings) == ([], [])
    define(cluster)
    declare(shop, CHECK)
    wait_for("its check", lambda: keys() == {key(shop)})


def test_without_permission_it_is_off_alone_and_what_it_sent_stays(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following]
) -> None:
    define(cluster)
    shop.service("web")
    shop.slice("web", [{"addresses": ["10.9.0.1"]}])
    declare(shop, CHECK)
    first = following()
    wait_for("its check", lambda: keys() == {key(shop)})
    first.end()
    following(cluster.account(shop.name, "agent", LISTS, LISTS_SLICES))
    said = "DatadogInstrumentations are not read: "
    wait_for("it is said", lambda: any(one["warning"].startswith(said) for one in row().warnings))
    shop.service("other", {ENDPOINTS.replace("endpoints", "service"): http()})
    other = f"service/{shop.name}/other/http_check"
    wait_for("others go on", lambda: keys() == {key(shop), other})
