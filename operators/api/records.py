"""What is on record, in the operators' API: the ledger of moves, acts, and node events."""

from django.db.models import QuerySet
from rest_framework import serializers

from acts.models import Act
from checks.models import Move
from nodes.models import NodeEvent
from operators.api import filters
from operators.api.base import DetailViewSet, ListViewSet
from operators.api.fields import Digest, Scrubbed, ShortID


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
    """An act: what a person did. Alone it also has what was before, after and foreseen, and on what it was done."""

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
        fields = (*ActSerializer.Meta.fields, "before", "after", "foreseen", "configs", "nodes")
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


class MoveViewSet(ListViewSet):
    """The ledger: every change of a config's owner, the last one first."""

    queryset = Move.objects.all()
    serializer_class = MoveSerializer
    filterset_class = filters.MoveFilter
    ordering = "-id"


class ActViewSet(DetailViewSet):
    """Acts: what people did, by whichever entrance, the last one first. Each alone has what was before, after and foreseen."""

    queryset = Act.objects.all()
    serializer_class = ActSerializer
    detail_serializer_class = ActPageSerializer
    filterset_class = filters.ActFilter
    ordering = "-id"

    def get_queryset(self) -> QuerySet[Act]:
        acts = super().get_queryset()
        return acts if self.detail else acts.defer("before", "after", "foreseen", "about")


class EventViewSet(ListViewSet):
    """Node events: what happened to nodes, the last one first."""

    queryset = NodeEvent.objects.all()
    serializer_class = EventSerializer
    filterset_class = filters.EventFilter
    ordering = "-id"
