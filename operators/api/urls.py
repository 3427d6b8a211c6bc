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

from operators.api import views
from operators.api.authentication import OperatorToken
from operators.api.base import error_response
from operators.api.nodetokens import NodeTokenViewSet
from operators.api.permissions import requires

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("status", views.StatusViewSet, "status")
router.register("history", views.HistoryViewSet, "history")
router.register("configs", views.ConfigViewSet)
router.register("nodes", views.NodeViewSet)
router.register("domains", views.DomainViewSet, "domain")
router.register("pins", views.PinViewSet)
router.register("pauses", views.PauseViewSet)
router.register("isolations", views.IsolationViewSet)
router.register("rules", views.RuleViewSet)
router.register("node-rules", views.NodeRuleViewSet)
router.register("node-tokens", NodeTokenViewSet)
router.register("plans", views.PlanViewSet)
router.register("freezes", views.FreezeViewSet)
router.register("moves", views.MoveViewSet)
router.register("events", views.EventViewSet)
router.register("acts", views.ActViewSet)
router.register("sources", views.SourceViewSet)


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
