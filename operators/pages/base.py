"""What the pages share: who may see them, and what is around them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache

View = Callable[..., HttpResponseBase]

# Who may see the pages: each role may.
SEES = ("checks.view_config", "checks.view_move", "nodes.view_node", "nodes.view_nodeevent")


def may_see(request: HttpRequest) -> bool:
    return admin.site.has_permission(request) and request.user.has_perms(SEES)


def page(view: View) -> View:
    """A page of the admin: strangers are sent to the login, those who may not look at everything are refused."""

    @wraps(view)
    def refusing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.has_perms(SEES):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(refusing)


def fragment(view: View) -> View:
    """A part of a page that fetches it anew. Whoever was logged out meanwhile gets no login page into the middle of it: 401
    says so to the page.
    """

    @never_cache
    @wraps(view)
    def refusing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request):
            return HttpResponse(status=403 if request.user.is_authenticated else 401)
        return view(request, *args, **kwargs)

    return refusing


def render(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    """A whole page."""
    return TemplateResponse(request, template, admin.site.each_context(request) | {"title": title} | context)
