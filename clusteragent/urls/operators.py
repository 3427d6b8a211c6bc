"""Routes of the operators' port: the admin, the operators' API and health."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from clusteragent.views import Healthz, Readyz
from operators import login, signon
from operators.pages import now

handler400 = "operators.errors.bad_request"
handler403 = "operators.errors.forbidden"
handler404 = "operators.errors.not_found"
handler500 = "operators.errors.failed"
urlpatterns: list[URLPattern | URLResolver] = [
    # The middleware clusteragent.views.HealthFirst answers these routes before the host's name is checked.
    path("healthz", Healthz.as_view()),
    path("readyz", Readyz.as_view()),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", login.view),
    path("admin/login/provider/", signon.begin, name="signon"),
    path("admin/login/provider/answer/", signon.answer, name="signon-answer"),
    path("admin/password_change/", admin.site.admin_view(login.own_password)),
    path("admin/session/", login.session, name="session"),
    path("admin/now/", now.fragment, name="now"),
    # Before the admin's own routes: the last of them matches everything.
    path("admin/", include("operators.pages.urls")),
    path("admin/", admin.site.urls),
    path("api/operator/v1/", include("operators.api.urls")),
]
