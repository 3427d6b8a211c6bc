"""What both web servers say of themselves: version and health."""

import json
from collections.abc import Callable

from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from clusteragent.lib import database
from nodes.views import AgentView, json_answer, line

# Node agents decide by it what else they may ask for. Release 7.63 is whose protocol was recorded and replayed.
_VERSION = {"Major": 7, "Minor": 63, "Patch": 0, "Pre": "", "Meta": "", "Commit": ""}


class Version(AgentView):
    """GET /version: what a node agent asks first."""

    def get(self, request: Request) -> HttpResponse:
        return json_answer(json.dumps(_VERSION, separators=(",", ":")).encode())


class Healthz(AgentView):
    """GET /healthz: the process answers. It asks nothing else."""

    authentication_classes = []
    http_method_names = ["get", "head"]

    def get(self, request: Request) -> HttpResponse:
        return line("ok", 200)


class Readyz(AgentView):
    """GET /readyz: the database answers and the schema fits."""

    authentication_classes = []
    http_method_names = ["get", "head"]
    # Asked each second, and a schema that once fits does not become older.
    _fits = False

    def get(self, request: Request) -> HttpResponse:
        missing = database.ask(_ping if Readyz._fits else _missing_migrations)
        Readyz._fits = not missing
        return line(f"migrations are missing: {', '.join(missing)}", 503) if missing else line("ok", 200)


class HealthFirst:
    """Middleware of the operators' port: probes and Prometheus name the address that they call as host, which no one
    lists as allowed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        # Node agents' port, which has no operators' tokens, reads this module too.
        from clusteragent.metrics import Scrape

        self._get_response = get_response
        self._views = {"/healthz": Healthz.as_view(), "/readyz": Readyz.as_view(), "/metrics": Scrape.as_view()}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._views.get(request.path, self._get_response)(request)


def _ping() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return []


def _missing_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
