"""The operators' port: the admin, and what operators' tools read."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, path
from django.views.generic import RedirectView

from clusteragent.views import Healthz, Readyz

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", Healthz.as_view()),
    path("readyz", Readyz.as_view()),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
]
