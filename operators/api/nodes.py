"""Nodes in the operators' API."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from checks import dispatcher
from checks.dispatcher import deciding
from checks.dispatcher.acting import Asked, record_refusal
from checks.explain import drains, forecasts, history, loss, objections
from checks.explain.drains import Drain, Stuck
from checks.models import Assignment
from clusteragent.lib import clock, conf
from clusteragent.lib.database.numbers import number_of
from nodes import runnercertificates
from nodes.models import Node, Runner, Slowness, UnknownNode
from operators.api import filters
from operators.api.base import Conflict, DetailViewSet
from operators.api.domains import LossSerializer
from operators.api.fields import NODE_STATES, NodeTypeField, Note, Scrubbed, Strict, Until
from operators.api.history import HistoryOptions, NodePointSerializer, span_of
from operators.api.permissions import HasPermissions, requires
from operators.api.previews import Acceptance, DryRun, ForecastWish, NoNodeOptions


class SlownessSerializer(serializers.ModelSerializer[Slowness]):
    """Why a node is slow, and what it is given."""

    state = serializers.ChoiceField(choices=("slow", "very slow", "recovering"), read_only=True)
    factor = serializers.FloatField(
        read_only=True, allow_null=True, help_text="How many times as long its checks take as elsewhere; null: unknown."
    )
    checks = serializers.IntegerField(read_only=True, help_text="How many checks were compared.")
    other_nodes = serializers.IntegerField(source="others", read_only=True, help_text="With how many nodes.")
    missed_polls = serializers.IntegerField(source="missed", read_only=True, help_text="In ten minutes.")
    share = serializers.FloatField(read_only=True, help_text="What its capacity is multiplied by.")
    sentence = serializers.CharField(read_only=True, help_text="The same in a line for people.")

    class Meta:
        model = Slowness
        fields = ("state", "since", "factor", "checks", "other_nodes", "missed_polls", "share", "sentence")
        read_only_fields = fields


class NodeSerializer(serializers.ModelSerializer[Node]):
    """A node agent and its state."""

    state = serializers.ChoiceField(choices=NODE_STATES, read_only=True)
    type = NodeTypeField(source="heartbeat.node_type", default=None, read_only=True)
    address = serializers.CharField(source="heartbeat.client_ip", default=None, read_only=True)
    last_heard = serializers.DateTimeField(source="heartbeat.seen_at", default=None, read_only=True)
    acknowledged = serializers.SerializerMethodField(help_text="Whether it fetched its latest configs.")
    configs = serializers.IntegerField(read_only=True, help_text="How many configs are assigned to it.")
    slowness = serializers.SerializerMethodField(help_text="Null: it is not slow.")
    domain = serializers.CharField(read_only=True, help_text="Its failure domain; empty: none.")
    schedulable = serializers.SerializerMethodField(help_text="false: it is cordoned or lost.")

    class Meta:
        model = Node
        fields: tuple[str, ...] = (
            "name", "state", "schedulable", "draining", "leaving", "type", "address", "labels", "domain", "weight",
            "max_configs", "last_heard", "first_seen", "lost_at", "configs", "acknowledged", "slowness",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(SlownessSerializer(allow_null=True))
    def get_slowness(self, node: Node) -> Any:
        is_slow = hasattr(node, "heartbeat") and hasattr(node, "slowness") and node.slowness.state
        return SlownessSerializer(node.slowness).data if is_slow else None

    def get_schedulable(self, node: Node) -> bool:
        return node.schedulable and hasattr(node, "heartbeat")

    def get_acknowledged(self, node: Any) -> bool | None:
        return node.heartbeat.acknowledged == node.config_version if hasattr(node, "heartbeat") else None


class StuckSerializer(serializers.Serializer[Stuck]):
    """Why some of the configs that are left can't go to another node."""

    reason = Scrubbed()
    configs = serializers.IntegerField(read_only=True, help_text="How many they are.")


class DrainSerializer(serializers.Serializer[Drain]):
    """How far the drain of a node is."""

    since = serializers.DateTimeField(read_only=True, allow_null=True, help_text="Null: it is not being drained.")
    by = serializers.DateTimeField(read_only=True, allow_null=True, help_text="Its deadline.")
    moved = serializers.IntegerField(read_only=True, help_text="How many configs other nodes have since it began.")
    left = serializers.IntegerField(read_only=True, help_text="How many it has, with those that it hands over.")
    handing_over = serializers.IntegerField(read_only=True)
    is_empty = serializers.BooleanField(
        read_only=True, help_text="Nothing is left, it has fetched that, and it gets nothing new: it may be stopped."
    )
    stuck = StuckSerializer(many=True, read_only=True, help_text="Why the rest can't go, the commonest reasons.")
    sentence = serializers.CharField(read_only=True, help_text="The same in a line for people.")


class CertificateSerializer(serializers.ModelSerializer[Runner]):
    """The certificate that is kept of a runner, and another one that it shows: their SHA-256, in hexadecimal digits."""

    kept = serializers.CharField(source="certificate", read_only=True)
    since = serializers.DateTimeField(source="certificate_since", read_only=True)
    other = serializers.CharField(
        source="other_certificate", read_only=True, help_text="Not empty: so the runner is sent nothing."
    )

    class Meta:
        model = Runner
        fields = ("kept", "since", "other")


class NodePageSerializer(NodeSerializer):
    """A node, and how far its drain is."""

    drain = serializers.SerializerMethodField(help_text="Null: it is not being drained.")
    certificate = serializers.SerializerMethodField(help_text="Of its runner. Null: none is kept.")

    class Meta(NodeSerializer.Meta):
        fields = (*NodeSerializer.Meta.fields, "drain", "certificate")
        read_only_fields = fields

    @extend_schema_field(DrainSerializer(allow_null=True))
    def get_drain(self, node: Node) -> Any:
        return DrainSerializer(drains.of(node.name)).data if node.draining else None

    @extend_schema_field(CertificateSerializer(allow_null=True))
    def get_certificate(self, node: Node) -> Any:
        runner = getattr(node, "runner", None) if conf.RUNNER_CERTIFICATES_PINNED else None
        return CertificateSerializer(runner).data if runner and runner.certificate else None


class DrainWish(Strict):
    """The body of a call that drains a node."""

    by = Until(help_text="When it shall be empty, a time or a span such as 10m; null: at the usual pace.")
    note = Note(help_text="Why: shown with its plan and on record.")


class DrainOptions(DryRun, NoNodeOptions):
    """The query parameters of a call that drains a node."""


class NodeViewSet(DetailViewSet):
    """Node agents. Lost ones stay listed for a while."""

    own_options = {
        "accept_certificate": ("dry_run",),
        "cordon": ("dry_run", "accept_no_node"),
        "drain": ("dry_run", "accept_no_node"),
        "uncordon": ("dry_run",),
    }

    with_body = ("drain",)

    queryset = Node.objects.select_related("heartbeat", "slowness")
    serializer_class = NodeSerializer
    detail_serializer_class = NodePageSerializer
    filterset_class = filters.NodeFilter
    ordering = lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"

    def get_permissions(self) -> Sequence[Any]:
        # It has the permissions of the call that drains, which it shares its address with.
        return [HasPermissions()] if self.action == "drained" else super().get_permissions()

    def get_queryset(self) -> QuerySet[Node]:
        nodes: Any = super().get_queryset()
        return nodes.with_state().annotate(configs=number_of(Assignment.objects.all(), "node"))

    @extend_schema(request=None, parameters=[DrainOptions])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def cordon(self, request: Request, name: str) -> Response:
        """Cordon the node: it gets nothing new, and keeps what it has. 409 if no node would take work then.

        A dry run answers what would follow.
        """
        name = self.get_object().name
        told = self.forecast_or_act("name", lambda: forecasts.cordon([name]), lambda: self._cordon(name))
        return told or self.retrieve(request)

    @extend_schema(request=None, parameters=[ForecastWish])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def uncordon(self, request: Request, name: str) -> Response:
        """Uncordon the node: it gets configs again. A dry run answers what would follow."""
        name = self.get_object().name
        told = self.forecast_or_act("name", lambda: forecasts.uncordon([name]), lambda: self._uncordon(name))
        return told or self.retrieve(request)

    @extend_schema(request=None, parameters=[ForecastWish])
    @action(
        detail=True, methods=["post"], url_path="accept-certificate", permission_classes=[requires("nodes.change_node")]
    )
    def accept_certificate(self, request: Request, name: str) -> Response:
        """Keep the certificate that its runner shows now: it is sent the token again. 409 if it shows no other than before.

        A dry run answers which they are.
        """
        name = self.get_object().name
        try:
            offers = runnercertificates.offers_of([name])
            told = self.forecast_or_act(
                "name", lambda: forecasts.accept_certificates(offers), lambda: runnercertificates.accept(offers)
            )
        except (UnknownNode, runnercertificates.NoOffer) as refusal:
            record_refusal(f"accept the certificate of {name}", refusal)
            raise Conflict(str(refusal)) from None
        return told or self.retrieve(request)

    @extend_schema(request=DrainWish, responses=NodePageSerializer, parameters=[DrainOptions])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def drain(self, request: Request, name: str) -> Response:
        """Drain the node: it gets nothing new, and its configs move to other nodes bit by bit, all of them until `by`.

        409 if no node would take work then.
        """
        node = self.get_object()
        body = DrainWish(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        return self.apply_or_preview("name", lambda: deciding.drain([node.name], **wish)) or self.retrieve(request)

    @extend_schema(request=None, responses=DrainSerializer)
    @drain.mapping.get
    def drained(self, request: Request, name: str) -> Response:
        """How far its drain is, and whether the node is empty and may be stopped."""
        return Response(DrainSerializer(drains.of(self.get_object().name)).data)

    @extend_schema(request=None, responses=LossSerializer)
    @action(detail=True, methods=["get"], permission_classes=[requires("nodes.view_node")])
    def loss(self, request: Request, name: str) -> Response:
        """What would happen if the node were lost now: where its configs would go, and why some would find no node."""
        return Response(LossSerializer(loss.of([self.get_object().name])).data)

    @extend_schema(
        request=None,
        responses=NodePointSerializer(many=True),
        parameters=[HistoryOptions],
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def history(self, request: Request, name: str) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted, and when it was lost, is left out."""
        points: Any = history.of_node(self.get_object(), span_of(request), clock.now())
        return Response(NodePointSerializer(points, many=True).data)

    def _cordon(self, name: str) -> None:
        may_close = objections.NO_NODE in Acceptance.given(self.request.query_params)
        if may_close:
            # So that the act says what was accepted.
            self.require_accepted(objections.of_closing([name]), Asked("cordon", nodes=[name]))
        try:
            dispatcher.cordon([name], actor=self.request.user.get_username(), may_close=may_close)
        except dispatcher.StalePlan as closed:
            self.require_accepted(objections.of_closing([name]), Asked("cordon", nodes=[name]))
            raise Conflict({"name": [str(closed)]}) from None

    def _uncordon(self, name: str) -> None:
        Node.objects.filter(name=name).cordon(schedulable=True, actor=self.request.user.get_username())
