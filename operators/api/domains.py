"""Failure domains in the operators' API, and what a loss of nodes would do."""

import math
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain import headroom, loss
from checks.explain.headroom import Headroom
from checks.explain.loss import Loss
from checks.wire.scrub import scrub
from nodes.models import Node
from operators.api.base import OperatorViewSet


class ReachField(serializers.FloatField):
    """A load, null where it is not known or infinite."""

    def to_representation(self, value: float) -> Any:
        return super().to_representation(value) if math.isfinite(value) else None


class DomainSerializer(serializers.Serializer[Headroom]):
    """A failure domain, and by arithmetic what the others would do if it were lost. See `loss` for a simulation."""

    domain = serializers.CharField(read_only=True, help_text="Its name.")
    configs = serializers.IntegerField(read_only=True, help_text="How many its nodes have.")
    reach = ReachField(
        read_only=True, help_text="The mean load of the others then; null: costs are not measured, or there are none."
    )
    homeless = serializers.IntegerField(
        read_only=True, help_text="Configs that no other node may have or has room for."
    )
    sentence = serializers.CharField(read_only=True, help_text="The same in a line for people.")
    as_of = serializers.DateTimeField(
        source="at", read_only=True, help_text="When that was so: the leader works it out with each round of stats."
    )


class LossSerializer(serializers.Serializer[Loss]):
    """What would happen if nodes were lost now, all at once."""

    placed = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="Configs by their new node."
    )
    waiting = serializers.IntegerField(
        read_only=True, help_text="How many would wait for up to a minute, so that no node gets too many."
    )
    homeless = serializers.IntegerField(read_only=True, help_text="How many would find no node.")
    peak = serializers.ListField(
        child=serializers.FloatField(), read_only=True, help_text="The highest load of the others, before and after."
    )
    reasons = serializers.SerializerMethodField(help_text="Why the homeless would find none: configs by reason.")

    @extend_schema_field(serializers.DictField(child=serializers.IntegerField()))
    def get_reasons(self, loss: Loss) -> dict[str, int]:
        return {scrub(reason): number for reason, number in loss.reasons.items()}


class DomainViewSet(OperatorViewSet):
    """Failure domains, the one whose loss would be the worst first."""

    queryset = Node.objects.none()
    serializer_class = DomainSerializer
    pagination_class: Any = None
    lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"

    @extend_schema(responses=DomainSerializer(many=True))
    def list(self, request: Request) -> Response:
        """All domains, with what the others would do if each were lost. Empty while all nodes are in one, or in none."""
        domains: Any = [one for one in headroom.noted() if one.domain]
        return Response(DomainSerializer(domains, many=True).data)

    @extend_schema(request=None, responses=LossSerializer)
    @action(detail=True, methods=["get"])
    def loss(self, request: Request, name: str) -> Response:
        """What would happen if all nodes of the domain were lost now."""
        names = list(Node.objects.in_domain(name).values_list("name", flat=True))
        if not names:
            raise NotFound(f"No node is in the domain {name}.")
        return Response(LossSerializer(loss.of(names)).data)
