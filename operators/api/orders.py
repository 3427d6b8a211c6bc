"""Pins, pauses and isolations in the operators' API."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from checks import dispatcher
from checks.dispatcher import CHUNK, Decision, deciding
from checks.explain import forecasts
from checks.explain.objections import DANGLING
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.wire.scrub import scrub
from operators.api import filters
from operators.api.base import DetailViewSet
from operators.api.fields import Note, Scrubbed, Strict, Until
from operators.api.previews import DanglingOptions, DryRun, ForecastWish


class OrderSerializer(Strict, serializers.ModelSerializer[Any]):
    """An order of a config. It belongs to the config's origin, and also holds while that sends nothing."""

    configs = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=CHUNK,
        write_only=True,
        help_text="The ids of the configs that get the order.",
    )
    check = Scrubbed(source="config.name", default=None)
    origin = serializers.SerializerMethodField(help_text="The origin of the config, also while it sends nothing.")
    note = Note()

    class Meta:
        fields: tuple[str, ...] = (
            "id",
            "configs",
            "config",
            "check",
            "origin",
            "author",
            "note",
            "time",
            "from_source",
        )
        read_only_fields: tuple[str, ...] = ("config", "author", "time", "from_source")

    def get_origin(self, order: Order) -> str:
        return scrub(f"{order.source}:{order.key}")


class PinSerializer(OrderSerializer):
    """A pin."""

    until = Until()

    class Meta(OrderSerializer.Meta):
        model = Pin
        fields = (*OrderSerializer.Meta.fields, "kind", "aim", "waits", "until")


class PauseSerializer(OrderSerializer):
    """A pause."""

    until = Until()

    class Meta(OrderSerializer.Meta):
        model = Pause
        fields = (*OrderSerializer.Meta.fields, "until")


class IsolationSerializer(OrderSerializer):
    """An isolation, by an operator or by quarantine."""

    class Meta(OrderSerializer.Meta):
        model = Isolation
        fields = (*OrderSerializer.Meta.fields, "reason")
        read_only_fields = (*OrderSerializer.Meta.read_only_fields, "reason")


class PinOptions(DryRun, DanglingOptions):
    """The query parameters of a call that pins."""


class OrderViewSet(DetailViewSet):
    """Orders of one kind. A new order replaces the one that the config had. Nothing that a source sends undoes an order.

    give(config ids, …): decides to give them the order.
    """

    filterset_class = filters.OrderFilter
    own_options: Mapping[str, Sequence[str]] = {"create": ("dry_run",), "destroy": ("dry_run",)}
    give: Callable[..., Decision]

    def take(self, ids: Sequence[int], only: Sequence[int]) -> Response | None:
        """Take the orders with the ids `only` back from these configs. Returns a response only to a dry run."""
        raise NotImplementedError

    @extend_schema(parameters=[DryRun])
    def create(self, request: Request) -> Response:
        """Give the order to all of these configs, or to none if one of them refuses it."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        ids = body.validated_data.pop("configs")
        if preview := self.apply_or_preview("configs", lambda: self.give(ids, **body.validated_data)):
            return preview
        given = self.get_queryset().filter(config__in=ids).order_by("pk")
        return Response(self.get_serializer(given, many=True).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[ForecastWish])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the order back. A dry run answers what would follow."""
        order = self.get_object()
        if preview := self.take([order.config_id] if order.config_id else [], [order.pk]):
            return preview
        if order.config_id is None:
            dispatcher.forget_waiting([order])  # an order without a config only waits for its origin
        return Response(status=status.HTTP_204_NO_CONTENT)


class PinViewSet(OrderViewSet):
    """Pins: the node where a config shall run, by name, by name pattern or by label."""

    queryset = Pin.objects.select_related("config")
    serializer_class = PinSerializer
    give = staticmethod(deciding.pin)
    own_options = {"create": ("dry_run", DANGLING), "destroy": ("dry_run",)}

    @extend_schema(parameters=[PinOptions])
    def create(self, request: Request) -> Response:
        """Pin all of these configs, or none if one of them refuses it. 409 if some that run now would run nowhere."""
        return super().create(request)

    def take(self, ids: Sequence[int], only: Sequence[int]) -> Response | None:
        return self.forecast_or_act("config", lambda: forecasts.unpin(ids), lambda: dispatcher.unpin(ids, only=only))


class PauseViewSet(OrderViewSet):
    """Pauses: configs that run nowhere for a time."""

    queryset = Pause.objects.select_related("config")
    serializer_class = PauseSerializer
    give = staticmethod(deciding.pause)

    @extend_schema(parameters=[DryRun])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the pause. The config is placed again; without an eligible node it dangles."""
        return super().destroy(request, *args, **kwargs)

    def take(self, ids: Sequence[int], only: Sequence[int]) -> Response | None:
        return self.apply_or_preview("config", lambda: deciding.resume(ids))


class IsolationViewSet(OrderViewSet):
    """Isolations: configs that run alone on their nodes."""

    queryset = Isolation.objects.select_related("config")
    serializer_class = IsolationSerializer
    give = staticmethod(deciding.isolate)

    def take(self, ids: Sequence[int], only: Sequence[int]) -> Response | None:
        return self.forecast_or_act(
            "config", lambda: forecasts.release(ids), lambda: dispatcher.release(ids, only=only)
        )
