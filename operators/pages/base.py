"""What the pages share: the permission to see them, and the sidebar."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache

from operators import documentation
from operators.admin.base import list_url

View = Callable[..., HttpResponseBase]

# The permissions that all pages need. Each role has them.
SEES = ("checks.view_config", "checks.view_move", "nodes.view_node", "nodes.view_nodeevent")


# Our own pages in the sidebar: title, icon, name of the URL.
OWN: Sequence[tuple[str, str, str]] = (
    ("Now", "home", "admin:index"),
    ("Changes", "timeline", "pages:changes"),
)
# The lists in the sidebar: title, icon, model.
LISTS: Sequence[tuple[str, str, str]] = (
    ("Cluster", "hub", "checks.ClusterStore"),
    ("Nodes", "dns", "nodes.Node"),
    ("Configs", "rule_settings", "checks.Config"),
    ("Sources", "source", "checks.Source"),
    ("Pins", "keep", "checks.Pin"),
    ("Pauses", "pause", "checks.Pause"),
    ("Isolations", "splitscreen", "checks.Isolation"),
    ("Rules", "rule", "checks.Rule"),
    ("Node rules", "label", "nodes.NodeRule"),
    ("Plans", "balance", "checks.Plan"),
    ("Freezes", "ac_unit", "checks.Freeze"),
    ("Ledger", "swap_horiz", "checks.Move"),
    ("Node events", "history", "nodes.NodeEvent"),
    ("Acts", "fingerprint", "acts.Act"),
    ("Users", "person", "auth.User"),
    ("Groups", "group", "auth.Group"),
    ("Tokens", "key", "knox.AuthToken"),
)


def may_see(request: HttpRequest) -> bool:
    """Whether the user may see the pages: all of them or none."""
    return admin.site.has_permission(request) and request.user.has_perms(SEES)


def page(view: View) -> View:
    """Decorator for a page of the admin. Strangers are sent to the login; users without the permissions are refused."""

    @wraps(view)
    def refusing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.has_perms(SEES):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(refusing)


def fragment(view: View) -> View:
    """Decorator for a part that a page fetches again. A user who was logged out meanwhile gets 401, not a login page."""

    @never_cache
    @wraps(view)
    def refusing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not may_see(request):
            return HttpResponse(status=403 if request.user.is_authenticated else 401)
        return view(request, *args, **kwargs)

    return refusing


def render(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    """A whole page from its template."""
    return TemplateResponse(request, template, admin.site.each_context(request) | {"title": title} | context)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """unfold's sidebar: the pages and lists that the user may see, our own pages first."""
    own = OWN if may_see(request) else OWN[:1]
    items = [{"title": title, "icon": icon, "link": reverse(name)} for title, icon, name in own]
    for title, icon, name in LISTS:
        model = apps.get_model(name)
        if admin.site.get_model_admin(model).has_view_permission(request):
            items.append({"title": title, "icon": icon, "link": list_url(model)})
    items.append({"title": "Documentation", "icon": "menu_book", "link": documentation.page("index")})
    return [{"items": items}]
