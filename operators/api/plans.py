"""Plans in the operators' API."""

from collections.abc import Iterator
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from checks import plans
from checks.explain import foreseen, objections
from checks.explain.objections import DANGLING, NO_NODE, NotAccepted
from checks.models import Plan
from operators.api import filters
from operators.api.base import Conflict, DetailViewSet
from operators.api.fields import Strict
from operators.api.permissions import HasPermissions
from operators.api.previews import Acceptance, AcceptingOptions, PlanPageSerializer, PlanSerializer


class PlanWish(Strict):
    """The body of a call that plans a rebalance."""

    force = serializers.BooleanField(required=False, help_text="Plan moves even if they make no clear difference.")
    budget = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="The most moves that restart a check. Default: what may move in one period.",
    )


class AppliesPlan(HasPermissions):
    """Admits those who may see a plan and order what it orders."""

    def needed(self, request: Request, view: Any) -> Iterator[str]:
        yield "checks.view_plan"
        yield from plans.needed(view.get_object())


class PlanViewSet(DetailViewSet):
    """Plans: moves that were worked out, whether applied or not, the last plan first."""

    queryset = Plan.objects.all()
    serializer_class = PlanSerializer
    detail_serializer_class = PlanPageSerializer
    filterset_class = filters.AuthorFilter
    ordering = "-id"
    own_options = {"apply": ("dry_run", NO_NODE, DANGLING)}

    @extend_schema(request=PlanWish, responses={201: PlanPageSerializer})
    def create(self, request: Request) -> Response:
        """Work out what a rebalance would move, and move nothing. A plan without moves is not stored: it has no id."""
        body = PlanWish(data=request.data)
        body.is_valid(raise_exception=True)
        plan = plans.make(actor=request.user.get_username(), **body.validated_data)
        return Response(self.described(plan), status=status.HTTP_201_CREATED)

    @extend_schema(request=None, parameters=[AcceptingOptions])
    @action(detail=True, methods=["post"], permission_classes=[AppliesPlan])
    def apply(self, request: Request, pk: str) -> Response:
        """Apply the plan, once, with the permissions of what it orders. If something that it names has changed, nothing moves and
        the answer is 409; so it is if the plan `needs` what the call does not accept. A dry run answers the plan, or 409 if it
        can't be applied any more.
        """
        plan = self.get_object()
        query = request.query_params
        try:
            if AcceptingOptions.of(query)["dry_run"]:
                plans.require_applicable(plan)
            else:
                accepted = Acceptance.given(query)
                objections.require_accepted(objections.of(plan), accepted)
                may_close = objections.NO_NODE in accepted
                foreseen.note_plan(plan)
                plans.apply(plan, actor=request.user.get_username(), may_close=may_close)
        except NotAccepted as refusal:
            raise self.unaccepted(refusal, f"plan {plan.pk}: {plan}", plan=plan) from None
        except plans.StalePlan as stale:
            raise Conflict({"moves": [str(stale)]}) from None
        return self.retrieve(request)
