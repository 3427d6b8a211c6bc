"""What the operators' API takes and answers."""

import math
from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from checks import plans
from checks.dispatcher import CHUNK
from checks.models import Config, Move, Origin, Plan, Source
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Order, Pause, Pin, Rule
from checks.sources import sets
from checks.wire.lint import Notice
from checks.wire.scrub import scrub
from clusteragent.lib import deadlines
from clusteragent.lib.shortids import short_id
from nodes.models import Node, NodeEvent, NodeRule
from operators.api.fields import Digest, Labels, NodeTypeField, Note, Scrubbed, ShortID, Strict
from operators.roles import sees_digests

STATES = ("assigned", "dangling", "paused", "endpoint")
NODE_STATES = ("alive", "silent", "lost")


class NoticeSerializer(serializers.Serializer[Any]):
    """Something that is probably not what the author meant."""

    name = Scrubbed(source="where", help_text="The config's.")
    line = serializers.IntegerField(allow_null=True)
    warning = Scrubbed()


class OriginSerializer(serializers.ModelSerializer[Origin]):
    key = serializers.SerializerMethodField()

    class Meta:
        model = Origin
        fields = ("source", "key")

    def get_key(self, origin: Origin) -> str:
        return scrub(origin.shown or origin.key)


class ConfigSerializer(serializers.ModelSerializer[Config]):
    """A config and who runs it. node: of an endpoint check the node that it belongs to."""

    check = Scrubbed(source="name")
    short_id = ShortID()
    digest = Digest()
    state = serializers.SerializerMethodField()
    node = serializers.SerializerMethodField()
    since = serializers.DateTimeField(source="assignment.since", default=None, read_only=True)
    reason = serializers.CharField(source="assignment.reason", default=None, read_only=True)
    former_node = serializers.CharField(source="former_node.name", default=None, read_only=True)
    origins = OriginSerializer(many=True, read_only=True)
    check_ids = serializers.SerializerMethodField(help_text="Ending in a short ID for those who may not see digests.")
    pin = Scrubbed(default=None, help_text="Where it should run.")
    isolated = serializers.SerializerMethodField(help_text="Whether it is alone on its node by order.")
    cost = serializers.FloatField(
        source="cost.workers_needed", default=None, read_only=True, help_text="Workers that it keeps busy, as measured."
    )

    class Meta:
        model = Config
        fields: tuple[str, ...] = (
            "id", "check", "short_id", "digest", "state", "node", "since", "reason", "dangling_since", "former_node", "origins",
            "check_ids",
            "pin", "isolated", "cost", "created", "changed",
        )  # fmt: skip
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=STATES))
    def get_state(self, config: Config) -> str:
        if hasattr(config, "assignment"):
            return "assigned"
        return "endpoint" if config.node_name else "paused" if hasattr(config, "pause") else "dangling"

    def get_node(self, config: Config) -> str | None:
        return config.assignment.node.name if hasattr(config, "assignment") else config.node_name or None

    def get_isolated(self, config: Config) -> bool:
        return hasattr(config, "isolation")

    def get_check_ids(self, config: Config) -> list[str]:
        exact = sees_digests(self.context["request"].user)
        return [instance.told(exact=exact) for instance in config.instances.all()]


class ConfigPageSerializer(ConfigSerializer):
    yaml = serializers.SerializerMethodField(help_text="What node agents get, scrubbed.")
    warnings = serializers.SerializerMethodField(help_text="What its authors may not have meant.")

    class Meta(ConfigSerializer.Meta):
        fields = (*ConfigSerializer.Meta.fields, "yaml", "warnings")
        read_only_fields = fields

    def get_yaml(self, config: Config) -> str:
        return config.display_text

    @extend_schema_field(NoticeSerializer(many=True))
    def get_warnings(self, config: Config) -> Any:
        return NoticeSerializer(Source.objects.warnings_about(config), many=True).data


class ReassignSerializer(Strict):
    node = serializers.CharField(max_length=253, help_text="Which node gets it.")


class NodeSerializer(serializers.ModelSerializer[Node]):
    state = serializers.ChoiceField(choices=NODE_STATES, read_only=True)
    type = NodeTypeField(source="heartbeat.node_type", default=None, read_only=True)
    address = serializers.CharField(source="heartbeat.client_ip", default=None, read_only=True)
    last_heard = serializers.DateTimeField(source="heartbeat.seen_at", default=None, read_only=True)
    acknowledged = serializers.SerializerMethodField(help_text="Whether it fetched its latest configs.")
    configs = serializers.IntegerField(read_only=True, help_text="How many it was given.")

    class Meta:
        model = Node
        fields = (
            "name", "state", "schedulable", "draining", "leaving", "type", "address", "labels", "weight", "max_configs",
            "last_heard", "first_seen", "lost_at", "configs", "acknowledged",
        )  # fmt: skip
        read_only_fields = fields

    def get_acknowledged(self, node: Any) -> bool | None:
        return node.heartbeat.acknowledged == node.config_version if hasattr(node, "heartbeat") else None


class MoveSerializer(serializers.ModelSerializer[Move]):
    check = Scrubbed(source="name")
    short_id = ShortID()
    digest = Digest()
    from_node = serializers.CharField(source="source_node", read_only=True)

    class Meta:
        model = Move
        fields = (
            "id", "time", "config_id", "check", "short_id", "digest", "from_node", "to_node", "reason", "actor", "why", "term"
        )  # fmt: skip
        read_only_fields = fields


class EventSerializer(serializers.ModelSerializer[NodeEvent]):
    node = serializers.CharField(source="node_name", read_only=True)
    cause = serializers.CharField(source="told", read_only=True)

    class Meta:
        model = NodeEvent
        fields = ("id", "time", "node", "kind", "cause")
        read_only_fields = fields


class SourceSerializer(serializers.ModelSerializer[Source]):
    name = serializers.SerializerMethodField()
    configs = serializers.IntegerField(read_only=True, help_text="How many it sends.")

    class Meta:
        model = Source
        fields: tuple[str, ...] = ("name", "configs", "read_at")
        read_only_fields = fields

    def get_name(self, source: Source) -> str:
        return source.name.removeprefix(sets.PREFIX)


class SourcePageSerializer(SourceSerializer):
    revision = serializers.SerializerMethodField(help_text="Names the set as it is: to be sent with the next one.")

    warnings = serializers.SerializerMethodField(help_text="What the configs' authors may not have meant.")

    class Meta(SourceSerializer.Meta):
        fields = (*SourceSerializer.Meta.fields, "revision", "warnings")
        read_only_fields = fields

    def get_revision(self, source: Source) -> str:
        return sets.revision_of(source.name)

    @extend_schema_field(NoticeSerializer(many=True))
    def get_warnings(self, source: Source) -> Any:
        return NoticeSerializer([Notice(**one) for one in source.warnings], many=True).data


class DifferenceSerializer(serializers.Serializer[sets.Difference]):
    """What a set changed, or with dry_run would change, by the configs' names. revision: of the source then."""

    dry_run = serializers.SerializerMethodField()
    revision = serializers.CharField()
    added = serializers.ListField(child=Scrubbed())
    changed = serializers.ListField(child=Scrubbed())
    removed = serializers.ListField(child=Scrubbed())
    unchanged = serializers.ListField(child=Scrubbed())
    removals_held = serializers.BooleanField(help_text="It needs accept_removals=1: only with dry_run.")
    warnings = NoticeSerializer(many=True, help_text="What the authors may not have meant.")

    def get_dry_run(self, difference: sets.Difference) -> bool:
        return bool(self.context["dry_run"])


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


def _to_come(end: datetime | None) -> datetime | None:
    try:
        return end and deadlines.to_come(end)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class TimedSerializer(OrderSerializer):
    def validate_until(self, end: datetime | None) -> datetime | None:
        return _to_come(end)


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
        return _to_come(end)


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
                **{column: move[column] for column in plans.COLUMNS},
                "name": scrub(move["name"]),
                "short_id": short_id(move["digest"]),
                "digest": move["digest"] if exact else None,
            }
            for move in plan.moves
        ]
