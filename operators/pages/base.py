"""What the pages share: the permission to see them, and the sidebar."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, wraps
from typing import Any, NamedTuple

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


class Entry(NamedTuple):
    """An entry of the sidebar. name: of a page's URL or of a list's model. key: after `g`. about: a page of the documentation."""

    title: str
    icon: str
    name: str
    key: str
    about: str


SIDEBAR: Sequence[tuple[str, Sequence[Entry]]] = (
    ("Watch", (
        Entry("Now", "home", "admin:index", "h", "troubleshooting#what-needs-you"),
        Entry("Map", "grid_view", "pages:map", "m", "howto/domains"),
        Entry("Nodes", "dns", "nodes.Node", "n", "howto/runners"),
        Entry("Configs", "rule_settings", "checks.Config", "c", "howto/why"),
        Entry("Failures", "report", "pages:failures", "f", "troubleshooting#a-node-has-it-but-it-does-not-run-there"),
        Entry("Sources", "source", "checks.Source", "s", "operations#configs-errors-warnings-and-limits"),
        Entry("Cluster", "hub", "checks.ClusterStore", "", "operations#what-runs"),
    )),
    ("Steer", (
        Entry("Pins", "keep", "checks.Pin", "", "howto/pin"),
        Entry("Pauses", "pause", "checks.Pause", "", "operations#steering"),
        Entry("Isolations", "splitscreen", "checks.Isolation", "", "operations#what-does-not-run-and-what-kills"),
        Entry("Rules", "rule", "checks.Rule", "r", "operations#who-may-run-what"),
        Entry("Node rules", "label", "nodes.NodeRule", "", "operations#who-may-run-what"),
        Entry("Plans", "balance", "checks.Plan", "p", "operations#balancing"),
        Entry("Freezes", "ac_unit", "checks.Freeze", "", "operations#balancing"),
    )),
    ("History", (
        Entry("History", "show_chart", "pages:history", "y", "operations#the-admin-s-pages"),
        Entry("Changes", "timeline", "pages:changes", "e", "operations#what-happens-when"),
        Entry("Acts", "fingerprint", "acts.Act", "a", "security#what-people-did"),
        Entry("Ledger", "swap_horiz", "checks.Move", "l", "operations#what-happens-when"),
        Entry("Node events", "history", "nodes.NodeEvent", "", "operations#who-is-alive"),
    )),
    ("Access", (
        Entry("Users", "person", "auth.User", "u", "operations#who-gets-in"),
        Entry("Groups", "group", "auth.Group", "", "security#roles"),
        Entry("Tokens", "key", "knox.AuthToken", "t", "howto/tokens"),
        Entry("Node tokens", "vpn_key", "nodes.NodeToken", "", "howto/rotate-node-tokens"),
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


def render_part(request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
    """A part of another page from its template: by itself for htmx, else as a page of its own, for a browser without scripts."""
    if "HX-Request" in request.headers:
        return TemplateResponse(request, template, context)
    return render(request, "operators/part.html", title, part=template, **context)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """unfold's sidebar: the pages and lists that the user may see, in their groups, the documentation and the API's page."""
    groups = [{"title": title, "items": list(_entries(request, entries))} for title, entries in SIDEBAR]
    foot = [{"title": "Documentation", "icon": "menu_book", "link": documentation.page("index")}]
    if may_see(request):
        foot.append({"title": "API", "icon": "api", "link": reverse("operators:docs")})
    return [*(group for group in groups if group["items"]), {"separator": True, "items": foot}]


def place(url: str) -> tuple[str, str] | None:
    """The group and the title that a list has in the sidebar, by its URL; None for what is not in it."""
    return _places().get(url)


@cache
def _places() -> dict[str, tuple[str, str]]:
    lists = ((group, entry) for group, entries in SIDEBAR for entry in entries if ":" not in entry.name)
    return {list_url(apps.get_model(entry.name)): (group, entry.title) for group, entry in lists}


def acts(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """What the user may begin from any page, as (URL, title): each row that may be added, and a rebalance."""
    if request.user.has_perm("checks.add_plan"):
        yield reverse("admin:checks_plan_rebalance"), "Rebalance"
    for name in (entry.name for _, entries in SIDEBAR for entry in entries if ":" not in entry.name):
        model = apps.get_model(name)
        if admin.site.get_model_admin(model).has_add_permission(request):
            yield (
                reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_add"),
                f"Add {model._meta.verbose_name}",
            )


def _entries(request: HttpRequest, entries: Iterable[Entry]) -> Iterator[dict[str, str]]:
    """Those of these entries of the sidebar that the user may see."""
    for title, icon, name, key, about in entries:
        own = {"title": title, "icon": icon, "key": key, "about": documentation.page(*about.split("#"))}
        if ":" in name:
            # Everybody has a first page.
            if name == "admin:index" or may_see(request):
                yield own | {"link": reverse(name)}
        elif admin.site.get_model_admin(model := apps.get_model(name)).has_view_permission(request):
            yield own | {"link": list_url(model)}
