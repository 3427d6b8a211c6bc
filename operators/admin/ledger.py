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
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id, short_id_in
from operators.admin.base import ReadOnlyAdmin, link
from operators.admin.filters import DaysFilter
from operators.roles import sees_digests


@admin.register(Move)
class MoveAdmin(ReadOnlyAdmin):
    """The moves, the last one first."""

    list_display = ("time", "check_name", "short_id", "source_node", "to_node", "reason", "actor")
    list_filter = (("reason", ChoicesDropdownFilter), ("time", DaysFilter))
    linked = ("config_id",)
    search_fields = ("name", "source_node", "to_node")
    search_help_text = "A check, the short ID of a config or a node"
    fields = readonly_fields = (*list_display, "term")

    @display(description="check")
    def check_name(self, move: Move) -> SafeString:
        """The check's name, linked to its config."""
        return link(Config(pk=move.config_id), scrub(move.name))

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
