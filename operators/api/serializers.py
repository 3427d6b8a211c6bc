"""What the operators' API answers. Nothing of it shows a secret: texts that people or programs chose are scrubbed."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from checks.models import Config, Move, Origin, Source
from checks.sources import sets
from checks.wire.lint import Notice
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.spelling import nearest
from nodes.models import Node, NodeEvent, NodeType
from operators.roles import sees_digests

STATES = ("assigned", "dangling", "paused", "endpoint")
NODE_STATES = ("alive", "silent", "lost")
# Of the keys that nothing reads, how many are told, and how much of each.
_MOST_KEYS = 20
_LONGEST_KEY = 100


def refuse_unread(given: Iterable[str], known: Collection[str], told: Collection[str]) -> None:
    """Raises ValidationError for keys that are not known, with those that may be told: a misspelt one is read by nothing."""
    unread = [key for key in given if key not in known]
    if unread:
        raise ValidationError({key[:_LONGEST_KEY]: [_unread(key, sorted(told))] for key in unread[:_MOST_KEYS]})


def _unread(key: str, known: list[str]) -> str:
    if meant := nearest(key[:_LONGEST_KEY], known):
        return f"Nothing reads this: is {meant} meant?"
    return f"Nothing reads this. There are {', '.join(known)}." if known else "Nothing reads this."


class Strict(serializers.Serializer[Any]):
    """Takes no key that it has no field for. What is only answered may be sent back."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            refuse_unread(data, self.fields, [name for name, field in self.fields.items() if not field.read_only])
        return super().to_internal_value(data)


class Scrubbed(serializers.CharField):
    """A text without its secrets."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> str:
        return scrub(str(value))


class Digest(serializers.CharField):
    """What node agents know the config by: for those who may see it, else null."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, allow_null=True, **options)

    def to_representation(self, value: Any) -> Any:
        return str(value) if sees_digests(self.context["request"].user) else None


class ShortID(serializers.CharField):
    """What names these bytes of the config to whoever may not see the digest."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, source="digest", **options)

    def to_representation(self, value: Any) -> str:
        return short_id(str(value))


class NodeTypeField(serializers.ChoiceField):
    """A node's type by its name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(choices=[type_.name.lower() for type_ in NodeType], **options)

    def to_representation(self, value: Any) -> str:
        return NodeType(value).name.lower()

    def to_internal_value(self, data: Any) -> Any:
        return NodeType[super().to_internal_value(data).upper()]


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
        return [instance.shown_id(exact=exact) for instance in config.instances.all()]


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
            "id",
            "time",
            "config_id",
            "check",
            "short_id",
            "digest",
            "from_node",
            "to_node",
            "reason",
            "actor",
            "why",
            "term",
        )
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
