"""Prometheus' annotations in a real cluster: Services are scraped, or their endpoints, as the options say."""

import json
from collections.abc import Callable

import pytest

from checks.models import Config, Move
from checks.tests.cast import owners
from clusteragent.lib import conf
from tests.kubernetes.cluster import Cluster, Namespace
from tests.kubernetes.test_source import (
    SERVICE,
    SLICES,
    Following,
    following,
    http,
    keys,
    row,
    shop,
    texts,
    wait_for_key,
    wait_for_nothing,
    wait_for_text,
    wait_until_watching,
)
from tests.replicas import wait_for

pytestmark = [pytest.mark.kubernetes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]

SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "9100"}

__all__ = ["following", "shop"]


@pytest.fixture
def scraping(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets options of scraping."""

    def put(**options: object) -> None:
        for name, value in {"ENABLED": True, **options}.items():
            monkeypatch.setattr(conf, f"PROMETHEUS_SCRAPE_{name}", value)

    return put


def test_nothing_is_scraped_unless_the_option_says_so(shop: Namespace, following: Callable[..., Following]) -> None:
    shop.service("web", SCRAPED | {SERVICE: http()})
    following()
    wait_for_key(f"service/{shop.name}/web/http_check")
    assert len(keys()) == 1


def test_a_scraped_service_follows_its_annotations(
    shop: Namespace, following: Callable[..., Following], scraping: Callable[..., None]
) -> None:
    scraping()
    address = shop.service("web")["spec"]["clusterIP"]
    following()
    wait_until_watching()
    shop.annotate("web", SCRAPED)
    key = f"prometheus/service/{shop.name}/web/openmetrics"
    wait_for_key(key)
    owner = owners()[key]
    assert f"prometheus_url: http://{address}:9100/metrics" in Config.objects.get().text
    shop.annotate("web", {"prometheus.io/path": "/stats", "prometheus.io/scheme": "https"})
    wait_for_text(f"prometheus_url: https://{address}:9100/stats")
    assert owners() == {key: owner}
    assert [move.reason for move in Move.objects.order_by("pk")] == ["scheduled", "changed"]
    shop.annotate("web", {"prometheus.io/port": "%%port_none%%"})
    wait_for("the problem", lambda: row().errors)
    assert row().errors[0]["error"].startswith("prometheus.io/scrape: %%port_none%%")
    assert texts()
    shop.annotate("web", {"prometheus.io/scrape": "false"})
    wait_for_nothing()
    wait_for("nothing is wrong", lambda: not row().errors)


def test_its_endpoints_are_scraped_instead_if_that_is_asked_for(
    shop: Namespace, following: Callable[..., Following], scraping: Callable[..., None]
) -> None:
    scraping()
    shop.service("web", SCRAPED)
    pod = {"kind": "Pod", "name": "web-1", "uid": "e8b3d5a6-0c52-4d3e-8f6e-0d4b7c1a2f33"}
    bound = {"addresses": ["10.9.0.1"], "nodeName": "ash", "targetRef": pod}
    shop.slice("web", [bound, {"addresses": ["10.9.0.2"]}], name="web-1")
    first = following()
    wait_for("the Service", lambda: keys() == {f"prometheus/service/{shop.name}/web/openmetrics"})
    first.end()
    scraping(SERVICE_ENDPOINTS=True)
    following()
    beginning = f"prometheus/endpoints/{shop.name}/web"
    both = {f"{beginning}/10.9.0.{number}/openmetrics" for number in (1, 2)}
    wait_for("its endpoints", lambda: keys() == both)
    assert "10.9.0.1:9100" in Config.objects.get(node_name="ash").text
    shop.slice("web", [{"addresses": ["10.9.0.3"]}], name="web-2")
    wait_for_key(f"{beginning}/10.9.0.3/openmetrics")
    for name in ("web-1", "web-2"):
        shop.delete("endpointslices", name, SLICES)
    wait_for_nothing()


def test_scrapes_of_ones_own_select_by_other_annotations(
    cluster: Cluster, shop: Namespace, following: Callable[..., Following], scraping: Callable[..., None]
) -> None:
    annotations = {"include": {"shop.example/metrics": "yes"}}
    own = [{"configurations": [{"timeout": 7}], "autodiscovery": {"kubernetes_annotations": annotations}}]
    scraping(CHECKS=json.dumps(own), VERSION=2)
    shop.service("web", SCRAPED)
    following()
    wait_until_watching()
    # Kubernetes' own Service is there, too.
    assert not keys()
    shop.annotate("web", {"shop.example/metrics": "yes"})
    wait_for_text("timeout: 7")
    assert "openmetrics_endpoint: http://" in Config.objects.get().text
    shop.annotate("web", {"shop.example/metrics": "no"})
    wait_for_nothing()
