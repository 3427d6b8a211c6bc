"""cluster_checks.enabled off: the routes of cluster checks are not there, for those who may know."""

import pytest
from django.test import Client

from clusteragent.lib import conf
from nodes.models import Node

pytestmark = [pytest.mark.django_db, pytest.mark.urls("clusteragent.urls.agents")]
ROUTES = [
    ("post", "/api/v1/clusterchecks/status/ash", conf.AUTH_TOKEN),
    ("get", "/api/v1/clusterchecks/configs/ash", conf.AUTH_TOKEN),
    ("get", "/api/v1/endpointschecks/configs/ash", conf.AUTH_TOKEN),
    ("get", "/api/v1/endpointschecks/configs", conf.LOCAL_TOKEN),
    ("get", "/api/v1/clusterchecks", conf.LOCAL_TOKEN),
]


@pytest.fixture(autouse=True)
def _off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "CLUSTER_CHECKS_ENABLED", False)


@pytest.mark.parametrize(("method", "path", "token"), ROUTES)
def test_its_routes_are_404_with_the_peer_s_text(method: str, path: str, token: str) -> None:
    answer = getattr(Client(), method)(path, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.content) == (404, b"Cluster-checks are not enabled\n")
    assert not Node.objects.exists()


@pytest.mark.parametrize(("method", "path"), [route[:2] for route in ROUTES])
def test_whoever_has_no_token_is_not_told(method: str, path: str) -> None:
    assert getattr(Client(), method)(path).status_code == 401


def test_the_version_is_still_told() -> None:
    answer = Client().get("/version", headers={"Authorization": f"Bearer {conf.AUTH_TOKEN}"})
    assert answer.status_code == 200
