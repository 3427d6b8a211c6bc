"""Orders, rules and plans as the operators' API tells and takes them."""

import math
from datetime import datetime
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from checks import plans
from checks.dispatcher import CHUNK
from checks.models import Plan
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Order, Pause, Pin, Rule
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from clusteragent.lib.shortids import short_id
from nodes.models import NodeRule
from operators.api.serializers import NodeTypeField, Scrubbed, Strict
from operators.roles import sees_digests


class Note(serializers.CharField):
    """What its author wants others to know."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_blank=True, max_length=10_000, **options)

    def to_representation(self, value: Any) -> str:
        return scrub(str(value))


class Labels(serializers.DictField):
    """{"zone": "a"}"""

    child = serializers.CharField(max_length=253)

    def to_internal_value(self, data: Any) -> Any:
        labels = super().to_internal_value(data)
        if not all(name.isprintable() and len(name) <= 253 for name in labels):
            raise ValidationError("A label's name has at most 253 printable characters.")
        return labels


class OrderSerializer(Strict, serializers.ModelSerializer[Any]):
    configs = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=CHUNK,
        write_only=True,
        help_text="Of which configs it is ordered: their ids.",
    )
    check = Scrubbed(source="config.name", default=None)
    origin = serializers.SerializerMethodField(help_text="Whose config it is about, also while that sends nothing.")
    note = Note()

    class Meta:
        fields: tuple[str, ...] = ("id", "configs", "config", "check", "origin", "author", "note", "time")
        read_only_fields: tuple[str, ...] = ("config", "author", "time")

    def get_origin(self, order: Order) -> str:
        return scrub(f"{order.source}:{order.key}")


def _in_future(end: datetime | None) -> datetime | None:
    try:
        return end and deadlines.in_future(end)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class TimedSerializer(OrderSerializer):
    def validate_until(self, end: datetime | None) -> datetime | None:
        return _in_future(end)


class PinSerializer(TimedSerializer):
    class Meta(OrderSerializer.Meta):
        model = Pin
        fields = (*OrderSerializer.Meta.fields, "kind", "aim", "waits", "until")


class PauseSerializer(TimedSerializer):
    class Meta(OrderSerializer.Meta):
        model = Pause
        fields = (*OrderSerializer.Meta.fields, "until")


class IsolationSerializer(OrderSerializer):
    class Meta(OrderSerializer.Meta):
        model = Isolation
        fields = (*OrderSerializer.Meta.fields, "reason")
        read_only_fields = (*OrderSerializer.Meta.read_only_fields, "reason")


class FreezeSerializer(Strict, serializers.ModelSerializer[Freeze]):
    note = Note()

    class Meta:
        model = Freeze
        fields = ("id", "author", "note", "time", "until", "ended_at", "ended_by")
        read_only_fields = ("author", "time", "ended_at", "ended_by")

    def validate_until(self, end: datetime | None) -> datetime | None:
        return _in_future(end)


class RuleSerializer(Strict, serializers.ModelSerializer[Rule]):
    required = Labels(required=False)  # type: ignore[assignment]
    forbidden = Labels(required=False)
    note = Note()

    class Meta:
        model = Rule
        fields = (
            "id", "name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "author", "note", "time"
        )  # fmt: skip
        read_only_fields = ("author", "time")


class NodeRuleSerializer(Strict, serializers.ModelSerializer[NodeRule]):
    type = NodeTypeField(source="node_type", required=False, allow_null=True)
    labels = Labels(required=False)
    note = Note()

    class Meta:
        model = NodeRule
        fields = ("id", "pattern", "network", "type", "labels", "weight", "max_configs", "author", "note", "time")
        read_only_fields = ("author", "time")

    def validate_weight(self, weight: float | None) -> float | None:
        if weight is not None and not math.isfinite(weight):
            raise ValidationError("A number.")
        return weight


class PlanSerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields: tuple[str, ...] = ("id", "author", "reason", "time", "spread", "applied_at", "moved", "outcome")
        read_only_fields = fields


class DryRun(serializers.Serializer[Any]):
    dry_run = serializers.BooleanField(
        default=False, help_text="Change nothing: the answer is the plan of what would move, which is not kept."
    )


class PlanWish(Strict):
    force = serializers.BooleanField(required=False, help_text="Also where it makes no clear difference.")
    budget = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="Most moves that restart a check; unless given, what may move in one period.",
    )


class PlanPageSerializer(PlanSerializer):
    moves = serializers.SerializerMethodField()

    class Meta(PlanSerializer.Meta):
        fields = (*PlanSerializer.Meta.fields, "moves", "nodes")
        read_only_fields = fields

    def get_moves(self, plan: Plan) -> list[dict[str, Any]]:
        """With digests for those who may see them, and short IDs for all."""
        exact = sees_digests(self.context["request"].user)
        return [
            {
                **{column: move[column] for column in plans.MOVE_FIELDS},
                "name": scrub(move["name"]),
                "short_id": short_id(move["digest"]),
                "digest": move["digest"] if exact else None,
            }
            for move in plan.moves
        ]
