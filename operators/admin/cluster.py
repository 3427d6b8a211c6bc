"""The page about the whole cluster."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from checks.explain import alerts
from checks.models import ClusterStore, freezes
from clusteragent.lib.words import ago, duration
from nodes.models import Hearing
from operators.admin.base import ReadOnlyAdmin, Table


@admin.register(ClusterStore)
class ClusterStoreAdmin(ReadOnlyAdmin):
    """One page instead of a list, since there is one cluster."""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
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
        ("Last pass", ago(_since(hearing, "last_pass")) or "never"),
        ("Hearing for", duration(_since(hearing, "hearing_since")) or "always"),
        ("Brake", f"on for {duration(_since(hearing, 'braked_since'))}" if hearing.braked_since else "off"),
        ("Warm-up", alerts.warmup(hearing) if hearing.warmup else "over"),
        ("Automatic balancing", f"off: {why}" if (why := freezes.why_off()) else "on"),
    ]


def _since(hearing: Any, time: str) -> timedelta | None:
    """How long ago one of the hearing's times was; None if it is unset."""
    moment = getattr(hearing, time)
    return None if moment is None else hearing.now - moment
