"""What the pages share: the permission to see them, and the sidebar."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache

from operators import documentation
from operators.admin.base import list_url
from operators.errors import Lacks

View = Callable[..., HttpResponseBase]

# The permissions that all pages need. Each role has them.
SEES = ("checks.view_config", "checks.view_move", "nodes.view_node", "nodes.view_nodeevent")


# An entry of the sidebar: its title, its icon, the name of a page's URL or of a list's model, and its key (after `g`).
Entry = tuple[str, str, str, str]
SIDEBAR: Sequence[tuple[str, Sequence[Entry]]] = (
    ("Watch", (
        ("Now", "home", "admin:index", "h"),
        ("Map", "grid_view", "pages:map", "m"),
        ("Nodes", "dns", "nodes.Node", "n"),
        ("Configs", "rule_settings", "checks.Config", "c"),
        ("Failures", "report", "pages:failures", "f"),
        ("Sources", "source", "checks.Source", "s"),
        ("Cluster", "hub", "checks.ClusterStore", ""),
    )),
    ("Steer", (
        ("Pins", "keep", "checks.Pin", ""),
        ("Pauses", "pause", "checks.Pause", ""),
        ("Isolations", "splitscreen", "checks.Isolation", ""),
        ("Rules", "rule", "checks.Rule", "r"),
        ("Node rules", "label", "nodes.NodeRule", ""),
        ("Plans", "balance", "checks.Plan", "p"),
        ("Freezes", "ac_unit", "checks.Freeze", ""),
    )),
    ("History", (
        ("History", "show_chart", "pages:history", "y"),
        ("Changes", "timeline", "pages:changes", "e"),
        ("Acts", "fingerprint", "acts.Act", "a"),
        ("Ledger", "swap_horiz", "checks.Move", "l"),
        ("Node events", "history", "nodes.NodeEvent", ""),
    )),
    ("Access", (
        ("Users", "person", "auth.User", "u"),
        ("Groups", "group", "auth.Group", ""),
        ("Tokens", "key", "knox.AuthToken", "t"),
        ("Node tokens", "vpn_key", "nodes.NodeToken", ""),
    )),
)  # fmt: skip


def may_see(request: HttpRequest) -> bool:
    """Whether the user may see the pages: all of them or none."""
    return admin.site.has_permission(request) and request.user.has_perms(SEES)


def page(view: View) -> View:
    """Decorator for a page of the admin. Strangers are sent to the login; users without the permissions are refused."""

    @wraps(view)
    def refusing(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.has_perms(SEES):
            raise Lacks(*SEES)
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
    """unfold's sidebar: the pages and lists that the user may see, in their groups, and the documentation."""
    groups = [{"title": title, "items": list(_entries(request, entries))} for title, entries in SIDEBAR]
    help_ = {"title": "Documentation", "icon": "menu_book", "link": documentation.page("index")}
    return [*(group for group in groups if group["items"]), {"separator": True, "items": [help_]}]


def acts(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """What the user may begin from any page, as (URL, title): each row that may be added, and a rebalance."""
    if request.user.has_perm("checks.add_plan"):
        yield reverse("admin:checks_plan_rebalance"), "Rebalance"
    for name in (name for _, entries in SIDEBAR for _, _, name, _ in entries if ":" not in name):
        model = apps.get_model(name)
        if admin.site.get_model_admin(model).has_add_permission(request):
            yield (
                reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add"),
                f"Add {model._meta.verbose_name}",
            )


def _entries(request: HttpRequest, entries: Iterable[Entry]) -> Iterator[dict[str, str]]:
    """Those of these entries of the sidebar that the user may see."""
    for title, icon, name, key in entries:
        if ":" in name:
            # Everybody has a first page.
            if name == "admin:index" or may_see(request):
                yield {"title": title, "icon": icon, "link": reverse(name), "key": key}
        elif admin.site.get_model_admin(model := apps.get_model(name)).has_view_permission(request):
            yield {"title": title, "icon": icon, "link": list_url(model), "key": key}
