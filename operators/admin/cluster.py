"""The page about the whole cluster."""

from typing import Any

from django.contrib import admin
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from checks.explain import alerts
from checks.models import ClusterStore, freezes
from nodes.models import Hearing
from operators.admin.base import ReadOnlyAdmin, Table, aged, lasting
from operators.errors import Lacks


@admin.register(ClusterStore)
class ClusterStoreAdmin(ReadOnlyAdmin):
    """One page instead of a list, since there is one cluster."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise Lacks("checks.view_clusterstore")
        table = Table("", (), facts())
        context = self.admin_site.each_context(request) | {"title": "Cluster", "tables": [table]}
        return TemplateResponse(request, "admin/cluster.html", context)


def facts() -> list[tuple[str, Any]]:
    """The facts of the page as (name, value): leader, passes, hearing and brake. Ages are by the database's clock."""
    store, hearing = ClusterStore.objects.get(), Hearing.objects.annotate(now=Now()).get()
    return [
        ("Leader", store.leader or "none yet"),
        ("Term", store.term),
        ("Changes of the map", store.revision),
        ("Last pass", aged(hearing.last_pass, hearing.now) or "never"),
        ("Hearing for", lasting(hearing.hearing_since, hearing.now) if hearing.hearing_since else "always"),
        ("Brake", _braked(hearing)),
        ("Warm-up", alerts.warmup(hearing) if hearing.warmup else "over"),
        ("Automatic balancing", f"off: {why}" if (why := freezes.why_off()) else "on"),
    ]


def _braked(hearing: Any) -> SafeString | str:
    """Whether the brake is on, and for how long."""
    since = hearing.braked_since
    return format_html("on for {}", lasting(since, hearing.now)) if since else "off"
