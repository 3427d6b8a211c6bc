"""Queries that the admin and the operators' API share."""

from typing import Any

from django.db.models import Q, QuerySet

from checks.models import Assignment, Config

# Wide columns of configs, which lists do not read.
WIDE_COLUMNS = ("original", "wire", "scrubbed", "text")
# The states of configs, and the configs in each.
CONFIG_STATES = {
    "assigned": Q(assignment__isnull=False),
    "dangling": Q(dangling_since__isnull=False),
    "paused": Q(pause__isnull=False),
    "endpoint": ~Q(node_name=""),
}


def of_node(name: str) -> QuerySet[Any]:
    """The ids of the configs that are assigned to the node of this name, and of its endpoint checks."""
    owned = Assignment.objects.filter(node__name=name).values("config_id")
    return owned.union(Config.objects.filter(node_name=name).exclude(node_name="").order_by().values("pk"))


def state_of(config: Config) -> str:
    """The state of a config, one of CONFIG_STATES."""
    if hasattr(config, "assignment"):
        return "assigned"
    return "endpoint" if config.node_name else "paused" if hasattr(config, "pause") else "dangling"
