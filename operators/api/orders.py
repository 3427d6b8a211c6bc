"""Pins, pauses, isolations, rules, freezes and plans in the operators' API."""

from collections.abc import Callable, Sequence
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from checks import dispatcher, plans
from checks.dispatcher import Decision, deciding
from checks.models import Plan, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from nodes.models import NodeRule
from operators.api import filters, serializers
from operators.api.base import Conflict, DetailViewSet, OperatorViewSet, run_verb
from operators.api.permissions import requires


def applied_or_previewed(view: OperatorViewSet, field: str, decide: Callable[[], Decision]) -> Response | None:
    """Make a plan of what is decided and apply it, then return None. If the call asks for a dry run, change nothing and return
    the plan as a response.

    Raises ValidationError for this field when the decision is refused, and Conflict when something changed meanwhile.
    """
    options = serializers.DryRun(data=view.request.query_params)
    options.is_valid(raise_exception=True)
    actor = view.request.user.get_username()
    if options.validated_data["dry_run"]:
        return Response(_described(view, plans.to_plan(run_verb(field, decide), author=actor)))
    try:
        plan, _ = run_verb(field, plans.order, decide, actor=actor)
    except plans.StalePlan as stale:
        raise Conflict({field: [str(stale)]}) from None
    if plan.outcome:
        raise Conflict({field: [plan.outcome]})
    return None


def _described(view: OperatorViewSet, plan: Any) -> Any:
    """The JSON of a plan. A plan that was not stored has no time."""
    if plan.pk is None:
        plan.time = None
    return serializers.PlanPageSerializer(plan, context=view.get_serializer_context()).data


class OrderViewSet(DetailViewSet):
    """Orders of one kind. A new order replaces the one that the config had. Nothing that a source sends undoes an order."""

    filterset_class = filters.OrderFilter
    lookup_value_regex = "[0-9]{1,18}"
    dry_runs: tuple[str, ...] = ("create",)

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        """Return the decision to give these configs the order."""
        raise NotImplementedError

    def take(self, ids: Sequence[int]) -> Response | None:
        """Take the order back from these configs. Returns a response only to a dry run."""
        raise NotImplementedError

    @extend_schema(parameters=[serializers.DryRun])
    def create(self, request: Request) -> Response:
        """Give the order to all of these configs, or to none if one of them refuses it."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        ids = body.validated_data.pop("configs")
        if dry := applied_or_previewed(self, "configs", lambda: self.give(ids, **body.validated_data)):
            return dry
        given = self.get_queryset().filter(config__in=ids).order_by("pk")
        return Response(self.get_serializer(given, many=True).data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the order back."""
        order = self.get_object()
        if dry := self.take([order.config_id] if order.config_id else []):
            return dry
        if order.config_id is None:
            order.delete()  # an order without a config only waits for its origin
        return Response(status=status.HTTP_204_NO_CONTENT)


class PinViewSet(OrderViewSet):
    """Pins: the node where a config shall run, by name, by name pattern or by label."""

    queryset = Pin.objects.select_related("config")
    serializer_class = serializers.PinSerializer

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.pin(ids, **order)

    def take(self, ids: Sequence[int]) -> None:
        dispatcher.unpin(ids)


class PauseViewSet(OrderViewSet):
    """Pauses: configs that run nowhere for a time."""

    queryset = Pause.objects.select_related("config")
    serializer_class = serializers.PauseSerializer
    dry_runs = ("create", "destroy")

    @extend_schema(parameters=[serializers.DryRun])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the pause. The config is placed again; without an eligible node it dangles."""
        return super().destroy(request, *args, **kwargs)

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.pause(ids, **order)

    def take(self, ids: Sequence[int]) -> Response | None:
        return applied_or_previewed(self, "config", lambda: deciding.resume(ids))


class IsolationViewSet(OrderViewSet):
    """Isolations: configs that run alone on their nodes."""

    queryset = Isolation.objects.select_related("config")
    serializer_class = serializers.IsolationSerializer

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.isolate(ids, **order)

    def take(self, ids: Sequence[int]) -> None:
        dispatcher.release(ids)


class RuleViewSetBase(mixins.CreateModelMixin, mixins.UpdateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Rules that can be created, changed and deleted. The author is whoever wrote a rule last."""

    filterset_class = filters.AuthorFilter
    lookup_value_regex = "[0-9]{1,18}"

    def perform_create(self, serializer: Any) -> None:
        serializer.save(author=self.request.user.get_username())

    perform_update = perform_create


class RuleViewSet(RuleViewSetBase):
    """Rules about configs: which nodes may run which checks, and how many configs of a check each node may have."""

    queryset = Rule.objects.all()
    serializer_class = serializers.RuleSerializer


class NodeRuleViewSet(RuleViewSetBase):
    """Rules about nodes: their labels, weight and limit, by name, address and type. A later rule overrides an earlier one."""

    queryset = NodeRule.objects.all()
    serializer_class = serializers.NodeRuleSerializer

    def perform_create(self, serializer: Any) -> None:
        super().perform_create(serializer)
        NodeRule.objects.apply()

    perform_update = perform_create

    def perform_destroy(self, instance: NodeRule) -> None:
        instance.delete()
        NodeRule.objects.apply()


class FreezeViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Freezes: times in which nothing is balanced automatically, the last one first. At most one is in force."""

    queryset = Freeze.objects.all()
    serializer_class = serializers.FreezeSerializer
    filterset_class = filters.FreezeFilter
    lookup_value_regex = "[0-9]{1,18}"
    ordering = "-id"

    def perform_create(self, serializer: Any) -> None:
        """Start a freeze. It replaces the one that is in force."""
        actor = self.request.user.get_username()
        serializer.instance = freezes.freeze(actor=actor, **serializer.validated_data)

    def perform_destroy(self, instance: Freeze) -> None:
        """End the freeze; it stays listed. Raises Conflict when it is over already."""
        if not Freeze.objects.in_force().filter(pk=instance.pk).exists():
            raise Conflict({"detail": "It is over already."})
        freezes.thaw(actor=self.request.user.get_username())


class PlanViewSet(DetailViewSet):
    """Plans: moves that were worked out, whether applied or not, the last plan first."""

    queryset = Plan.objects.all()
    serializer_class = serializers.PlanSerializer
    detail_serializer_class = serializers.PlanPageSerializer
    filterset_class = filters.AuthorFilter
    lookup_value_regex = "[0-9]{1,18}"
    ordering = "-id"

    @extend_schema(request=serializers.PlanWish, responses={201: serializers.PlanPageSerializer})
    def create(self, request: Request) -> Response:
        """Work out what a rebalance would move, and move nothing. A plan without moves is not stored: it has no id."""
        body = serializers.PlanWish(data=request.data)
        body.is_valid(raise_exception=True)
        plan = plans.make(actor=request.user.get_username(), **body.validated_data)
        return Response(_described(self, plan), status=status.HTTP_201_CREATED)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[requires("checks.change_plan")])
    def apply(self, request: Request, pk: str) -> Response:
        """Apply the plan, once. If something that it names has changed, nothing moves and the answer is 409."""
        plan = self.get_object()
        if not plans.may_apply(request.user, plan):
            raise PermissionDenied
        try:
            plans.apply(plan, actor=request.user.get_username())
        except plans.StalePlan as stale:
            raise Conflict({"moves": [str(stale)]}) from None
        return Response(self.get_serializer(self.get_object()).data)
