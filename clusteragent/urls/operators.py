"""The operators' port: the admin, and what operators' tools read."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

from clusteragent import pages
from operators import login

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/", login.view),
    path("admin/password_change/", admin.site.admin_view(login.own_password)),
    path("admin/now/", pages.fragment, name="now"),
    # Before the admin's own, which end in one that takes everything.
    path("admin/", include("operators.pages.urls")),
    path("admin/", admin.site.urls),
    path("api/operator/v1/", include("operators.urls")),
]
