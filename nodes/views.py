"""The views of heartbeats and goodbyes, and what all routes of the agents' port share."""

import time
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.core.exceptions import RequestDataTooBig, ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import View
from rest_framework.exceptions import APIException, NotAuthenticated

from clusteragent.lib import conf, database
from clusteragent.lib.database.batching import Batcher, run_alone
from clusteragent.lib.logs import RateLimit
from nodes.authentication import AGENT_TOKEN, ANY_TOKEN, BearerToken, Names
from nodes.goodbyes import note_goodbye
from nodes.heartbeats import note_heartbeat, note_heartbeats
from nodes.holders import HOLDERS, told_peer
from nodes.models import Heartbeat, UnknownNode
from nodes.models.heartbeats import Report
from nodes.names import validate_node_name
from nodes.newcomers import TooManyNames
from nodes.parsers import BadStatus, read_client_ip, read_goodbye, read_status
from nodes.writebehind import WriteBehind

_log = structlog.get_logger()
# How many tracebacks are logged a minute.
_failures = RateLimit(10)


def json_answer(body: bytes) -> HttpResponse:
    """A JSON response with status 200. Its Content-Length is set, so that the body is not chunked."""
    headers = {"Content-Length": str(len(body)), "Cache-Control": "no-store"}
    return HttpResponse(body, content_type="application/json", headers=headers)


def line(text: str, status: int, **headers: str) -> HttpResponse:
    """An error response as the protocol has it: one line of plain text."""
    body = f"{' '.join(text.splitlines())}\n".encode(errors="replace")
    always = {"X-Content-Type-Options": "nosniff", "Content-Length": str(len(body))}
    return HttpResponse(body, status=status, content_type="text/plain; charset=utf-8", headers=always | headers)


class AgentView(View):
    """A route of the agents' port. It authenticates before anything else, and answers errors as one line of text.

    It is Django's view, not REST framework's, whose module loads the admin. The protocol fixes the format of calls and answers,
    so nothing is negotiated.

    token: None for a route that everybody may call. names: what `name` in its path is the name of; None without a name.
    is_report: whether a call makes the node of that name heard.
    """

    http_method_names = ["get", "post"]
    token: BearerToken | None = AGENT_TOKEN
    names: Names | None = None
    is_report = False
    challenge = 'Bearer realm="Datadog Agent"'

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            if self.token:
                self.token.authenticate(request, self.names, kwargs.get("name", ""))
            if self.names is not None:
                # Before anything is asked about it: calls share statements.
                validate_node_name(kwargs["name"])
            if self.names == Names.NODE:
                HOLDERS.require(request, kwargs["name"], is_report=self.is_report)
            self.initial(request)
            return super().dispatch(request, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - each has its answer
            return self.handle_exception(error)

    def initial(self, request: HttpRequest) -> None:
        """Raise an APIException if the route, whose token the caller has, may not be used now."""

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        allowed = [method.upper() for method in self.http_method_names if hasattr(self, method)]
        return line("Method Not Allowed", 405, Allow=", ".join(allowed))

    def handle_exception(self, exc: Exception) -> HttpResponseBase:
        """The response to a call that failed."""
        if isinstance(exc, APIException):
            headers = {"WWW-Authenticate": self.challenge} if isinstance(exc, NotAuthenticated) else {}
            return line(str(exc.detail), exc.status_code, **headers)
        if isinstance(exc, ValidationError):
            return line(" ".join(exc.messages), 400)
        if isinstance(exc, RequestDataTooBig):
            return line("the body is too large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if isinstance(exc, BadStatus):
            return line(str(exc), 500)
        if isinstance(exc, TooManyNames):
            why = f"{exc} CLUSTERAGENT_NEW_NODES_A_MINUTE is {conf.NEW_NODES_A_MINUTE}: try again"
            return line(why, 503, **{"Retry-After": "10"})
        if isinstance(exc, database.Away):
            return line(str(exc), 503)
        if (more := _failures.take()) is not None:
            _log.exception("request_failed", method=self.request.method, path=self.request.path, failed_before=more)
        return line("internal error", 500)


class PromptView(AgentView):
    """A route that is answered on the event loop. Its handlers are coroutines and never block.

    comes_first: whether it is answered even when the server is too far behind to answer others. is_held: whether it was settled,
    before the call was answered, who holds the node's name.
    """

    comes_first = False
    is_held = True

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        try:
            if self.token:
                await self.token.authenticate_promptly(request, self.names, kwargs.get("name", ""))
            if self.names is not None:
                validate_node_name(kwargs["name"])
            if self.names == Names.NODE:
                self.is_held = await HOLDERS.require_promptly(request, kwargs["name"], is_report=self.is_report)
            self.initial(request)
            method = str(request.method).lower()
            if method in self.http_method_names and hasattr(self, method):
                response: HttpResponseBase = await getattr(self, method)(request, *args, **kwargs)
                return response
            return self.http_method_not_allowed(request, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as in the class above, each has its answer
            return self.handle_exception(error)


class NotFound(AgentView):
    """All paths that do not exist, for every method. Only bearers of a token get a 404."""

    token = ANY_TOKEN
    http_method_names: list[str] = []

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return line("404 page not found", 404)


class Disabled(APIException):
    """404: cluster checks are switched off."""

    status_code = 404
    default_detail = "Cluster-checks are not enabled"


class ClusterChecksView(AgentView):
    """A route that only exists while cluster_checks.enabled is on."""

    def initial(self, request: HttpRequest) -> None:
        super().initial(request)
        if not conf.CLUSTER_CHECKS_ENABLED:
            raise Disabled


# Bytes. A longer report is parsed in a thread, so that no other heartbeat waits for it.
_SHORT = 16 * 1024
_read_long = sync_to_async(read_status, thread_sensitive=False)

# Heartbeats that arrive at the same moment share a statement: a statement costs as much as all the rest of a call.
_heartbeats = Batcher(note_heartbeats)
# Nearly all heartbeats repeat the one before. They are answered first and written afterwards.
_behind = WriteBehind(note_heartbeats, Heartbeat.objects.last_reports)


class Status(PromptView, ClusterChecksView):
    """POST …/clusterchecks/status/<node>: a heartbeat."""

    comes_first = True
    names = Names.NODE
    is_report = True

    async def post(self, request: HttpRequest, name: str) -> HttpResponse:
        """Record the heartbeat, and answer whether the node has its latest configs."""
        status = read_status(request.body) if len(request.body) <= _SHORT else await _read_long(request.body)
        client_ip = read_client_ip(request.META.get("HTTP_X_REAL_IP", ""))
        report = Report(name, status.last_change, status.node_type, client_ip, status.declared, told_peer(request))
        is_current = await self.note(report)
        if not self.is_held:
            # Its node is known from now on, and the name is its address's from this first report on.
            await HOLDERS.require_promptly(request, name, is_report=True)
        return json_answer(b'{"isuptodate":true}' if is_current else b'{"isuptodate":false}')

    async def note(self, report: Report) -> bool:
        """Write the heartbeat and return whether the node is up to date. Raises Away."""
        if database.is_taken_over():
            _behind.start()
            if _behind.takes(report):
                return True
        latest, mark = time.monotonic() + database.LIMIT, _behind.mark()
        beat = await _heartbeats.ask(report)
        if beat is not None:
            _behind.learn(report, beat, mark)
            return beat.is_current(report.last_change)
        # The node's row is locked, or its name came twice at once. Only this call waits for that.
        return await run_alone(partial(note_heartbeat, **report.said()), latest)


class Goodbye(ClusterChecksView):
    """POST …/clusterchecks/goodbye/<node>: the node leaves for good, or restarts."""

    names = Names.NODE

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        kind = read_goodbye(request.body)
        try:
            database.ask(partial(note_goodbye, name, kind))
        except UnknownNode as error:
            return line(str(error), 500)
        HOLDERS.forget(name)
        return json_answer(b"{}")
