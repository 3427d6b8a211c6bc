"""Configs in the operators' API."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from checks.dispatcher import deciding
from checks.explain import history
from checks.models import Config, Handover, Origin, Source
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from operators import queries
from operators.api import filters
from operators.api.base import DetailViewSet
from operators.api.fields import Digest, Scrubbed, ShortID, Strict
from operators.api.history import ConfigPointSerializer, HistoryOptions, span_of
from operators.api.permissions import requires
from operators.api.previews import DryRun
from operators.queries import WIDE_COLUMNS
from operators.roles import sees_digests

CONFIG_STATES = tuple(queries.CONFIG_STATES)


class NoticeSerializer(serializers.Serializer[Any]):
    """A warning: something in a config that its author probably did not mean."""

    name = Scrubbed(source="where", help_text="The config's.")
    line = serializers.IntegerField(allow_null=True)
    warning = Scrubbed()


class OriginSerializer(serializers.ModelSerializer[Origin]):
    """Who sends a config: its source, and its key in the source."""

    key = serializers.SerializerMethodField()

    class Meta:
        model = Origin
        fields = ("source", "key")

    def get_key(self, origin: Origin) -> str:
        return scrub(origin.shown or origin.key)


class HandoverSerializer(serializers.ModelSerializer[Handover]):
    """A hand-over of a config to its node: from which other node, and what is promised."""

    from_node = serializers.CharField(source="source.name", read_only=True)
    between_node = serializers.CharField(
        source="between.name", default=None, read_only=True,
        help_text="The node that had it in between, and may run it too.",
    )  # fmt: skip

    class Meta:
        model = Handover
        fields = ("from_node", "between_node", "promise", "since")
        read_only_fields = fields


class ConfigSerializer(serializers.ModelSerializer[Config]):
    """A config and the node that runs it. An endpoint check's node is the one that it belongs to."""

    title = serializers.CharField(source="__str__", read_only=True, help_text="How people call it.")
    check = Scrubbed(source="name")
    short_id = ShortID()
    digest = Digest()
    state = serializers.SerializerMethodField()
    node = serializers.SerializerMethodField()
    since = serializers.DateTimeField(source="assignment.since", default=None, read_only=True)
    reason = serializers.CharField(source="assignment.reason", default=None, read_only=True)
    former_node = serializers.CharField(source="former_node.name", default=None, read_only=True)
    handover = HandoverSerializer(default=None, read_only=True, help_text="While it is handed over to its node.")
    origins = OriginSerializer(many=True, read_only=True)
    check_ids = serializers.SerializerMethodField(help_text="Ending in a short ID for those who may not see digests.")
    pin = Scrubbed(default=None, help_text="Where it should run.")
    isolated = serializers.SerializerMethodField(help_text="Whether an isolation keeps it alone on its node.")
    cost = serializers.FloatField(
        source="cost.workers_needed",
        default=None,
        read_only=True,
        help_text="Workers that it keeps busy: run time per second.",
    )

    class Meta:
        model = Config
        fields: tuple[str, ...] = (
            "id", "title", "check", "short_id", "digest", "state", "node", "since", "reason", "dangling_since", "former_node",
            "handover", "origins", "check_ids",
            "pin", "isolated", "cost", "created", "changed",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=CONFIG_STATES))
    def get_state(self, config: Config) -> str:
        return queries.state_of(config)

    def get_node(self, config: Config) -> str | None:
        return config.assignment.node.name if hasattr(config, "assignment") else config.node_name or None

    def get_isolated(self, config: Config) -> bool:
        return hasattr(config, "isolation")

    def get_check_ids(self, config: Config) -> list[str]:
        exact = sees_digests(self.context["request"].user)
        return [instance.shown_id(exact=exact) for instance in config.instances.all()]


class ConfigPageSerializer(ConfigSerializer):
    """A config with its scrubbed YAML and its warnings."""

    yaml = serializers.SerializerMethodField(help_text="What node agents get, scrubbed.")
    warnings = serializers.SerializerMethodField(help_text="What its author probably did not mean.")

    class Meta(ConfigSerializer.Meta):
        fields = (*ConfigSerializer.Meta.fields, "yaml", "warnings")
        read_only_fields = fields

    def get_yaml(self, config: Config) -> str:
        return config.display_text

    @extend_schema_field(NoticeSerializer(many=True))
    def get_warnings(self, config: Config) -> Any:
        return NoticeSerializer(Source.objects.warnings_about(config), many=True).data


class ReassignSerializer(Strict):
    """The body of a reassignment."""

    node = serializers.CharField(max_length=253, help_text="Which node gets it.")


class ConfigViewSet(DetailViewSet):
    """Configs, and the nodes that run them."""

    own_options = {"reassign": ("dry_run",)}
    with_body = ("reassign",)

    queryset = Config.objects.select_related(
        "assignment__node", "former_node", "handover__source", "handover__between", "pin", "pause", "isolation", "cost"
    ).prefetch_related("origins", "instances")
    serializer_class = ConfigSerializer
    detail_serializer_class = ConfigPageSerializer
    filterset_class = filters.ConfigFilter

    def get_queryset(self) -> QuerySet[Config]:
        return super().get_queryset().defer(*(WIDE_COLUMNS[:-1] if self.detail else WIDE_COLUMNS))

    @extend_schema(
        request=ReassignSerializer,
        responses=ConfigPageSerializer,
        parameters=[DryRun],
    )
    @action(detail=True, methods=["post"], permission_classes=[requires("checks.change_assignment")])
    def reassign(self, request: Request, pk: str) -> Response:
        """Move a config to a node, once. The next rebalance may move it away again."""
        body = ReassignSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        config = self.get_object()
        node = body.validated_data["node"]
        preview = self.apply_or_preview("node", lambda: deciding.reassign([config.pk], node))
        return preview or self.retrieve(request)

    @extend_schema(
        request=None,
        responses=ConfigPointSerializer(many=True),
        parameters=[HistoryOptions],
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def history(self, request: Request, pk: str) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted is left out."""
        found = history.of_config(self.get_object(), span_of(request), clock.now())
        points: Any = found.points
        answer = ConfigPointSerializer(points, many=True, context={"nodes": found.nodes})
        return Response(answer.data)
