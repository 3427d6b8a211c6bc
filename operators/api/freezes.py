"""Freezes in the operators' API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from acts.models import Act
from acts.recording import record
from checks.explain import forecasts
from checks.models import freezes
from checks.models.freezes import Freeze
from operators.api import filters
from operators.api.base import Conflict, DetailViewSet
from operators.api.fields import Note, Strict, Until
from operators.api.previews import ForecastWish


class FreezeSerializer(Strict, serializers.ModelSerializer[Freeze]):
    """A freeze of automatic balancing."""

    note = Note()
    until = Until()

    class Meta:
        model = Freeze
        fields = ("id", "author", "note", "time", "until", "ended_at", "ended_by")
        read_only_fields = ("author", "time", "ended_at", "ended_by")


class FreezeViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Freezes: times in which nothing is balanced automatically, the last one first. At most one is in force."""

    queryset = Freeze.objects.all()
    serializer_class = FreezeSerializer
    filterset_class = filters.FreezeFilter
    ordering = "-id"
    own_options = {"create": ("dry_run",), "destroy": ("dry_run",)}

    @extend_schema(parameters=[ForecastWish])
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Start a freeze. It replaces the one that is in force. A dry run answers what it stops."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        until = body.validated_data.get("until")
        told = self.forecast_or_act("detail", lambda: forecasts.freeze(until), lambda: self.perform_create(body))
        return told or Response(body.data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[ForecastWish])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the freeze; it stays listed. A dry run answers what would follow."""
        freeze = self.get_object()
        self._require_in_force(freeze)
        told = self.forecast_or_act("detail", forecasts.thaw, lambda: self.perform_destroy(freeze))
        return told or Response(status=status.HTTP_204_NO_CONTENT)

    def perform_create(self, serializer: Any) -> None:
        """Start a freeze. It replaces the one that is in force."""
        actor = self.request.user.get_username()
        serializer.instance = freezes.freeze(actor=actor, **serializer.validated_data)

    def perform_destroy(self, instance: Freeze) -> None:
        """End the freeze; it stays listed."""
        freezes.thaw(actor=self.request.user.get_username())

    def _require_in_force(self, instance: Freeze) -> None:
        """Raise Conflict when it is over already."""
        if not Freeze.objects.in_force().filter(pk=instance.pk).exists():
            record(Act.Verb.REFUSE, f"end {instance}", reason="it is over already")
            raise Conflict({"detail": "It is over already."})
