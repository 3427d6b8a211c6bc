"""Who may read the metrics, by which host name, and the answer while the database is away."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from knox.models import AuthToken
from prometheus_client.parser import text_string_to_metric_families

from clusteragent import metrics
from clusteragent.lib import conf
from operators import tokens
from operators.roles import Role

pytestmark = pytest.mark.django_db


def bearer(role: Role = Role.VIEWER) -> dict[str, str]:
    _, token = tokens.make("prometheus", role=role)
    return {"Authorization": f"Bearer {token}"}


def scrape(method: str = "get", **headers: str) -> object:
    return getattr(Client(), method)("/metrics", headers={"Host": "10.1.2.3:5006"} | headers)


def test_a_viewers_token_opens_it_by_any_address() -> None:
    answer = scrape(**bearer())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.content.decode())}
    assert "cluster_checks_nodes_reporting" in names


@pytest.mark.parametrize("role", Role.values)
def test_every_role_may_look(role: Role) -> None:
    assert scrape(**bearer(role)).status_code == 200


def nobody() -> dict[str, str]:
    User.objects.create_user("nobody")
    return {"Authorization": f"Bearer {AuthToken.objects.create(User.objects.get(username='nobody'))[1]}"}


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        (dict, 401, "Authorization: Bearer"),
        (lambda: {"Authorization": "Bearer nonsense"}, 401, "This token is invalid"),
        (lambda: {"Authorization": f"Bearer {conf.AUTH_TOKEN}"}, 401, "This token is invalid"),
        (lambda: {"Authorization": f"Bearer {conf.LOCAL_TOKEN}"}, 401, "This token is invalid"),
        (nobody, 403, "lacks checks.view_clusterstore"),
    ],
)
def test_who_may_not_read_the_metrics_is_told_why(
    headers: Callable[[], dict[str, str]], status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "exposition", lambda **how: pytest.fail("computed for a stranger"))
    answer = scrape(**headers())
    assert (answer.status_code, told in answer.content.decode()) == (status, True)


def test_a_log_in_to_the_admin_is_no_token(admin_client: Client) -> None:
    assert admin_client.get("/metrics").status_code == 401


def test_with_the_option_everybody_may_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "METRICS_PUBLIC", True)
    assert scrape().status_code == 200


def test_it_is_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "METRICS_PUBLIC", True)
    assert scrape("head").content == b""
    assert scrape("post").status_code == 405


@pytest.mark.parametrize("public", [True, False])
def test_while_the_database_is_away_it_is_503(public: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object, **fields: object) -> None:
        raise OperationalError("gone")

    headers = {} if public else bearer()
    monkeypatch.setattr(conf, "METRICS_PUBLIC", public)
    monkeypatch.setattr("knox.auth.TokenAuthentication.authenticate", away)
    monkeypatch.setattr(metrics, "exposition", away)
    monkeypatch.setattr("django.db.connection.close", lambda: None)
    assert scrape(**headers).status_code == 503
