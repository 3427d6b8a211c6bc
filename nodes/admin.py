"""The nodes and what happened to them, as operators see them."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from clusteragent.lib.admin import TABLE_ROWS, DaysFilter, ReadOnlyAdmin, Table, ago, list_url, numbered
from nodes.models import Node, NodeEvent, NodeType

STATES = {"alive": "success", "silent": "warning", "lost": "danger"}


class StateFilter(DropdownFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state, state) for state in STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() in STATES else queryset


class SchedulableFilter(DropdownFilter):
    title = "schedulable"
    parameter_name = "schedulable"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "yes"), ("no", "no: cordoned")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        if self.value() in ("yes", "no"):
            return queryset.filter(schedulable=self.value() == "yes")
        return queryset


class TypeFilter(DropdownFilter):
    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(type_.name.lower(), type_.label) for type_ in NodeType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        types = {type_.name.lower(): type_ for type_ in NodeType}
        return queryset.filter(heartbeat__node_type=types[self.value()]) if self.value() in types else queryset


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display: tuple[str, ...] = (
        "name",
        "shown_state",
        "heard",
        "shown_type",
        "address",
        "up_to_date",
        "shown_schedulable",
    )
    list_filter = (StateFilter, SchedulableFilter, TypeFilter)
    search_fields = ("name",)
    search_help_text = "Name"
    sortable_by: tuple[str, ...] = ("name", "heard")
    fields: tuple[str, ...] = (*list_display, "labels", "config_version", "first_seen", "lost_at")
    readonly_fields = fields
    actions = ("cordon", "uncordon")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return Node.objects.with_state().select_related("heartbeat")

    @display(description="state", label=STATES)
    def shown_state(self, node: Any) -> str:
        return str(node.state)

    @display(description="last heard", ordering="silence")
    def heard(self, node: Any) -> str:
        return ago(node.silence)

    @display(description="type")
    def shown_type(self, node: Any) -> str:
        return str(node.heartbeat.get_node_type_display()) if node.state != "lost" else ""

    @display(description="address")
    def address(self, node: Any) -> str:
        return node.heartbeat.client_ip or "" if node.state != "lost" else ""

    @display(description="up to date", boolean=True)
    def up_to_date(self, node: Any) -> bool | None:
        """Whether it acknowledged its latest configs."""
        return node.heartbeat.acknowledged == node.config_version if node.state != "lost" else None

    @display(description="schedulable", label={"yes": "success", "cordoned": "warning"})
    def shown_schedulable(self, node: Node) -> str:
        return "yes" if node.schedulable else "cordoned"

    def row_actions(self, request: HttpRequest, node: Node) -> list[str]:
        return ["cordon" if node.schedulable else "uncordon"]

    def tables(self, request: HttpRequest, node: Node) -> list[Table]:
        events = NodeEvent.objects.filter(node_name=node.name)[: TABLE_ROWS + 1]
        rows = [(event.time, event.get_kind_display(), event.cause) for event in events]
        return [Table.of("Events", ("time", "kind", "cause"), rows, list_url(NodeEvent, node_name=node.name))]

    @admin.action(description="Cordon: give it nothing new", permissions=["change"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._cordon(request, queryset, schedulable=False)

    @admin.action(description="Uncordon: give it work again", permissions=["change"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._cordon(request, queryset, schedulable=True)

    def _cordon(self, request: HttpRequest, queryset: QuerySet[Node], *, schedulable: bool) -> None:
        chosen = Node.objects.filter(pk__in=[node.pk for node in queryset])
        changed = chosen.cordon(schedulable=schedulable, actor=request.user.get_username())
        done = "uncordoned" if schedulable else "cordoned"
        messages.success(request, f"{numbered(changed, 'node')} {done}.")


@admin.register(NodeEvent)
class NodeEventAdmin(ReadOnlyAdmin):
    list_display = ("time", "node_name", "kind", "cause")
    list_filter = (("kind", ChoicesDropdownFilter), ("time", DaysFilter))
    search_help_text = "Name of a node"
    search_fields = ("node_name",)
