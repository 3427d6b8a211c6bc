"""What operators order of configs, and the rules that place them, for their tools. Nothing that a source sends undoes it."""

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
from operators.api.base import Conflict, Looked, OperatorViewSet, obeyed
from operators.api.permissions import needs


def carried_out(view: OperatorViewSet, field: str, decide: Callable[[], Decision]) -> Response | None:
    """Make a plan of what a call orders, and apply it; None then. Asked for a dry run: the plan as the answer, nothing done.

    What deciding refuses is a problem of this field, and 409 what changed meanwhile.
    """
    options = serializers.DryRun(data=view.request.query_params)
    options.is_valid(raise_exception=True)
    actor = view.request.user.get_username()
    if options.validated_data["dry_run"]:
        return Response(_told(view, plans.drafted(obeyed(field, decide), author=actor)))
    try:
        plan, _ = obeyed(field, plans.order, decide, actor=actor)
    except plans.StalePlan as stale:
        raise Conflict({field: [str(stale)]}) from None
    if plan.outcome:
        raise Conflict({field: [plan.outcome]})
    return None


def _told(view: OperatorViewSet, plan: Any) -> Any:
    """A plan as the API tells it. The database gives the time to what is kept."""
    if plan.pk is None:
        plan.time = None
    return serializers.PlanPageSerializer(plan, context=view.get_serializer_context()).data


class OrderViewSet(Looked):
    """Orders of a kind: given to configs, each in place of the one that it had, and taken back."""

    filterset_class = filters.OrderFilter
    lookup_value_regex = "[0-9]{1,18}"
    dry_runs: tuple[str, ...] = ("create",)

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        """Decide to order it of these configs."""
        raise NotImplementedError

    def take(self, ids: Sequence[int]) -> Response | None:
        """Order it of these configs no more. Answers a dry run, where one may be asked for."""
        raise NotImplementedError

    @extend_schema(parameters=[serializers.DryRun])
    def create(self, request: Request) -> Response:
        """Order it of configs: of all of these, or of none if something forbids it."""
        wish = self.get_serializer(data=request.data)
        wish.is_valid(raise_exception=True)
        ids = wish.validated_data.pop("configs")
        if dry := carried_out(self, "configs", lambda: self.give(ids, **wish.validated_data)):
            return dry
        given = self.get_queryset().filter(config__in=ids).order_by("pk")
        return Response(self.get_serializer(given, many=True).data, status=status.HTTP_201_CREATED)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        order = self.get_object()
        if dry := self.take([order.config_id] if order.config_id else []):
            return dry
        if order.config_id is None:
            order.delete()  # it waits for what its origin will send
        return Response(status=status.HTTP_204_NO_CONTENT)


class PinViewSet(OrderViewSet):
    """Where configs should run: on a node, on nodes of a name pattern, or on nodes with a label."""

    queryset = Pin.objects.select_related("config")
    serializer_class = serializers.PinSerializer

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.pin(ids, **order)

    def take(self, ids: Sequence[int]) -> None:
        dispatcher.unpin(ids)


class PauseViewSet(OrderViewSet):
    """Configs that run nowhere for now."""

    queryset = Pause.objects.select_related("config")
    serializer_class = serializers.PauseSerializer
    dry_runs = ("create", "destroy")

    @extend_schema(parameters=[serializers.DryRun])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """They run again. What finds no node dangles."""
        return super().destroy(request, *args, **kwargs)

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.pause(ids, **order)

    def take(self, ids: Sequence[int]) -> Response | None:
        return carried_out(self, "config", lambda: deciding.resume(ids))


class IsolationViewSet(OrderViewSet):
    """Configs that are alone on their nodes."""

    queryset = Isolation.objects.select_related("config")
    serializer_class = serializers.IsolationSerializer

    def give(self, ids: Sequence[int], **order: Any) -> Decision:
        return deciding.isolate(ids, **order)

    def take(self, ids: Sequence[int]) -> None:
        dispatcher.release(ids)


class Ruled(mixins.CreateModelMixin, mixins.UpdateModelMixin, mixins.DestroyModelMixin, Looked):
    """Rules, with who wrote them last."""

    filterset_class = filters.AuthorFilter
    lookup_value_regex = "[0-9]{1,18}"

    def perform_create(self, serializer: Any) -> None:
        serializer.save(author=self.request.user.get_username())

    perform_update = perform_create


class RuleViewSet(Ruled):
    """Which nodes may run which checks, and how many of them each."""

    queryset = Rule.objects.all()
    serializer_class = serializers.RuleSerializer


class NodeRuleViewSet(Ruled):
    """What nodes are labelled and may be given, by name, address and type. Later rules have the last word."""

    queryset = NodeRule.objects.all()
    serializer_class = serializers.NodeRuleSerializer

    def perform_create(self, serializer: Any) -> None:
        super().perform_create(serializer)
        NodeRule.objects.apply()

    perform_update = perform_create

    def perform_destroy(self, instance: NodeRule) -> None:
        instance.delete()
        NodeRule.objects.apply()


class FreezeViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, Looked):
    """Times in which nothing is balanced automatically, the last one first. One holds at most."""

    queryset = Freeze.objects.all()
    serializer_class = serializers.FreezeSerializer
    filterset_class = filters.FreezeFilter
    lookup_value_regex = "[0-9]{1,18}"
    ordering = "-id"

    def perform_create(self, serializer: Any) -> None:
        """In place of a freeze that holds."""
        actor = self.request.user.get_username()
        serializer.instance = freezes.freeze(actor=actor, **serializer.validated_data)

    def perform_destroy(self, instance: Freeze) -> None:
        """It ends, and stays listed. 409 when it was over."""
        if not Freeze.objects.in_force().filter(pk=instance.pk).exists():
            raise Conflict({"detail": "It is over already."})
        freezes.thaw(actor=self.request.user.get_username())


class PlanViewSet(Looked):
    """Moves worked out, made or not, the last plan first."""

    queryset = Plan.objects.all()
    serializer_class = serializers.PlanSerializer
    detail_serializer_class = serializers.PlanPageSerializer
    filterset_class = filters.AuthorFilter
    lookup_value_regex = "[0-9]{1,18}"
    ordering = "-id"

    @extend_schema(request=serializers.PlanWish, responses={201: serializers.PlanPageSerializer})
    def create(self, request: Request) -> Response:
        """Work out what a rebalance would move, and move nothing. A plan without moves is not kept: it has no id."""
        wish = serializers.PlanWish(data=request.data)
        wish.is_valid(raise_exception=True)
        plan = plans.make(actor=request.user.get_username(), **wish.validated_data)
        return Response(_told(self, plan), status=status.HTTP_201_CREATED)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[needs("checks.change_plan")])
    def apply(self, request: Request, pk: str) -> Response:
        """Make the plan's moves, once. 409 when something that it names changed meanwhile; then nothing moved."""
        plan = self.get_object()
        if not plans.may(request.user, plan):
            raise PermissionDenied
        try:
            plans.apply(plan, actor=request.user.get_username())
        except plans.StalePlan as stale:
            raise Conflict({"moves": [str(stale)]}) from None
        return Response(self.get_serializer(self.get_object()).data)
