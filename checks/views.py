"""What node agents fetch (their configs), and the local routes that show the map."""

from collections.abc import Iterator
from itertools import chain

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.request import Request

from checks import state
from checks.models import Config
from checks.querysets import Share
from clusteragent.lib import database
from nodes.authentication import LocalToken
from nodes.models import validate_node_name
from nodes.views import ClusterChecksView, json_answer, line


class Configs(ClusterChecksView):
    """GET …/clusterchecks/configs/<node>: what a node runs."""

    def get(self, request: Request, name: str) -> HttpResponse:
        validate_node_name(name)
        share = database.ask(lambda: Config.objects.share_of(name))
        return _answer(share) if share else line(f"node {name} is unknown", 500)


class EndpointsConfigs(ClusterChecksView):
    """GET …/endpointschecks/configs/<node>: the endpoint checks of a node, known or not."""

    def get(self, request: Request, name: str) -> HttpResponse:
        validate_node_name(name)
        return _answer(database.ask(lambda: Config.objects.endpoints_share(name)))


class AllEndpointsConfigs(ClusterChecksView):
    """GET …/endpointschecks/configs: the endpoint checks of all nodes."""

    authentication_classes = [LocalToken]

    def get(self, request: Request) -> HttpResponse:
        return _answer(database.ask(Config.objects.endpoints_share))


class State(ClusterChecksView):
    """GET …/clusterchecks: the whole map, streamed; with ?scrub=true without secrets."""

    authentication_classes = [LocalToken]

    def get(self, request: Request) -> StreamingHttpResponse:
        scrub = request.GET.get("scrub") == "true"
        # The first piece is asked for here: a database that is away can still be answered with a status.
        chunks = database.ask(lambda: _begun(database.in_time(state.document(scrub=scrub))))
        return StreamingHttpResponse(chunks, content_type="application/json")


def _answer(share: Share) -> HttpResponse:
    # An empty list stops every check, so when unsure it is a 503, on which the node agent keeps what it runs.
    if share.unsure:
        return line(share.unsure, 503)
    return json_answer(f'{{"last_change":{share.version},"configs":[{share.configs}]}}'.encode())


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, the first of them made now."""
    return chain([next(chunks)], chunks)
