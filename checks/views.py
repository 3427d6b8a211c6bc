"""The routes by which node agents fetch their configs, and the local routes that show and change the map."""

import json
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from acts.models import Act
from acts.recording import entered
from checks import plans
from checks.dispatcher import costs
from checks.explain import state
from checks.models import ClusterStore, Config, Instance
from checks.models.configs import Share
from checks.plans import isolation
from clusteragent.lib import clients, conf, database
from clusteragent.lib.database.batching import Batcher
from nodes.authentication import LOCAL_TOKEN, Names
from nodes.parsers import read_rebalance
from nodes.views import ClusterChecksView, PromptView, json_answer, line

T = TypeVar("T")

# Seconds that a local call that changes the map may take. Asking the runners takes at most four of them.
PATIENCE = 20.0
# The actor of moves that the local routes make.
LOCAL = "local API"


# Fetches that arrive at the same moment share a statement, at most so many: each share has some ten kilobytes.
_shares = Batcher(Config.objects.shares_of, most=16)


class Configs(PromptView, ClusterChecksView):
    """GET …/clusterchecks/configs/<node>: the configs of a node."""

    names = Names.NODE

    async def get(self, request: HttpRequest, name: str) -> HttpResponse:
        share = await _shares.ask(name)
        return _answer(share) if share else line(f"node {name} is unknown", 500)


class EndpointsConfigs(ClusterChecksView):
    """GET …/endpointschecks/configs/<node>: the endpoint checks of a node, known or not."""

    names = Names.KUBERNETES_NODE

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return _answer(database.ask(lambda: Config.objects.endpoints_share(name)))


class AllEndpointsConfigs(ClusterChecksView):
    """GET …/endpointschecks/configs: the endpoint checks of all nodes."""

    token = LOCAL_TOKEN

    def get(self, request: HttpRequest) -> HttpResponse:
        return _answer(database.ask(Config.objects.endpoints_share))


class State(ClusterChecksView):
    """GET …/clusterchecks: the whole map, streamed. ?scrub=true leaves out secrets."""

    token = LOCAL_TOKEN

    def get(self, request: HttpRequest) -> StreamingHttpResponse:
        scrub = request.GET.get("scrub") == "true"
        # The first piece is read here, so that a database that is away can still be answered with an error status.
        chunks = database.ask(lambda: _begun(database.in_time(state.document(scrub=scrub))))
        return StreamingHttpResponse(chunks, content_type="application/json")


class ActingView(ClusterChecksView):
    """A local route that changes the map: an entrance of whoever has the local token."""

    token = LOCAL_TOKEN

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if any(name.replace("-", "").replace("_", "").casefold() == "dryrun" for name in request.GET):
            # The protocol has none: whoever asks for one must not act instead.
            return line("nothing was done: only the commands rebalance and isolate have a dry run, --dry-run", 400)
        with entered(Act.How.LOCAL, str(clients.address(request.META) or ""), lambda: LOCAL):
            return super().dispatch(request, *args, **kwargs)


class Rebalance(ActingView):
    """POST …/clusterchecks/rebalance: measure costs, make and apply a plan, and return its moves."""

    def post(self, request: HttpRequest) -> HttpResponse:
        force = read_rebalance(request.body)
        if not conf.ADVANCED_DISPATCHING_ENABLED:
            return line("no checks to rebalance: advanced dispatching is not enabled", 500)
        moves = _with_fresh_costs(lambda: plans.rebalance(actor=LOCAL, force=force)[1])
        ids = Instance.objects.filter(config__in=[move.config_id for move in moves]).order_by("config", "-pk")
        first = dict(database.ask(lambda: list(ids.values_list("config", "check_id"))))
        # The field names are those that old and new clients read. Weight and differences are 0, as the Datadog Cluster Agent
        # sends them for this algorithm.
        rows = [
            {
                "check_id": first.get(move.config_id, ""),
                "digest": move.digest,
                "check_name": move.name,
                "check_weight": 0,
                "source_node_name": move.source_node,
                "source_diff": 0,
                "dest_node_name": move.to_node,
                "dest_diff": 0,
            }
            for move in moves
        ]
        return json_answer(_compact(rows))

    def handle_exception(self, exc: Exception) -> HttpResponseBase:
        return line(str(exc), 409) if isinstance(exc, plans.StalePlan) else super().handle_exception(exc)


class Isolate(ActingView):
    """POST …/clusterchecks/isolate/check/<check ID>: keep a check alone on its node until it is released."""

    def post(self, request: HttpRequest, check_id: str) -> HttpResponse:
        answer = _with_fresh_costs(lambda: isolation.isolate(check_id, actor=LOCAL))
        return json_answer(_compact(answer._asdict()))


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _with_fresh_costs(work: Callable[[], T]) -> T:
    """Measure costs, then do the work. A database that is away is detected first, within the usual time."""
    database.ask(ClusterStore.objects.exists)
    with database.limited(PATIENCE):
        database.ask(costs.measure)
        return database.ask(work)


def _answer(share: Share) -> HttpResponse:
    # An empty list would stop every check. On a 503 the node agent keeps what it runs.
    if share.unsure:
        return line(share.unsure, 503)
    return json_answer(f'{{"last_change":{share.version},"configs":[{share.configs}]}}'.encode())


def _begun(chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """The same chunks, of which the first is made now. Close it in the same thread, since a transaction is open."""
    first = next(chunks)

    def all_of_them() -> Generator[bytes, None, None]:
        with closing(chunks):
            yield first
            yield from chunks

    return all_of_them()
