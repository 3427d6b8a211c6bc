"""The nodes with what they run, as operators see them."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.safestring import SafeString
from unfold.decorators import display

from checks import plans
from checks.dispatcher import REFUSALS, deciding
from checks.models import Assignment, Config, Move
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id
from nodes.models import Node
from operators.admin.base import TABLE_ROWS, Table, anchor, link, list_url, row_url
from operators.admin.configs import WIDE
from operators.admin.filters import AcknowledgedFilter
from operators.admin.ledger import MOVE_HEADERS, move_rows
from operators.admin.nodebase import NodeAdmin

admin.site.unregister(Node)


@admin.register(Node)
class NodeWithConfigsAdmin(NodeAdmin):
    list_display = (*NodeAdmin.list_display[:2], "configs", *NodeAdmin.list_display[2:])
    list_filter: Any = (*NodeAdmin.list_filter, AcknowledgedFilter)
    fields = (*NodeAdmin.fields[:2], "configs", *NodeAdmin.fields[2:])
    readonly_fields = fields
    sortable_by = (*NodeAdmin.sortable_by, "configs")
    actions = (*NodeAdmin.actions, "drain")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        owned = Assignment.objects.filter(node=OuterRef("pk")).order_by().values("node").annotate(number=Count("pk"))
        number = Subquery(owned.values("number"), output_field=IntegerField())
        return super().get_queryset(request).annotate(configs=Coalesce(number, 0))

    @display(ordering="configs")
    def configs(self, node: Any) -> SafeString:
        return anchor(list_url(Config, node=node.name), node.configs)

    @admin.action(description="Drain: cordon it, and let what it has move away…", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Where everything would go is shown first."""
        try:
            decision = deciding.drain([node.name for node in queryset])
        except REFUSALS as refusal:
            messages.error(request, f"Not drained: {refusal}.")
            return None
        return redirect(row_url(plans.store(decision, author=request.user.get_username())))

    def tables(self, request: HttpRequest, node: Node) -> list[Table]:
        moves = Move.objects.filter(Q(source_node=node.name) | Q(to_node=node.name))
        return [
            configs_of(node),
            *super().tables(request, node),
            Table.of("Moves", MOVE_HEADERS, move_rows(moves), list_url(Move, q=node.name)),
        ]


def configs_of(node: Node) -> Table:
    """The first configs of a node."""
    owned = Assignment.objects.filter(node=node).select_related("config").prefetch_related("config__origins")
    owned = owned.order_by("config__name", "pk")
    rows = [
        (
            link(one.config, scrub(one.config.name)),
            _origins(one.config),
            short_id(one.config.digest),
            one.since,
            one.reason,
        )
        for one in owned.defer(*(f"config__{column}" for column in WIDE))[: TABLE_ROWS + 1]
    ]
    return Table.of(
        "Configs", ("check", "origins", "short ID", "since", "reason"), rows, list_url(Config, node=node.name)
    )


def _origins(config: Config) -> str:
    return ", ".join(map(str, config.origins.all()))
