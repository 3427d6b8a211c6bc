"""What both web servers say of themselves: version and health."""

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from clusteragent.lib.database.together import Together
from nodes.views import AgentView, PromptView, json_answer, line

# Node agents decide by it what else they may ask for. Release 7.63 is whose protocol was recorded and replayed.
_VERSION = {"Major": 7, "Minor": 63, "Patch": 0, "Pre": "", "Meta": "", "Commit": ""}


class Version(AgentView):
    """GET /version: what a node agent asks first."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return json_answer(json.dumps(_VERSION, separators=(",", ":")).encode())


class Probe(PromptView):
    """A route for probes: no token, and answered whatever other calls do."""

    token = None
    http_method_names = ["get", "head"]
    comes_first = True

    async def head(self, request: HttpRequest) -> HttpResponse:
        return await self.get(request)

    async def get(self, request: HttpRequest) -> HttpResponse:
        raise NotImplementedError


class Healthz(Probe):
    """GET /healthz: the process answers. It asks nothing else."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return line("ok", 200)


class Readyz(Probe):
    """GET /readyz: the database answers and the schema fits."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        missing = await _readiness.ask(None)
        return line(f"migrations are missing: {', '.join(missing)}", 503) if missing else line("ok", 200)


class HealthFirst:
    """Middleware of the operators' port: probes and Prometheus name the address that they call as host, which no one
    lists as allowed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        # Node agents' port, which has no operators' tokens, reads this module too.
        from clusteragent.metrics import Scrape

        self._get_response = get_response
        self._views: dict[str, Any] = {
            "/healthz": async_to_sync(cast(Any, Healthz.as_view())),
            "/readyz": async_to_sync(cast(Any, Readyz.as_view())),
            "/metrics": Scrape.as_view(),
        }

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        view: Callable[[HttpRequest], HttpResponseBase] = self._views.get(request.path, self._get_response)
        return view(request)


def _missing_migrations() -> list[str]:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


class Readiness:
    """The migrations that are missing. Asked each second, and a schema that once fits does not become older."""

    _fits = False

    def __call__(self, calls: Sequence[None]) -> list[list[str]]:
        if self._fits:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            missing = []
        else:
            missing = _missing_migrations()
        self._fits = not missing
        return [missing] * len(calls)


# Any number of probes are one question to the database.
_readiness = Together[None, list[str]](Readiness())
