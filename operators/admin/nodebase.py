"""The nodes and what happened to them, as operators see them."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from clusteragent.lib.words import ago, numbered
from nodes.declarations import parse
from nodes.models import Node, NodeEvent, NodeRule, NodeType
from operators.admin.base import TABLE_ROWS, DaysFilter, NotedAdmin, ReadOnlyAdmin, Table, WithoutTransaction, list_url

STATES = {"alive": "success", "silent": "warning", "lost": "danger"}
REFUSALS = ("draining", "cordoned", "leaving", "restarting", "flapping")


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
        return [("yes", "yes"), ("no", "no"), *((why, f"no: {why}") for why in REFUSALS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in ("yes", "no"):
            return queryset.filter(intake="open") if self.value() == "yes" else queryset.exclude(intake="open")
        return queryset.filter(intake=self.value()) if self.value() in REFUSALS else queryset


class TypeFilter(DropdownFilter):
    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(type_.name.lower(), type_.label) for type_ in NodeType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        types = {type_.name.lower(): type_ for type_ in NodeType}
        return queryset.filter(heartbeat__node_type=types[self.value()]) if self.value() in types else queryset


class AlikeFilter(DropdownFilter):
    title = "name"
    parameter_name = "alike"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "looks like another's")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        return queryset.filter(pk__in=Node.objects.lookalikes()) if self.value() == "yes" else queryset


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
    list_filter = (StateFilter, SchedulableFilter, TypeFilter, AlikeFilter)
    search_fields = ("name",)
    search_help_text = "Name"
    sortable_by: tuple[str, ...] = ("name", "heard")
    fields: tuple[str, ...] = (
        *list_display,
        "looks_like",
        "shown_declared",
        "labels",
        "weight",
        "max_configs",
        "config_version",
        "first_seen",
        "lost_at",
    )
    readonly_fields = fields
    actions: tuple[str, ...] = ("cordon", "uncordon")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return Node.objects.with_state().select_related("heartbeat")

    def get_list_display(self, request: HttpRequest) -> Any:
        """A column more while names look alike."""
        columns = super().get_list_display(request)
        return (*columns, "looks_like") if Node.objects.lookalikes().exists() else columns

    @display(description="looks like")
    def looks_like(self, node: Node) -> str:
        """Living nodes whose names differ from its own in what the eye passes over."""
        return node.looks_like()

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

    @display(description="schedulable", label={"yes": "success"} | dict.fromkeys(REFUSALS, "warning"))
    def shown_schedulable(self, node: Any) -> str:
        return "yes" if node.intake == "open" else str(node.intake)

    @display(description="declares")
    def shown_declared(self, node: Node) -> str:
        """What it says that it may run."""
        return str(parse(node.declared)) or "nothing: it may run everything"

    def row_actions(self, request: HttpRequest, node: Any) -> list[str]:
        offered = {
            "cordon": node.schedulable or node.draining,
            "drain": not node.draining,
            "uncordon": node.intake in ("draining", "cordoned", "leaving", "restarting"),
        }
        return [name for name, is_offered in offered.items() if is_offered]

    def tables(self, request: HttpRequest, node: Node) -> list[Table]:
        events = NodeEvent.objects.filter(node_name=node.name)[: TABLE_ROWS + 1]
        rows = [(event.time, event.get_kind_display(), event.told) for event in events]
        return [Table.of("Events", ("time", "kind", "cause"), rows, list_url(NodeEvent, node_name=node.name))]

    @admin.action(description="Cordon: give it nothing new", permissions=["change"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._cordon(request, queryset, "cordoned")

    @admin.action(description="Uncordon: give it work again", permissions=["change"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._cordon(request, queryset, "uncordoned", schedulable=True)

    def _cordon(self, request: HttpRequest, queryset: QuerySet[Node], done: str, **how: bool) -> None:
        chosen = Node.objects.filter(pk__in=[node.pk for node in queryset])
        changed = chosen.cordon(actor=request.user.get_username(), **how)
        messages.success(request, f"{numbered(changed, 'node')} {done}.")


@admin.register(NodeEvent)
class NodeEventAdmin(ReadOnlyAdmin):
    list_display = fields = readonly_fields = ("time", "node_name", "kind", "shown_cause")
    list_filter = (("kind", ChoicesDropdownFilter), ("time", DaysFilter))
    linked = ("node_name",)
    search_help_text = "Name of a node"
    search_fields = ("node_name",)

    @display(description="cause")
    def shown_cause(self, event: NodeEvent) -> str:
        return event.told


@admin.register(NodeRule)
class NodeRuleAdmin(NotedAdmin, WithoutTransaction):
    """Who writes a rule is noted, and what changes is applied to the nodes at once."""

    list_display = ("__str__", "node_type", "labels", "weight", "max_configs", "author", "time")
    fields = ("pattern", "network", "node_type", "labels", "weight", "max_configs", "note")
    search_fields = ("pattern",)

    def save_model(self, request: HttpRequest, obj: NodeRule, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()
        super().save_model(request, obj, form, change)
        self._apply(request)

    def delete_model(self, request: HttpRequest, obj: NodeRule) -> None:
        super().delete_model(request, obj)
        self._apply(request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[NodeRule]) -> None:
        super().delete_queryset(request, queryset)
        self._apply(request)

    def _apply(self, request: HttpRequest) -> None:
        messages.info(request, f"It changes {numbered(NodeRule.objects.apply(), 'node')}.")
