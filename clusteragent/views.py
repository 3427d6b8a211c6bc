"""Views of both web servers: version and health."""

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from clusteragent import schema
from clusteragent.lib.database.batching import Batcher
from nodes.views import AgentView, PromptView, json_answer, line

# Node agents decide by the version what else they may ask for. 7.63 is the release whose protocol was recorded and replayed.
_VERSION = {"Major": 7, "Minor": 63, "Patch": 0, "Pre": "", "Meta": "", "Commit": ""}


class Version(AgentView):
    """GET /version: a node agent's first call. The answer has the Datadog Cluster Agent's form."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return json_answer(json.dumps(_VERSION, separators=(",", ":")).encode())


class Probe(PromptView):
    """A route for probes: without a token, and answered before other calls when the server is busy."""

    token = None
    http_method_names = ["get", "head"]
    comes_first = True

    async def head(self, request: HttpRequest) -> HttpResponse:
        """Answer as `get`; the web server leaves out the body."""
        return await self.get(request)

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Answer 200 when all is well, else 503 with the reason."""
        raise NotImplementedError


class Healthz(Probe):
    """GET /healthz: the process answers. Nothing else is checked."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        return line("ok", 200)


class Readyz(Probe):
    """GET /readyz: the database answers and all migrations are applied."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Answer 200, or 503 with the missing migrations or the database's state."""
        missing = await _readiness.ask(None)
        return line(f"migrations are missing: {', '.join(missing)}", 503) if missing else line("ok", 200)


class HealthFirst:
    """Middleware of the operators' port: answers health and metrics before the host's name is checked.

    Probes and Prometheus send the address that they call as host name, which is not in the list of allowed names.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        # Imported here: the agents' port imports this module too, and has no operators' tokens.
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


class Readiness:
    """Finds the missing migrations for a batch of calls. While there are none it looks only whether others were noted since."""

    _fits: dict[str, Any] | None = None

    def __call__(self, calls: Sequence[None]) -> list[list[str]]:
        missing: list[str] = []
        # Another database may be there now: restored to a time before the last upgrade, for example.
        if not self._fits or self._fits != self._noted():
            missing = schema.compare().missing
            self._fits = None if missing else self._noted()
        return [missing] * len(calls)

    def _noted(self) -> dict[str, Any]:
        return MigrationRecorder.Migration.objects.aggregate(Count("pk"), Max("pk"))


# Probes that arrive together share one statement.
_readiness = Batcher[None, list[str]](Readiness())
