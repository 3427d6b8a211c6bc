"""Rules about configs and about nodes in the operators' API."""

import math
from copy import copy
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from checks.explain import foreseen, ruling
from checks.explain.objections import NotAccepted, require_accepted
from checks.explain.ruling import Effect
from checks.models.orders import Rule
from nodes.models import NodeRule
from operators import rules
from operators.api import filters
from operators.api.base import Conflict, DetailViewSet
from operators.api.fields import Labels, NodeTypeField, Note, Scrubbed, Strict
from operators.api.previews import Acceptance, AcceptingOptions, MovingSerializer, Needs, listed


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
        rule.clean()
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


class EffectSerializer(serializers.Serializer[Any]):
    """What the leader's passes would do after a change of a rule, and do not do anyway. Of the lists, the first MOST_LISTED."""

    MOST_LISTED = 1000

    moved = serializers.SerializerMethodField(help_text="How many configs would move.")
    lost = serializers.SerializerMethodField(help_text="How many that run now would dangle.")
    found = serializers.SerializerMethodField(help_text="How many that dangle now would get a node.")
    staying = serializers.IntegerField(source="after.staying", help_text="How many that are about to move would stay.")
    anyway = serializers.IntegerField(source="after.anyway", help_text="How many more are about to move anyway.")
    nodes = serializers.SerializerMethodField(help_text="How many nodes would get other labels or limits.")
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
    needs = Needs(source="objections")
    sentences = serializers.SerializerMethodField(help_text="The same in words; what is worse first.")
    moves = serializers.SerializerMethodField()
    dangling = serializers.SerializerMethodField()

    def get_moved(self, effect: Effect) -> int:
        return len(effect.after.moves)

    def get_sentences(self, effect: Effect) -> list[str]:
        return [*effect.worse, *effect.sentences]

    def get_nodes(self, effect: Effect) -> int:
        return len(effect.nodes)

    def get_lost(self, effect: Effect) -> int:
        return len(effect.after.lost)

    def get_found(self, effect: Effect) -> int:
        return len(effect.after.found)

    @extend_schema_field(MovingSerializer(many=True))
    def get_moves(self, effect: Effect) -> Any:
        return listed(effect.after.moves[: self.MOST_LISTED])

    @extend_schema_field(MovingSerializer(many=True))
    def get_dangling(self, effect: Effect) -> Any:
        return listed(effect.after.lost[: self.MOST_LISTED])


class RuleViewSet(mixins.CreateModelMixin, mixins.UpdateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Rules about configs: which nodes may run which checks, and how many configs of a check each node may have.

    The author of a rule is whoever wrote it last.
    """

    queryset: Any = Rule.objects.all()
    serializer_class: Any = RuleSerializer
    filterset_class = filters.AuthorFilter
    write_options = ("dry_run", "accept_dangling", "accept_no_node")

    @extend_schema(parameters=[AcceptingOptions])
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Write a new rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        rule = self.queryset.model(**body.validated_data)
        return self._previewed(rule, saved=rule) or super().create(request, *args, **kwargs)

    @extend_schema(parameters=[AcceptingOptions])
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace a rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        rule = self.get_object()
        body = self.get_serializer(rule, data=request.data)
        body.is_valid(raise_exception=True)
        for name, value in body.validated_data.items():
            setattr(rule, name, value)
        return self._previewed(rule, saved=rule) or super().update(request, *args, **kwargs)

    @extend_schema(parameters=[AcceptingOptions])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        rule = self.get_object()
        return self._previewed(rule, deleted=[rule.pk]) or super().destroy(request, *args, **kwargs)

    def perform_create(self, serializer: Any) -> None:
        author = self.request.user.get_username()
        rule = serializer.instance or self.queryset.model(**serializer.validated_data)
        try:
            rules.save(rule, lambda: serializer.save(author=author))
        except rules.Taken as taken:
            raise Conflict(str(taken)) from None

    perform_update = perform_create

    def perform_destroy(self, instance: Any) -> None:
        rules.delete([instance])

    def _previewed(self, rule: Any, **change: Any) -> Response | None:
        """The answer to a dry run, or to a change that would leave configs without a node unasked, which is on record; None for
        others.
        """
        is_dry = AcceptingOptions.of(self.request.query_params)["dry_run"]
        accepted = Acceptance.given(self.request.query_params)
        effect = ruling.effect_of(self.queryset.model, **change)
        if is_dry:
            return Response(EffectSerializer(effect).data)
        try:
            require_accepted(effect.objections, accepted)
        except NotAccepted as refusal:
            detail = self.unaccepted(refusal, f"{rule._meta.verbose_name} {rule}").detail
            return Response({"detail": detail, **EffectSerializer(effect).data}, status=status.HTTP_409_CONFLICT)
        foreseen.note(effect.sentences, effect.worse, effect.moves, effect.nodes)
        return None


class NodeRuleViewSet(RuleViewSet):
    """Rules about nodes: their labels, weight and limit, by name, address and type. A later rule overrides an earlier one."""

    queryset = NodeRule.objects.all()
    serializer_class = NodeRuleSerializer
