"""The URLs of the operators' API, below /api/operator/v1/."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, URLResolver, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.authentication import SessionAuthentication
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter

from operators.api.authentication import OperatorToken
from operators.api.base import error_response
from operators.api.configs import ConfigViewSet
from operators.api.domains import DomainViewSet
from operators.api.freezes import FreezeViewSet
from operators.api.history import HistoryViewSet
from operators.api.nodes import NodeViewSet
from operators.api.nodetokens import NodeTokenViewSet
from operators.api.orders import IsolationViewSet, PauseViewSet, PinViewSet
from operators.api.permissions import requires
from operators.api.plans import PlanViewSet
from operators.api.records import ActViewSet, EventViewSet, MoveViewSet
from operators.api.rules import NodeRuleViewSet, RuleViewSet
from operators.api.sources import SourceViewSet
from operators.api.status import StatusViewSet

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("status", StatusViewSet, "status")
router.register("history", HistoryViewSet, "history")
router.register("configs", ConfigViewSet)
router.register("nodes", NodeViewSet)
router.register("domains", DomainViewSet, "domain")
router.register("pins", PinViewSet)
router.register("pauses", PauseViewSet)
router.register("isolations", IsolationViewSet)
router.register("rules", RuleViewSet)
router.register("node-rules", NodeRuleViewSet)
router.register("node-tokens", NodeTokenViewSet)
router.register("plans", PlanViewSet)
router.register("freezes", FreezeViewSet)
router.register("moves", MoveViewSet)
router.register("events", EventViewSet)
router.register("acts", ActViewSet)
router.register("sources", SourceViewSet)


class Schema(SpectacularAPIView):
    """The OpenAPI schema, as YAML or JSON. Its errors are always JSON."""

    def get_exception_handler(self) -> Any:
        return error_response

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return response


_schema = Schema.as_view(
    authentication_classes=[OperatorToken, SessionAuthentication], permission_classes=[requires("checks.view_config")]
)
_page = SpectacularSwaggerView.as_view(
    url_name="operators:schema",
    template_name="operators/swagger.html",
    authentication_classes=[],
    permission_classes=[],
)


@csrf_exempt
def not_found(request: HttpRequest) -> JsonResponse:
    """The answer to all other paths."""
    return JsonResponse({"detail": "Not found: schema/ lists all paths."}, status=404)


app_name = "operators"
urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="operators:docs")),
    re_path(r"^schema/?$", _schema, name="schema"),
    re_path(r"^docs/?$", login_required(_page, login_url="admin:login"), name="docs"),
    *router.urls,
    re_path("", not_found),
]
