"""Configs, nodes, the ledger, node events and sources in the operators' API."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from checks.dispatcher import deciding
from checks.models import Assignment, Config, Move, Origin, Source
from checks.sources import sets
from nodes.models import Node, NodeEvent
from operators.api import desired, filters, serializers
from operators.api.authentication import OperatorToken
from operators.api.base import Busy, Conflict, DetailViewSet, ListViewSet, OperatorViewSet
from operators.api.orders import applied_or_previewed
from operators.api.permissions import requires

# How many sets of more than a megabyte are read at the same time: each takes up to 0.3 GB and half a minute.
LARGE_SETS = 2
# Wide columns, which lists do not read.
WIDE_COLUMNS = ("original", "wire", "scrubbed", "text")
_large_sets = BoundedSemaphore(LARGE_SETS)
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class ConfigViewSet(DetailViewSet):
    """Configs, and the nodes that run them."""

    dry_runs = ("reassign",)

    queryset = Config.objects.select_related(
        "assignment__node", "former_node", "pin", "pause", "isolation", "cost"
    ).prefetch_related("origins", "instances")
    serializer_class = serializers.ConfigSerializer
    detail_serializer_class = serializers.ConfigPageSerializer
    filterset_class = filters.ConfigFilter
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Config]:
        return super().get_queryset().defer(*(WIDE_COLUMNS[:-1] if self.detail else WIDE_COLUMNS))

    @extend_schema(
        request=serializers.ReassignSerializer,
        responses=serializers.ConfigPageSerializer,
        parameters=[serializers.DryRun],
    )
    @action(detail=True, methods=["post"], permission_classes=[requires("checks.change_assignment")])
    def reassign(self, request: Request, pk: str) -> Response:
        """Move a config to a node, once. The next rebalance may move it away again."""
        body = serializers.ReassignSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        config = self.get_object()
        node = body.validated_data["node"]
        dry = applied_or_previewed(self, "node", lambda: deciding.reassign([config.pk], node))
        return dry or Response(self.get_serializer(self.get_object()).data)


class NodeViewSet(DetailViewSet):
    """Node agents. Lost ones stay listed for a while."""

    dry_runs = ("drain",)

    queryset = Node.objects.select_related("heartbeat")
    serializer_class = serializers.NodeSerializer
    filterset_class = filters.NodeFilter
    ordering = lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"

    def get_queryset(self) -> QuerySet[Node]:
        owned = Assignment.objects.filter(node=OuterRef("pk")).order_by().values("node").annotate(number=Count("pk"))
        number = Subquery(owned.values("number"), output_field=IntegerField())
        nodes: Any = super().get_queryset()
        found: QuerySet[Node] = nodes.with_state().annotate(configs=Coalesce(number, 0))
        return found

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def cordon(self, request: Request, name: str) -> Response:
        """Cordon the node: it gets nothing new, and keeps what it has."""
        return self._cordon(request)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def uncordon(self, request: Request, name: str) -> Response:
        """Uncordon the node: it gets configs again."""
        return self._cordon(request, schedulable=True)

    @extend_schema(request=None, parameters=[serializers.DryRun])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def drain(self, request: Request, name: str) -> Response:
        """Drain the node: it gets nothing new, and its configs move to other nodes bit by bit."""
        node = self.get_object()
        return applied_or_previewed(self, "name", lambda: deciding.drain([node.name])) or Response(
            self.get_serializer(self.get_object()).data
        )

    def _cordon(self, request: Request, **how: bool) -> Response:
        Node.objects.filter(pk=self.get_object().pk).cordon(**how, actor=request.user.get_username())
        return Response(self.get_serializer(self.get_object()).data)


class MoveViewSet(ListViewSet):
    """The ledger: every change of a config's owner, the last one first."""

    queryset = Move.objects.all()
    serializer_class = serializers.MoveSerializer
    filterset_class = filters.MoveFilter
    ordering = "-id"


class EventViewSet(ListViewSet):
    """Node events: what happened to nodes, the last one first."""

    queryset = NodeEvent.objects.all()
    serializer_class = serializers.EventSerializer
    filterset_class = filters.EventFilter
    ordering = "-id"


class SourceViewSet(DetailViewSet):
    """Sources that pipelines own, each by the name after `api:`. `configs?source=api:…` lists the configs of one."""

    queryset = Source.objects.filter(name__startswith=sets.PREFIX)
    serializer_class = serializers.SourceSerializer
    detail_serializer_class = serializers.SourcePageSerializer
    ordering = lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"
    # Enough for MOST_CONFIGS configs of 1.5 kB each.
    most_bytes = 32 * 1024 * 1024
    write_options = ("dry_run", "accept_removals")
    writing = ("checks.add_config", "checks.change_config", "checks.delete_config")

    @classmethod
    def may_send_much(cls, request: HttpRequest) -> bool:
        """Whether the call's token belongs to a user who may write configs. It is checked before a large body is read."""
        try:
            found = OperatorToken().authenticate(Request(request))
        except AuthenticationFailed:
            return False
        return found is not None and found[0].has_perms(cls.writing)

    def get_queryset(self) -> QuerySet[Source]:
        sent = Origin.objects.filter(source=OuterRef("name")).order_by().values("source").annotate(number=Count("pk"))
        number = Subquery(sent.values("number"), output_field=IntegerField())
        found: QuerySet[Source] = super().get_queryset().annotate(configs=Coalesce(number, 0))
        return found

    def get_permissions(self) -> Sequence[Any]:
        if self.action == "update":
            return [requires(*self.writing)()]
        return super().get_permissions()

    def get_object(self) -> Source:
        return get_object_or_404(self.get_queryset(), name=sets.PREFIX + self.kwargs["name"])

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().retrieve(request, *args, **kwargs)
        response["ETag"] = f'"{response.data["revision"]}"'
        return response

    @extend_schema(
        request=desired.DesiredSet,
        responses=serializers.DifferenceSerializer,
        parameters=[
            desired.PutOptions,
            OpenApiParameter("If-Match", str, "header", description="Instead of revision."),
        ],
    )
    def update(self, request: Request, name: str) -> Response:
        """Replace the whole set of the source. Either all of it is stored or nothing. A new name creates a new source."""
        if not _SOURCE_NAME.fullmatch(name):
            raise ValidationError({"name": ["1 to 200 letters, digits, underscores, dots and hyphens."]})
        options = desired.PutOptions(data=request.query_params)
        options.is_valid(raise_exception=True)
        with _place_for_large_set(request):
            return self._update(request, sets.PREFIX + name, options)

    def _update(self, request: Request, source: str, options: desired.PutOptions) -> Response:
        body = desired.DesiredSet(data=request.data, context={"source": source})
        body.is_valid(raise_exception=True)
        # A proxy that compresses bodies turns the tag into a weak one.
        tag = request.headers.get("If-Match", "").removeprefix("W/").strip('"')
        revision = body.validated_data.get("revision") or tag
        difference = self._apply(request, source, body.validated_data["configs"], revision, **options.validated_data)
        answer = serializers.DifferenceSerializer(difference, context=options.validated_data)
        return Response(answer.data, headers={"ETag": f'"{difference.revision}"'})

    def _apply(
        self, request: Request, source: str, configs: Any, revision: str, *, dry_run: bool, accept_removals: bool
    ) -> sets.Difference:
        try:
            if dry_run:
                return sets.compare(source, configs, revision=revision, accept_removals=accept_removals)
            actor = request.user.get_username()
            return sets.replace(source, configs, actor=actor, revision=revision, accept_removals=accept_removals)
        except sets.Outdated as error:
            raise Conflict({"revision": [str(error)]}) from None
        except sets.RemovalsHeld as error:
            raise Conflict({"configs": [f"{error} Send it with ?accept_removals=1 if that is meant."]}) from None


@contextmanager
def _place_for_large_set(request: Request) -> Iterator[None]:
    """Hold a place among the LARGE_SETS that may be read at the same time. Raises Busy if none is free. Small sets need none."""
    if int(request.META.get("CONTENT_LENGTH") or 0) <= OperatorViewSet.most_bytes:
        yield
    elif _large_sets.acquire(blocking=False):
        try:
            yield
        finally:
            _large_sets.release()
    else:
        raise Busy(f"{LARGE_SETS} other large sets are being read. Try again.")
