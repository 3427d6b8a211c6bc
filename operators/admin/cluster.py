"""What operators see of the cluster as a whole, and who may log in."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from checks.models import ClusterStore, Source, freezes
from clusteragent.lib.words import ago, duration, numbered
from nodes.models import Hearing
from operators import fingerprints
from operators.admin.base import DeclaredAdmin, ReadOnlyAdmin, Table, list_url, row_url

# Passes run each second.
STALE_PASS = timedelta(seconds=10)
# Models by their names: the agents' port imports this too, and has no tokens.
PAGES: Sequence[tuple[str, str, str]] = (
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
    ("Users", "person", "auth.User"),
    ("Groups", "group", "auth.Group"),
    ("Tokens", "key", "knox.AuthToken"),
)

# A Schedule of django-q2 runs any function that whoever adds it names.
admin.site.unregister(
    [model for model in apps.get_app_config("django_q").get_models() if admin.site.is_registered(model)]
)
admin.site.unregister([User, Group])


@admin.register(User)
class OperatorAdmin(UserAdmin, DeclaredAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, DeclaredAdmin):
    pass


@admin.register(ClusterStore)
class ClusterStoreAdmin(ReadOnlyAdmin):
    """One page instead of a list: there is one cluster."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        table = Table("", (), facts())
        context = self.admin_site.each_context(request) | {"title": "Cluster", "tables": [table]}
        return TemplateResponse(request, "admin/cluster.html", context)


def every_page(request: HttpRequest) -> dict[str, Any]:
    """What every page of the admin shows, to those who are logged in. Its colours come from a file: without any here, unfold
    writes no style into the page.
    """
    warnings = [*_of_the_cluster(), *_of_sources()] if admin.site.has_permission(request) else []
    return {"cluster_warnings": warnings, "colors": {}}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The pages that the operator may see."""
    pages = [(title, icon, apps.get_model(name)) for title, icon, name in PAGES]
    items = [
        {"title": title, "icon": icon, "link": list_url(model)}
        for title, icon, model in pages
        if admin.site.get_model_admin(model).has_view_permission(request)
    ]
    return [{"items": items}]


def facts() -> list[tuple[str, Any]]:
    """Leader, passes, hearing and brake, each age by the database's clock."""
    store, hearing = ClusterStore.objects.get(), _hearing()
    return [
        ("Leader", store.leader or "none yet"),
        ("Term", store.term),
        ("Changes of the map", store.revision),
        ("Last pass", ago(_since(hearing, "last_pass")) or "never"),
        ("Hearing for", duration(_since(hearing, "hearing_since")) or "always"),
        ("Brake", f"on for {duration(_since(hearing, 'braked_since'))}" if hearing.braked_since else "off"),
        ("Warm-up", _warmup(hearing) if hearing.warmup else "over"),
        ("Automatic balancing", f"off: {why}" if (why := freezes.why_off()) else "on"),
    ]


def _hearing() -> Any:
    return Hearing.objects.annotate(now=Now()).get()


def _since(hearing: Any, time: str) -> timedelta | None:
    """How long ago one of the hearing's times is."""
    moment = getattr(hearing, time)
    return None if moment is None else hearing.now - moment


def _warmup(hearing: Any) -> str:
    if hearing.warm_until is None:
        return "waits for the first node to report and for each source to be read"
    return f"{duration(max(hearing.warm_until - hearing.now, timedelta(0)))} left"


def _warning(text: str, url: str) -> SafeString:
    """Something that operators should know, and where there is more of it."""
    return format_html('<a href="{}">{}</a>', url, text)


def _of_the_cluster() -> Iterator[SafeString]:
    hearing, url = _hearing(), list_url(ClusterStore)
    idle = _since(hearing, "last_pass")
    if idle is None or idle > STALE_PASS:
        yield _warning(
            f"No background pass runs (last: {ago(idle) or 'never'}): no node expires, nothing is re-dispatched.", url
        )
    if hearing.braked_since:
        held = duration(_since(hearing, "braked_since"))
        yield _warning(f"Brake for {held}: too many nodes fell silent at once to believe it. None expires.", url)
    for secret in fingerprints.differing():
        yield _warning(f"On this replica {secret} is not the leader's.", url)
    if hearing.warmup:
        yield _warning(f"Warm-up ({_warmup(hearing)}): nothing is placed yet.", url)


def _of_sources() -> Iterator[SafeString]:
    troubled: Any = Source.objects.with_counts().filter(Q(errors_number__gt=0) | Q(held_removals_number__gt=0))
    for source in troubled.order_by("name"):
        counts = ((source.errors_number, "error"), (source.held_removals_number, "held removal"))
        found = " and ".join(numbered(number, noun) for number, noun in counts if number)
        yield _warning(f"Source {source.name}: {found}.", row_url(source))
