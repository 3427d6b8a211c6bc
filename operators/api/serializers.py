"""What the operators' API takes and answers."""

import math
from collections.abc import Sequence
from copy import copy
from typing import Any

from django.core.exceptions import ValidationError as Invalid
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from acts.models import Act
from checks import plans
from checks.dispatcher import CHUNK
from checks.explain import drains
from checks.explain.aftermath import Moving, titled
from checks.explain.alerts import Word
from checks.explain.drains import Drain, Stuck
from checks.explain.forecasts import Forecast
from checks.explain.headroom import Headroom
from checks.explain.history import Span
from checks.explain.loss import Loss
from checks.explain.ruling import Effect
from checks.models import Config, Handover, Move, Origin, Plan, Source
from checks.models.freezes import Freeze
from checks.models.history import ClusterPoint, ConfigPoint, NodePoint
from checks.models.orders import Isolation, Order, Pause, Pin, Rule
from checks.models.titles import called
from checks.sources import sets
from checks.wire.lint import Notice
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.shortids import short_id
from nodes.models import Node, NodeEvent, NodeRule, Runner, Slowness
from operators import queries
from operators.api.fields import Digest, Labels, NodeTypeField, Note, Scrubbed, ShortID, Strict, Until
from operators.roles import sees_digests

CONFIG_STATES = tuple(queries.CONFIG_STATES)
NODE_STATES = ("alive", "silent", "lost")


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


class HistoryOptions(serializers.Serializer[Any]):
    """How far back a history goes."""

    span = serializers.ChoiceField(
        choices=tuple(Span), default=Span.HOUR, help_text="Points are minutes of an hour, else hours."
    )


class NodePointSerializer(serializers.Serializer[NodePoint]):
    """How a node was in a minute or an hour. Of an hour `load` is the mean, `highest` and the counts are the most at one time."""

    time = serializers.DateTimeField(help_text="Its beginning.")
    load = serializers.FloatField(help_text="Share of its capacity.")
    highest = serializers.FloatField(source="peak")
    configs = serializers.IntegerField()
    failing = serializers.IntegerField()
    came = serializers.IntegerField(source="gained", help_text="Configs that came to it.")
    went = serializers.IntegerField(source="lost", help_text="Configs that it gave or lost.")


class ClusterPointSerializer(serializers.Serializer[ClusterPoint]):
    """How the cluster was in a minute or an hour. Of an hour `load` is the mean, `nodes` the fewest, other counts the most."""

    time = serializers.DateTimeField(help_text="Its beginning.")
    load = serializers.FloatField(help_text="Of all nodes together, as a share of their capacity.")
    fullest = serializers.FloatField(source="peak", help_text="The load of the fullest node.")
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


class MoveSerializer(serializers.ModelSerializer[Move]):
    """A line of the ledger: one change of a config's owner."""

    title = serializers.CharField(source="shown", read_only=True, help_text="How people called the config.")
    check = Scrubbed(source="name")
    short_id = ShortID()
    digest = Digest()
    from_node = serializers.CharField(source="source_node", read_only=True)
    promise = serializers.CharField(
        read_only=True, help_text="Of its hand-over; empty for a move that was made at once."
    )
    handed_at = serializers.DateTimeField(read_only=True, help_text="When the hand-over was done; null if it was not.")

    class Meta:
        model = Move
        fields = (
            "id", "time", "config_id", "title", "check", "short_id", "digest", "from_node", "to_node", "reason", "actor", "why",
            "term", "promise", "handed_at",
        )  # fmt: skip
        read_only_fields = fields


class ActSerializer(serializers.ModelSerializer[Act]):
    """An act: what a person did. Alone it also has what was before and after, and to what it was done, which may be long."""

    how = serializers.ChoiceField(choices=Act.How.choices, read_only=True)
    verb = serializers.ChoiceField(choices=Act.Verb.choices, read_only=True)

    class Meta:
        model = Act
        fields: tuple[str, ...] = (
            "id", "time", "person", "how", "address", "credential", "verb", "object", "plan", "reason"
        )  # fmt: skip
        read_only_fields = fields


class ActPageSerializer(ActSerializer):
    """An act with all that is known of it."""

    configs = serializers.SerializerMethodField()
    nodes = serializers.SerializerMethodField()

    class Meta(ActSerializer.Meta):
        fields = (*ActSerializer.Meta.fields, "before", "after", "configs", "nodes")
        read_only_fields = fields

    def get_configs(self, act: Act) -> list[int]:
        """The ids of the configs that it was done to."""
        return act.about.get("configs", [])

    def get_nodes(self, act: Act) -> list[str]:
        """The names of the nodes that it was done to."""
        return act.about.get("nodes", [])


class EventSerializer(serializers.ModelSerializer[NodeEvent]):
    """A node event: something that happened to a node."""

    node = serializers.CharField(source="node_name", read_only=True)
    cause = serializers.CharField(source="told", read_only=True)

    class Meta:
        model = NodeEvent
        fields = ("id", "time", "node", "kind", "cause")
        read_only_fields = fields


class SourceSerializer(serializers.ModelSerializer[Source]):
    """A source that a pipeline owns."""

    name = serializers.SerializerMethodField()
    configs = serializers.IntegerField(read_only=True, help_text="How many configs it sends.")

    class Meta:
        model = Source
        fields: tuple[str, ...] = ("name", "configs", "read_at")
        read_only_fields = fields

    def get_name(self, source: Source) -> str:
        return source.name.removeprefix(sets.PREFIX)


class SourcePageSerializer(SourceSerializer):
    """A source with its revision and its warnings."""

    revision = serializers.SerializerMethodField(help_text="Identifies the current set. Send it with the next set.")

    warnings = serializers.SerializerMethodField(help_text="What the configs' authors probably did not mean.")

    class Meta(SourceSerializer.Meta):
        fields = (*SourceSerializer.Meta.fields, "revision", "warnings")
        read_only_fields = fields

    def get_revision(self, source: Source) -> str:
        return sets.revision_of(source.name)

    @extend_schema_field(NoticeSerializer(many=True))
    def get_warnings(self, source: Source) -> Any:
        return NoticeSerializer([Notice(**one) for one in source.warnings], many=True).data


class DifferenceSerializer(serializers.Serializer[sets.Difference]):
    """What a set changed, or with dry_run would change, by the names of configs. revision: the source's revision afterwards."""

    dry_run = serializers.SerializerMethodField()
    revision = serializers.CharField()
    added = serializers.ListField(child=Scrubbed())
    changed = serializers.ListField(child=Scrubbed())
    removed = serializers.ListField(child=Scrubbed())
    unchanged = serializers.ListField(child=Scrubbed())
    removals_held = serializers.BooleanField(
        help_text="Only with dry_run: whether the call would need accept_removals=1."
    )
    warnings = NoticeSerializer(many=True, help_text="What the configs' authors probably did not mean.")

    def get_dry_run(self, difference: sets.Difference) -> bool:
        return bool(self.context["dry_run"])


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


class FreezeSerializer(Strict, serializers.ModelSerializer[Freeze]):
    """A freeze of automatic balancing."""

    note = Note()
    until = Until()

    class Meta:
        model = Freeze
        fields = ("id", "author", "note", "time", "until", "ended_at", "ended_by")
        read_only_fields = ("author", "time", "ended_at", "ended_by")


class RuleSerializer(Strict, serializers.ModelSerializer[Rule]):
    """A rule about configs."""

    required = Labels(required=False)  # type: ignore[assignment]
    forbidden = Labels(required=False)
    note = Note()

    class Meta:
        model = Rule
        fields = (
            "id", "name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "spread",
            "apart_from", "apart_by_domain", "together_with", "handover", "author", "note", "time",
        )  # fmt: skip
        read_only_fields = ("author", "time")

    def validate(self, attrs: Any) -> Any:
        rule = copy(self.instance) if self.instance else Rule()
        for name, value in attrs.items():
            setattr(rule, name, value)
        try:
            rule.clean()
        except Invalid as problem:
            raise ValidationError(problem.messages) from None
        return attrs


class NodeRuleSerializer(Strict, serializers.ModelSerializer[NodeRule]):
    """A rule about nodes."""

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


class NeedSerializer(serializers.Serializer[Any]):
    """What needs somebody. `kind` is one of those in the documentation of metrics; `since` is when it was found if no more is
    known; `link` is a page of the admin.
    """

    kind = serializers.CharField()
    subject = serializers.CharField()
    count = serializers.IntegerField()
    cause = serializers.CharField()
    since = serializers.DateTimeField()
    link = serializers.CharField()


class RoomSerializer(serializers.Serializer[Any]):
    """The loss that would be the worst: of what, the mean load of the others after it, and how many configs find no node."""

    lost = serializers.CharField()
    reach = serializers.FloatField(allow_null=True)
    homeless = serializers.IntegerField()
    sentence = serializers.CharField()


class StatusSerializer(serializers.Serializer[Any]):
    """How the cluster is."""

    state = serializers.ChoiceField([str(word) for word in Word])
    sentence = serializers.CharField()
    headroom = RoomSerializer(allow_null=True)
    needs = NeedSerializer(many=True)


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A plan without its moves."""

    class Meta:
        model = Plan
        fields: tuple[str, ...] = ("id", "author", "reason", "time", "spread", "applied_at", "moved", "outcome")
        read_only_fields = fields


ACCEPT_NO_NODE = "Send it with ?accept_no_node=1 if that is meant."


class DryRun(serializers.Serializer[Any]):
    """The query parameter dry_run."""

    dry_run = serializers.BooleanField(
        default=False, help_text="Change nothing. The answer is the plan of what would move; it is not stored."
    )


class NoNodeOptions(serializers.Serializer[Any]):
    """The query parameter of a call after which no node may be left that takes work."""

    accept_no_node = serializers.BooleanField(
        default=False, help_text="Do it even if no node would take new work then: else the answer is 409."
    )


class DrainOptions(DryRun, NoNodeOptions):
    """The query parameters of a call that drains a node."""


class RuleOptions(DryRun, NoNodeOptions):
    """The query parameters of a call that changes a rule."""

    accept_dangling = serializers.BooleanField(
        default=False, help_text="Change it even if configs that run now would dangle: else the answer is 409."
    )


class MovingSerializer(serializers.Serializer[Any]):
    """A config that would move. to: empty if no node could have it."""

    config = serializers.IntegerField()
    check = Scrubbed()
    title = serializers.CharField(help_text="How people call the config.")
    from_node = serializers.CharField(source="source")
    to_node = serializers.CharField(source="to")


def _told(rows: Sequence[Moving]) -> Any:
    told = [row._asdict() | {"title": title} for row, title in titled(rows)]
    return MovingSerializer(told, many=True).data


class ForecastSerializer(serializers.Serializer[Any]):
    """What follows an act that moves nothing by itself. Of the moves, the first MOST_LISTED."""

    MOST_LISTED = 1000

    what = Scrubbed()
    sentences = serializers.ListField(child=Scrubbed(), help_text="What it does at once, and what passes do then.")
    moves = serializers.SerializerMethodField(help_text="What would move, or get a node, in passes.")

    @extend_schema_field(MovingSerializer(many=True))
    def get_moves(self, forecast: Forecast) -> Any:
        return _told(forecast.moves[: self.MOST_LISTED])


class ForecastWish(serializers.Serializer[Any]):
    """The query parameter dry_run of an act that has no plan."""

    dry_run = serializers.BooleanField(default=False, help_text="Change nothing. The answer is what would follow.")


class EffectSerializer(serializers.Serializer[Any]):
    """What the leader's passes would do after a change of a rule, and do not do anyway. Of the lists, the first MOST_LISTED."""

    MOST_LISTED = 1000

    moved = serializers.SerializerMethodField(help_text="How many configs would move.")
    lost = serializers.SerializerMethodField(help_text="How many that run now would dangle.")
    found = serializers.SerializerMethodField(help_text="How many that dangle now would get a node.")
    staying = serializers.IntegerField(source="after.staying", help_text="How many that are about to move would stay.")
    anyway = serializers.IntegerField(source="after.anyway", help_text="How many more are about to move anyway.")
    nodes = serializers.IntegerField(help_text="How many nodes would get other labels or limits.")
    fills = serializers.BooleanField(help_text="Whether no node would have room for one more config.")
    above = serializers.IntegerField(
        help_text="How many nodes have more configs than the rule allows each: they keep them."
    )
    peak = serializers.ListField(
        source="after.peak", child=serializers.FloatField(), help_text="The highest load before and after."
    )
    why = serializers.ListField(
        source="after.why", child=Scrubbed(), help_text="Why no node could have what would dangle."
    )
    moves = serializers.SerializerMethodField()
    dangling = serializers.SerializerMethodField()

    def get_moved(self, effect: Effect) -> int:
        return len(effect.after.moves)

    def get_lost(self, effect: Effect) -> int:
        return len(effect.after.lost)

    def get_found(self, effect: Effect) -> int:
        return len(effect.after.found)

    @extend_schema_field(MovingSerializer(many=True))
    def get_moves(self, effect: Effect) -> Any:
        return _told(effect.after.moves[: self.MOST_LISTED])

    @extend_schema_field(MovingSerializer(many=True))
    def get_dangling(self, effect: Effect) -> Any:
        return _told(effect.after.lost[: self.MOST_LISTED])


class PlanWish(Strict):
    """The body of a call that plans a rebalance."""

    force = serializers.BooleanField(required=False, help_text="Plan moves even if they make no clear difference.")
    budget = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="The most moves that restart a check. Default: what may move in one period.",
    )


class PlanPageSerializer(PlanSerializer):
    """A plan with its moves."""

    moves = serializers.SerializerMethodField()

    class Meta(PlanSerializer.Meta):
        fields = (*PlanSerializer.Meta.fields, "moves", "nodes")
        read_only_fields = fields

    def get_moves(self, plan: Plan) -> list[dict[str, Any]]:
        """The moves, each with its short ID. The digest is null for callers without the permission to see digests."""
        exact = sees_digests(self.context["request"].user)
        return [
            {
                **{column: move.get(column) for column in plans.MOVE_FIELDS},
                "name": scrub(move["name"]),
                "title": called(move.get("title", ""), move["name"], move["digest"]),
                "short_id": short_id(move["digest"]),
                "digest": move["digest"] if exact else None,
            }
            for move in plan.moves
        ]
