"""Connects the arrival and changes of nodes, and changes of rules, with the leader."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class ChecksConfig(AppConfig):
    """The Django app of configs and their dispatch."""

    name = "checks"

    def ready(self) -> None:
        from checks.models.orders import Rule
        from nodes.models import NodeRule
        from nodes.signals import node_arrived, node_changed

        node_arrived.connect(wake_if_awaited, dispatch_uid="checks.wake_if_awaited")
        node_changed.connect(wake, dispatch_uid="checks.wake")
        for rules in (Rule, NodeRule):
            for changed in (post_save, post_delete):
                changed.connect(wake, sender=rules, dispatch_uid=f"checks.wake.{rules.__name__}")


def wake_if_awaited(**kwargs: Any) -> None:
    """Call the leader when a node arrives while configs dangle, or may go back to a node, so that they go now."""
    from checks.models import ClusterStore, Config

    if Config.objects.awaiting_a_node().exists():
        ClusterStore.objects.wake()


def wake(**kwargs: Any) -> None:
    """Call the leader when nodes leave, drain or declare something else, or rules change, so that it acts at once."""
    from checks.models import ClusterStore

    ClusterStore.objects.wake()
