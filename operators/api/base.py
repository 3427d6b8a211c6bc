"""What all resources of the operators' API share."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as Invalid
from django.db import DataError, InterfaceError, OperationalError
from django.http.request import UnreadablePostError
from rest_framework import mixins
from rest_framework.exceptions import APIException, NotFound, ParseError, ValidationError
from rest_framework.fields import BooleanField
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import exception_handler
from rest_framework.viewsets import GenericViewSet

from acts import recording
from checks import dispatcher, plans
from checks.dispatcher import Decision
from checks.dispatcher.acting import Asked, asking, record_refusal
from checks.explain import foreseen, objections
from checks.explain.forecasts import Forecast
from checks.explain.objections import NotAccepted, Objection
from checks.models import Plan
from checks.sources import SyncUnderWay
from checks.wire.scrub import scrub
from operators import errors
from operators.api.authentication import AdminSession, OperatorToken
from operators.api.fields import refuse_unknown
from operators.api.filters import StrictFilterBackend
from operators.api.parsers import BoundedJSONParser, TooLarge
from operators.api.permissions import HasPermissions
from operators.api.previews import Acceptance, DryRun, ForecastSerializer, ForecastWish, PlanPageSerializer

log = structlog.get_logger()


class Conflict(APIException):
    """409: the call contradicts the present state."""

    status_code = 409


class Busy(APIException):
    """503: the database is away or busy. The client may try again after `wait` seconds."""

    status_code = 503
    default_detail = "The database is away, or busy with another change. Try again."
    wait = 5


class Cursor(CursorPagination):
    """Pages of `?limit=` rows. The view's `ordering` is a unique field, so no row is missed or returned twice."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"
    page_size_query_description = f"Rows a page, {page_size} by default, {max_page_size} at most."

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str]:
        return (view.ordering,)

    def get_page_size(self, request: Request) -> int | None:
        """The number of rows a page. Raises ValidationError if `limit` is not a whole number above 0."""
        asked = request.query_params.get(self.page_size_query_param)
        if asked is not None and not (asked.isascii() and asked.isdecimal() and int(asked[:9]) > 0):
            raise ValidationError({self.page_size_query_param: [f"A whole number, 1 to {self.max_page_size}."]})
        return super().get_page_size(request)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, DataError):
            # The position in the cursor comes from the caller; the database is the first to check it.
            raise NotFound(self.invalid_cursor_message) from None


class OperatorViewSet(GenericViewSet[Any]):
    """A resource of the operators' API.

    detail_serializer_class: used for a single row, where that shows more. most_bytes: the largest body. write_options: the
    query parameters that calls which change something may have. own_options: {action: those that only it may have}. with_body:
    the actions whose body is read, by a serializer that refuses what it does not know. lookup_prefix: what a row's name has
    before that in its address.
    """

    most_bytes = 1024 * 1024

    authentication_classes = [OperatorToken, AdminSession]
    renderer_classes = [JSONRenderer]
    parser_classes = [BoundedJSONParser]
    content_negotiation_class = DefaultContentNegotiation
    permission_classes = [HasPermissions]
    filter_backends = [StrictFilterBackend]
    filterset_class: Any = None
    pagination_class: Any = Cursor
    http_method_names = ["get", "head", "post", "put", "delete"]
    ordering = "id"
    detail_serializer_class: type[BaseSerializer[Any]] | None = None
    write_options: tuple[str, ...] = ()
    own_options: Mapping[str, Sequence[str]] = {}
    with_body: Collection[str] = ("create", "update")
    lookup_prefix = ""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS:
            # Where no dry run exists, `dry_run` must be refused: else the call would change something.
            options = (*self.write_options, *self.own_options.get(self.action, ()))
            refuse_unknown(request.query_params, {*options, "format"}, options)
            if self.action and self.action not in self.with_body:
                _refuse_body(request.data)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer a call. One that asks for a dry run leaves no act; one that does so unclearly is refused."""
        is_dry = request.GET.get("dry_run") in BooleanField.TRUE_VALUES
        with recording.dry_run() if is_dry else nullcontext():
            return super().dispatch(request, *args, **kwargs)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return (self.detail and self.detail_serializer_class) or super().get_serializer_class()

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return error_response

    def apply_or_preview(self, field: str, decide: Callable[[], Decision]) -> Response | None:
        """Make a plan of what is decided and apply it, then return None. If the call asks for a dry run, change nothing and
        return the plan as a response.

        Raises ValidationError for this field when the decision is refused, and Conflict when something changed meanwhile, or when
        what it means must be accepted, which is on record.
        """
        options = DryRun.of(self.request.query_params)
        actor = self.request.user.get_username()
        decide_accepted = foreseen.accepting(decide, Acceptance.given(self.request.query_params))
        try:
            if options["dry_run"]:
                return Response(self.described(plans.to_plan(decide(), author=actor)))
            plan, _ = plans.order(decide_accepted, actor=actor)
        except dispatcher.Outside:
            raise
        except NotAccepted as refusal:
            raise self.unaccepted(refusal) from None
        except dispatcher.REFUSALS as refusal:
            raise ValidationError({field: [dispatcher.described(refusal)]}) from None
        except Invalid as problem:
            raise ValidationError(problem.message_dict) from None
        except plans.StalePlan as stale:
            raise Conflict({field: [str(stale)]}) from None
        if plan.outcome:
            raise Conflict({field: [plan.outcome]})
        return None

    def forecast_or_act(
        self, field: str, forecast: Callable[[], Forecast], act: Callable[[], object]
    ) -> Response | None:
        """Act, then return None. If the call asks for a dry run, change nothing and return what would follow as a response.

        Raises ValidationError for this field when it is refused.
        """
        options = ForecastWish.of(self.request.query_params)
        try:
            if options["dry_run"]:
                return Response(ForecastSerializer(forecast()).data)
            act()
        except dispatcher.Outside:
            raise
        except dispatcher.REFUSALS as refusal:
            record_refusal(self.action, refusal)
            raise ValidationError({field: [dispatcher.described(refusal)]}) from None
        return None

    def require_accepted(self, needed: Sequence[Objection], asked: Asked) -> None:
        """Raise Conflict, on record as a refusal of what was asked for, for what the call does not accept. The act that follows
        says what it does accept.
        """
        try:
            objections.require_accepted(needed, Acceptance.given(self.request.query_params))
        except NotAccepted as refusal:
            asking(refusal, asked)
            raise self.unaccepted(refusal) from None
        if needed:
            recording.foresee((), worse=[one.reason for one in needed])

    def unaccepted(self, refusal: NotAccepted, what: str = "", *, plan: Plan | None = None) -> Conflict:
        """Put it on record that something must be accepted, and return the error that says how. what: see `record_refusal`."""
        record_refusal(what or self.action, refusal, plan=plan)
        ways = (f"{one.reason} Send it with ?{one.accepted_by}=1 if that is meant." for one in refusal.objections)
        return Conflict(" ".join(ways))

    def described(self, plan: Any) -> Any:
        """The JSON of a plan. A plan that was not stored has no time."""
        if plan.pk is None:
            plan.time = None
        return PlanPageSerializer(plan, context=self.get_serializer_context()).data


class ListViewSet(mixins.ListModelMixin, OperatorViewSet):
    """A resource whose rows can be listed."""


class DetailViewSet(mixins.RetrieveModelMixin, ListViewSet):
    """A resource whose rows can be listed and read one by one, by their id unless it says otherwise."""

    lookup_value_regex = "[0-9]{1,18}"


def error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """REST framework's exception handler: the response to a failed call. Texts that may repeat what was sent are scrubbed."""
    known = error
    if isinstance(error, OperationalError | InterfaceError | SyncUnderWay):
        known = Busy()
    elif isinstance(error, RequestDataTooBig):
        known = TooLarge(str(error))
    elif isinstance(error, UnreadablePostError):
        known = ParseError("The body ended early.")
    elif isinstance(error, DataError):
        known = ParseError("A value can't be stored: it is too large, or holds a character that no text can have.")
    # Known where refusals are recorded.
    context["request"]._request.refusal = error
    response = exception_handler(known, context)
    if response is None and not isinstance(error, SuspiciousOperation):
        log.error("operators_api_failed", path=context["request"].path, exc_info=error)
        response = Response({"detail": errors.FAILED}, status=500)
    if response is not None and response.status_code not in (401, 403):  # their texts hold nothing that was sent
        response.data = _scrubbed(response.data)
    return response


def _refuse_body(body: Any) -> None:
    """Raise ValidationError for a body that nothing reads: a wish such as `dry_run` in it would have no effect."""
    if isinstance(body, Mapping):
        refuse_unknown(body, (), ())
    elif body:
        raise ValidationError("This call has no body.")


def _scrubbed(problems: Any) -> Any:
    if isinstance(problems, dict):
        return {scrub(str(key)): _scrubbed(value) for key, value in problems.items()}
    if isinstance(problems, list):
        return [_scrubbed(value) for value in problems]
    return scrub(str(problems))
