"""Health routes of both ports."""

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from clusteragent import views
from clusteragent.lib.database.batching import Batcher
from clusteragent.views import Healthz, Readiness, Readyz

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _asked_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_readiness", Batcher(Readiness()))


def ready() -> HttpResponseBase:
    return async_to_sync(Readyz.as_view())(RequestFactory().get("/readyz"))


def test_health_asks_nothing() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert async_to_sync(Healthz.as_view())(RequestFactory().get("/healthz")).status_code == 200
    assert len(queries) == 0


def test_a_schema_that_fits_is_looked_at_once() -> None:
    assert ready().status_code == 200
    with CaptureQueriesContext(connection) as queries:
        assert ready().status_code == 200
    [query] = queries
    assert "COUNT" in query["sql"]


def test_a_missing_migration_is_named_until_it_is_applied() -> None:
    # The database that is there now was restored to a time before an upgrade.
    assert ready().status_code == 200
    loader = MigrationLoader(connection)
    [(app, name)] = loader.graph.leaf_nodes("checks")
    # A database that has all that it replaces has it, too.
    same = [name, *(replaced for _, replaced in loader.disk_migrations[app, name].replaces)]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = %s AND name = ANY(%s)", (app, same))
        answer = ready()
        assert (answer.status_code, answer.content) == (503, f"migrations are missing: {app}.{name}\n".encode())  # type: ignore[attr-defined]
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) SELECT %s, unnest(%s::text[]), now()", (app, same)
        )
    assert ready().status_code == 200


def test_the_operators_port_has_them_too(client: Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert client.get(path, secure=True).content == b"ok\n"


def test_a_probe_may_call_the_operators_port_by_any_address(client: Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert client.get(path, headers={"Host": "10.1.2.3:5006"}).status_code == 200
    assert client.get("/admin/", headers={"Host": "10.1.2.3:5006"}).status_code == 400
