"""The ledger in the admin."""

from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from checks.models import Config, Move
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.shortids import short_id, short_id_in
from operators.admin.base import ReadOnlyAdmin, dated, link, time_column
from operators.admin.filters import DaysFilter
from operators.roles import sees_digests


@admin.register(Move)
class MoveAdmin(ReadOnlyAdmin):
    """The moves, the last one first."""

    empty = "Each change of who runs a config is a line here."
    list_display = ("when", "config", "source_node", "to_node", "reason", "actor")
    is_endless = True
    indexed = ("when",)
    list_filter = (("reason", ChoicesDropdownFilter), ("time", DaysFilter))
    linked = ("config_id",)
    when = time_column("time", dated)
    search_fields = ("name", "title", "source_node", "to_node")
    search_help_text = "A check, the title or short ID of a config, or a node"
    fields = readonly_fields = ("when", "config", "short_id", *list_display[2:], "term")

    @display(description="config", ordering=Natural("title"))
    def config(self, move: Move) -> SafeString:
        """What people call the config, linked to it."""
        return link(Config(pk=move.config_id), move.shown)

    @display(description="short ID")
    def short_id(self, move: Move) -> str:
        """The short ID of the config as it was moved."""
        return short_id(move.digest)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search for whole names only: a search for parts would read the whole ledger."""
        if not search_term:
            return queryset, False
        wanted = [Q(**{field: search_term}) for field in self.search_fields]
        if short := short_id_in(search_term):
            wanted.append(Q(digest__in=Config.objects.filter(short_id=short).values("digest")))
        if sees_digests(request.user):
            wanted.append(Q(digest=search_term))
        return queryset.filter(reduce(or_, wanted)), False
