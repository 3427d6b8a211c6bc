"""How a call asks for a dry run or accepts what follows, and the plan or forecast that answers."""

from collections.abc import Sequence
from typing import Any

from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from checks import plans
from checks.explain import consequences, objections
from checks.explain.aftermath import Moving, titled
from checks.explain.forecasts import Forecast
from checks.explain.objections import Objection
from checks.models import Plan
from checks.models.titles import called
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id
from operators.api.fields import Options, Scrubbed
from operators.roles import sees_digests


class DryRun(Options):
    """The query parameter dry_run."""

    dry_run = serializers.BooleanField(
        default=False, help_text="Change nothing. The answer is the plan of what would move; it is not stored."
    )


class NoNodeOptions(Options):
    """The query parameter of a call after which no node may be left that takes work."""

    accept_no_node = serializers.BooleanField(
        default=False, help_text="Do it even if no node would take new work then: else the answer is 409."
    )


class DanglingOptions(Options):
    """The query parameter of a call after which configs that run now may run nowhere."""

    accept_dangling = serializers.BooleanField(
        default=False, help_text="Do it even if configs that run now would run nowhere: else the answer is 409."
    )


class Acceptance(NoNodeOptions, DanglingOptions):
    """What a call accepts."""

    @classmethod
    def given(cls, query: QueryDict) -> set[str]:
        """Return the names of what a call with these query parameters accepts. Raises ValidationError."""
        return {name for name, is_given in cls.of(query).items() if is_given}


class AcceptingOptions(DryRun, Acceptance):
    """The query parameters of a call that may have to accept what follows."""


class Needs(serializers.ListField):
    """The query parameters without which the call that does it is answered 409: accept_no_node, accept_dangling."""

    child = serializers.CharField()

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, help_text="Without these the call that does it is answered 409.", **options)

    def to_representation(self, value: Sequence[Objection]) -> list[str]:
        return [one.accepted_by for one in value]


class ForecastWish(Options):
    """The query parameter dry_run of an act that has no plan."""

    dry_run = serializers.BooleanField(default=False, help_text="Change nothing. The answer is what would follow.")


class MovingSerializer(serializers.Serializer[Any]):
    """A config that would move. to: empty if no node could have it."""

    config = serializers.IntegerField()
    check = Scrubbed()
    title = serializers.CharField(help_text="How people call the config.")
    from_node = serializers.CharField(source="source")
    to_node = serializers.CharField(source="to")


def listed(rows: Sequence[Moving]) -> Any:
    """The JSON of configs that would move, each with its title."""
    told = [row._asdict() | {"title": title} for row, title in titled(rows)]
    return MovingSerializer(told, many=True).data


class ForecastSerializer(serializers.Serializer[Any]):
    """What follows an act that moves nothing by itself. Of the moves, the first MOST_LISTED."""

    MOST_LISTED = 1000

    what = Scrubbed()
    sentences = serializers.ListField(
        source="told", child=Scrubbed(), help_text="What it does at once, and what passes do then."
    )
    moves = serializers.SerializerMethodField(help_text="What would move, or get a node, in passes.")
    needs = Needs(source="objections")

    @extend_schema_field(MovingSerializer(many=True))
    def get_moves(self, forecast: Forecast) -> Any:
        return listed(forecast.moves[: self.MOST_LISTED])


class PlanSerializer(serializers.ModelSerializer[Plan]):
    """A plan without its moves."""

    class Meta:
        model = Plan
        fields: tuple[str, ...] = ("id", "author", "reason", "time", "spread", "applied_at", "moved", "outcome")
        read_only_fields = fields


class PlanPageSerializer(PlanSerializer):
    """A plan with its moves."""

    moves = serializers.SerializerMethodField()
    sentences = serializers.SerializerMethodField(help_text="What it means besides, until it is applied.")
    needs = serializers.SerializerMethodField()

    class Meta(PlanSerializer.Meta):
        fields = (*PlanSerializer.Meta.fields, "moves", "nodes", "sentences", "needs")
        read_only_fields = fields

    def get_sentences(self, plan: Plan) -> list[str]:
        return [] if plan.applied_at else [scrub(sentence) for sentence in consequences.told(plan)]

    @extend_schema_field(Needs())
    def get_needs(self, plan: Plan) -> list[str]:
        return [one.accepted_by for one in objections.of(plan)]

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
