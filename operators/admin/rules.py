"""Rules of configs and of nodes in the admin."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from checks.models.orders import Rule
from nodes.models import NodeRule
from operators.admin.base import NotedAdmin, WithoutTransaction
from operators.rules import apply_rules


@admin.register(Rule)
class RuleAdmin(NotedAdmin, WithoutTransaction):
    """The rules about configs. Whoever saves one becomes its author, and a change takes effect at once."""

    list_display: tuple[str, ...] = (
        "name", "check_pattern", "source_pattern", "required", "forbidden", "max_per_node", "spread", "apart_from",
        "together_with", "handover", "author", "time",
    )  # fmt: skip
    search_fields: tuple[str, ...] = ("name", "check_pattern")
    fields: tuple[str, ...] = (
        "name",
        "check_pattern",
        "source_pattern",
        "required",
        "forbidden",
        "max_per_node",
        "spread",
        "apart_from",
        "apart_by_domain",
        "together_with",
        "handover",
        "note",
    )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.author = request.user.get_username()
        super().save_model(request, obj, form, change)
        messages.info(request, apply_rules(self.model))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        messages.info(request, apply_rules(self.model))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        messages.info(request, apply_rules(self.model))


@admin.register(NodeRule)
class NodeRuleAdmin(RuleAdmin):
    """The rules about nodes."""

    list_display = ("__str__", "node_type", "labels", "weight", "max_configs", "author", "time")
    search_fields = ("pattern",)
    fields = ("pattern", "network", "node_type", "labels", "weight", "max_configs", "note")
