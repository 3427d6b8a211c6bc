"""How the cluster, a node or a config was, in points of time."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain import history
from checks.explain.history import Span
from checks.models import Config
from checks.models.history import ClusterPoint, ConfigPoint, NodePoint
from clusteragent.lib import clock
from operators.api.base import OperatorViewSet
from operators.api.fields import Options, refuse_unknown
from operators.api.permissions import requires
from operators.pages.base import SEES


class HistoryOptions(Options):
    """How far back a history goes."""

    span = serializers.ChoiceField(
        choices=tuple(Span), default=Span.HOUR, help_text="Points are minutes of an hour, else hours."
    )


class NodePointSerializer(serializers.Serializer[NodePoint]):
    """How a node was in a minute or an hour. Of an hour `load` is the mean, `highest` and the counts are the most at one time."""

    time = serializers.DateTimeField(help_text="Its beginning.")
    load = serializers.FloatField(allow_null=True, help_text="Share of its capacity. Null: it was not measured.")
    highest = serializers.FloatField(source="peak", allow_null=True)
    configs = serializers.IntegerField()
    failing = serializers.IntegerField()
    came = serializers.IntegerField(source="gained", help_text="Configs that came to it.")
    went = serializers.IntegerField(source="lost", help_text="Configs that it gave or lost.")


class ClusterPointSerializer(serializers.Serializer[ClusterPoint]):
    """How the cluster was in a minute or an hour. Of an hour `load` is the mean, `nodes` the fewest, other counts the most."""

    time = serializers.DateTimeField(help_text="Its beginning.")
    load = serializers.FloatField(
        allow_null=True, help_text="Of all nodes together, as a share of their capacity. Null: it was not measured."
    )
    fullest = serializers.FloatField(source="peak", allow_null=True, help_text="The load of the fullest node.")
    nodes = serializers.IntegerField()
    configs = serializers.IntegerField()
    dangling = serializers.IntegerField()
    failing = serializers.IntegerField()
    paused = serializers.IntegerField()
    moves = serializers.IntegerField(help_text="Changes of owners in it.")


class ConfigPointSerializer(serializers.Serializer[ConfigPoint]):
    """How a config was in a minute or an hour: where, its run time, and in how many minutes it was ok, failing and so on."""

    time = serializers.DateTimeField(help_text="Its beginning.")
    node = serializers.SerializerMethodField(help_text="The last one in it. Null: none, or one that is gone.")
    mean_ms = serializers.IntegerField(allow_null=True, help_text="Run time. Null: no runner told.")
    longest_ms = serializers.IntegerField(allow_null=True)
    ok = serializers.IntegerField()
    failing = serializers.IntegerField()
    unknown = serializers.IntegerField()
    paused = serializers.IntegerField()

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_node(self, point: ConfigPoint) -> str | None:
        return self.context["nodes"].get(point.node_id)


def span_of(request: Request) -> Span:
    """How far back a history is asked for. Raises ValidationError for another one, and for other parameters."""
    refuse_unknown(request.query_params, {"span", "format"}, ["span"])
    options = HistoryOptions.of(request.query_params)
    return Span(options["span"])


class HistoryViewSet(OperatorViewSet):
    """How the cluster was."""

    queryset = Config.objects.none()
    serializer_class = ClusterPointSerializer
    pagination_class: Any = None
    permission_classes = [requires(*SEES)]

    @extend_schema(responses=ClusterPointSerializer(many=True), parameters=[HistoryOptions])
    def list(self, request: Request) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted is left out."""
        points: Any = history.of_cluster(span_of(request), clock.now())
        return Response(ClusterPointSerializer(points, many=True).data)
