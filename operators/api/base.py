"""What all resources of the operators' API have in common."""

from collections.abc import Callable
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as Invalid
from django.db import DataError, InterfaceError, OperationalError
from django.http.request import UnreadablePostError
from rest_framework import mixins
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import SAFE_METHODS
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import exception_handler
from rest_framework.viewsets import GenericViewSet

from checks import dispatcher
from checks.sources import SyncUnderWay
from checks.wire.scrub import scrub
from nodes.models import UnknownNode
from operators import errors
from operators.api.authentication import OperatorToken
from operators.api.fields import refuse_unknown
from operators.api.filters import Strict
from operators.api.pagination import Cursor
from operators.api.parsers import BoundedJSONParser, TooLarge
from operators.api.permissions import Needs

log = structlog.get_logger()


class Conflict(APIException):
    status_code = 409


class Busy(APIException):
    status_code = 503
    default_detail = "The database is away, or busy with another change. Try again."
    wait = 5


class OperatorViewSet(GenericViewSet[Any]):
    """A resource of the operators' API.

    detail_serializer_class: for a single row, where that says more. most_bytes: of a body. write_options: what the address of
    a call that changes something may hold. dry_runs: the actions of which a dry run may be asked for, too.
    """

    most_bytes = 1024 * 1024

    authentication_classes = [OperatorToken, SessionAuthentication]
    renderer_classes = [JSONRenderer]
    parser_classes = [BoundedJSONParser]
    content_negotiation_class = DefaultContentNegotiation
    permission_classes = [Needs]
    filter_backends = [Strict]
    filterset_class: Any = None
    pagination_class = Cursor
    http_method_names = ["get", "head", "post", "put", "delete"]
    ordering = "id"
    detail_serializer_class: type[BaseSerializer[Any]] | None = None
    write_options: tuple[str, ...] = ()
    dry_runs: tuple[str, ...] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS:
            # Who asks for a dry run where there is none must not get the real thing.
            options = (*self.write_options, *(("dry_run",) if self.action in self.dry_runs else ()))
            refuse_unknown(request.query_params, {*options, "format"}, options)

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return (self.detail and self.detail_serializer_class) or super().get_serializer_class()

    def get_exception_handler(self) -> Callable[[Exception, dict[str, Any]], Response | None]:
        return answer


class Listed(mixins.ListModelMixin, OperatorViewSet):
    """Rows that can be listed."""


class Looked(mixins.RetrieveModelMixin, Listed):
    """Rows that can be listed, and looked at one by one."""


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to a call that failed. What may repeat what was sent is scrubbed."""
    response = exception_handler(_known(error), context)
    if response is None and not isinstance(error, SuspiciousOperation):
        log.error("operators_api_failed", path=context["request"].path, exc_info=error)
        response = Response({"detail": errors.FAILED}, status=500)
    if response is not None and response.status_code not in (401, 403):  # those are our words alone
        response.data = _scrubbed(response.data)
    return response


def _known(error: Exception) -> Exception:
    """What an error that is none of the API's own means to who called."""
    if isinstance(error, OperationalError | InterfaceError | SyncUnderWay):
        return Busy()
    if isinstance(error, RequestDataTooBig):
        return TooLarge(str(error))
    if isinstance(error, UnreadablePostError):
        return ParseError("The body ended early.")
    if isinstance(error, DataError):
        return ParseError("A value can't be stored: it is too large, or holds a character that no text can have.")
    return error


def obeyed(field: str, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the verb returns. What it refuses is a problem of this field, unless it names another."""
    try:
        return verb(*args, **kwargs)
    except (UnknownNode, dispatcher.NotAccepting, dispatcher.NotDispatchable) as refusal:
        raise ValidationError({field: [dispatcher.told(refusal)]}) from None
    except Invalid as problem:
        raise ValidationError(problem.message_dict) from None


def _scrubbed(problems: Any) -> Any:
    if isinstance(problems, dict):
        return {scrub(str(key)): _scrubbed(value) for key, value in problems.items()}
    if isinstance(problems, list):
        return [_scrubbed(value) for value in problems]
    return scrub(str(problems))
