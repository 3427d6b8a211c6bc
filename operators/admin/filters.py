"""The filters of the admin's lists."""

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter, TextFilter

from checks.explain import alerts
from checks.models import Assignment, Config, Origin
from checks.models.orders import Isolation, Order, Pause, Pin
from checks.models.troubles import Trouble
from checks.wire.scrub import scrub
from nodes.models import Node, NodeType

MOST_CHOICES = 500
# The states of nodes with their colours, and the reasons why a node takes nothing new.
STATES = {"alive": "success", "silent": "warning", "lost": "danger"}
REFUSALS = ("draining", "cordoned", "leaving", "restarting", "flapping")


class OwnerFilter(DropdownFilter):
    """Configs by whether a node has them."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("assigned", "assigned"), ("dangling", "dangling"), ("endpoint", "endpoint check: none")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        if self.value() == "assigned":
            return queryset.filter(assignment__isnull=False)
        if self.value() == "dangling":
            return queryset.filter(dangling_since__isnull=False)
        return queryset.exclude(node_name="") if self.value() == "endpoint" else queryset


class OrderFilter(DropdownFilter):
    """Configs by their orders."""

    title = "order"
    parameter_name = "order"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [
            ("pinned", "pinned"),
            ("astray", "pinned to a node that does not exist"),
            ("paused", "paused"),
            ("isolated", "isolated or quarantined"),
            ("none", "none of these"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        kinds = {"pinned": _ordered(Pin), "paused": _ordered(Pause), "isolated": _ordered(Isolation)}
        if self.value() in kinds:
            return queryset.filter(pk__in=kinds[self.value()])
        if self.value() == "astray":
            return queryset.filter(pk__in=alerts.pins_astray().order_by().values("config"))
        if self.value() == "none":
            for ordered in kinds.values():
                queryset = queryset.exclude(pk__in=ordered)
        return queryset


def _ordered(kind: type[Order]) -> QuerySet[Any]:
    """The ids of the configs that have an order of this kind."""
    found: QuerySet[Any] = kind.objects.filter(config__isnull=False).order_by().values("config")
    return found


class CheckFilter(DropdownFilter):
    """Configs by their check."""

    title = "check"
    parameter_name = "check"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        names = Config.objects.order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in map(scrub, names[:MOST_CHOICES])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        return queryset.filter(name=self.value()) if self.value() else queryset


class SourceFilter(DropdownFilter):
    """Configs by a source that sends them."""

    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        names = Origin.objects.order_by("source").values_list("source", flat=True).distinct()
        return [(name, name) for name in names[:MOST_CHOICES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        sent = Origin.objects.filter(source=self.value())
        return queryset.filter(pk__in=sent.values("config")) if self.value() else queryset


class NodeFilter(TextFilter):
    """The configs that are assigned to a node, and its endpoint checks."""

    title = "node"
    parameter_name = "node"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        name = self.value()
        owned = Assignment.objects.filter(node__name=name).values("config_id")
        endpoints = Config.objects.filter(node_name=name).exclude(node_name="").order_by().values("pk")
        return queryset.filter(pk__in=owned.union(endpoints)) if name else queryset


class TroubleFilter(DropdownFilter):
    """Configs by the trouble that runners reported in the last round of stats."""

    title = "trouble"
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return Trouble.Kind.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        troubles = Trouble.objects.current().filter(kind=self.value())
        return queryset.filter(pk__in=troubles.values("config")) if self.value() else queryset


class AcknowledgedFilter(DropdownFilter):
    """Nodes that did not fetch the last change of their configs in time."""

    title = "acknowledged"
    parameter_name = "acknowledged"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("late", "not for 30 s")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        late = alerts.unacknowledged().order_by().values("pk")
        return queryset.filter(pk__in=late) if self.value() == "late" else queryset


class StateFilter(DropdownFilter):
    """Nodes by their state."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state, state) for state in STATES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(state=self.value()) if self.value() in STATES else queryset


class SchedulableFilter(DropdownFilter):
    """Nodes by whether they take new configs, and why not."""

    title = "schedulable"
    parameter_name = "schedulable"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "yes"), ("no", "no"), *((why, f"no: {why}") for why in REFUSALS)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in ("yes", "no"):
            return queryset.filter(intake="open") if self.value() == "yes" else queryset.exclude(intake="open")
        return queryset.filter(intake=self.value()) if self.value() in REFUSALS else queryset


class TypeFilter(DropdownFilter):
    """Nodes by their type."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(type_.name.lower(), type_.label) for type_ in NodeType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        types = {type_.name.lower(): type_ for type_ in NodeType}
        return queryset.filter(heartbeat__node_type=types[self.value()]) if self.value() in types else queryset


class AlikeFilter(DropdownFilter):
    """Nodes whose names look like another's."""

    title = "name"
    parameter_name = "alike"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [("yes", "looks like another's")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Node]) -> QuerySet[Node]:
        return queryset.filter(pk__in=Node.objects.lookalikes()) if self.value() == "yes" else queryset
